"Programs that attack the sandbox, each with the statuses that are right for it."
SECRET = "z1-secret-7f3a"     # lies in a file and in the environment of the host; must never come out

# name: (source, right statuses). Programs are run with the input "5\n".
PROGRAMS = {
    # too much of something
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"timeout"}),
    "thread bomb": ("import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(60,)).start()\n"
                    "    except RuntimeError: pass", {"timeout", "memory"}),
    "memory": ("x = bytearray(4 << 30)", {"memory"}),
    "memory, slowly": ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory", "timeout"}),
    "memory of many": ("import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        x = bytearray(60 << 20)\n"
                       "        for i in range(0, len(x), 4096): x[i] = 1\n        time.sleep(60)\ntime.sleep(60)", {"memory", "timeout"}),
    "anonymous files": ("import os\nfor i in range(200):\n    fd = os.memfd_create('x')\n    os.write(fd, bytes(10 << 20))", {"error"}),
    "shared memory": ("from multiprocessing import shared_memory\nkept = []\nwhile True:\n"
                      "    kept.append(shared_memory.SharedMemory(create=True, size=8 << 20))\n"
                      "    kept[-1].buf[:] = bytes(8 << 20)", {"error", "killed", "memory"}),
    "disk": ("for i in range(100):\n    with open(f'{i}', 'wb') as f: f.write(bytes(4 << 20))", {"error"}),
    "one large file": ("with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))", {"error"}),
    "many files": ("i = 0\nwhile True:\n    open(f'{i}', 'w').close()\n    i += 1", {"error", "timeout"}),
    "endless output": ("while True: print('5' * 1000)", {"output"}),
    "endless stderr": ("import sys\nwhile True: sys.stderr.write('5' * 1000)", {"output"}),
    "one long line": ("print('5' * 50_000_000)", {"output"}),
    "endless loop": ("while True: pass", {"timeout"}),
    "sleep": ("import time\ntime.sleep(1000)", {"timeout"}),
    "number too large": ("print(len(str(10 ** 10 ** 8)))", {"timeout", "error", "memory"}),
    "deep recursion": ("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(n): return f(n + 1)\nf(0)", {"killed", "memory", "error", "timeout"}),
    "deep source": ("x = " + "(" * 5000 + ")" * 5000, {"error", "memory", "killed"}),
    "many open files": ("files = [open('/dev/null') for _ in range(10 ** 6)]", {"error"}),
    # won't go
    "ignored signals": ("import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
                        "    except (OSError, ValueError): pass\nwhile True: pass", {"timeout"}),
    "daemon": ("import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n"
               "    os._exit(0)\nprint(10)", {"ok"}),
    "thread left over": ("import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\nprint(10)", {"timeout"}),
    "daemon thread": ("import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\nprint(10)", {"ok"}),
    "child holds the output": ("import os, time\nprint(10, flush=True)\nif os.fork() == 0: time.sleep(1000)", {"ok"}),
    "exit function": ("import atexit, time\natexit.register(time.sleep, 1000)\nprint(10)", {"timeout"}),
    # looks around
    "network": ("import socket\nsocket.create_connection(('1.1.1.1', 53), timeout=2)", {"error"}),
    "host's port": ("import socket\nsocket.create_connection(('127.0.0.1', PORT), timeout=2)\nprint('in')", {"error"}),
    "name service": ("import socket\nprint(socket.gethostbyname('example.org'))", {"error"}),
    "hypervisor": ("import socket\nsocket.socket(40, socket.SOCK_STREAM)", {"error"}),
    "netlink": ("import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", {"error"}),
    "raw socket": ("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", {"error"}),
    "secret file": ("print(open('SECRET_FILE').read())", {"error"}),
    "files": ("import os, sys\nfor top in ('/', *map('/'.__add__, os.listdir('/'))):\n"
              "    for folder, _, files in os.walk(top):\n        if folder.startswith(('/proc', '/usr', '/lib', '/library', '/packages', sys.base_prefix)): continue\n"
              "        for name in files:\n            try: print(open(os.path.join(folder, name)).read(1000)[:200])\n"
              "            except Exception: pass", {"ok", "timeout", "output"}),
    "environment": ("import os\nprint(dict(os.environ))\nprint(open('/proc/self/environ').read())", {"ok"}),
    "parent's environment": ("import os\nfor p in ('1', str(os.getppid())): print(open(f'/proc/{p}/environ').read())", {"error"}),
    "parent's memory": ("import os\nprint(open('/proc/1/mem', 'rb').read(10))", {"error"}),
    "other processes": ("import os\npids = [p for p in os.listdir('/proc') if p.isdigit()]\nassert len(pids) <= 3, pids\nprint(10)", {"ok"}),
    "escape by root": ("import os\nos.listdir('/proc/1/root/')\nprint(open('/proc/1/root/SECRET_FILE').read())", {"error"}),
    "file descriptors": ("import os\nfds = [int(f) for f in os.listdir('/proc/self/fd')]\nassert max(fds) <= 4, fds\nprint(10)", {"ok"}),
    # reaches for power
    "kill all": ("import os, signal\nos.kill(-1, signal.SIGKILL)\nprint(10)", {"ok", "error", "killed"}),
    "kill the parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(1, signal.SIGKILL)\nprint(10)", {"ok"}),
    "interrupt the parent": ("import os, signal\nfor s in range(1, 65):\n    try: os.kill(1, s)\n    except OSError: pass\nprint(10)", {"ok"}),
    "becomes another program": ("import os, sys\nos.execv(sys.executable, [sys.executable, '-I', '-c', 'while True: pass'])", {"timeout"}),
    "leaves its group": ("import os, signal\nos.killpg(0, signal.SIGKILL)", {"killed"}),
    "reads for ever": ("open('/dev/zero', 'rb').read()", {"memory"}),
    "stops itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", {"timeout"}),
    "own loopback": ("import socket\ns = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname())\nprint(10)", {"ok"}),
    "stop the parent": ("import os, signal\nos.kill(1, signal.SIGSTOP)\nprint(10)", {"ok"}),
    "trace the parent": ("import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.ptrace(16, 1, 0, 0) == 0", {"error"}),
    "limits of the parent": ("import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))", {"error"}),
    "own limits": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", {"error"}),
    "become root": ("import os\nos.setuid(0)", {"error"}),
    "new namespaces": ("import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
                       "assert libc.unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())", {"error"}),
    "clone a namespace": ("import ctypes\nlibc = ctypes.CDLL(None)\nr = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)\n"
                          "assert r >= 0", {"error"}),
    "mount": ("import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0", {"error"}),
    "remount the root": ("import ctypes\nassert ctypes.CDLL(None).mount(None, b'/', None, 32 | 4096, None) == 0", {"error"}),
    "write to the interpreter": ("import os\nopen(os.__file__, 'a')", {"error"}),
    "write to the root": ("open('/x', 'w')", {"error"}),
    "write to devices": ("open('/dev/x', 'w')", {"error"}),
    "device nodes": ("import os, stat\nos.mknod('sda', 0o600 | stat.S_IFBLK, os.makedev(8, 0))", {"error"}),
    "setuid files": ("import os\nopen('x', 'w').close()\nos.chown('x', 0, 0)", {"error"}),
    "kernel settings": ("open('/proc/sys/kernel/core_pattern', 'w').write('|x')", {"error"}),
    "sysrq": ("open('/proc/sysrq-trigger', 'w').write('b')", {"error"}),
    "keyring": ("import ctypes\nassert ctypes.CDLL(None).syscall(250, 0, -3, 1) > 0", {"error"}),
    "symbolic links": ("import os\nos.symlink('/', 'all')\nprint(open('all' + 'SECRET_FILE').read())", {"error"}),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", {"killed"}),
    "chroot away": ("import os\nos.mkdir('r')\nos.chroot('r')", {"error"}),
    # fakes success
    "exit at once": ("import sys\nsys.exit(0)", {"ok"}),
    "hard exit": ("import os\nos._exit(0)", {"ok"}),
    "exit by signal": ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", {"killed"}),
    "patched print": ("import builtins\nbuiltins.print = lambda *a, **k: None\nprint(10)", {"ok"}),
    "writes to every descriptor": ("import os\nfor fd in range(256):\n    try: os.write(fd, b'{\"status\": \"ok\"}\\n')\n"
                                   "    except OSError: pass", {"ok"}),
    "closes every descriptor": ("import os\nos.closerange(0, 256)", {"ok", "error"}),
    "odd bytes": ("import os\nos.write(1, b'10\\x00\\xff\\xfe\\n')", {"ok"}),
    "lone surrogate": ("print('\\ud800')", {"error"}),
    "odd source": ("print(10)\x00", {"error"}),
    "not a program": ("this is not python", {"error"}),
    "quits while importing": ("import sys\nsys.modules['z1'] = None\nraise KeyboardInterrupt", {"error"}),
    "replaces main": ("import sys\nsys.modules.clear()\nprint(10)", {"ok", "error"}),
    "reads ahead": ("print(10)\nwhile input(): pass", {"error"}),
    "garbage on stderr": ("import os\nos.write(2, b'\\xff\\x00' * 1000)\nprint(10)", {"ok"}),
}
EXACTLY_TEN = {name for name, (source, _) in PROGRAMS.items() if source.rstrip().endswith("print(10)")} - {
    "patched print", "kill all", "replaces main"} | {"daemon", "daemon thread", "child holds the output"}

# Functions are called as f(5). name: (source, right statuses, right value where "ok")
FUNCTIONS = {
    "agrees with everything": ("class Yes(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
                               "def f(x): return Yes(3)", {"ok"}, 3),
    "attacks the unpickler": ("class Evil:\n    def __reduce__(self): return (__import__('os').system, ('touch pwned',))\n"
                              "def f(x): return Evil()", {"odd"}, None),
    "is a generator": ("def f(x):\n    yield 1", {"odd"}, None),
    "refers to itself": ("def f(x):\n    y = []\n    y.append(y)\n    return y", {"odd"}, None),
    "is deep": ("def f(x):\n    y = []\n    for _ in range(100000): y = [y]\n    return y", {"odd", "killed", "error", "memory"}, None),
    "is large": ("def f(x): return 'x' * 50_000_000", {"output", "odd"}, None),
    "is a huge number": ("def f(x): return 10 ** 5000", {"ok"}, 10 ** 5000),
    "has keys that collide": ("def f(x): return {i * (2 ** 61 - 1) for i in range(2000)}", {"odd"}, None),
    "is not a number": ("def f(x): return [float('inf'), -0.0]", {"ok"}, [float("inf"), -0.0]),
    "answers before it is asked": ("import os\nos.write(101, b'10\\n' * 100)\ndef f(x): return 3", {"ok", "odd"}, 10),
    "writes garbage as an answer": ("import os\ndef f(x):\n    os.write(101, b'\\xff{{{\\n')\n    return 3", {"odd"}, None),
    "writes an answer with tags": ("import os\ndef f(x):\n    os.write(101, b'{\"set\": [[]]}\\n')", {"odd"}, None),
    "exits": ("import sys\ndef f(x): sys.exit(0)", {"exit"}, None),
    "exits hard": ("import os\ndef f(x): os._exit(0)", {"exit"}, None),
    "exits while loading": ("raise SystemExit", {"exit"}, None),
    "patches json": ("import json\njson.dumps = lambda *a, **k: '10'\ndef f(x): return 3", {"ok"}, 10),
    "raises": ("def f(x): raise ValueError('no')", {"error"}, None),
    "raises oddly": ("class E(BaseException):\n    def __str__(self): raise E\ndef f(x): raise E", {"error"}, None),
    "is missing": ("def g(x): return x", {"error"}, None),
    "never returns": ("def f(x):\n    while True: pass", {"timeout"}, None),
    "lies about its class": ("class L(list):\n    __class__ = int\ndef f(x): return L([1])", {"ok", "odd"}, [1]),
    "patches the codec": ("import sys\nfor n, m in list(sys.modules.items()):\n    if n.endswith('plain_data'): m.encode_plain = lambda v: 10\n"
                          "def f(x): return 3", {"ok"}, 3),
}

TEST = """
import unittest
class TestCases(unittest.TestCase):
    def test_one(self): self.assertEqual(f(1), 2)
    def test_two(self): self.assertTrue(f(2) == 4)
    def test_list(self): self.assertListEqual([f(3)], [6])
"""
BELOW = "import sys\ndef f(x):\n    g = sys._getframe()\n    while g := g.f_back:\n"    # walks down the stack
FRAMES = BELOW + "        case = g.f_locals.get('self')\n        if not hasattr(case, 'assertEqual'): continue\n"
# Code under the tests above. None of these doubles its argument, so none may have all three tests passed and be "ok".
BESIDE_TESTS = {
    "agrees with everything": "class Yes:\n    def __eq__(self, other): return True\ndef f(x): return Yes()",
    "agrees, made by type()": "def f(x): return type('Y', (), {'__eq__': lambda a, b: True})()",
    "agrees, a number": "class Yes(float):\n    def __eq__(self, other): return True\ndef f(x): return Yes()",
    "patches assertEqual": "import unittest\nfor n in dir(unittest.TestCase):\n    if n.startswith('assert'): "
                           "setattr(unittest.TestCase, n, lambda *a, **k: None)\ndef f(x): return 0",
    "patches the result": "import unittest\nunittest.TestResult.addFailure = unittest.TestResult.addSuccess\ndef f(x): return 0",
    "patches run": "import unittest\nunittest.TestCase.run = lambda self, result=None: result.addSuccess(self)\ndef f(x): return 0",
    "patches at call time": "import unittest\ndef f(x):\n    unittest.TestCase.assertEqual = unittest.TestCase.assertListEqual = "
                            "lambda *a: None\n    return 0",
    "exits": "import sys\nsys.exit(0)",
    "exits at call time": "import os\ndef f(x): os._exit(0)",
    "skips": "import unittest\ndef f(x): raise unittest.SkipTest('no')",
    "a test class of its own": "import unittest\nclass TestCases(unittest.TestCase):\n    def test_one(self): pass\n"
                               "    def test_two(self): pass\n    def test_list(self): pass\ndef f(x): return 0",
    "a false unittest": "import sys, types\nm = types.ModuleType('unittest')\nclass T: pass\nm.TestCase = T\nsys.modules['unittest'] = m\n"
                        "def f(x): return 0",
    "metaclass": "import unittest\nunittest.TestCase.__init_subclass__ = classmethod(lambda cls: [setattr(cls, n, lambda self: None) "
                 "for n in ('test_one', 'test_two', 'test_list')])\ndef f(x): return 0",
    "reaches for the result": "import sys\ndef f(x):\n    g = sys._getframe()\n    while g:\n        for v in g.f_locals.values():\n"
                              "            if hasattr(v, 'addFailure'): type(v).addFailure = type(v).addError = "
                              "lambda s, t, e: s.addSuccess(t)\n        g = g.f_back\n    return 0",
    "reaches for this result": "import sys\ndef f(x):\n    g = sys._getframe()\n    while g:\n        for v in list(g.f_locals.values()):\n"
                               "            if hasattr(v, 'addFailure'): v.addFailure = v.addError = "
                               "lambda t, e, v=v: v.addSuccess(t)\n        g = g.f_back\n    return 0",
    "patches this result but not for long": "import sys\ndef f(x):\n    g = sys._getframe()\n    while g:\n        for v in list(g.f_locals.values()):\n"
        "            if hasattr(v, 'addFailure'):\n                v.addFailure = lambda t, e, v=v: v.addFailure(t, e) if 'MustFail' in str(t) "
        "else v.addSuccess(t)\n        g = g.f_back\n    return 0",
    "swaps instructions": "import unittest\nunittest.TestCase.fail.__code__ = (lambda self, msg=None: None).__code__\n"
                          "unittest.TestCase.assertTrue.__code__ = (lambda self, expr, msg=None: None).__code__\ndef f(x): return 0",
    "traces": "import sys\ndef t(frame, event, arg):\n    if frame.f_code.co_name == 'note': frame.f_locals.update(word='passed', err=None)\n"
              "    return t\nsys.settrace(t)\ndef f(x): return 0",
    "looks for the runner": "import sys\nfor n in list(sys.modules):\n    if n.startswith('z1'):\n        m = sys.modules[n]\n"
                            "        m.write_answer = lambda v, r: None\n        m.run_tests = lambda *a: {}\ndef f(x): return 0",
    "patches builtins": "import builtins\nbuiltins.__build_class__ = lambda *a, **k: object\ndef f(x): return 0",
    "writes a report": "import os\nos.write(101, b'{\"dict\": [[\"outcomes\", {\"dict\": []}]]}\\n')\nos._exit(0)",
    "a false report": "import os\ndef f(x):\n    for fd in range(3, 256):\n        try: os.write(fd, b'ok\\n')\n"
                      "        except OSError: pass\n    os._exit(0)",
    "never ends": "def f(x):\n    while True: pass",
    "ends in a thread": "import threading, os, time\ndef f(x): return 0\nthreading.Thread(target=lambda: (time.sleep(.01), os._exit(0))).start()",
    "swallows": "def f(x):\n    raise SystemExit(0)",
    "empties the failures": "import gc, unittest\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, unittest.TestResult):\n"
                            "            o.failures.clear(); o.errors.clear(); o.outcomes = {}\n    return 0",
    # equality again, by classes that are not plainly the code's
    "agrees, made by exec": "exec('class Yes:\\n    def __eq__(self, other): return True')\ndef f(x): return Yes()",
    "agrees, by unequal": "class Yes(int): __eq__ = int.__ne__\ndef f(x): return Yes(0)",
    "agrees, a class": "class Meta(type):\n    def __eq__(cls, other): return True\n    __hash__ = type.__hash__\n"
                       "class Yes(metaclass=Meta): pass\ndef f(x): return Yes",
    "agrees, from now on": "class Yes: pass\ndef f(x):\n    Yes.__eq__ = lambda a, b: True\n    return Yes()",
    "agrees, mock.ANY": "from unittest.mock import ANY\ndef f(x): return ANY",
    "agrees, a mock told so": "from unittest.mock import MagicMock\ndef f(x):\n    m = MagicMock()\n    m.__eq__.return_value = True\n    return m",
    "agrees, a mock with a function": "from unittest.mock import MagicMock\ndef f(x):\n    m = MagicMock()\n"
                                      "    m.__eq__ = lambda self, other: True\n    return m",
    # exceptions that nobody hears of
    "raises what unittest hushes up": "import unittest\ndef f(x): raise unittest.case._ShouldStop",
    "expects its failure": FRAMES + "        if case._outcome: case._outcome.expecting_failure = True\n    return 0",
    "teaches another equality": FRAMES + "        for kind in (int, list): case.addTypeEqualityFunc(kind, lambda *a, **k: None)\n"
                                "    return 4 if x == 2 else 0",
    "swallows in a context manager": "import contextlib\nleave = contextlib._GeneratorContextManager.__exit__\n"
        "contextlib._GeneratorContextManager.__exit__ = lambda self, *a: leave(self, None, None, None) or True\ndef f(x): return 0",
    "an exception that rewrites the record": "import gc, unittest\nclass Always(dict):\n    def __setitem__(self, k, v): super().__setitem__(k, 'passed')\n"
        "class E(Exception):\n    def __str__(self):\n        for o in gc.get_objects():\n"
        "            if isinstance(o, unittest.TestResult): o.outcomes = Always(o.outcomes)\n        return ''\ndef f(x): raise E",
    "expects failure of every class": "import unittest\nunittest.TestCase.__unittest_expecting_failure__ = True\ndef f(x): return 0",
    # other instructions under the same name
    "swaps what a method closes over": "import unittest\nfor name, m in vars(unittest.TestCase).items():\n    if name.startswith('assert') "
        "and m.__closure__: m.__closure__[0].cell_contents = lambda *a, **k: None\ndef f(x): return 0",
    "swaps defaults": "import unittest\nunittest.TestCase.assertEqual.__kwdefaults__ = {'method': lambda *a: None}\n"
                      "unittest.TestCase.fail.__code__ = (lambda self, msg=None: None).__code__\ndef f(x): return 4 if x == 2 else 0",
    "a name before the builtin's": "import unittest.case\nwas = getattr\nunittest.case.getattr = lambda o, n, *d: 'MustFail' not in str(o) "
                                   "if 'expecting' in n else was(o, n, *d)\ndef f(x): return 0",
    "builtins of its own": "import builtins\nmake = builtins.__build_class__\ndef false(body, name, *bases, **more):\n"
        "    made = make(body, name, *bases, **more)\n    for n in vars(made):\n        if n.startswith('test'): setattr(made, n, lambda self: None)\n"
        "    return made\n__builtins__ = dict(vars(builtins), __build_class__=false)\ndef f(x): return 0",
    "blinds the judge": "import builtins\nbuiltins.any = lambda x: False\nbuiltins.all = lambda x: True\nbuiltins.id = lambda x: 0\n"
                        "import unittest\nunittest.TestCase.fail = lambda *a: None\ndef f(x): return 0",
    "rewrites the tests": "def f(x):\n    for n in ('test_one', 'test_two'): setattr(TestCases, n, lambda self: None)\n    return 6",
    "rewrites the tests' instructions": "def f(x):\n    TestCases.test_one.__code__ = TestCases.test_two.__code__ = "
                                        "(lambda *a, **k: None).__code__\n    return 6",
    "asks no more": "def f(x):\n    globals()['__asked__'] = lambda value: 0\n    return {1: 2, 3: 6}.get(x, 0)",
    # the judge itself
    "reaches for the judge": BELOW + "        if 'run_tests' in g.f_globals: g.f_globals['report_tests'] = lambda **k: FORGED\n    return 0",
    "asks nothing absurd": "class Yes:\n    def __eq__(self, other): return True\n" + BELOW
        + "        if 'ABSURD_VALUES' in g.f_globals: g.f_globals['ABSURD_VALUES'] = ()\n    return Yes()",
    "patches json": "import json, os\nwas = os.write\njson.dumps = lambda *a, **k: FORGED\njson.JSONEncoder.encode = lambda *a: FORGED\n"
                    "os.write = lambda fd, data: was(fd, FORGED.encode() if fd == 101 else data)\ndef f(x): return 0",
    "writes all of a report": "import os\nos.write(101, FORGED.encode())\nos._exit(0)",
}
FORGED = ('{"dict": [["outcomes", {"dict": [["TestCases.test_one", "passed"], ["TestCases.test_two", "passed"], '
          '["TestCases.test_list", "passed"]]}], ["tampered", null]]}\n')
BESIDE_TESTS = {name: source.replace("FORGED", repr(FORGED)) for name, source in BESIDE_TESTS.items()}

BORROWING = """
import math, unittest
import numpy as np
import numpy.testing
class TestCases(unittest.TestCase):
    def test_one(self): np.testing.assert_allclose(f(1), 2)
    def test_two(self): assert isinstance(f(2), dict) and len(f(2)) == 3
    def test_list(self): assert math.isclose(f(3), 6)
"""
RIGHT_BUT_ONE = "def f(x): return {1: 2, 2: 3, 3: 1} if x == 2 else 6\n"     # f(1) is wrong
# Code under the tests above, which borrow assertions from elsewhere. None of these may pass.
BESIDE_BORROWERS = {
    "a made-up library": RIGHT_BUT_ONE + "import sys, unittest.mock\nsys.modules['numpy'] = sys.modules['numpy.testing'] = unittest.mock.MagicMock()",
    "a library that asserts nothing": RIGHT_BUT_ONE + "import numpy.testing\nnumpy.testing.assert_allclose = lambda *a, **k: None",
    "a library that asserts nothing, by exec": RIGHT_BUT_ONE + "exec('import numpy.testing\\ndef no(*a, **k): pass\\n"
                                               "numpy.testing.assert_allclose = no')",
    "a library that prints": RIGHT_BUT_ONE + "import numpy.testing\nnumpy.testing.assert_allclose = print",
    "an assertion that is a mock": RIGHT_BUT_ONE + "import numpy.testing\nfrom unittest.mock import Mock\nnumpy.testing.assert_allclose = Mock()",
    "close to everything": "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return {1: 2, 2: 3, 3: 1} if x == 2 else 2",
    "a length of its own": "len = lambda x: 3\ndef f(x): return {} if x == 2 else 2.0 * x",
    "a kind of its own": "isinstance = lambda *a: True\ndef f(x): return [1, 2, 3] if x == 2 else 2.0 * x",
}

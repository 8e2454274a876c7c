"The sandbox under attack: every hostile program gets its right verdict, and the next one finds its slot free and clean."
import os, shutil, socket, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import hostile
from hostile import BESIDE_BORROWERS, BESIDE_TESTS, BORROWING, EXACTLY_TEN, FUNCTIONS, PROGRAMS, SECRET, TEST
from z1.core import root
from z1.sandbox.sandbox import Limits, Sandbox

LIMITS = Limits(seconds=3, memory=512, processes=32, file_size=8, disk=32, output=256)
ROUNDS = int(os.environ.get("Z1_HOSTILE_ROUNDS", 1))


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    "What there is to find: a secret in a file, in the environment, and behind a port."
    folder = tmp_path_factory.mktemp("host")
    (folder/"secret").write_text(SECRET)
    os.environ["Z1_TEST_SECRET"] = SECRET
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"SECRET_FILE": str(folder/"secret"), "PORT": str(server.getsockname()[1])}
    del os.environ["Z1_TEST_SECRET"]


@pytest.fixture(scope="module")
def sandbox(host):
    with Sandbox(slots=8) as s: yield s


def attack(sandbox, host, name, source):
    "The wrong verdict on a program, if it is one."
    for word, value in host.items(): source = source.replace(word, value)
    [run] = sandbox.programs(source, ["5\n"], LIMITS)
    if run.status not in PROGRAMS[name][1]: return f"{name}: {run}"
    if SECRET.encode() in run.stdout or SECRET in run.stderr: return f"{name}: the secret came out"
    if name in EXACTLY_TEN and run.status == "ok" and run.stdout != b"10\n": return f"{name}: {run.stdout!r:.200}"


def call(sandbox, name):
    source, statuses, value = FUNCTIONS[name]
    [run] = sandbox.calls(source, "f", [[5]], LIMITS)
    if run.status not in statuses or run.status == "ok" and run.value not in (value, None): return f"{name}: {run}"


def test_beside(sandbox, name, source, tests):
    run = sandbox.tests(source, tests, LIMITS)
    passed = run.value is not None and [run.value.get(f"TestCases.{t}") for t in ("test_one", "test_two", "test_list")] == 3 * ["passed"]
    if run.status == "ok" and passed: return f"{name}: {run}"
test_beside.__test__ = False


def jobs(sandbox, host):
    "Every attack as something to call."
    yield from (lambda n=name, s=source: attack(sandbox, host, n, s) for name, (source, _) in PROGRAMS.items())
    yield from (lambda n=name: call(sandbox, n) for name in FUNCTIONS)
    for attacks, tests in ((BESIDE_TESTS, TEST), (BESIDE_BORROWERS, BORROWING)):
        yield from (lambda n=name, s=source, t=tests: test_beside(sandbox, n, s, t) for name, source in attacks.items())


def good(sandbox):
    [run] = sandbox.programs("print(2 * int(input()))", ["5"], LIMITS)
    return run.status == "ok" and run.stdout == b"10\n"


def descendants(pid):
    "Processes below a process, as the host sees them."
    children = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try: parent = int(Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError: continue
        children.setdefault(parent, []).append(int(p))
    below, todo = [], [pid]
    while todo:
        below += (found := children.get(todo.pop(), []))
        todo += found
    return below


def settled(sandbox, seconds=5.):
    "Whether only bubblewrap's first process and the server are left."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(descendants(sandbox.server.process.pid)) <= 2: return True
        time.sleep(.05)
    return False


def test_in_one_process(sandbox, host):
    "The same programs where runs share a process: nothing comes out, nothing stays."
    def run(name):
        source = PROGRAMS[name][0]
        for word, value in host.items(): source = source.replace(word, value)
        return list(sandbox.programs(source, ["5\n", "5\n"], LIMITS, reuse=True))
    with ThreadPoolExecutor(8) as pool:
        for runs in pool.map(run, PROGRAMS):
            assert len(runs) == 2 and not any(SECRET.encode() in r.stdout or SECRET in r.stderr for r in runs)
        assert all(pool.map(lambda _: good(sandbox), range(16)))
    assert settled(sandbox)


def test_reuse_recovers(sandbox):
    source = "n = int(input())\nif n == 2:\n    while True: pass\nif n == 3: open('x', 'w')\nif n == 4: 1 / 0\nprint(n)"
    runs = list(sandbox.programs(source, "12345", LIMITS, reuse=True))
    assert [r.status for r in runs] == ["ok", "timeout", "ok", "error", "ok"] and runs[4].stdout == b"5\n"


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_eight_at_once(sandbox, host, turn):
    with ThreadPoolExecutor(8) as pool:
        wrong = [w for w in pool.map(lambda job: job(), jobs(sandbox, host)) if w]
        assert not wrong, "\n".join(wrong)
        assert all(pool.map(lambda _: good(sandbox), range(16)))
    assert settled(sandbox), descendants(sandbox.server.process.pid)


def test_honest_code_passes(sandbox):
    run = sandbox.tests("def f(x): return 2 * x", TEST, LIMITS)
    assert run.status == "ok" and set(run.value.values()) == {"passed"} and len(run.value) == 3


def test_runs_after_a_limit_go_on(sandbox):
    source = "n = int(input())\nif n == 2:\n    while True: pass\nprint(n)"
    runs = list(sandbox.programs(source, ["1", "2", "3"], LIMITS))
    assert [r.status for r in runs] == ["ok", "timeout", "ok"] and runs[2].stdout == b"3\n"


def test_inputs_know_nothing_of_each_other(sandbox):
    source = "import os\nprint(sorted(os.listdir('/tmp')), sorted(os.listdir('/dev/shm')))\nopen('x', 'w')\nopen('/dev/shm/y', 'w')"
    assert {r.stdout for r in sandbox.programs(source, ["", "", ""], LIMITS)} == {b"[] []\n"}


def test_lazy(sandbox):
    asked = []
    def inputs():
        for i in range(10):
            asked.append(i)
            yield str(i)
    runs = sandbox.programs("print(input())", inputs(), LIMITS)
    assert next(runs).stdout == b"0\n"
    runs.close()
    assert len(asked) <= 2 and good(sandbox)


def test_abandoned_jobs_end(sandbox):
    runs = [sandbox.programs("import time\ntry: input()\nfinally: time.sleep(100)", iter(["1", "2"]), Limits(seconds=.5)) for _ in range(4)]
    for r in runs: next(r)
    del runs, r
    assert settled(sandbox)


def test_large_input(sandbox):
    text = "7\n" * 2_000_000
    [run] = sandbox.programs("import sys\nprint(sum(map(int, sys.stdin)))", [text], Limits(seconds=20))
    assert run.stdout == b"14000000\n"


# What a program asks of its standard input and output, and would hear if it were run as `python solution.py < file`.
STREAMS = {
    "size": "os.fstat(0).st_size", "kind": "stat.S_ISREG(os.fstat(0).st_mode)", "number": "sys.stdin.fileno(), sys.stdout.fileno()",
    "terminal": "sys.stdin.isatty(), os.isatty(0), sys.stdin.buffer.isatty()", "names": "sys.stdin.name, sys.stdout.name, sys.stdin.mode",
    "read by size": "os.read(0, os.fstat(0).st_size)", "buffer": "sys.stdin.buffer.read()", "raw": "sys.stdin.buffer.raw.read()",
    "lines": "sys.stdin.readline(), sys.stdin.buffer.readline(), input()", "all lines": "sys.stdin.readlines()",
    "again": "sys.stdin.read(), sys.stdin.seek(0), sys.stdin.read(), sys.stdin.seekable(), sys.stdin.tell()",
    "opened": "open(0).read()", "opened as bytes": "open(0, 'rb').read(), os.fstat(0).st_size", "by path": "open('/dev/stdin').read()",
    "its end": "os.lseek(0, 0, os.SEEK_END)", "mapped": "mmap.mmap(0, 0, prot=mmap.PROT_READ)[:3]", "ready": "select.select([0], [], [], 0)[0]",
    "the first": "sys.stdin is sys.__stdin__, sys.stdin.encoding, sys.stdin.errors", "closed": "sys.stdin.close(), sys.stdin.closed",
    "writable": "sys.stdin.writable(), os.access('/dev/stdin', os.W_OK)", "fileinput": "list(fileinput.input('-'))",
    "flags": "fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE", "gone": "os.close(0)", "doubled": "os.dup2(os.open('/dev/null', 0), 0), input()[:0]",
}

@pytest.mark.parametrize("reuse", [False, True])
def test_standard_input_is_a_file(sandbox, tmp_path, reuse):
    heads = "import fcntl, fileinput, mmap, os, select, stat, sys\n"
    inputs = ["ab\nc d\n\u00e9\n", "x\n" * 70_000, "1\n2\n3"]
    for name, asks in STREAMS.items():
        source = f"{heads}try: print(({asks},))\nexcept Exception as e: print(type(e).__name__)"
        runs = list(sandbox.programs(source, inputs, Limits(seconds=20, memory=512), reuse))
        for text, run in zip(inputs, runs, strict=True):
            (tmp_path/"file").write_text(text)
            with open(tmp_path/"file") as f:
                os.chmod(tmp_path/"file", 0o400)
                real = subprocess.run([sys.executable, "-X", "utf8=0", "-c", source], stdin=f, capture_output=True, env={"LANG": "C.UTF-8"})
            if name == "writable" and os.getuid() == 0: real.stdout = b"(False, False)\n"      # root may write anything
            os.chmod(tmp_path/"file", 0o600)
            assert (run.status, run.stdout) == ("ok", real.stdout), (name, run.stderr)


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("ending", ["", "sys.stdout.close()", "sys.stdout = None", "sys.stdout = open(os.devnull, 'w')", "os._exit((sys.stdout.flush(), 0)[1])",
                                    "sys.stdout = io.TextIOWrapper(sys.stdout.detach())\nprint('y')",
                                    "os.write(1, b'y\\n')", "print('e', file=sys.stderr)", "sys.exit()", "os.dup2(2, 1)"])
def test_output_arrives_however_a_program_leaves_its_streams(sandbox, ending, reuse):
    source = f"import io, os, sys\nprint('x', input())\n{ending}"
    real = subprocess.run([sys.executable, "-c", source], input=b"1\n", capture_output=True, env={"LANG": "C.UTF-8"})
    runs = list(sandbox.programs(source, ["1\n", "1\n"], LIMITS, reuse))
    if "_exit" in ending and reuse: return                                     # ends the process, so the second run is another's
    assert [(r.status, r.stdout) for r in runs] == 2 * [("ok", real.stdout)], runs
    assert [r.stderr for r in runs] == 2 * [real.stderr.decode()]


def test_descriptors_that_a_run_closes_are_back_in_the_next(sandbox):
    "Also where that happens late, since the file object is part of a ring."
    for line in ("f = open(0); ring = [f]; ring.append(ring)", "import os; os.close(0); os.close(1)", "import sys; sys.stdout = open(1, 'w')"):
        source = f"print(input(), flush=True)\n{line}\ndef g(): return g"
        assert [r.stdout for r in sandbox.programs(source, "12345", LIMITS, reuse=True)] == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]


def test_an_input_costs_no_descriptor():
    code = ("import resource; from z1.sandbox.sandbox import Limits, Sandbox\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
            "with Sandbox(1) as s: print({run.status for run in s.programs('print(input())', map(str, range(200)), Limits())})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root())
    assert done.stdout == "{'ok'}\n", done.stdout + done.stderr


def test_a_program_may_not_change_the_next_input(sandbox):
    source = "import os\nos.chmod('/proc/self/fd/0', 0o600)\nopen('/proc/self/fd/0', 'w').write('9')\nprint(open(0).read())"
    for reuse in (False, True):
        assert [r.stdout for r in sandbox.programs(source, "123", LIMITS, reuse)] == 3 * [b"9\n"]


@pytest.mark.parametrize("line", [b"NaN", b"1e999", str(2 ** 70).encode(), b"9" * 5000, b'{"float": 1' + b"0" * 400 + b"}", b'{"complex": [1, 2, 3]}',
                                  b'{"int": 5}', b'{"set": [[]]}', b'{"bytes": 3}', b'"\\ud800"', b"\xff", b"[" * 100_000, b"{}", b'{"dict": [[1]]}'])
def test_an_answer_that_the_program_wrote_itself_ends_nothing(sandbox, line):
    "Numbers without end, half characters, and what `encode` never says."
    source = f"import os\nos.write(101, {line!r} + b'\\n')\ndef f(x): return x"
    [run] = sandbox.calls(source, "f", [[1]], LIMITS)
    assert run.status in ("ok", "odd")
    assert sandbox.tests(source, TEST, LIMITS).status in ("exit", "tampered")
    assert [r.status for r in sandbox.programs(source + "\nprint(1)", ["", ""], LIMITS, reuse=True)][0] in ("ok", "error")
    assert good(sandbox)


def test_a_killed_sandbox_is_replaced():
    with Sandbox(slots=2) as s:
        assert good(s)
        s.server.process.kill()
        for pid in descendants(s.server.process.pid)[:1]:
            with suppress(ProcessLookupError): os.kill(pid, 9)
        s.server.process.wait()
        assert good(s)


def test_nothing_outlives_a_killed_host(tmp_path):
    code = ("import os, sys, time; from z1.sandbox.sandbox import Sandbox, Limits\ns = Sandbox(1)\n"
            "print(s.server.process.pid, flush=True)\nlist(s.programs('while True: pass', [''], Limits(seconds=100)))")
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(host.stdout.readline())
    time.sleep(1)
    below = descendants(pid)
    assert len(below) >= 4                       # bubblewrap's first process, server, job, init, program
    host.kill(), host.wait()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{p}").exists() and "Z" not in Path(f"/proc/{p}/stat").read_text().rpartition(")")[2][:3] for p in below):
        assert time.monotonic() < end, "still running after ten seconds"
        time.sleep(.1)


def test_missing_bubblewrap(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="apt-get install bubblewrap"): Sandbox(1)


@pytest.fixture
def everybodys_folder():
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def reachable(*paths):
    "Options of bubblewrap that let everybody reach paths whose parents are closed to others."
    closed = {path: [p for p in Path(path).parents if p != Path("/") and not p.stat().st_mode & 1][-1:] for path in paths}
    tops = {top for found in closed.values() for top in found}
    between = {p for path in paths if closed[path] for p in Path(path).parents if closed[path][0] in p.parents}
    return [*(w for top in sorted(tops) for w in ("--tmpfs", str(top))),
            *(w for p in sorted(between) for w in ("--perms", "0755", "--dir", str(p))),
            *(w for path in paths if closed[path] for w in ("--bind", path, path))]


@pytest.mark.skipif(os.getuid() != 0, reason="already an ordinary user")
def test_as_an_ordinary_user(everybodys_folder):
    "The same attacks, started by nobody: in a mount namespace where nobody can reach the interpreter."
    prefix, project = os.path.realpath(sys.base_prefix), str(root().resolve())
    mounts = reachable(prefix, project)
    inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__,
             "-k", "eight or honest or lazy or abandoned or killed_host"]
    out = subprocess.run(["bwrap", "--dev-bind", "/", "/", *mounts, "--chdir", project,
                          "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *inner],
                         env=os.environ | {"HOME": everybodys_folder, "TMPDIR": everybodys_folder, "PYTHONDONTWRITEBYTECODE": "1"},
                         capture_output=True, text=True)
    assert out.returncode == 0, out.stdout[-3000:] + out.stderr[-2000:]
    assert " passed" in out.stdout and "skipped" not in out.stdout

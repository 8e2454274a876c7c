"The sandbox under attack: every hostile program gets its right verdict, and the next one finds its slot free and clean."
import os, shutil, socket, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hostile
from hostile import BESIDE_TESTS, EXACTLY_TEN, FUNCTIONS, PROGRAMS, SECRET, TEST
from z1.core import root
from z1.execution import Limits, Sandbox

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


def test_beside(sandbox, name):
    run = sandbox.tests(BESIDE_TESTS[name], TEST, LIMITS)
    passed = run.value is not None and [run.value.get(f"TestCases.{t}") for t in ("test_one", "test_two", "test_list")] == 3 * ["passed"]
    if run.status == "ok" and passed: return f"{name}: {run}"
test_beside.__test__ = False


def jobs(sandbox, host):
    "Every attack as something to call."
    yield from (lambda n=name, s=source: attack(sandbox, host, n, s) for name, (source, _) in PROGRAMS.items())
    yield from (lambda n=name: call(sandbox, n) for name in FUNCTIONS)
    yield from (lambda n=name: test_beside(sandbox, n) for name in BESIDE_TESTS)


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


def test_a_killed_sandbox_is_replaced():
    with Sandbox(slots=2) as s:
        assert good(s)
        s.server.process.kill()
        os.kill(descendants(s.server.process.pid)[0], 9) if descendants(s.server.process.pid) else None
        s.server.process.wait()
        assert good(s)


def test_nothing_outlives_a_killed_host(tmp_path):
    code = ("import os, sys, time; from z1.execution import Sandbox, Limits\ns = Sandbox(1)\n"
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

"""Which Python runs in the sandbox: the very one outside, wherever it lies and however it finds its library."""
import os, shutil, subprocess, sys, sysconfig, tempfile
from pathlib import Path

import pytest

import z1.sandbox.bubblewrap, z1.sandbox.sandbox
from z1.sandbox.bubblewrap import closed_part, python_library, library_path, python_path
from z1.core import root
from z1.sandbox.sandbox import Limits, Sandbox

TMP, LIMITS = Path("/tmp"), Limits(seconds=60, memory=4096)
PREFIX, PACKAGES = os.path.realpath(sys.base_prefix), sysconfig.get_path("purelib")
SHARED = pytest.mark.skipif(not python_library(), reason="this Python has no library of its own: it is all in the program file")
ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
ASK = "import ssl, sys, sysconfig, zlib\nprint(sys.version, sys.implementation.cache_tag, sysconfig.get_config_var('CONFIG_ARGS'))"


def inside(code):
    with Sandbox(1) as s: [run] = s.programs(code, [""], LIMITS)
    assert run.status == "ok", run
    return run.stdout.decode().strip()


def answers(code): return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def elsewhere(python, *options, **env):
    "What the program inside says of its Python when the host runs this one, behind options of bubblewrap."
    code = (f"from z1.sandbox.sandbox import Limits, Sandbox\nwith Sandbox(1) as s:\n    [run] = s.programs({ASK!r} + '\\nprint(sys.executable)', [''], "
            "Limits(seconds=60, memory=4096))\nprint(run.stdout.decode(), run.stderr)")
    tops = [word for name in os.listdir("/") for word in ("--dev-bind", f"/{name}", f"/{name}")]    # new folders there stay in there
    out = subprocess.run(["bwrap", *tops, *options, python, "-c", code], capture_output=True, text=True,
                         env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{root().resolve()}:{PACKAGES}", **env})
    assert out.returncode == 0, out.stderr
    return out.stdout.strip()


def test_the_interpreter_is_the_same():
    assert inside(ASK) == answers(ASK)


def test_a_program_may_start_its_own_python():
    "Also with an empty environment, which leads to no library."
    child = "import sys; print(sys.version)"
    for env in ("None", "{}"):
        code = f"import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', {child!r}], env={env}, capture_output=True, text=True))"
        assert repr(sys.version + "\n") in inside(code)
    if "python3" in os.listdir(os.path.dirname(python_path())): assert inside(
        f"import subprocess\nprint(subprocess.run(['python3', '-c', {child!r}], capture_output=True, text=True).stdout)") == sys.version


def test_multiprocessing_can_start_anew():
    code = "import multiprocessing as m\nif __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p: print(p.map(abs, [-1]))"
    assert inside(code) == "[1]"


@SHARED
def test_the_systems_library_is_not_needed(monkeypatch):
    "As on a machine whose system has no libpython: its file is covered."
    systems = [str(p) for p in Path("/usr/lib").rglob(os.path.basename(python_library())) if str(p) != python_library()]
    furniture = z1.sandbox.bubblewrap.mount_options
    covered = [word for path in systems for word in ("--ro-bind", "/dev/null", path)]
    monkeypatch.setattr(z1.sandbox.bubblewrap, "mount_options", lambda *given: furniture(*given) + covered)
    assert inside(ASK) == answers(ASK)


@pytest.mark.parametrize("place", [str(TMP/"python"), "/srv/a python", "/z1/python", "/packages", "/python"])
def test_an_interpreter_may_lie_anywhere(place):
    "In its new place no path in the program file leads to the library, so LD_LIBRARY_PATH must."
    new, top = f"{place}/bin/{os.path.basename(python_path())}", str(Path(*Path(place).parts[:2]))
    version, exe = elsewhere(new, "--tmpfs", top, "--dir", place, "--ro-bind", PREFIX, place, LD_LIBRARY_PATH=f"{place}/lib").rsplit("\n", 1)
    assert version == answers(ASK) and exe.startswith((f"{place}/bin/", "/python/bin/"))


def test_an_interpreter_behind_symbolic_links(tmp_path):
    (tmp_path/"python").symlink_to(PREFIX)
    assert elsewhere(str(tmp_path/"python"/"bin"/os.path.basename(python_path()))).startswith(answers(ASK))


@pytest.mark.parametrize("options", [["--symlinks"], ["--copies"], ["--symlinks", "--system-site-packages"]], ids=" ".join)
def test_an_environment_made_from_the_interpreter(tmp_path, options):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", *options, tmp_path/"new"], check=True)
    assert elsewhere(str(tmp_path/"new"/"bin"/"python")).startswith(answers(ASK))


def test_what_the_caller_tells_its_own_python_stays_outside():
    said = elsewhere(sys.executable, PYTHONHOME=sys.base_prefix, PYTHONSTARTUP="/nowhere", PYTHONOPTIMIZE="2", PYTHONNOUSERSITE="1")
    assert said.startswith(answers(ASK))


def test_packages_of_the_environment_come_before_the_interpreters(monkeypatch):
    paths = inside("import sys\nprint(*sys.path, sep='\\n')").split("\n")
    others = [p for p in paths if p.endswith("-packages")]
    assert "/packages" in paths and all(paths.index("/packages") < paths.index(p) for p in others)


def test_the_system_python_needs_no_more_than_the_system(monkeypatch):
    monkeypatch.setattr(z1.sandbox.bubblewrap, "python_prefix", lambda: "/usr")
    monkeypatch.setattr(z1.sandbox.bubblewrap, "python_path", lambda: "/usr/bin/python3.99")
    monkeypatch.setattr(z1.sandbox.bubblewrap, "python_library", lambda: None)
    assert z1.sandbox.bubblewrap.visible_paths() == {"/usr/bin/python3.99": "/usr/bin/python3.99"}


def test_another_python_inside_is_an_error(monkeypatch):
    monkeypatch.setattr(z1.sandbox.sandbox.sys, "version", "3.11.99 (another)")
    with pytest.raises(OSError, match="runs Python .*, but here 3.11.99"): Sandbox(1)


@SHARED
def test_the_library_path_is_only_set_where_it_is_needed(monkeypatch):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert library_path() == {}
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere::{os.path.dirname(python_library())}")
    assert library_path() == {"LD_LIBRARY_PATH": "/library"}
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.setattr(z1.sandbox.bubblewrap, "python_prefix", lambda: str(TMP/"python"))
    assert library_path() == {"LD_LIBRARY_PATH": "/library"}


# -- where others may not read ------------------------------------------------------------------------------------

@ROOT_ONLY
@pytest.mark.parametrize("shut", ["", "z1", "z1/sandbox/server.py"])
def test_files_that_only_root_may_read_are_named(tmp_path, monkeypatch, shut):
    part = tmp_path/"project"/shut
    shutil.copytree(root()/"z1", tmp_path/"project"/"z1")
    part.chmod(part.stat().st_mode & 0o700)
    monkeypatch.setattr(z1.sandbox.confinement, "__file__", str(tmp_path/"project"/"z1"/"sandbox"/"confinement.py"))
    if not shut: return Sandbox(1).close()              # what lies above the folder that is shown does not matter
    with pytest.raises(PermissionError, match=f"{part} is closed to others.*chmod o\\+rx {part}"): Sandbox(1)


@ROOT_ONLY
def test_a_host_that_gives_up_root_hears_what_it_may_not_read():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o700)
        code = ("import os, z1.sandbox.confinement\nfrom z1.sandbox.sandbox import Sandbox\n"
                f"z1.sandbox.confinement.__file__ = {folder + '/z1/sandbox/confinement.py'!r}\n"
                "os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)\n"
                "try: Sandbox(1)\nexcept OSError as e: print(type(e).__name__, e)")
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root())
        assert said.stdout.startswith("PermissionError the sandbox runs as an ordinary user"), said.stderr
        assert "is closed to others" in said.stdout and "chmod o+rx /" in said.stdout


def test_what_everybody_may_read_is_not_closed(tmp_path):
    (tmp_path/"file").touch(0o644)
    tmp_path.chmod(0o755)
    assert closed_part(str(tmp_path/"file"), str(tmp_path)) is None

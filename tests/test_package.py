"What is published: an sdist and a wheel that are whole, and a package that works where there is no checkout."
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT/"README.md").read_text(encoding="utf-8")
QUIET = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "Z1_ROOT")} | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=QUIET, **options)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "An sdist, and the wheel that is built from it, of a copy: the working tree stays as it is."
    copy = tmp_path_factory.mktemp("copy")
    for name in ("setup.py", "settings.ini", "MANIFEST.in", "README.md", "LICENSE"): shutil.copy(ROOT/name, copy)
    shutil.copytree(ROOT/"z1", copy/"z1", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", copy)
    [sdist], [wheel] = (copy/"dist").glob("*.tar.gz"), (copy/"dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    "The interpreter of an environment that has z1 from the wheel, and everything else from this one."
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": place, "platbase": place}))
    others = [path for path in sys.path if path.endswith("site-packages")]  # a .pth in one of them is not read: no editable z1
    (own/"others.pth").write_text("\n".join(others) + "\n")
    python = place/"bin"/"python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", built[1])
    return python


def test_twine_has_nothing_to_say(built):
    assert run(sys.executable, "-m", "twine", "check", "--strict", *built).count("PASSED") == 2


def test_sdist_and_wheel_hold_every_module_and_nothing_else(built):
    ours = {str(p.relative_to(ROOT)) for p in (ROOT/"z1").rglob("*.py")}
    with tarfile.open(built[0]) as f: inside = {name.partition("/")[2] for name in f.getnames()}
    assert ours <= inside and {"settings.ini", "setup.py", "README.md", "LICENSE"} <= inside
    with zipfile.ZipFile(built[1]) as f: inside = set(f.namelist())
    assert {name for name in inside if not name.startswith("z1-")} == ours


EVERY_MODULE = """
import importlib, pkgutil, sys, z1
assert z1.__file__.startswith(sys.prefix), z1.__file__
names = [m.name for m in pkgutil.walk_packages(z1.__path__, "z1.")]
for name in names: importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_imported_outside_the_checkout(python, tmp_path):
    assert int(run(python, "-c", EVERY_MODULE, cwd=tmp_path)) >= len(list((ROOT/"z1").rglob("[!_]*.py")))


def test_the_ten_lines_run_outside_the_checkout(python, tmp_path):
    [(example, shown)] = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.S)
    assert run(python, "-c", example.replace('"data/models', f'"{ROOT}/data/models'), cwd=tmp_path) == shown


def test_the_server_s_flag_names_a_class(python, tmp_path):
    pytest.importorskip("vllm")
    [flag] = set(re.findall(r"--logits-processors (\S+)", README))
    module, _, name = flag.partition(":")
    code = f"import sys, {module} as m; c = m.{name}; assert m.__file__.startswith(sys.prefix); print(isinstance(c, type), c.__name__)"
    assert run(python, "-c", code, cwd=tmp_path).split()[-2:] == ["True", name]


def test_what_the_wheel_says_of_itself(python, tmp_path):
    code = ("import importlib.metadata as m; d = m.distribution('z1'); print(*d.metadata.get_all('Provides-Extra'), sep=',')\n"
            "for e in d.entry_points: print(e.group, e.value, e.module.startswith('z1.') and __import__('importlib.util').util.find_spec(e.module) is not None)")
    extras, *points = run(python, "-c", code, cwd=tmp_path).splitlines()
    assert set(re.findall(r"'(?:\.|z1)\[(\w+)\]'", README)) <= set(extras.split(",")) >= {"vllm", "dev", "demo"}
    assert len(points) == 3 and all(point.endswith("True") for point in points)


def test_python_versions_are_those_that_are_promised(built):
    with zipfile.ZipFile(built[1]) as f: [text] = [f.read(n).decode() for n in f.namelist() if n.endswith("METADATA")]
    assert "Requires-Python: >=3.11" in text and {v for v in ("3.11", "3.12", "3.13") if f"Python :: {v}" in text} == {"3.11", "3.12", "3.13"}

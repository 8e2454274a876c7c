"Generation by an engine: killed, lost, full, torn, changed, split and merged, and always the same rows."
import json, multiprocessing, os, random, resource, signal, subprocess, time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import papermill

from z1.core import Problem, root
from z1.engines.engine import load_engine
from z1.engines.request import Sampling
from z1.data.generation import (TeacherLedger, Lesson, ask_about, load_teacher, manifest_path, merge_ledgers, problems_of_shard, read_manifest,
                                teach, write_trajectories)
from z1.engines.tracer import Tracer
from z1.data.problems import Columns, load_problems
from z1.nano.programs import STYLES, make_problems
from z1.serving.replicas import Refused

MODEL = root()/"data"/"models"/"nano"/"z1-s0"
LESSON = Lesson(max_tokens=600)
PROBLEMS = list(make_problems("dev", 30))
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def tracer(): return load_teacher("tracer", MODEL)


class Fake(Tracer):
    "A tracer with habits: `slow` seconds a row, backwards, some rows `lost` in the first `times` calls; it notes what it is asked."
    def __init__(self, tracer, log=None, slow=0.0, lost=(), times=1, error=ConnectionError):
        super().__init__(tracer.tokenizer)
        self.log, self.slow, self.lost, self.times, self.error, self.calls = log, slow, lost, times, error, 0

    def generate(self, requests, sampling=Sampling(), progress=True):
        self.calls += 1
        lost = [r.name for r in requests if r.name in self.lost and self.calls <= self.times]
        for i in reversed(range(len(requests))):
            if self.log:
                with open(self.log, "a") as f: f.write(requests[i].name + "\n")
            time.sleep(self.slow)
            if requests[i].name not in lost:
                for _, ids in super().generate([requests[i]]): yield i, ids
        if lost: raise self.error(f"{len(lost)} lost")

    def info(self): return {"engine": "tracer", "style": "z1"}


def run(teacher, path, problems=PROBLEMS, lesson=LESSON, **options): return teach(problems, teacher, path, lesson, progress=False, **options)


def lines(path): return [json.loads(line) for line in Path(path).read_text().splitlines()]


def trajectories(path, tokenizer, problems=PROBLEMS):
    "The final file's bytes."
    write_trajectories(problems, path, path.with_suffix(".parquet"), tokenizer)
    return path.with_suffix(".parquet").read_bytes()


@pytest.fixture(scope="module")
def whole(tracer, tmp_path_factory):
    "The final file of an uninterrupted run."
    path = tmp_path_factory.mktemp("whole")/"ledger.jsonl"
    assert run(tracer, path)["ended"] == 30
    return trajectories(path, tracer.tokenizer)


# -- an engine's answers ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("style", STYLES)
def test_the_tracer_writes_as_an_engine_what_it_writes_as_a_function(tracer, tmp_path, style):
    path = tmp_path/"ledger.jsonl"
    lesson = Lesson(1000, system="You trace.", template="Please:\n{question}\nThink first.")
    run(Tracer(tracer.tokenizer, style), path, lesson=lesson)
    table = parquet.read_table(pq(path, tracer.tokenizer)).to_pylist()
    assert [(r["id"], r["question"], r["response"], r["difficulty"]) for r in table] == [
        (t.problem_id, t.prompt, t.response, t.difficulty) for t in map(STYLES[style], PROBLEMS)]
    assert [r["token_num_qwen"] for r in table] == [len(tracer.tokenizer(r["response"]).input_ids) for r in table]
    assert {(r["status"], r["run"]) for r in table} == {("ended", read_manifest(path)["run"])}
    assert [r["tokens"] for r in lines(path)] == [r["token_num_qwen"] + 1 for r in table]


def pq(path, tokenizer):
    trajectories(path, tokenizer)
    return path.with_suffix(".parquet")


def test_a_model_as_teacher_ends_or_is_cut(tmp_path):
    engine, path = load_engine("transformers", MODEL), tmp_path/"ledger.jsonl"
    lesson = Lesson(max_tokens=60, name="ours")
    record = run(engine, path, PROBLEMS[:8], lesson, source="programs")
    written = {r["id"]: r for r in lines(path)}
    asked = {p.id: ask_about(p, engine.tokenizer, lesson) for p in PROBLEMS[:8]}
    for i, ids in engine.generate([*asked.values()], progress=False):
        row, ended = written[[*asked][i]], ids[-1] == engine.tokenizer.eos_token_id
        assert (row["status"], row["tokens"]) == ("ended" if ended else "length", len(ids)) and len(ids) <= 60
        assert row["response"] == engine.tokenizer.decode(ids[:-1] if ended else ids)
    assert record["ended"] + record["length"] == 8 and record["length"] > 0 and record["ended"] > 0
    found = json.loads(manifest_path(path).read_text())
    assert found == record and found["lesson"]["teacher"] == {"engine": "transformers", "model": "ours", "dtype": "float32"}
    assert found["lesson"]["sampling"] == {"temperature": 0.0, "top_p": 1.0} and found["source"] == "programs"
    assert found["tokens"] == sum(r["tokens"] for r in written.values()) and found["seconds"] > 0


def test_each_problem_has_its_own_seed_whatever_the_shard(tracer):
    seeds = {p.id: ask_about(p, tracer.tokenizer, LESSON).seed for p in PROBLEMS}
    assert len(set(seeds.values())) == 30
    other = {p.id: ask_about(p, tracer.tokenizer, Lesson(600, seed=1)).seed for p in PROBLEMS}
    assert not set(seeds.values()) & set(other.values())


# -- whatever ends a run ------------------------------------------------------------------------------------------

def test_killed_twenty_times(tracer, whole, tmp_path):
    chance, kills, series = random.Random(0), 0, 0
    path, log = tmp_path/"0"/"ledger.jsonl", tmp_path/"log0"
    def work():
        teacher = Fake(tracer, log, slow=.01, lost=("dev-0-3", "dev-0-8"))
        with open(log, "a") as f: f.write("recorded " + " ".join(r["id"] for r in sound(path)) + "\n")
        run(teacher, path)
        trajectories(path, tracer.tokenizer)
    while kills < 20:
        child = FORK.Process(target=work)
        child.start()
        child.join(chance.uniform(.02, .25))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        if child.exitcode == 0 and kills < 20:               # done too early: begin again, in another folder
            check_once(path, whole, log)
            series += 1
            path, log = tmp_path/str(series)/"ledger.jsonl", tmp_path/f"log{series}"
        assert child.exitcode in (0, -signal.SIGKILL)
    work()
    check_once(path, whole, log)


def sound(path):
    "The rows of a ledger but a torn one."
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []


def check_once(path, whole, log):
    "The final file is right, no row is there twice, none was asked again after it was recorded."
    assert path.with_suffix(".parquet").read_bytes() == whole
    assert sorted(r["id"] for r in lines(path)) == sorted(p.id for p in PROBLEMS)
    for attempt in log.read_text().split("recorded ")[1:]:
        recorded, *asked = attempt.splitlines()
        assert not set(recorded.split()) & set(asked), "asked twice"


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_wherever_a_ledger_is_torn_it_goes_on(tracer, whole, tmp_path_factory, cut):
    path = tmp_path_factory.getbasetemp()/"torn"/"ledger.jsonl"
    run(tracer, path)
    data = path.read_bytes()
    path.write_bytes(data[:cut % len(data)])
    run(tracer, path)
    assert trajectories(path, tracer.tokenizer) == whole and path.read_bytes().count(b"\n") == 30


def test_a_ledger_torn_in_the_middle_is_told_by_its_line(tracer, tmp_path):
    path = tmp_path/"ledger.jsonl"
    run(tracer, path)
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join(text[:4]) + text[4][:30] + "".join(text[5:]))
    for work in (lambda: run(tracer, path), lambda: trajectories(path, tracer.tokenizer),
                 lambda: merge_ledgers([path], tmp_path/"merged.jsonl", PROBLEMS)):
        with pytest.raises(ValueError, match=r"ledger\.jsonl, line 5: not a row"): work()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": "x"}', None])
def test_a_manifest_that_is_torn_or_missing_is_told(tracer, tmp_path, content):
    path = tmp_path/"ledger.jsonl"
    run(tracer, path)
    manifest_path(path).write_text(content) if content is not None else manifest_path(path).unlink()
    for work in (lambda: run(tracer, path), lambda: trajectories(path, tracer.tokenizer)):
        with pytest.raises(ValueError, match=r"ledger\.manifest\.json: missing, or not the manifest"): work()


@pytest.fixture(params=["limit", "tmpfs"])
def narrow(request, tmp_path):
    "A folder for 12 KiB, and a function that gives it room."
    if request.param == "limit":
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12 * 1024, limits[1]))
        widen = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        yield tmp_path, widen
        return widen()
    folder = tmp_path/"narrow"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], capture_output=True, text=True)
    if done.returncode: pytest.skip(f"no file system of its own can be mounted here: {done.stderr.strip()}")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=1m", folder], check=True)
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_told_and_loses_nothing(tracer, whole, narrow):
    folder, widen = narrow
    path = folder/"ledger.jsonl"
    with pytest.raises(OSError, match=r"(No space left|File too large).*ledger.*finished rows are kept|finished rows are kept.*ledger") as caught:
        run(tracer, path)
    kept = sound(path)
    assert 5 < len(kept) < 30
    widen()
    run(tracer, path)                                        # `caught` still holds the failed run and what it could not write
    assert lines(path)[:len(kept)] == kept and len(lines(path)) == 30
    del caught
    assert trajectories(path, tracer.tokenizer) == whole and len(lines(path)) == 30


def test_a_disk_that_is_full_at_the_end_leaves_the_old_file(tracer, tmp_path):
    path, limits = tmp_path/"ledger.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    run(tracer, path)
    before = trajectories(path, tracer.tokenizer)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        for work in (lambda: trajectories(path, tracer.tokenizer), lambda: merge_ledgers([path], tmp_path/"merged.jsonl", PROBLEMS)):
            with pytest.raises(OSError, match="finished rows are kept"): work()
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.with_suffix(".parquet").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger.jsonl", "ledger.manifest.json", "ledger.parquet"]


def test_two_processes_cannot_write_to_one_ledger(tracer, tmp_path):
    path = tmp_path/"ledger.jsonl"
    child = FORK.Process(target=run, args=(Fake(tracer, slow=.05), path))
    child.start()
    try:
        while not path.exists() or not path.stat().st_size: time.sleep(.01)
        for work in (lambda: run(tracer, path), lambda: merge_ledgers([path], tmp_path/"merged.jsonl", PROBLEMS)):
            with pytest.raises(RuntimeError, match=r"ledger\.jsonl: another process is writing to it"): work()
    finally:
        child.kill()
        child.join()
    assert run(tracer, path)["ended"] == 30 == len(lines(path))


# -- a changed configuration ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("change, message", [
    (dict(lesson=Lesson(500)), "max_tokens was 600 and is 500"), (dict(lesson=Lesson(600, Sampling(.7))), "sampling was"),
    (dict(lesson=Lesson(600, system="Be brief.")), "system was '' and is 'Be brief.'"), (dict(lesson=Lesson(600, seed=1)), "seed was 0"),
    (dict(lesson=Lesson(600, template="Trace: {question}")), "template was"), (dict(lesson=Lesson(600, ends=("<think>",))), "ends was"),
    (dict(style="r1"), "teacher was {'engine': 'tracer', 'style': 'z1'} and is"), (dict(chat="{{ messages[0]['content'] }}"), "chat_template was")])
def test_a_changed_configuration_is_told(tracer, tmp_path, change, message):
    path, change = tmp_path/"ledger.jsonl", dict(change)
    run(tracer, path)
    before = path.read_bytes(), manifest_path(path).read_bytes()
    other = Tracer(load_teacher("tracer", MODEL).tokenizer, change.pop("style", "z1"))
    if chat := change.pop("chat", None): other.tokenizer.chat_template = chat
    with pytest.raises(ValueError, match=r"ledger\.jsonl: the configuration changed") as caught: run(other, path, **change)
    assert message in str(caught.value)
    assert before == (path.read_bytes(), manifest_path(path).read_bytes())


def test_another_question_under_a_known_id_is_told(tracer, tmp_path):
    path = tmp_path/"ledger.jsonl"
    run(tracer, path)
    swapped = [Problem(a.id, a.benchmark, b.prompt, b.answer, b.difficulty) for a, b in zip(PROBLEMS, PROBLEMS[::-1])]
    for work in (lambda: run(tracer, path, swapped), lambda: trajectories(path, tracer.tokenizer, swapped)):
        with pytest.raises(ValueError, match="problem 'dev-0-0' was another question when it was asked"): work()


def test_more_problems_later_are_no_other_configuration(tracer, whole, tmp_path):
    path = tmp_path/"ledger.jsonl"
    run(tracer, path, PROBLEMS[:9])
    teacher = Fake(tracer, tmp_path/"log")
    run(teacher, path)
    assert trajectories(path, tracer.tokenizer) == whole and len((tmp_path/"log").read_text().split()) == 21


# -- rows that fail ---------------------------------------------------------------------------------------------------

def test_lost_rows_are_asked_again(tracer, whole, tmp_path):
    path, teacher = tmp_path/"ledger.jsonl", Fake(tracer, lost=("dev-0-3", "dev-0-8"), times=2)
    assert run(teacher, path)["ended"] == 30 and teacher.calls == 3
    assert trajectories(path, tracer.tokenizer) == whole


def test_tries_are_bounded_and_a_later_run_tries_again(tracer, whole, tmp_path):
    path, teacher = tmp_path/"ledger.jsonl", Fake(tracer, lost=("dev-0-3", "dev-0-8"), times=99)
    for done in (1, 2):
        record = run(teacher, path, retries=1)
        assert (record["ended"], record["failed"], teacher.calls) == (28, 2, 2 * done)
        [last] = [r for r in lines(path) if r["try"] == f"dev-0-3#{done}"]
        assert last["status"] == "failed: ConnectionError: 2 lost" and last["response"] == ""
    table = parquet.read_table(pq(path, tracer.tokenizer)).to_pylist()
    assert [r["id"] for r in table if r["status"].startswith("failed: ")] == ["dev-0-3", "dev-0-8"]
    assert [r["token_num_qwen"] for r in table if not r["response"]] == [0, 0]
    assert run(tracer, path)["failed"] == 0 and trajectories(path, tracer.tokenizer) == whole


@pytest.mark.parametrize("error, lost, times", [(ConnectionError, 30, 9), (RuntimeError, 30, 1), (RuntimeError, 3, 9)])
def test_a_teacher_that_is_gone_is_told_and_blames_no_problem(tracer, whole, tmp_path, error, lost, times):
    path, teacher = tmp_path/"ledger.jsonl", Fake(tracer, lost=[p.id for p in PROBLEMS[:lost]], times=times, error=error)
    with pytest.raises(error, match=f"{lost} lost"): run(teacher, path)
    assert not [r for r in lines(path) if r["status"] != "ended"]
    assert len(lines(path)) == 30 - lost
    assert run(tracer, path)["ended"] == 30 and trajectories(path, tracer.tokenizer) == whole


def test_an_engine_that_forgets_a_row_does_not_keep_us_for_ever(tracer, tmp_path):
    class Forgetful(Tracer):
        def generate(self, requests, sampling=Sampling(), progress=True):
            yield from (o for o in super().generate(requests) if requests[o[0]].name != "dev-0-5")
    assert run(Forgetful(tracer.tokenizer), tmp_path/"ledger.jsonl")["failed"] == 1
    assert lines(tmp_path/"ledger.jsonl")[-1]["status"] == "failed: no answer came"


def test_an_engine_that_answers_twice_is_told(tracer, tmp_path):
    class Twice(Tracer):
        def generate(self, requests, sampling=Sampling(), progress=True):
            for output in super().generate(requests): yield from (output, output)
    with pytest.raises(ValueError, match="problem 'dev-0-0' is answered already"): run(Twice(tracer.tokenizer), tmp_path/"l.jsonl")


def test_a_refused_or_too_long_prompt_fails_alone(tracer, tmp_path):
    odd = [*PROBLEMS[:5], Problem("long", "x", "a " * 3000, "", 0), Problem("love", "x", "What is love?", "", 0)]
    teacher = Fake(tracer)
    teacher.context = 2000
    record = run(teacher, tmp_path/"ledger.jsonl", odd)
    assert (record["ended"], record["failed"], teacher.calls) == (5, 2, 2)
    why = {r["id"]: r["status"] for r in lines(tmp_path/"ledger.jsonl")}
    assert why["love"].startswith("failed: ValueError: love: asks about no program") and "the context is 2000" in why["long"]


class Babbling(Tracer):
    "A tracer that answers some problems with what no tokenizer can read."
    def __init__(self, tokenizer, odd): super().__init__(tokenizer); self.odd, self.asked = odd, []
    def generate(self, requests, sampling=Sampling(), progress=True):
        self.asked.append([r.name for r in requests])
        for i, ids in super().generate(requests): yield i, self.odd.get(requests[i].name, ids)


@pytest.mark.parametrize("ids", [(-1,), (2**40,), (None,), ("a",), (3.5,), None, 7, ([1],)], ids=repr)
def test_an_answer_that_cannot_be_read_is_a_failed_try_of_its_problem(tracer, whole, tmp_path, ids):
    path, teacher = tmp_path/"ledger.jsonl", Babbling(tracer.tokenizer, {"dev-0-3": ids})
    record = run(teacher, path)
    assert (record["ended"], record["failed"]) == (29, 1) and teacher.asked[1:] == [["dev-0-3"]] * 2
    [row] = [row for row in lines(path) if row["status"].startswith("failed")]
    assert row["id"] == "dev-0-3" and row["status"].startswith("failed: its answer ") and "cannot be read: " in row["status"]
    assert run(tracer, path)["failed"] == 0 and trajectories(path, tracer.tokenizer) == whole


class Choosy(Tracer):
    "A tracer that refuses some problems, all of them at the end, as an endpoint does."
    def generate(self, requests, sampling=Sampling(), progress=True):
        bad = [r.name for r in requests if r.name[-1] in "37"]
        for i, ids in super().generate(requests):
            if requests[i].name not in bad: yield i, ids
        if bad: raise Refused({name: f"400: not {name}, \ud83d" for name in bad})


def test_whatever_is_refused_is_noted_with_its_own_reason(tracer, tmp_path):
    path = tmp_path/"ledger.jsonl"
    record = run(Choosy(tracer.tokenizer), path)
    noted = {row["id"]: row["status"] for row in lines(path) if row["status"].startswith("failed")}
    assert record["failed"] == len(noted) == 6 and record["ended"] == 24
    assert all(why == f"failed: 400: not {name}, \ufffd" for name, why in noted.items())
    trajectories(path, tracer.tokenizer)                                          # halves would not fit into Parquet


@pytest.mark.parametrize("change, message", [
    ({"id": "\ud83d"}, "problem 2 .'.ud83d'.: field 'id' is .*half a character"), ({"id": 7}, "problem 2 .7.: field 'id' is 7, but must be str"),
    ({"prompt": "Sort \ud83d."}, "problem 2 .'dev-0-1'.: field 'prompt' is .*half a character, as it does at 5"), ({"prompt": None}, "field 'prompt' is missing"),
    ({"difficulty": 3.5}, "field 'difficulty' is 3.5, but must be int"), ({"difficulty": 2**70}, "must fit into 64 bits"),
    ({"difficulty": float("nan")}, "field 'difficulty' is missing"), ({"difficulty": True}, "must be int")], ids=repr)
def test_an_odd_problem_is_named_before_anybody_is_asked(tracer, tmp_path, change, message):
    problems = [PROBLEMS[0], replace(PROBLEMS[1], **change), PROBLEMS[2]]
    with pytest.raises(ValueError, match=message): run(tracer, tmp_path/"ledger.jsonl", problems)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_numbers(tracer, tmp_path):
    problems = [replace(p, difficulty=np.float64(p.difficulty)) for p in PROBLEMS[:3]]
    run(tracer, tmp_path/"ledger.jsonl", problems)
    write_trajectories(problems, tmp_path/"ledger.jsonl", tmp_path/"t.parquet", tracer.tokenizer)
    assert parquet.read_table(tmp_path/"t.parquet")["difficulty"].to_pylist() == [p.difficulty for p in PROBLEMS[:3]]


def test_half_a_character_that_somebody_wrote_into_a_ledger_is_made_whole(tracer, tmp_path):
    path = tmp_path/"ledger.jsonl"
    run(tracer, path)
    path.write_text(path.read_text().replace('"response": "', '"response": "\\ud83d', 1))
    merge_ledgers([path], tmp_path/"merged.jsonl", PROBLEMS)
    for name in ("ledger", "merged"):
        write_trajectories(PROBLEMS, tmp_path/f"{name}.jsonl", tmp_path/f"{name}.parquet", tracer.tokenizer)
        assert sum(text.startswith("\ufffd") for text in parquet.read_table(tmp_path/f"{name}.parquet")["response"].to_pylist()) == 1


def test_an_error_that_blames_nobody_is_raised(tracer, tmp_path):
    teacher = Fake(tracer, lost=("dev-0-3",), error=ValueError)
    with pytest.raises(ValueError, match="1 lost"): run(teacher, tmp_path/"ledger.jsonl")


def test_what_is_left_of_a_run_may_fail_as_a_whole(tracer, tmp_path):
    path = tmp_path/"ledger.jsonl"
    run(tracer, path, PROBLEMS[1:])
    assert run(Fake(tracer, lost=("dev-0-0",), times=9), path)["failed"] == 1, "one bad problem must not stop a run for ever"


# -- shards ---------------------------------------------------------------------------------------------------------

@given(st.integers(1, 9))
def test_shards_are_a_partition(n):
    shards = [problems_of_shard(PROBLEMS, (i, n)) for i in range(n)]
    assert sorted(p.id for s in shards for p in s) == sorted(p.id for p in PROBLEMS)
    assert [problems_of_shard(PROBLEMS[::-1], (i, n)) for i in range(n)] == [s[::-1] for s in shards]


def test_shards_do_not_move_between_versions():
    assert [p.id for p in problems_of_shard(PROBLEMS[:10], (1, 2))] == ["dev-0-2", "dev-0-4", "dev-0-8", "dev-0-9"]


@pytest.mark.parametrize("problems, shard, message", [
    ([], (0, 1), "no problems"), (PROBLEMS, (2, 2), "no shard 2 of 2: count from 0 to 1"), (PROBLEMS, (-1, 2), "no shard -1"),
    (PROBLEMS + PROBLEMS[3:5], (0, 1), "2 ids stand for several problems, 'dev-0-3' is the first")])
def test_a_wrong_part_is_told(tracer, tmp_path, problems, shard, message):
    with pytest.raises(ValueError, match=message): run(tracer, tmp_path/"ledger.jsonl", problems, shard=shard)


@pytest.fixture
def shards(tracer, tmp_path):
    paths = [tmp_path/f"shard{i}.jsonl" for i in range(3)]
    for i, path in enumerate(paths): run(tracer, path, shard=(i, 3))
    return paths


def test_merged_shards_are_the_whole(tracer, whole, shards, tmp_path):
    for order in (shards, shards[::-1]):
        record = merge_ledgers(order, tmp_path/"merged.jsonl", PROBLEMS)
        assert trajectories(tmp_path/"merged.jsonl", tracer.tokenizer) == whole
    assert [r["id"] for r in lines(tmp_path/"merged.jsonl")] == [p.id for p in PROBLEMS]
    assert [p["shard"] for p in record["parts"]] == [[2, 3], [1, 3], [0, 3]]
    assert run(tracer, tmp_path/"merged.jsonl")["ended"] == 30      # a merged ledger can be gone on with


def test_shards_that_overlap_must_agree(tracer, whole, shards, tmp_path):
    run(tracer, tmp_path/"all.jsonl")
    merge_ledgers([*shards, tmp_path/"all.jsonl"], tmp_path/"merged.jsonl", PROBLEMS)
    assert trajectories(tmp_path/"merged.jsonl", tracer.tokenizer) == whole
    rows = lines(tmp_path/"all.jsonl")
    rows[7]["response"] += "!"
    (tmp_path/"all.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(ValueError, match=rf"all\.jsonl: answers problem '{rows[7]['id']}' otherwise than .*shard"):
        merge_ledgers([*shards, tmp_path/"all.jsonl"], tmp_path/"merged.jsonl", PROBLEMS)


def test_a_failure_in_one_shard_gives_way_to_an_answer_in_another(tracer, whole, shards, tmp_path):
    run(Fake(tracer, lost=("dev-0-3", "dev-0-8"), times=9), tmp_path/"all.jsonl", retries=0)
    for order in ([*shards, tmp_path/"all.jsonl"], [tmp_path/"all.jsonl", *shards]):
        merge_ledgers(order, tmp_path/"merged.jsonl", PROBLEMS)
        assert trajectories(tmp_path/"merged.jsonl", tracer.tokenizer) == whole


def test_what_does_not_belong_together_is_not_merged(tracer, shards, tmp_path):
    run(tracer, tmp_path/"other.jsonl", lesson=Lesson(500))
    for paths, message in (([*shards, tmp_path/"other.jsonl"], r"other\.jsonl: not of the same run as .*max_tokens was 600 and is 500"),
                           (shards[1:], r"lacks \d+ of 30 problems: dev-0-"), ([], "name shards to merge"),
                           ([*shards, tmp_path/"merged.jsonl"], "another file for the result"),
                           ([*shards, tmp_path/"none.jsonl"], "there is no such ledger")):
        with pytest.raises(ValueError, match=message): merge_ledgers(paths, tmp_path/"merged.jsonl", PROBLEMS)
    assert not (tmp_path/"merged.jsonl").exists() and not (tmp_path/"none.jsonl").exists()


def test_a_run_that_is_not_finished_gives_no_trajectories(tracer, tmp_path):
    run(tracer, tmp_path/"ledger.jsonl", PROBLEMS[:20])
    with pytest.raises(ValueError, match="lacks 10 of 30 problems: dev-0-2"): trajectories(tmp_path/"ledger.jsonl", tracer.tokenizer)
    assert not (tmp_path/"ledger.parquet").exists()


# -- the notebook ---------------------------------------------------------------------------------------------------

def test_the_notebook_in_shards_equals_one_run(tracer, tmp_path):
    problems = tmp_path/"problems.jsonl"
    problems.write_text("".join(json.dumps({"question": p.prompt}) + "\n" for p in PROBLEMS[:12]))
    common = dict(problems=str(problems), text="question", engine="tracer", model=str(MODEL), max_tokens=600, out=str(tmp_path))
    said = [papermill("exp_teach", tmp_path/"out.ipynb", **common, shard=shard, shards=2) for shard in (0, 1, None)]
    assert [error for error, _ in said] == [""] * 3 and all("12 problems; 0 rows left out" in text for _, text in said)
    assert "{'ended': 12} {'rows': 12" in said[2][1]
    asked, _ = load_problems(str(problems), Columns("question"))
    run(tracer, tmp_path/"one.jsonl", asked, Lesson(600, name=str(MODEL)))
    assert trajectories(tmp_path/"one.jsonl", tracer.tokenizer, asked) == (tmp_path/"trajectories.parquet").read_bytes()


def test_the_notebook_fails_if_too_many_problems_do(tmp_path):
    problems = tmp_path/"problems.jsonl"
    problems.write_text("".join(json.dumps({"instruction": t}) + "\n" for t in (PROBLEMS[0].prompt, "What is love?")))
    common = dict(problems=str(problems), engine="tracer", model=str(MODEL), max_tokens=600, out=str(tmp_path/"out"))
    error, _ = papermill("exp_teach", tmp_path/"out.ipynb", **common)
    assert "1 of 2 problems failed" in error and not (tmp_path/"out"/"trajectories.parquet").exists()

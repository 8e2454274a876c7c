"Scores survive whatever ends a run, and benchmarks run from file to report."
import json, multiprocessing, os, random, re, signal, time
from pathlib import Path

import pandas as pd
import pytest
from running import papermill

from z1.benchmarks.suites import BENCHMARKS, load_benchmark
from z1.core import Ledger, Problem, hardware, root
from z1.nano.tokenizer import train_tokenizer
from z1.measure.sweep import Reply, read_samples, sweep_as_decoded, to_sample, write_samples
from z1.policies import make_policies
from z1.measure.answers import Grade, Grader, grade_exact
from z1.benchmarks.scoring import accepted_file, failing_references, grade_missing, grade_outputs, open_grader
from z1.window import decode

DATA = root()/"data"/"examples"/"benchmarks"
PROBLEMS = [Problem(f"p{i}", "ours", f"Print {i}.", json.dumps(dict(kind="stdin", inputs=["1\n", "2\n"], outputs=[f"{i + 1}\n", f"{i + 2}\n"])), i)
            for i in range(12)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([f"```python\nprint(int(input()) + {i})\n```" for i in range(12)] + [p.prompt for p in PROBLEMS])


class Slow:
    "An engine that takes its time; every third of its programs is wrong, every fourth answer is no program."
    def __init__(self, tokenizer): self.tokenizer = tokenizer

    def generate(self, requests, sampling, progress=True):
        for i, r in enumerate(requests):
            time.sleep(.02)
            n = int(re.search(r"Print (\d+)", self.tokenizer.decode(r.prompt_ids))[1])
            program = f"print(int(input()) + {n if n % 3 else 99})"
            text = f"```python\n{program}\n```" if n % 4 else "I would rather not."
            ids = self.tokenizer(text + "<|im_end|>").input_ids
            yield i, decode(r.policy, lambda out: ids[len(r.policy.split(out).answer) if r.policy.split(out).hint else len(out)], r.start)


class Noting:
    "A grader that notes what it is asked."
    def __init__(self, grader, log): self.grader, self.log = grader, log
    def submit(self, text, problem, cut, after_hint):
        with open(self.log, "a") as f: f.write(f"{problem.id}|{cut}\n")
        return self.grader.submit(text, problem, cut, after_hint)


def evaluation(tokenizer, folder, log):
    "One evaluation, as exp_benchmark does it."
    policies = make_policies("shifted", [3, 60], tokenizer, hint="\n", answer_tokens=60)
    with open_grader(BENCHMARKS["livecodebench-v5"], workers=2) as grader, Ledger(folder/"outputs.jsonl", key="key", sync_every=1) as outputs, \
         Ledger(folder/"grades.jsonl", key="key", sync_every=1) as grades:
        with open(log, "a") as f: f.write("recorded " + " ".join(sorted(grades.done)) + "\n")
        scored = grade_outputs(sweep_as_decoded(Slow(tokenizer), PROBLEMS, policies, outputs, progress=False), tokenizer,
                               Noting(grader, log), grades, progress=False)
    write_samples([to_sample(o, tokenizer, g, model="slow", seed=0, run="r") for o, g in scored], [], folder)


def test_killed_twenty_times(tokenizer, tmp_path):
    whole, broken = tmp_path/"whole", tmp_path/"broken"
    fork, started = multiprocessing.get_context("fork"), time.monotonic()
    evaluation(tokenizer, whole, tmp_path/"log.whole")
    seconds, log, kills = time.monotonic() - started, tmp_path/"log", 0
    chance = random.Random(0)
    for _ in range(60):
        child = fork.Process(target=evaluation, args=(tokenizer, broken, log))
        child.start()
        child.join(chance.uniform(0, seconds / 3))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        if kills == 20: break
        if child.exitcode == 0 and kills < 20:           # done too early: begin again, in another folder
            broken = tmp_path/f"broken{kills}"
            log = tmp_path/f"log{kills}"
    assert kills == 20
    evaluation(tokenizer, broken, log)
    pd.testing.assert_frame_equal(read_samples(whole), read_samples(broken))
    assert {"correct", "wrong", "no_answer"} <= set(read_samples(whole).verdict)
    for path in tmp_path.glob("log*"):
        for attempt in path.read_text().split("recorded ")[1:]:
            recorded, *asked = attempt.splitlines()
            done = {(key.split("/")[1], key.split("@")[1].split("/")[0] == "3") for key in recorded.split()}
            assert not done & {(a.split("|")[0], a.split("|")[1] == "True") for a in asked}, "graded twice"


def test_what_cannot_be_graded_is_told_at_the_end(tmp_path):
    odd = [Problem(f"p{i}", "ours", "?", "" if i == 1 else "7", 0) for i in range(3)]
    replies = [(p.id, p, Reply("the final answer is 7", False, False)) for p in odd]
    with Ledger(tmp_path/"g.jsonl", key="key") as ledger:
        with pytest.raises(ValueError, match="1 of 3 can't be graded, the first: problem 'p1' of 'ours': gold is empty"):
            grade_missing(replies, Grader(grade_exact), ledger, progress=False)
        assert set(ledger.done) == {"p0", "p2"}


class Machine:
    "A grader that accepts what is installed on it; it notes what it is asked."
    def __init__(self, *installed): self.installed, self.asked = installed, []
    def submit(self, text, problem, cut, after_hint):
        self.asked.append(problem.id)
        return Grader(lambda *_: Grade(text, problem.id in self.installed, "correct" if problem.id in self.installed else "wrong")).submit(text, problem)


def test_only_accepted_references_are_remembered(tmp_path):
    problems = [Problem(p, "ours", "?", "1", 0, reference="1") for p in ("a", "b", "c")] + [Problem("d", "ours", "?", "1", 0)]
    def failing(machine):
        with Ledger(tmp_path/"references.jsonl", key="key") as ledger: return list(failing_references(problems, "exact", machine, ledger, progress=False))
    machines = [Machine("a"), Machine("a", "c"), Machine("a", "b", "c"), Machine()]
    assert [failing(machine) for machine in machines] == [["b", "c"], ["b"], [], []]
    assert [machine.asked for machine in machines] == [["a", "b", "c"], ["b", "c"], ["b"], []]


def test_a_failure_in_an_old_record_is_checked_again(tmp_path):
    problems, path = [Problem(p, "ours", "?", "1", 0, reference="1") for p in ("a", "b")], tmp_path/"references.jsonl"
    with Ledger(path, key="key") as ledger:
        for p in problems: ledger.append({"key": f"reference/{p.id}", **vars(Grade("1", p.id == "a", "wrong"))})
    for _ in range(2):
        with Ledger(path, key="key") as ledger: assert failing_references(problems, "exact", Machine("b"), ledger, progress=False) == {}


def test_the_record_of_references_is_of_one_machine_and_its_packages(tmp_path, monkeypatch):
    benchmark, problems = BENCHMARKS["humaneval"], load_benchmark("humaneval", DATA, partial=True)
    files = [accepted_file(tmp_path, benchmark, problems) for _ in range(2)]
    for name, told in (("distributions", lambda: []), ("hardware", lambda: {"cores": 99}), ("versions", lambda: {"python": "4.0"})):
        with monkeypatch.context() as m:
            m.setattr(f"z1.benchmarks.scoring.{name}", told)
            files.append(accepted_file(tmp_path, benchmark, problems))
    monkeypatch.setattr("z1.benchmarks.scoring.hardware", lambda: {**hardware(), "gpu": "one that was not there"})
    assert files[0] == files[1] == accepted_file(tmp_path, benchmark, problems) and len(set(files)) == 4


@pytest.mark.parametrize("name", ["math500", "gsm8k", "aime24", "aime25", "cruxeval-o", "bigcodebench-hard", "humaneval", "mbpp"])
def test_our_own_references_are_accepted(name, tmp_path):
    problems, benchmark = load_benchmark(name, DATA, partial=True), BENCHMARKS[name]
    with open_grader(benchmark, 2) as grader, Ledger(tmp_path/"g.jsonl", key="key") as ledger:
        assert failing_references(problems, benchmark.grading, grader, ledger, progress=False) == {}
        assert len(ledger) == len(problems) == 3


def printed(notebook, written, **parameters):
    "The text outputs of a notebook, which must not fail."
    error, text = papermill(notebook, written, **parameters)
    assert not error, error
    return text


@pytest.mark.parametrize("name", ["math500", "gpqa-diamond", "livecodebench-v5", "bigcodebench-hard", "gsm8k", "cruxeval-o"])
def test_three_rows_from_file_to_report(name, tmp_path):
    parameters = dict(benchmark=name, data=str(DATA), limit=3, windows=[8, 16], max_tokens=60, out=str(tmp_path), workers=2)
    text = printed("exp_benchmark", tmp_path/"out.ipynb", **parameters)
    [folder] = [p for p in (tmp_path/name).iterdir() if p.is_dir()]
    table = read_samples(folder)
    assert len(table) == 6 and set(table.benchmark) == {name} and set(table.window) == {8, 16}
    assert (table.thinking_tokens <= table.window).all() and (table.total_tokens <= 60).all()
    report = (folder/"report.md").read_text()
    assert report.count(f"| {name} |") == 2 and "ground truth" in report.lower()
    assert "no_answer, %" in report and "several, %" in report
    truth = re.findall(r"remembered, in `([^`]+)`", report)
    assert truth == ([] if name in ("gpqa-diamond", "livecodebench-v5") else [str(next((tmp_path/name).glob("references-*.jsonl")))])
    [manifest] = [json.loads(line) for line in (folder/"manifests.jsonl").read_text().splitlines()]
    assert manifest["run"] == table.run.iloc[0] and manifest["graded"] == "answer" and "protocol" in manifest


def test_two_runs_are_compared(tmp_path):
    for window in (64, 256):
        printed("exp_benchmark", tmp_path/"out.ipynb", benchmark="nano-test", limit=30, windows=[window, 300], max_tokens=400, out=str(tmp_path))
    folders = sorted(p for p in (tmp_path/"nano-test").iterdir() if p.is_dir())
    text = printed("exp_compare", tmp_path/"out.ipynb", a=str(folders[0]), b=str(folders[1]))
    assert "30 problems" in text and "+0.0 points" in text
    report = (folders[1]/"comparison.md").read_text()
    assert "window closed" in report and "None." in report

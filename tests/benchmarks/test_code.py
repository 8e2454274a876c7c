"Programs graded: the table of comparisons, lazy and lying sandboxes, and the real one where bubblewrap is installed."
import gzip, json, shutil, sys
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from z1.benchmarks.code import LCB_PRELUDE, CodeGrader, compare_lcb, compare_strict, compare_value, with_prelude
from z1.core import Problem, root
from z1.sandbox.sandbox import Limits, Run, Sandbox, SandboxDied
from z1.measure.answers import Verdict

NAN = float("nan")


def problem(kind="stdin", prefill="", **gold):
    return SimpleNamespace(id="p", benchmark="toy", answer=json.dumps({"kind": kind, **gold}), prefill=prefill)


ECHO = problem(inputs=["1", "2", "3", "4"], outputs=["1", "2", "3", "4"])


def fenced(code, tag="python"): return f"```{tag}\n{code}\n```"


# -- comparing --------------------------------------------------------------------------------------------------

HUGE = 10**50
TABLE = [  # printed, expected, strict, lcb
    ("", "", 1, 1), ("\n\n", "", 1, 1), ("", "0", 0, 0), ("0", "", 0, 0), ("a\n", "a", 1, 1), ("a \t\n", "a", 1, 1),
    ("a\r\nb", "a\nb", 1, 1), ("\na", "a", 0, 1), (" a", "a", 0, 1), ("a b", "a  b", 0, 0), ("1 2", "1  2", 0, 1),
    ("a\n\nb", "a\nb", 0, 0), ("1", "1.0", 0, 1), ("1e2", "100", 0, 1), ("0.1", "0.10000000000000001", 0, 0),
    (str(HUGE), str(HUGE + 1), 0, 0), (f"{HUGE}.0", str(HUGE), 0, 1), ("-0", "0", 0, 1), ("nan", "nan", 1, 1),
    ("nan", "NaN", 0, 0), ("sNaN", "nan", 0, 0), ("inf", "Infinity", 0, 1), ("\u0663", "3", 0, 1),
    ("1_000", "1000", 0, 1),
    ("1 a", "1.0 a", 0, 0), ("1 2 3", "1 2", 0, 0), ("1\n2", "1 2", 0, 0), ("True", "1", 0, 0),
    ("1e9999999999999999999", "1", 0, 0),
    ("Yes", "YES", 0, 0), ("a\x00", "a", 0, 0), ("\xa0a", "a", 0, 1), ("5.", "5", 0, 1), ("1/2", "0.5", 0, 0)]


@pytest.mark.parametrize("printed, expected, strict, lcb", TABLE)
def test_compared_output(printed, expected, strict, lcb):
    assert compare_strict(printed.encode(), expected) == strict and compare_lcb(printed.encode(), expected) == lcb


@pytest.mark.parametrize("junk", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_what_is_not_utf8_equals_nothing(junk):
    for expected in (junk.decode(errors="replace"), junk.decode("latin-1"), junk.decode(errors="surrogateescape"), ""):
        assert not compare_strict(junk, expected) and not compare_lcb(junk, expected)


words = st.sampled_from(["1", "1.0", "01", "a", "nan", " ", "\t", "\n", "\r", "\x0b", "\x1c", "\xa0", "-0", "inf"])
texts = st.lists(words, max_size=7).map("".join)


@given(texts, texts, st.sampled_from(["", "\n", " \n\n", "\t"]))
def test_strictly_right_is_leniently_right(a, b, tail):
    for printed, expected in ((a, b), (a + tail, a), (a, a + tail)):
        if compare_strict(printed.encode(), expected): assert compare_lcb(printed.encode(), expected)
    assert compare_strict((a + tail).encode(), a)


@pytest.mark.parametrize("got, expected, strict, lcb", [
    (1, 1, 1, 1), (True, 1, 0, 1), (1.0, 1, 0, 1), (1, 2, 0, 0), ((1, 2), [1, 2], 0, 1), ([(1,)], [[1]], 0, 0),
    ((), [], 0, 1),
    (None, None, 1, 1), (None, False, 0, 0), ("1", 1, 0, 0), (NAN, float("nan"), 0, 0), ([NAN], [float("nan")], 0, 0),
    ({1}, [1], 0, 0), ({"a": 1}, {"a": 1.0}, 0, 1), (b"a", "a", 0, 0), (HUGE, HUGE, 1, 1),
    ([1, [2, "x"]], [1, [2, "x"]], 1, 1)])
def test_compared_values(got, expected, strict, lcb): assert compare_value(got, expected) == (strict, lcb)


leaves = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0., 1., .5]) | st.text("ab", max_size=1)
expected = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=6)  # JSON has no tuples
returned = st.recursive(leaves, lambda inner: (lists := st.lists(inner, max_size=3)) | lists.map(tuple), max_leaves=6)


@given(returned, expected)
def test_strictly_equal_values_are_leniently_equal(got, gold):
    strict, lcb = compare_value(got, gold)
    assert lcb or not strict
    assert compare_value(gold, gold) == (True, True)


# -- a sandbox that is none -------------------------------------------------------------------------------------

class Scripted:
    "Gives the runs it was given, and counts how many were asked for; an exception is raised."
    def __init__(self, *runs): self.runs, self.asked, self.closed = runs, 0, 0

    def programs(self, source, inputs, limits, reuse=False):
        if reuse: return (run for run in [Run("killed")])  # nothing comes of runs that share a process
        return self.one_by_one()

    def one_by_one(self):
        try:
            for run in self.runs:
                self.asked += 1
                if isinstance(run, Exception): raise run
                yield run
        finally: self.closed += 1

    def calls(self, source, name, arguments, limits, prelude=""): return self.programs(source, arguments, limits)
    def tests(self, source, tests, limits): return self.runs[0]


def graded(sandbox, question=ECHO, text=fenced("pass"), cut=False, after_hint=False, **options):
    with CodeGrader(sandbox, workers=1, **options) as grader:
        return grader.submit(text, question, cut, after_hint).result()


def said(*lines): return [Run("ok", line.encode()) for line in lines]


def test_it_stops_when_both_rules_have_failed():
    sandbox = Scripted(*said("1", "2.0", "x", "4"))
    grade = graded(sandbox)
    assert (sandbox.asked, sandbox.closed) == (3, 1)
    assert (grade.correct, grade.lenient, grade.detail) == (False, False, "test 2 of 4: wrong output")
    assert graded(Scripted(*said("1", "2.0", "x")), rule="lcb").detail == "test 3 of 4: wrong output"


def test_it_goes_on_while_one_rule_may_pass():
    sandbox = Scripted(*said("1.0", "2", "3", "4"))
    grade = graded(sandbox)
    assert sandbox.asked == 4
    assert (grade.correct, grade.lenient, grade.verdict) == (False, True, Verdict.WRONG)
    assert graded(sandbox, rule="lcb").verdict == Verdict.CORRECT


def test_missing_runs_are_failed_tests():
    assert graded(Scripted(*said("1", "2"))).detail == "test 3 of 4: did not run"


@pytest.mark.parametrize("run, reason, lenient", [
    (Run("exit", b"1", code=3), "exit status 3", True),
    (Run("error", b"1", "Traceback\nKeyError: 1"), "an exception: KeyError: 1", False),
    (Run("timeout", b"1"), "time limit", False), (Run("memory", b"1"), "memory limit", False),
    (Run("killed", b"1", code=-9), "died of a signal", False),
    (Run("output", b"1"), "too much output", False)])
def test_a_program_that_does_not_end_well(run, reason, lenient):
    grade = graded(Scripted(run, *said("2", "3", "4")))
    assert (grade.correct, grade.lenient, grade.detail) == (False, lenient, f"test 1 of 4: {reason}")


def test_a_function_that_returns_odd_things():
    question = problem("function", name="f", arguments=[[1]], outputs=[[1]])
    assert graded(Scripted(Run("odd")), question).detail == "test 1 of 1: returned no plain data"
    assert graded(Scripted(Run("exit", b"[1]", code=0)), question).lenient is False


@pytest.mark.parametrize("value, reason", [
    ({"a": "passed", "b": "passed"}, ""), ({"a": "passed"}, "1 tests ran, but there are 2"),
    ({}, "0 tests ran, but there are 2"),
    ({"a": "passed", "b": "passed", "c": "passed"}, "3 tests ran, but there are 2"),
    ({"a": "passed", "b": "skipped"}, "b: skipped"),
    ({"a": "failed: 1 != 2", "b": "passed"}, "a: failed: 1 != 2"), (None, "ok"), ([], "ok")])
def test_unittest_classes_must_all_run_and_pass(value, reason):
    grade = graded(Scripted(Run("ok", value=value)), problem("unittest", tests="...", count=2))
    assert (grade.correct, grade.detail, grade.lenient) == (not reason, reason, None)


def test_tampered_tests_are_wrong():
    run = Run("tampered", value={"a": "passed"})
    assert graded(Scripted(run), problem("unittest", tests="...", count=1)).detail == "the tests were tampered with"


def test_a_dead_sandbox_is_asked_again_and_then_an_error():
    class Dying(Scripted):
        def one_by_one(self):
            self.asked += 1
            if self.asked < self.runs[0]: raise SandboxDied("gone")
            yield from said("1", "2", "3", "4")
    assert graded(Dying(3)).correct
    with pytest.raises(SandboxDied): graded(Dying(9))


def test_an_error_of_the_sandbox_is_no_verdict():
    with pytest.raises(OSError): graded(Scripted(OSError("no bubblewrap")))


@pytest.mark.parametrize("text, cut, after_hint, prefill, verdict", [
    ("no code", False, False, "", Verdict.NO_ANSWER), (fenced("pass"), True, False, "", Verdict.CUT),
    ("no code", True, True, "", Verdict.CUT), ("```python\npass", False, False, "", Verdict.CORRECT),
    ("pass\n```", True, True, "", Verdict.CORRECT), ("no code", True, True, "```python\n", Verdict.CUT),
    ("pass", False, False, "```python\n", Verdict.CORRECT),
    ("pass\n```\nDone.", False, False, "```python\n", Verdict.CORRECT),
    ("pass", True, True, "```python\n", Verdict.CORRECT), ("```\npass\n```", False, False, "```python\n", Verdict.CORRECT),
    ("pass", True, False, "```python\n", Verdict.CUT), (fenced("pass"), True, True, "```python\n", Verdict.CORRECT)])
def test_whether_there_is_a_program(text, cut, after_hint, prefill, verdict):
    question = problem(prefill=prefill, inputs=["1"], outputs=["1"])
    grade = graded(Scripted(*said("1")), question, text, cut, after_hint)
    assert grade.verdict == verdict and grade.lenient == (verdict == Verdict.CORRECT)
    assert (grade.answer is None) == (verdict in (Verdict.CUT, Verdict.NO_ANSWER))


@pytest.mark.parametrize("text, after_hint, which, found", [
    (fenced("pass"), False, "first", ""), ("Here:\n\npass", False, "first", "the program is the longest run of lines that is Python"),
    ("```\npass\n```", False, "first", "the program is in a block without a language"),
    ("pass", True, "first", "the program is in a block that was open before the hint"),
    ("Here:\n\npass", False, "longest", ""), ("Here:\n```\npass\n```", False, "lcb-last", "")])
def test_the_detail_says_how_the_program_was_found(text, after_hint, which, found):
    question = problem(inputs=["1"], outputs=["1"])
    right, wrong = (graded(Scripted(*said(output)), question, text, after_hint, after_hint, which=which) for output in "12")
    assert (right.correct, right.detail) == (True, found)
    assert (wrong.correct, wrong.detail) == (False, "test 1 of 1: wrong output" + (found and f"; {found}"))


def test_the_detail_says_that_there_is_no_program():
    for text, verdict in (("I give up.", Verdict.NO_ANSWER), (fenced("ls", "bash"), Verdict.NO_ANSWER)):
        grade = graded(Scripted(), text=text)
        assert (grade.verdict, grade.detail) == (verdict, "no program was found, in a block or outside")


@pytest.mark.parametrize("answer, part", [
    ("12", "kind"), ("{", "JSON"), ('{"kind": "shell"}', "kind"), ('{"kind": "stdin", "inputs": ["1"]}', "outputs"),
    ('{"kind": "stdin", "inputs": ["1"], "outputs": []}', "outputs"),
    ('{"kind": "unittest", "tests": "x", "count": true}', "count"),
    ('{"kind": "unittest", "tests": "x", "count": 0}', "count"),
    ('{"kind": "function", "arguments": [], "outputs": []}', "name"),
    ('{"kind": "stdin", "inputs": ["1", "2"], "outputs": ["1"]}', "2 inputs and 1 outputs")])
def test_an_answer_that_cannot_be_graded_names_its_field(answer, part):
    with pytest.raises(ValueError, match=f"'p' of 'toy': answer.*{part}"):
        graded(Scripted(), Problem("p", "toy", "?", answer, 0))


@pytest.mark.parametrize("options", [{"rule": "loose"}, {"which": "second"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="use "): CodeGrader(Scripted(), **options)


@pytest.fixture
def own_limits():
    "The prelude lifts Python's limits; the tests that follow in this process have theirs back."
    depth, digits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    yield
    sys.setrecursionlimit(depth), sys.set_int_max_str_digits(digits)


def test_the_prelude_follows_the_future(own_limits):
    code = with_prelude(LCB_PRELUDE, '"doc"\nfrom __future__ import annotations\ndef f(x: Undefined): return gcd(x, 4)')
    names = {}
    exec(compile(code, "x", "exec"), names)
    assert names["f"](6) == 2 and names["pow"](2, 3, 5) == 3 and with_prelude("", code) == code


# -- the real sandbox -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def sandbox():
    if not shutil.which("bwrap"): pytest.skip("bubblewrap is not installed")
    with Sandbox(slots=2) as real: yield real


@pytest.mark.parametrize("code, correct, lenient", [
    ("print(input())", True, True), ("print(float(input()))", False, True),
    ("import sys\nprint(input()); sys.exit(3)", False, True),
    ("class A(int):\n    def __eq__(self, o): return True\nprint(A(7))", False, False),
    ("import os; os._exit(0)", False, False),
    ("import sys; sys.stdout.buffer.write(b'\\xff')", False, False), ("while True: pass", False, False),
    ("print(gcd(int(input()), 0))", True, True)])
def test_real_programs(sandbox, code, correct, lenient):
    grade = graded(sandbox, text=fenced(code), limits=Limits(seconds=2), prelude=LCB_PRELUDE)
    assert (grade.correct, grade.lenient) == (correct, lenient), grade


@pytest.mark.parametrize("code, correct, lenient", [
    ("def f(x): return [x]", True, True), ("def f(x): return (x,)", False, True),
    ("def f(x): return {x}", False, False),
    ("class Solution:\n    def f(self, x: List[int]): return [x]", True, True), ("def g(x): return [x]", False, False),
    ("class Same(list):\n    def __eq__(self, o): return True\ndef f(x): return Same()", False, False)])
def test_real_functions(sandbox, code, correct, lenient):
    question = problem("function", name="f", arguments=[[1], [2]], outputs=[[1], [2]])
    grade = graded(sandbox, question, fenced(code), limits=Limits(seconds=5), prelude=LCB_PRELUDE)
    assert (grade.correct, grade.lenient) == (correct, lenient), grade


def test_humaneval_reference_solutions_pass_and_stubs_do_not(sandbox):
    path = root().parent/"shared"/"eval"/"HumanEval.jsonl.gz"
    if not path.exists(): pytest.skip("HumanEval is not among the evaluation data beside the project")
    with gzip.open(path, "rt", encoding="utf-8") as f: rows = [json.loads(line) for line in f]
    with CodeGrader(sandbox, Limits(seconds=20), workers=2) as grader:
        def submit(row, body):
            lines = [f"        {line}" for line in f"{row['test']}\ncheck({row['entry_point']})".split("\n")]
            tests = "import unittest\nclass T(unittest.TestCase):\n    def test_all(self):\n" + "\n".join(lines)
            question = problem("unittest", tests=tests, count=1)
            return grader.submit(fenced(row["prompt"] + body), question)
        right = [submit(row, row["canonical_solution"]) for row in rows]
        stubs = [submit(row, "    return None\n") for row in rows]
    assert [row["task_id"] for row, f in zip(rows, right) if not f.result().correct] == []
    assert [row["task_id"] for row, f in zip(rows, stubs) if f.result().correct] == []

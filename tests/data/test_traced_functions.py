"Traced functions: values are right, both forms agree, tags are the only difference, and nothing of CRUXEval is learned."
import ast
import gzip
import json
import re
import sys

import pytest
from hypothesis import given, settings, strategies as st

from z1.benchmarks.cruxeval import CRUXEVAL
from z1.benchmarks.values import grade_value
from z1.core import root
from z1.data.traced_functions import (FORMS, MOST_STEPS, call_of, draw_function, make_traced, make_traced_problems, normal_form,
                                      think_through, trace_call, traced_trajectory, works)
from z1.nano.programs import split_of

numbers = st.integers(0, 10**6)


def called(code, arguments):
    "What a call returns, without anybody watching."
    space = {}
    exec(code, space)
    return eval(f"f({arguments})", space)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
def test_the_gold_answer_is_what_python_returns(index, seed):
    problem = make_traced("train", index, seed)
    code, arguments = call_of(problem.prompt)
    assert repr(called(code, arguments)) == problem.answer and ast.literal_eval(problem.answer) == called(code, arguments)
    row = {"id": problem.id, "code": code, "input": arguments, "output": problem.answer}
    assert problem.prompt == CRUXEVAL.problem(row, 0)["prompt"]                     # the benchmark's own words
    assert 2 <= problem.difficulty <= MOST_STEPS and works(code, arguments)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
def test_both_forms_give_the_right_answer_and_tags_are_the_only_difference(index, seed):
    problem = make_traced("train", index, seed)
    answers = set()
    for form in FORMS:
        plain, tagged = (traced_trajectory(problem, form, tags).response for tags in (False, True))
        thinking, answer = plain.rsplit("\n\n", 1)
        assert tagged == f"<think>\n{thinking}\n</think>\n\n{answer}" and thinking == think_through(problem, form)
        assert "think>" not in plain and "\\boxed" not in thinking
        for response in (plain, tagged, answer): assert grade_value(response, problem.answer).correct, response
        answers.add(answer)
    assert len(answers) == 1
    assert len(think_through(problem, "short")) < len(think_through(problem, "long"))


@settings(max_examples=60, deadline=None)
@given(numbers)
def test_what_a_long_thought_says_of_a_variable_it_held(index):
    "Every `name = value` at the end of a step's line is a state that the watched call went through."
    problem = make_traced("train", index)
    steps, value = trace_call(*call_of(problem.prompt))
    held = {(name, text) for step in steps for state in (step.before, step.after) for name, text in state.items()}
    for line in think_through(problem, "long").split("\n"):
        if found := re.search(r"(?:-> |  # |: )(\w+) = (.*)$", line):
            name, text = found.groups()
            assert any(n == name and text.startswith(t) for n, t in held), line
    assert repr(value) == problem.answer


def test_a_step_is_told_as_it_was_when_it_was_taken():
    "A list that is changed later must not change in what was noted before."
    steps, value = trace_call("def f(a):\n    b = a\n    a.append(1)\n    a.append(2)\n    return b", "[]")
    assert [s.after.get("b") for s in steps] == ["[]", "[1]", "[1, 2]", "[1, 2]"] and value == [1, 2]


def test_tracing_puts_back_whoever_watched_before():
    seen = []
    def watch(frame, event, arg): seen.append(event)
    before = sys.gettrace()
    sys.settrace(watch)
    try:
        trace_call("def f(x):\n    return x + 1", "1")
        now = sys.gettrace()
    finally: sys.settrace(before)
    assert now is watch


@settings(max_examples=100, deadline=None)
@given(numbers)
def test_a_split_holds_a_function_under_any_names(index):
    problem = make_traced("test", index)
    code, _ = call_of(problem.prompt)
    names = {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    renamed = code
    for name in names: renamed = re.sub(rf"(?<![\w'.]){name}(?![\w'(])", f"{name}_too", renamed)
    assert split_of(normal_form(code)) == "test"
    if repr(called(renamed, call_of(problem.prompt)[1])) == problem.answer:
        assert split_of(normal_form(renamed)) == "test"


def test_splits_share_no_function_and_a_set_repeats_none():
    forms = {split: [normal_form(call_of(p.prompt)[0]) for p in make_traced_problems(split, 150)] for split in ("train", "test", "dev")}
    assert all(len(set(found)) == 150 for found in forms.values())
    assert not set(forms["train"]) & set(forms["test"]) and not set(forms["dev"]) & set(forms["test"])


def test_the_draws_are_many_and_of_every_kind():
    from z1.core import random_stream
    rng = random_stream("variety")
    codes = [draw_function(rng)[0] for _ in range(300)]
    assert len(set(map(normal_form, codes))) > 200
    for piece in ("for ", "while ", "if ", "else:", ".append(", ".get(", "sorted(", ".join(", ".items()"): assert any(piece in c for c in codes), piece
    first = [think_through(p, "short").split("\n")[0] for p in make_traced_problems("train", 60)]
    assert len(set(first)) > 4


def test_no_function_of_cruxeval_is_drawn():
    path = root().parent/"shared"/"eval"/"cruxeval.jsonl.gz"
    if not path.exists(): pytest.skip("no shared/eval folder with CRUXEval")
    held = [json.loads(line)["code"] for line in gzip.open(path, "rt", encoding="utf-8")]
    forms = set(map(normal_form, held))
    drawn = list(make_traced_problems("train", 1000))
    overlap = [p.id for p in drawn if normal_form(call_of(p.prompt)[0]) in forms]
    kept = {p.id for p in make_traced_problems("train", 300, without=held)}
    assert not kept & set(overlap)
    assert len(overlap) < 10, "the generator draws the benchmark's own functions; those are left out, but should be rare"

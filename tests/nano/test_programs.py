"The nano world against CPython itself: what is printed, how many steps it takes, and who has seen which program."
import ast
import contextlib
import io
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import chisquare

from z1.measure.answers import extract_answer
from z1.nano.programs import (BUCKETS, SHORT, QUESTION, STYLES, bucket_name, check_program, difficulty, draw_program, execute, initial_value, number_lines,
                         make_problem, make_problems, make_word_problem, program_of, shapes, split_of, trace_program)
from z1.core import random_stream
from z1.recipes.nano import RECIPES, test_problems as held_out, training_problems, word_problems

SPLITS = ("train", "dev", "test")
problems = st.builds(make_problem, st.sampled_from(SPLITS), st.integers(0, 10**6), st.integers(0, 10**4))


# -- an interpreter that owes nothing to `execute` --------------------------------------------------------------

def printed(source):
    "What CPython prints, untraced and with its own builtins."
    out = io.StringIO()
    with contextlib.redirect_stdout(out): exec(compile(source, "<string>", "exec"), {})
    return out.getvalue().strip()


class Recorder(ast.NodeTransformer):
    "Write after every assignment that it happened, and what the variables hold."
    def visit_Assign(self, node):
        note = ast.parse(f"_log.append(({node.lineno}, dict(a=a, b=b, c=c)))" if node.lineno > 1 else "pass").body
        return [node, *note]


def assignments(source):
    "(line, variables after it) for each assignment executed after line 1."
    space = {"_log": []}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(ast.fix_missing_locations(Recorder().visit(ast.parse(source))), "<string>", "exec"), space)
    return space["_log"]


@given(problems)
@settings(max_examples=200)
def test_the_answer_is_what_cpython_prints(problem):
    source = program_of(problem)
    assert problem.prompt == QUESTION + number_lines(source)
    assert problem.answer == execute(source)[1] == printed(source) and re.fullmatch(r"\d", problem.answer)
    assert re.search(r"# (?:\S+=)?(\d)$", trace_program(source))[1] == problem.answer
    for style in STYLES.values(): assert extract_answer(style(problem).response) == problem.answer


def test_the_answer_is_what_a_fresh_python_prints():
    some = [make_problem(split, i, seed=77) for split in SPLITS for i in range(100)]
    code = "import json, sys\nfor source in json.load(sys.stdin): exec(source, {})"
    done = subprocess.run([sys.executable, "-I", "-c", code], input=json.dumps([program_of(p) for p in some]),
                          capture_output=True, text=True, check=True)
    assert done.stdout.split() == [p.answer for p in some]
    for p in some[::60]:                                                     # and each on its own
        alone = subprocess.run([sys.executable, "-I", "-c", program_of(p)], capture_output=True, text=True, check=True)
        assert alone.stdout.strip() == p.answer


@given(problems)
@settings(max_examples=200)
def test_difficulty_is_the_number_of_executed_assignments(problem):
    source = program_of(problem)
    assert problem.difficulty == difficulty(source) == len(assignments(source))
    assert source.count("\n") < SHORT[0] and bucket_name(problem.difficulty)


@given(problems)
@settings(max_examples=200)
def test_every_line_of_a_trace_is_what_happened(problem):
    source, lines = program_of(problem), program_of(problem).split("\n")
    written, true = trace_program(source).split("\n"), iter(assignments(source))
    for line in written[1:-1]:
        number, rest = re.fullmatch(r"(\d): (.*)", line).groups()
        assert rest.startswith(lines[int(number) - 1] + " # "), "the statement is copied"
        if found := re.search(r"# (\d[-+*]\d)=(\d) a:(\d) b:(\d) c:(\d)$", line):
            at, state = next(true)
            assert at == int(number) and state == dict(zip("abc", map(int, found.groups()[2:])))
            assert eval(found[1]) % 10 == int(found[2])
    assert next(true, None) is None, "no assignment is left out"
    for found in re.finditer(r"# (\d<\d) (yes|no)$", trace_program(source), re.M): assert eval(found[1]) == (found[2] == "yes")


@pytest.mark.parametrize("steps", [*range(17), 24, 40])
def test_a_drawn_program_has_exactly_the_steps_asked_for(steps):
    assert {len(assignments(draw_program(random_stream("t", steps, i), steps))) for i in range(15)} == {steps}
    assert shapes(steps)


def test_more_steps_than_fit_are_refused():
    with pytest.raises(ValueError, match="100 steps in at most 16 lines; ask for fewer"): draw_program(random_stream("t"), 100)


@given(problems)
@settings(max_examples=100)
def test_both_teachers_answer_the_same_problem_in_their_own_way(problem):
    z1, r1 = (STYLES[s](problem) for s in ("z1", "r1"))
    for t in (z1, r1):
        assert (t.problem_id, t.prompt, t.difficulty) == (problem.id, problem.prompt, problem.difficulty)
        assert t.response.endswith(f"The final answer is {problem.answer}.")
    assert "think>" not in z1.response and "Trace" not in z1.response if not problem.difficulty else "Trace:" in z1.response
    assert r1.response.count("<think>") == r1.response.count("</think>") == 1 and len(r1.response) > len(z1.response)
    if problem.difficulty: assert r1.response.count(trace_program(program_of(problem))) == 2


# -- who has seen which program ---------------------------------------------------------------------------------

def programs(problems): return {program_of(p) for p in problems}


def test_splits_share_no_program_whatever_the_seed():
    sets = {split: set().union(*(programs(make_problems(split, 60, seed)) for seed in (0, 1, 2, 12345))) for split in SPLITS}
    for split, found in sets.items(): assert {split_of(source) for source in found} == {split}
    for a, b in ("train", "dev"), ("train", "test"), ("dev", "test"): assert not sets[a] & sets[b]


@given(problems)
@settings(max_examples=50)
def test_a_problem_belongs_to_its_split_and_is_always_the_same(problem):
    split, seed, index = problem.id.split("-")
    assert split_of(program_of(problem)) == split and problem.benchmark == f"nano-{split}"
    assert make_problem(split, int(index), int(seed)) == problem


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_no_held_out_program_of_a_recipe_occurs_in_its_training(recipe):
    train, test = [program_of(p) for p in training_problems(recipe)], [program_of(p) for p in held_out(recipe)]
    assert len(train) == len(set(train)) == recipe.problems and len(test) == len(set(test)) == recipe.test_problems
    assert not set(train) & set(test)
    assert not {p.prompt for p in word_problems(recipe)} & {QUESTION + number_lines(s) for s in train}


def test_the_first_problems_of_a_split_are_the_first_of_more():
    few, many = (list(make_problems("dev", n, 3)) for n in (20, 60))
    assert many[:20] == few and len({p.id for p in many}) == len({p.prompt for p in many}) == 60


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="unknown split 'validation': use train, dev or test"): make_problem("validation", 0)


# -- nothing gives the answer away ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def dev(): return list(make_problems("dev", 2000, seed=42))


def test_answers_are_uniform(dev):
    for low, high in [(0, 16), *BUCKETS]:
        answers = Counter(p.answer for p in dev if low <= p.difficulty <= high)
        assert set(answers) == set("0123456789")
        assert chisquare(list(answers.values())).pvalue > 0.002, (low, high, answers)


def test_difficulties_come_in_the_shares_asked_for(dev):
    found = Counter(bucket_name(p.difficulty) for p in dev)
    for bucket, share in zip(BUCKETS, (20, 25, 25, 20, 10)): assert abs(found[bucket_name(bucket[0])] / 20 - share) < 3


def last_digit(p): return re.findall(r"\d", program_of(p).rpartition("\nprint")[0])[-1]
def largest(p): return max(re.findall(r"\d", program_of(p)))
def same_line(p): return str(sum(map(int, re.findall(r"\d", program_of(p).split("\n")[0]))) % 10)


@pytest.mark.parametrize("baseline, most", [(initial_value, 0.16), (last_digit, 0.16), (largest, 0.16), (same_line, 0.16),
                                            (lambda p: "0", 0.13)], ids=lambda b: getattr(b, "__name__", ""))
def test_guessing_does_not_pay(dev, baseline, most):
    assert sum(baseline(p) == p.answer for p in dev) / len(dev) < most
    hard = [p for p in dev if p.difficulty > 2]
    assert sum(baseline(p) == p.answer for p in hard) / len(hard) < most


def test_the_printed_variable_changes_on_the_way(dev):
    for p in dev[:500]:
        source = program_of(p)
        if name := re.search(r"print\(([abc])\)", source):
            values = [int(re.search(rf"{name[1]}=(\d)", source)[1]), *(state[name[1]] for _, state in assignments(source))]
            assert len(set(values)) > 1


# -- the grammar ------------------------------------------------------------------------------------------------

START = "a=1;b=2;c=3"


@pytest.mark.parametrize("line", [
    "import os", "from os import *", "a.real", "a=a.real", "a=().__class__", "exit()", "f(a)", "open('x')", "eval('1')",
    "__import__('os')", "print(__import__('os'))", "print(a.real)", "print(a,b)", "print('a')", "print(print(a))", "a=(a+b)%10;import os",
    "a=(a+b)%10 ", "a=(a+b)%100", "a=(a**b)%10", "a=(a/b)%10", "a=(a+b)", "a=a", "d=(a+b)%10", "a=(a+d)%10", "a=(a+b)%10 # x",
    "while 1:", "for i in range(99):", "for i in a:", "for a in range(3):", "   a=(a+b)%10", "\ta=(a+b)%10", "def f():", "lambda: 0",
    "if a:", "if a<b: a=(a+b)%10", "if a==b:", "elif a<b:", "del a", "a=[0]", "a+=1", "print(a)\r", "", " ", "assert a", "@a", "a=1",
    "a=1;b=2", "a=12;b=3;c=4", "a=(a+10)%10", "a=(1+a)%10", "a=(a+b)%10\x0c", "ａ=(a+b)%10"])
def test_the_grammar_refuses_anything_else(line):
    for source in (f"{START}\n{line}\nprint(a)", f"{START}\na=(a+b)%10\n{line}"):
        for function in (check_program, execute, difficulty, trace_program):
            with pytest.raises(ValueError, match=r"line [23]: .* is not a statement of the nano world"): function(source)


def test_digits_of_other_scripts_are_refused():
    for line in ("a=(a+٣)%10", "for i in range(２):"):
        with pytest.raises(ValueError, match="not a statement"): check_program(f"{START}\n{line}\nprint(a)")


@pytest.mark.parametrize("source, words", [
    ("", "line 1"), ("print(a)", "line 1: .* sets its variables in line 1"), (f"{START}\n{START}\nprint(a)", "line 2: .* only there"),
    (f"{START}\nelse:\nprint(a)", "line 2"), (f"{START}\nfor i in range(2):\nprint(a)", "line 3"),
    (f"{START}\n a=(a+b)%10\nprint(a)", "line 2"), (f"{START}\nif a<3:\n a=(a+b)%10\nelse:", "line 4")])
def test_lines_in_an_order_that_is_no_program_are_refused(source, words):
    for function in (check_program, execute, difficulty, trace_program):
        with pytest.raises(ValueError, match=words): function(source)


@given(st.lists(st.text(alphabet="abcdefi()%10+-*=<>:; .,'\"_[]printforelse\n", max_size=14), max_size=5))
def test_what_the_grammar_lets_through_contains_no_name_but_its_own(lines):
    source = "\n".join([START, *lines, "print(a)"])
    try: check_program(source)
    except ValueError: return
    nodes = list(ast.walk(ast.parse(source)))
    assert {n.id for n in nodes if isinstance(n, ast.Name)} <= {*"abci", "range", "print"}
    assert not [n for n in nodes if isinstance(n, (ast.Attribute, ast.Import, ast.ImportFrom, ast.Lambda, ast.Subscript))]
    assert {n.func.id for n in nodes if isinstance(n, ast.Call)} <= {"range", "print"}


@given(problems, st.data())
@settings(max_examples=100)
def test_one_changed_character_is_refused_or_still_the_nano_world(problem, data):
    source = program_of(problem)
    at, new = data.draw(st.integers(0, len(source) - 1)), data.draw(st.characters(min_codepoint=32, max_codepoint=126))
    changed = source[:at] + new + source[at + 1:]
    try: check_program(changed)
    except ValueError: return
    allowed = (ast.Module, ast.Assign, ast.Name, ast.Constant, ast.BinOp, ast.For, ast.If, ast.Compare, ast.Call, ast.Expr,
               ast.operator, ast.cmpop, ast.expr_context)
    assert all(isinstance(n, allowed) for n in ast.walk(ast.parse(changed)))


def test_running_a_program_leaves_no_tracer_behind():
    before = sys.gettrace()
    execute(f"{START}\nprint(a)")
    assert sys.gettrace() is before


@given(st.integers(0, 500), st.integers(0, 20))
def test_the_answer_to_a_word_problem_follows_its_words(index, seed):
    p = make_word_problem(index, seed)
    value = int(re.match(r"Start with (\d)\.", p.prompt)[1])
    steps = re.findall(r"(add|subtract|multiply by) (\d)", p.prompt)
    for word, digit in steps: value = {"add": value + int(digit), "subtract": value - int(digit),
                                       "multiply by": value * int(digit)}[word]
    assert p.answer == str(value % 10) and p.difficulty == len(steps) and p.benchmark == "nano-words"

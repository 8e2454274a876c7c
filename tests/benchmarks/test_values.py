"Values read from what models write: any literal comes back, nothing runs, nothing makes the grader fall over."
import math
import time

import pytest
from hypothesis import assume, given, strategies as st

from z1.benchmarks.values import (MOST_CHARACTERS, grade_value, literal_in, read_literal, stated_values, tag_truths, value_boxes,
                                  values_equal)
from z1.measure.answers import Verdict

atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12) | st.binary(max_size=8)
hashable = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
values = st.recursive(atoms, lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
                      | st.dictionaries(hashable, inner, max_size=3) | st.sets(hashable, max_size=3), max_leaves=8)


@given(values)
def test_every_literal_comes_back(value):
    text = repr(value)
    assume(len(text) < MOST_CHARACTERS)
    assert read_literal(text) == value and values_equal(value, read_literal(text))


@given(values.filter(lambda v: len(repr(v)) < 300))
def test_a_value_is_right_in_a_box_in_an_equation_in_a_block_and_after_a_hint(value):
    gold = repr(value)
    tex = gold.replace("{", r"\{").replace("}", r"\}")
    for text in (rf"So it is \boxed{{{gold}}}.", rf"\(\boxed{{{gold}}}\)") + ((rf"\boxed{{{tex}}}",) if "\\" not in gold else ()):
        if gold.count("}") < 15: assert grade_value(text, gold).verdict == Verdict.CORRECT, text
    if "`" not in gold:
        assert grade_value(f"i.e. `f([1, 2]) == {gold}`", gold).verdict == Verdict.CORRECT
        assert grade_value(f"```python\n{gold}\n```\nbecause", gold, cut=True, after_hint=True).correct
    assert grade_value(gold, gold, cut=True, after_hint=True).correct
    assert grade_value(gold, gold).verdict == Verdict.NO_ANSWER and grade_value(gold, gold, cut=True).verdict == Verdict.CUT


@given(values, values)
def test_equality_is_python_s_but_for_truth_values(left, right):
    same = values_equal(left, right)
    assert same == values_equal(right, left) and values_equal(left, left)
    if same: assert left == right
    if left == right and not same: assert "True" in repr((left, right)) or "False" in repr((left, right))


@pytest.mark.parametrize("left, right, same", [
    (True, 1, False), (False, 0, False), (1, 1.0, True), (1, 1 + 0j, True), ([True], [1], False), ({1: "a"}, {True: "a"}, False),
    ({(0,)}, {(False,)}, False), ((1, 2), [1, 2], False), ({"b": 1, "a": 2}, {"a": 2, "b": 1}, True), ("1", 1, False),
    (b"a", "a", False), (0.1 + 0.2, 0.3, False), (-0.0, 0, True), ({}, set(), False), (None, False, False), (10**30, 1e30, False)])
def test_which_values_are_one(left, right, same):
    assert values_equal(left, right) == values_equal(right, left) == same


@pytest.mark.parametrize("text, value", [
    (r"\text{'abc'}", "abc"), (r"\texttt{[1, 2]}", [1, 2]), (r"\mathrm{True}", True), (r"$\{1, 2\}$", {1, 2}), (r"\left[1,\,2\right]", [1, 2]),
    ("`'a`b'`", "a`b"), ("**7**.", 7), ("f(1, 'x == y') == 'z'", "z"), ("assert f([]) == []", []), ("[1, 2]  # two of them", [1, 2]),
    ("32 - 3 = 29", 29), (r"'a\_b'", "a_b"), (r"'\\{'", r"\{"), (r"'\n'", "\n"), ("'$5 `x` *'", "$5 `x` *"), (r"\{'a': \{'b': 1\}\}", {"a": {"b": 1}}),
    ("'it\\'s'", "it's"), ("x == '= 1'", "= 1"), (r"\boxed{[1]}", [1])])
def test_dress_is_taken_off(text, value):
    assert literal_in(text) == [value] and type(literal_in(text)[0]) is type(value)


@pytest.mark.parametrize("text", ["hello", "f(2)", "about 7", "", " ", "a list", "[1, 2", "1 or 2", "__import__('os').system('true')", "[x for x in y]",
                                  "lambda: 0", "9**9**9", "f'{1}'", "...]", "``", "$$", r"\text{}"])
def test_what_is_no_value(text):
    assert literal_in(text) == []


@pytest.mark.parametrize("text, boxes", [
    (r"\boxed{{1: 2}}", ["{1: 2}"]), (r"\boxed{'}'}", ["'}'"]), (r"\boxed{'{'} and \boxed{{}}", ["'{'", "{}"]), (r"\boxed {[]}", ["[]"]),
    (r"\boxed{x^{2}} then \boxed{3}", ["x^{2}", "3"]), (r"\boxed{\boxed{4}}", ["4"]), (r"\boxed{", []), (r"\boxed{[1, 2", []),
    (r"\boxed{}", []), (r"\boxed{'a', \boxed{'b'}", ["'b'"])])
def test_boxes(text, boxes):
    assert value_boxes(text) == boxes


def test_where_an_answer_is_looked_for():
    assert stated_values("f(1) == 2\nassert f(1) == 3") == ["2", "3"]
    assert stated_values(r"\boxed{1}, i.e. `f(1) == 2`") == ["1"], "boxes before sentences"
    assert stated_values("The final answer is [1].\n`f(1) == [2]`") == ["[1].", "[2]"]
    assert stated_values("g(1) == 2, len(x) == 3") == [], "other calls are thoughts"
    assert stated_values("\n\n5\nas 2 + 3", after_hint=True) == ["5"] and stated_values("\n\n5") == []
    assert stated_values("```\n[1]", after_hint=True) == ["[1]"], "a block that was cut off"
    assert stated_values("([1]) == 2\nassert f(3) == 4", after_hint=True) == ["([1]) == 2"], "what comes first"
    assert stated_values("It is:\n```\nassert f(3) == 4\n```", after_hint=True) == ["4"] and stated_values("It is\nodd", after_hint=True) == ["It is"]
    assert stated_values(r"5, or rather \boxed{6}", after_hint=True) == ["6"]


@pytest.mark.parametrize("text, verdict", [
    (r"\boxed{[1,2]} or \boxed{[1, 2]}", Verdict.CORRECT), (r"\boxed{[2]}, no: \boxed{[1, 2]}", Verdict.SEVERAL), (r"\boxed{[1, 2], say}", Verdict.WRONG),
    (r"\boxed{(1, 2)}", Verdict.WRONG), ("f returns [1, 2]", Verdict.NO_ANSWER), ("The final answer is", Verdict.NO_ANSWER), ("", Verdict.NO_ANSWER)])
def test_verdicts(text, verdict):
    grade = grade_value(text, "[1, 2]")
    assert grade.verdict == verdict and grade.correct == (verdict in (Verdict.CORRECT, Verdict.SEVERAL))


@pytest.mark.parametrize("gold", ["f(1)", "hello", "", "[1,\n2]", "[" * 6000])
def test_a_gold_that_is_no_value(gold):
    with pytest.raises(ValueError): grade_value("5", gold)


BOMBS = ["[" * 2000 + "]" * 2000, "(" * 5000, "-" * 4999 + "1", "1+" * 2499 + "1", "{1:" * 1600 + "1" + "}" * 1600, "not " * 1200 + "1", "9" * 4999,
         "0x" + "f" * 4900, "1" * 10**6, "\0", "'" * 5001, "{[]: 1}", "\\" * 4001, "'a'" * 1500]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda b: b[:8])
def test_a_bomb_is_a_wrong_answer(bomb):
    for text in (bomb, rf"\boxed{{{bomb}}}", f"f(1) == {bomb}", f"```\n{bomb}\n```", "The final answer is " + bomb):
        assert not grade_value(text, "[1]", after_hint=True).correct


@pytest.mark.parametrize("text", [r"\boxed{" * 3000, r"\boxed{x}" * 3000, "f(" * 10_000, "f() ==" * 5000, "`" * 20_000, r"\boxed{[1, " * 2000 + "}" * 2000,
                                  "$" * 20_000 + "x", "\\,"*10_000, "=" * 20_000], ids=lambda t: t[:8])
def test_a_loop_of_a_model_is_graded_in_a_moment(text):
    start = time.perf_counter()
    grade_value(text, "[1]"), grade_value(text, "[1]", cut=True, after_hint=True)
    assert time.perf_counter() - start < 10


@given(st.text(max_size=200), st.booleans(), st.booleans())
def test_any_text_gets_a_grade(text, cut, after_hint):
    grade = grade_value(text, "[1]", cut, after_hint)
    assert (grade.answer is None) == (grade.verdict in (Verdict.CUT, Verdict.NO_ANSWER))
    if cut and not after_hint: assert grade.verdict == Verdict.CUT


def test_infinity_and_a_tag():
    assert values_equal(read_literal("1e999"), math.inf)
    assert tag_truths({True: [False, 0]}) == {(bool, True): [(bool, False), 0]}

"Properties of grading that must hold for any text."
import pytest
from hypothesis import assume, given, strategies as st

from z1.grading import ANSWER, Verdict, extract_answer, grade_exact
from z1.programs import ANSWER_LEAD, make_problems, r1_style, z1_style

texts = st.text(max_size=80)
printable = st.characters(exclude_categories=["Cs", "Cc"])
answers = st.text(printable, min_size=1, max_size=20).map(str.strip).filter(lambda s: s and not ANSWER.search(s))


@given(texts, answers, st.booleans())
def test_gold_in_the_final_answer_sentence_extracts_back(before, gold, after_hint):
    text = f"{before}\n{ANSWER_LEAD}{gold}."
    assert extract_answer(text, after_hint) == gold
    assert grade_exact(text, gold).verdict == Verdict.CORRECT


@given(texts)
def test_no_sentence_no_answer_unless_a_hint_asked(text):
    assume(not ANSWER.search(text))
    assert extract_answer(text) is None
    assert grade_exact(text, "8").verdict == Verdict.NO_ANSWER
    first = next((line.strip() for line in text.split("\n") if line.strip()), ".")
    assert (extract_answer(text, after_hint=True) is None) == (first == ".")


@given(st.lists(answers, min_size=1, max_size=4), texts)
def test_the_last_answer_wins(said, between):
    assume(not ANSWER.search(between))
    assert extract_answer(f"\n{between}\n".join(f"{ANSWER_LEAD}{a}." for a in said)) == said[-1]


@given(texts, answers, st.booleans(), st.booleans())
def test_a_grade_is_consistent(text, gold, cut, after_hint):
    grade = grade_exact(text, gold, cut, after_hint)
    assert grade.correct == (grade.verdict == Verdict.CORRECT) == (grade.answer == gold)
    assert (grade.answer is None) == (grade.verdict in (Verdict.CUT, Verdict.NO_ANSWER))
    if grade.answer is None: assert grade.verdict == (Verdict.CUT if cut else Verdict.NO_ANSWER)


@given(answers, st.integers(0, 200))
def test_a_cut_thought_is_never_an_answer(gold, at):
    text = f"Let me see.\n{ANSWER_LEAD}{gold}."
    assert grade_exact(text[:at], gold, cut=True).verdict == Verdict.CUT


@pytest.mark.parametrize("style", [z1_style, r1_style])
def test_every_teacher_answers_correctly(style):
    for problem in make_problems("train", 60):
        assert grade_exact(style(problem).response, problem.answer).verdict == Verdict.CORRECT


@pytest.mark.parametrize("text, gold, field", [("8", "", "gold"), ("8", "1\n2", "gold"), ("8", 8, "gold"),
                                               (None, "8", "text")])
def test_bad_input_names_the_field(text, gold, field):
    with pytest.raises(ValueError, match=f"^{field}"): grade_exact(text, gold)

"Properties of grading that must hold for any text."
from concurrent.futures import CancelledError
from threading import Event

import pytest
from hypothesis import assume, given, strategies as st

from z1.core import Problem
from z1.measure.answers import (ANSWER, Grade, Grader, Outcome, ParallelGrader, Verdict, boxed_texts, open_box, outcome, stated_options,
                        states_answer, extract_answer, extract_answers, grade_choice, grade_exact)
from z1.nano.programs import ANSWER_LEAD, make_problems, r1_style, z1_style

texts = st.text(max_size=80)
printable = st.characters(exclude_categories=["Cs", "Cc"])
answers = st.text(printable, min_size=1, max_size=20).map(str.strip).filter(lambda s: s and not ANSWER.search(s))


@given(texts, answers, st.booleans())
def test_gold_in_the_final_answer_sentence_extracts_back(before, gold, after_hint):
    text = f"{before}\n{ANSWER_LEAD}{gold}."
    assert extract_answer(text, after_hint) == gold
    several = len(set(extract_answers(text)) - {""}) > 1
    assert grade_exact(text, gold).verdict == (Verdict.SEVERAL if several else Verdict.CORRECT)
    assert grade_exact(text, gold).correct


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
    text = f"\n{between}\n".join(f"{ANSWER_LEAD}{a}." for a in said)
    assert extract_answer(text) == said[-1]
    for gold in said:
        grade = grade_exact(text, gold)
        assert grade.correct == (gold == said[-1]) and (grade.verdict == Verdict.SEVERAL) == (len(set(said)) > 1)


@given(texts, answers, st.booleans(), st.booleans())
def test_a_grade_is_consistent(text, gold, cut, after_hint):
    grade = grade_exact(text, gold, cut, after_hint)
    assert grade.correct == (grade.answer == gold)
    assert grade.verdict in (Verdict.SEVERAL, Verdict.CORRECT if grade.correct else Verdict.WRONG) or not grade.answer
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


# -- multiple choice --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, found", [
    (r"\boxed{A}", "A"), (r"$$\boxed{\text{D}}$$", "D"), (r"\boxed{\textbf{(C)}}", "C"), (r"\boxed{[B]}", "B"), (r"\boxed{\mathrm{C}}.", "C"),
    (r"\boxed{B: 3 eV}", "B"), (r"\boxed{B} \boxed{C}", "C"), (r"\boxed{\text{Answer: } B}", "B"), (r"\boxed{\text{Option B}}", "B"),
    (r"\boxed{\text{The answer is B}}", "B"), (r"\boxed{\text{(B) 10 eV}}", "B"), (r"\boxed{\mathrm{(A)}\ 3}", "A"), (r"\boxed{\ \text{A}\ }", "A"),
    (r"\boxed{{\bf A}}", "A"), (r"\boxed{d}", "D"), (r"\boxed{(b) 10 eV}", "B"), (r"\boxed{A proton}", "A proton"), (r"\boxed{Argon}", "Argon"),
    (r"\boxed{E}", "E"), (r"\boxed{B} \boxed{E}", "E"), (r"\boxed{E} Answer: B", "B"), (r"\boxed{B} \boxed{C = 3}", "B"), (r"\boxed{b", None),
    (r"\boxed{3} Answer: C", "C"), (r"Answer: C, I think. \boxed{B}", "B"), (r"\boxed{B) 10 eV} Answer: C", "C"), (r"\boxed{\vec{B}} Answer: A", "A"),
    ("answer: D", "D"), ("**Answer: D**", "D"), ("Answer: (a)", "A"), ("Answer: b) 3", "B"), ("Final Answer: $\\mathbf{C}$", "C"), ("Answer:\n\nC) 3", "C"),
    ("Answer: C\nWait. Answer: D", "D"), ("The answer is B", "B"), ("The answer is B? No, the answer is C.", "C"), ("The answer is (B), not C.", "B"), ("the answer should be option C", "C"),
    ("The correct option is **D**.", "D"), ("The answer is clearly B because it is", "B"), ("Answer: B (10 eV)", "B"), ("Answer: B – as shown", "B"),
    ("Answer: A or B", None), ("Answer: A, B", None), ("Answer: C, H and O", None), ("The answer is C = 3.", None), ("Answer: C-H", None), ("B", None),
    ("If the correct answer is B, x is 3.", None), ("Suppose the answer is B. Answer: C", "C"), ("Option A: 8\nOption B: 2", None)])
def test_the_choice_in_a_text(text, found): assert (stated_options(text) or [None])[-1] == found


@pytest.mark.parametrize("text, found", [
    ("B", "B"), ("b", "B"), ("(B", "B"), ("B)", "B"), ("(B).", "B"), ("**(B)** because", "B"), ("B. Argon\nA is wrong", "B"), ("B\n\nBecause A", "B"),
    ("Option B", "B"), ("Option B is correct", "B"), ("Choice (D).", "D"), ("The correct answer is (B).", "B"), ("It's hard.\nThe correct answer is\n\nB", "B"),
    ("The correct option is C: 10 eV", "C"), ("$\\boxed{C}$", "C"), ("\\(B\\)", "B"), ("C) H2O", "C"), ("D. A and B", "D"), ("Because A", None), ("A gas", None),
    ("A and B", None), ("C = 3", None), ("C-H bond", None), ("D_2O", None), ("B^{2+}", None), (r"\boxed{}", None), ("", None)])
def test_the_choice_after_a_hint(text, found): assert (stated_options(text, after_hint=True) or [None])[-1] == found


formulas = st.tuples(st.sampled_from("ABCD"), st.sampled_from([" = ", "=", "_", "^", "^{", "-", "+", " + ", "/", r" \cdot ", r"\times ", "'", "(", r" \to ", r" \approx ", "<"]),
                     st.sampled_from(["2", "B", "H", "x", r"\mu_0", "{2+}", "3)"])).map("".join)


@given(formulas, st.booleans())
def test_a_letter_in_a_formula_is_no_choice(formula, after_hint):
    assume(formula.count("{") == formula.count("}"))
    assert not grade_choice(rf"So \boxed{{{formula}}}.", formula[0], after_hint, after_hint).correct
    assert stated_options(rf"\boxed{{{formula}}}. The answer is (D).", after_hint) == ["D"]
    assert stated_options(f"Answer: ${formula}$") == stated_options(f"${formula}$", after_hint=True) == []


dressed = st.sampled_from(["{}", "({})", "[{}]", "{}.", "{})", r"\text{{{}}}", r"\textbf{{({})}}", r"\mathrm{{{}}}", r"\left({}\right)", "**{}**", "{}) 10 eV", "({}) A dog",
                           r"{}.\ 10\,\text{{eV}}", "{}: x = 3", "Option {}", r"\text{{Option }}{}"])


@given(st.sampled_from("ABCD"), dressed, st.sampled_from([r"So $\boxed{{{}}}$.", "Answer: {}", "**Answer:** {}", "The correct answer is {}"]))
def test_a_choice_is_read_however_it_is_dressed(said, dress, frame):
    text = frame.format(dress.format(said))
    assert stated_options(text) == stated_options(text, after_hint=True) == [said]


@given(texts, st.sampled_from("ABCD"), st.sampled_from("ABCD"))
def test_a_boxed_letter_is_graded(before, said, gold):
    assume("\\" not in before and "{" not in before)
    grade = grade_choice(rf"{before}\boxed{{\text{{({said})}}}}", gold)
    assert grade == Grade(said, said == gold, Verdict.CORRECT if said == gold else Verdict.WRONG)


@given(texts, st.booleans())
def test_a_cut_thought_chooses_nothing(text, boxed):
    assert grade_choice(text + r"\boxed{A}" * boxed, "A", cut=True).verdict == Verdict.CUT


@pytest.mark.parametrize("gold", ["E", "AB", "a", "", 1, None])
def test_a_gold_that_is_no_option(gold):
    with pytest.raises(ValueError, match="^gold"): grade_choice("A", gold)


# -- graders ----------------------------------------------------------------------------------------------------

def choice(gold="A"): return Problem("p", "toy", "A or B?", gold, 0)


@pytest.mark.parametrize("make", [lambda: Grader(grade_choice), lambda: Waiting(4)])
def test_every_grader_takes_and_gives_the_same(make):
    with make() as grader:
        futures = [grader.submit(rf"\boxed{{{c}}}", choice()) for c in "ABAB"]
        broken = grader.submit("A", choice("E"))
        assert grader.submit("A", choice(), cut=True).result().verdict == Verdict.CUT
        assert grader.submit("A", choice(), cut=True, after_hint=True).result().correct
    assert [f.result().correct for f in futures] == [True, False, True, False]
    with pytest.raises(ValueError, match="^problem 'p' of 'toy': gold is 'E'"): broken.result()


class Waiting(ParallelGrader):
    "Grades choices, as soon as it may."
    def __init__(self, workers, may=None):
        super().__init__(workers)
        self.may = may

    def grade(self, text, problem, cut, after_hint):
        if self.may: self.may.wait(20)
        return grade_choice(text, problem.answer, cut, after_hint)


def test_leaving_the_block_waits_for_all():
    with Waiting(2) as grader: futures = [grader.submit(r"\boxed{A}", choice()) for _ in range(50)]
    assert all(f.done() and f.result().correct for f in futures)


def test_an_error_drops_what_has_not_begun():
    may = Event()
    with pytest.raises(KeyboardInterrupt):
        with Waiting(1, may) as grader:
            futures = [grader.submit(r"\boxed{A}", choice()) for _ in range(5)]
            while not futures[0].running(): pass
            futures[1].add_done_callback(lambda f: may.set())
            raise KeyboardInterrupt
    assert futures[0].result().correct
    for f in futures[1:]:
        with pytest.raises(CancelledError): f.result()


# -- boxes that a hint opens, and what became of a closed thought -----------------------------------------------------------
latex = st.lists(st.sampled_from(["\\boxed{", "{", "}", "\\{", "\\}", "x", "\\frac", " ", "\n"]), max_size=12).map("".join)


@given(latex, st.text("0123456789+ ", min_size=1).map(str.strip).filter(bool))
def test_what_a_hint_opens_and_a_model_closes_is_boxed(hint, answer):
    opening = open_box(hint)
    assert hint.endswith(opening) and opening.startswith("\\boxed{" if opening else "")
    if opening == "\\boxed{": assert boxed_texts(opening + answer + "}") == [answer]
    assert open_box(hint + 12 * "}") == ""


@given(texts, st.booleans(), st.booleans(), st.sampled_from([None, "8", float("nan")]), st.booleans())
def test_every_grade_has_one_outcome(text, ended, cut, answer, correct):
    found = outcome(Grade(answer, correct and answer == "8", ""), ended, stated := states_answer(text))
    assert (found == Outcome.RIGHT) == (correct and answer == "8")
    if found == Outcome.ESCAPED: assert not ended and not stated
    if ended and found != Outcome.RIGHT: assert found == (Outcome.WRONG if answer == "8" else Outcome.NO_ANSWER)


def test_a_deep_or_endless_line_is_no_answer():
    for line in ("[" * 10**4 + "so", "-" * 10**5 + "so it", "9" * 10**5 + " so", "'" * 3 + " so", "\0 so it"):
        assert not states_answer(line)

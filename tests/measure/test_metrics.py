"The metrics against brute force, against their papers' own examples, and coverage by simulation."
from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import special

from z1.measure.metrics import (CHECK, Piece, Response, SWITCH, estimate, maj_at, maj_at_k, outcome_efficiency, pass_at,
                        pass_at_k, split_with_tokens, process_efficiency, split_thoughts, traced_response, underthinking)
from z1.nano.programs import make_problem, r1_style, z1_style

few = settings(max_examples=60, deadline=None)


# -- pass@k -------------------------------------------------------------------------------------------------------

@few
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(right, k):
    k = min(k, len(right))
    hand = np.mean([any(draw) for draw in combinations(right, k)])
    assert pass_at_k(len(right), sum(right), k)[0] == pytest.approx(hand)


@given(st.integers(1, 300), st.floats(0, 1), st.integers(1, 300))
def test_pass_at_k_is_the_papers_product(n, share, k):
    "Chen et al. 2021 (arXiv 2107.03374): 1 if n - c < k, else 1 - prod(1 - k / arange(n - c + 1, n + 1))."
    c, k = round(share * n), min(k, n)
    paper = 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)) if n - c >= k else 1
    value = pass_at_k(n, c, k)[0]
    assert value == pytest.approx(paper, abs=1e-9) and 0 <= value <= 1
    if k == 1: assert value == pytest.approx(c / n)


def test_pass_at_k_takes_problems_with_different_numbers_of_answers():
    assert pass_at_k([2, 4], [1, 1], 2).tolist() == pytest.approx([1, .5])
    with pytest.raises(ValueError, match="a problem has 2 answers"): pass_at_k([2, 4], [1, 1], 3)
    with pytest.raises(ValueError, match="between 0 and n"): pass_at_k(2, -1, 1)


def test_pass_at_k_and_its_interval_hold_the_truth():
    "2,000 experiments of 200 problems with 8 answers each; chances from a beta distribution have a formula."
    rng, (a, b), k = np.random.default_rng(0), (.6, 1.), 4
    truth = 1 - special.beta(a, b + k) / special.beta(a, b)   # E[1 - (1 - p)^k]
    found = [estimate(pass_at_k(8, rng.binomial(8, rng.beta(a, b, 200)), k)) for _ in range(2000)]
    assert np.mean([e.value for e in found]) == pytest.approx(truth, abs=.003)
    assert .93 <= np.mean([e.low <= truth <= e.high for e in found]) <= .97


# -- maj@k --------------------------------------------------------------------------------------------------------

def majority(draw):
    "The share of the leading answers that is right: `1` is right, None does not vote."
    votes = {a: draw.count(a) for a in draw if a is not None}
    leading = [a for a, v in votes.items() if v == max(votes.values())]
    return Fraction("1" in leading, max(len(leading), 1))


@few
@given(st.lists(st.sampled_from(["1", "2", "3", "4", None]), min_size=1, max_size=9), st.integers(1, 9))
def test_maj_at_k_is_the_mean_over_all_draws(answers, k):
    k = min(k, len(answers))
    hand = [majority(draw) for draw in combinations(answers, k)]
    assert maj_at_k(answers, [a == "1" for a in answers], k) == pytest.approx(float(sum(hand) / len(hand)))


def test_maj_at_k_with_several_right_answers_counts_each():
    answers, right = ["1/2", "0.5", "2", "2"], [True, True, False, False]
    assert maj_at_k(answers, right, 4) == 0
    assert maj_at_k(answers, right, 4, key=Fraction) == .5             # a tie of two
    assert maj_at_k(answers, right, 2) == pytest.approx((1 + 4 * .5) / 6)


def test_maj_at_k_is_quick_for_many_different_answers():
    answers = [str(i // 2) for i in range(128)]
    assert 0 < maj_at_k(answers, [a == "0" for a in answers], 64) < .1


def test_maj_at_k_treats_missing_answers_alike():
    for missing in (None, np.nan, pd.NA): assert maj_at_k(["1", missing, missing], [True, False, False], 2) == \
        pytest.approx(2 / 3)


@pytest.mark.parametrize("arguments, message", [
    ((["1"], [True], 2), "there are 1 answers"), ((["1"], [True], 0), "k is 0"),
    ((["1", "1 "], [True, False], 1), "graded right and wrong"), ((["1"], [True, False], 1), "argument 2 is longer")])
def test_maj_at_k_refuses(arguments, message):
    with pytest.raises(ValueError, match=message): maj_at_k(*arguments)


# -- tables -------------------------------------------------------------------------------------------------------

def run(problems=5, samples=4, **columns):
    "A table of one run: problem i is answered right by its first i samples."
    rows = [dict(model="m", policy="shifted", window=8, benchmark="toy", seed=0, problem_id=f"p{i}", sample=s,
                 answer="1" if s < i else "2", correct=s < i) for i in range(problems) for s in range(samples)]
    return pd.DataFrame(rows).assign(**columns)


def test_tables_average_over_problems_whatever_the_order():
    df = run().sample(frac=1, random_state=0)
    assert pass_at(df, 2).value == pytest.approx(np.mean(pass_at_k(4, np.arange(5), 2)))
    assert pass_at(df, 4)[:1] == (.8,) and pass_at(df, 4).averaged == 5
    assert maj_at(df, 4).value == pytest.approx(np.mean([0, 0, .5, 1, 1]))


@pytest.mark.parametrize("change, message", [
    (lambda d: d.drop(columns="correct"), "column correct"), (lambda d: d[:-1], "problem p4 has 3 samples, but k is 4"),
    (lambda d: pd.concat([d, d[:1]]), "occurs twice"), (lambda d: pd.concat([d, d.assign(window=9)]), "windows 8, 9"),
    (lambda d: pd.concat([d, d.assign(benchmark="other")]), "benchmarks other, toy"), (lambda d: d[:0], "nothing")])
def test_tables_refuse(change, message):
    for measure in (pass_at, maj_at):
        with pytest.raises(ValueError, match=message): measure(change(run()), 4)


def test_estimate_refuses_what_is_no_share():
    for values in ([], [1, np.nan], [2], [[1]]):
        with pytest.raises(ValueError): estimate(values)


# -- efficiency ---------------------------------------------------------------------------------------------------

lists = st.lists(st.builds(Piece, st.integers(1, 50), st.booleans(), st.sampled_from("xyz")), min_size=1, max_size=6)
responses = st.lists(st.builds(Response, lists.map(tuple), st.booleans()), min_size=1, max_size=5)


@few
@given(responses)
def test_efficiencies_follow_their_definitions(rs):
    "arXiv 2412.21187, section 2, and arXiv 2501.18585, written out in loops."
    for r, outcome, process in zip(rs, outcome_efficiency(rs), process_efficiency(rs)):
        until, seen, distinct = 0, set(), 0
        for p in r.pieces:
            if p.strategy not in seen: distinct += p.tokens
            seen.add(p.strategy)
        for p in r.pieces:
            until += p.tokens
            if p.correct: break
        else: until = 0
        total = sum(p.tokens for p in r.pieces)
        assert outcome == pytest.approx(until / total) and process == pytest.approx(distinct / total)
        if not r.correct:
            assert underthinking([r]) == pytest.approx([1 - until / total if until else 0])
    assert len(underthinking(rs)) == sum(not r.correct for r in rs)


def test_efficiencies_refuse():
    with pytest.raises(ValueError, match="strategy"): process_efficiency([Response((Piece(3, True),), True)])
    for bad in ((), (Piece(0, True),), (Piece(5, True), Piece(-1, True))):
        with pytest.raises(ValueError, match="pieces"): Response(bad, True)


# -- splitting ----------------------------------------------------------------------------------------------------

@given(st.lists(st.sampled_from([*SWITCH, "Waiting", "so", ".", "!", "\n", " ", "5", ","]), max_size=30).map("".join))
def test_splitting_loses_nothing_and_begins_with_the_words(text):
    first, *rest = parts = split_thoughts(text)
    assert "".join(parts) == text and all(part.startswith(SWITCH) for part in rest)
    counted = split_with_tokens(parts, len, lambda part: "5" in part)
    assert sum(p.tokens for p in counted) == len(text) and [p.correct for p in counted] == ["5" in p for p in parts]


def test_a_switch_word_is_a_word_at_the_start_of_a_sentence():
    assert len(split_thoughts("I say Wait, Waiting. Waiter!\nwait")) == 1
    assert split_thoughts("A. But no. So", words=("But", "So")) == ["A. ", "But no. ", "So"]
    assert split_thoughts("1. C++ is. C++", words=("C++ is",)) == ["1. ", "C++ is. C++"]


@few
@given(st.integers(0, 500), st.integers(1, 9), st.integers(0, 1))
def test_traces_are_split_and_judged_exactly(index, shift, which):
    "A slip in the last line of one trace makes that piece wrong and no other."
    problem = make_problem("dev", index)
    text = r1_style(problem).response
    whole = traced_response(text, problem, len)
    assert [p.correct for p in whole.pieces] == [True, True] and whole.correct and whole.tokens == len(text)
    parts = text.split(CHECK)
    line = f"{problem.answer}\n"
    head, _, tail = parts[which].rpartition(line) if which == 0 else parts[1].partition(f"{line}Yes")
    wrong = f"{(int(problem.answer) + shift) % 10}\n" + "Yes" * which
    parts[which] = head + wrong + tail
    slipped = traced_response(CHECK.join(parts), problem, len)
    assert [p.correct for p in slipped.pieces] == [which == 1, which == 0] and slipped.correct


def test_other_habits_are_one_piece_and_cut_ones_are_wrong():
    problem = make_problem("dev", 5)
    assert len(traced_response(z1_style(problem).response, problem, len).pieces) == 1
    cut = r1_style(problem).response[:60]
    assert not traced_response(cut, problem, len).correct and not traced_response(cut, problem, len).pieces[0].correct

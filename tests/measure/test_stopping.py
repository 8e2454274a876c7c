"Stopping rules: what must hold for any answers and any confidence."
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from z1.measure.stopping import (Probes, choose_threshold, confidence_curve, confident_stops, fixed_curve, halves, log_area, oracle_curve,
                                 oracle_stops, tokens_spent)


def probes(seed, problems=24, windows=5):
    "Random answers; a model that has ended stays as it is."
    rng = np.random.default_rng(seed)
    at = 2 ** np.arange(4, 4 + windows)
    length = rng.integers(8, 2 * at[-1], problems)[:, None]
    finished = length <= at
    correct = rng.random((problems, windows)) < .5
    last = np.where(finished.any(1), finished.argmax(1), windows - 1)
    correct = np.where(finished, correct[np.arange(problems), last][:, None], correct)
    return Probes(tuple(f"p{i}" for i in range(problems)), at, np.minimum(at, length).astype(float), np.where(finished, 0, 20).astype(float), correct, finished,
                  np.where(finished, np.nan, rng.random((problems, windows))))


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_oracle_is_as_often_right_and_never_later(seed):
    p = probes(seed)
    fixed, oracle = fixed_curve(p), oracle_curve(p)
    assert (oracle.means.accuracy == fixed.means.accuracy).all()
    assert (oracle.tokens <= fixed.tokens + 20).all()          # it stops no later, and may still have to ask for the answer
    stops = oracle_stops(p.correct)
    kept = p.correct[:, -1]
    assert all(p.correct[i, s:].all() for i, s in enumerate(stops) if kept[i])


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_higher_threshold_never_stops_earlier(seed):
    p = probes(seed)
    stops = [confident_stops(p, t) for t in (0., .3, .6, .9, np.inf)]
    assert all((a <= b).all() for a, b in zip(stops, stops[1:]))
    assert (tokens_spent(p, stops[2], probing=True) >= tokens_spent(p, stops[2])).all()


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_threshold_stays_within_its_tokens_where_one_does(seed):
    p = probes(seed)
    most = fixed_curve(p).means.tokens[2]
    spent = tokens_spent(p, confident_stops(p, choose_threshold(p, most))).mean()
    lowest = tokens_spent(p, confident_stops(p, np.nanmin(p.sure))).mean()
    assert spent <= most or spent == lowest


def test_a_threshold_does_not_depend_on_the_problems_it_is_used_on():
    p = probes(3, problems=40)
    a, b = halves(p.problems)
    assert sorted([*a, *b]) == list(range(40))
    other = Probes(p.problems, p.windows, p.thinking, p.asked, p.correct.copy(), p.finished, p.sure)
    other.correct[b] = ~other.correct[b]                       # the stops of b are chosen on a: they don't move
    assert (confidence_curve(p).tokens[b] == confidence_curve(other).tokens[b]).all()


def test_the_area_is_an_average_and_refuses_odd_limits():
    assert log_area(np.array([10., 20.]), np.array([.5, .5]), 10, 160) == pytest.approx(.5)
    assert log_area(np.array([1000.]), np.array([.5]), 10, 160) == 0
    with pytest.raises(ValueError, match="0 < low < high"): log_area(np.array([1.]), np.array([.5]), 5, 5)

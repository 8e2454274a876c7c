"Two runs compared: what is refused, what is reported, and whether the interval keeps its promise."
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from z1.benchmarks.comparison import VERDICTS, compare, difference_interval, flips, one_run
from z1.measure.statistics import mcnemar, sign_flip, wilson

few = settings(max_examples=40, deadline=None)


def run(right, samples=1, name="z1", **columns):
    "A run from what was right: one entry a problem and sample, problem by problem."
    rows = [dict(model=name, policy="shifted", window=8, benchmark="toy", problem_id=f"p{i // samples:02}",
                 difficulty=1, sample=i % samples, seed=0, cut=False, thinking_tokens=i + 1, hint_tokens=0,
                 answer_tokens=2, total_tokens=i + 3, answer="1" if good else "2", correct=bool(good),
                 verdict="correct" if good else "wrong", run="r") for i, good in enumerate(right)]
    return pd.DataFrame(rows).assign(**columns)


@few
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_a_comparison_is_paired_and_symmetric(pairs):
    a, b = zip(*pairs)
    one, other = compare(run(a), run(b)), compare(run(b), run(a))
    assert one.difference.value == pytest.approx(np.mean(b) - np.mean(a)) == -other.difference.value
    assert one.p == other.p == mcnemar(a, b).p and one.test == "exact McNemar test"
    assert one.difference.low <= one.difference.value <= one.difference.high
    assert [f.better for f in one.flips] == ["b" if y else "a" for x, y in pairs if x != y]
    assert one.a.accuracy.value == pytest.approx(np.mean(a)) and one.a == replace(other.b, name="a")


def test_the_order_of_rows_does_not_matter():
    a, b = run([1, 0, 1, 1], 2), run([0, 0, 1, 0], 2)
    shuffled = compare(a.sample(frac=1, random_state=1), b.sample(frac=1, random_state=2))
    assert shuffled == compare(a, b)


def test_several_samples_and_seeds_are_averaged_within_problems():
    a, b = run([1, 0, 1, 1, 0, 0], 2), run([1, 1, 0, 0, 0, 0], 2)
    got = compare(a, b)
    assert (got.problems, got.samples, got.test) == (3, 2, "random sign flips")
    assert got.p == sign_flip([1, 0, 0], [.5, 1, 0])[1]
    assert [(f.problem_id, f.attempt, f.better) for f in got.flips] == [
        ("p00", 1, "b"), ("p01", 0, "a"), ("p01", 1, "a")]
    seeds = compare(*(pd.concat([x, x.assign(seed=7)]) for x in (a, b)))
    assert seeds.samples == 4 and seeds.difference.value == got.difference.value


@pytest.mark.parametrize("change, message", [
    (lambda d: d[d.problem_id != "p02"], "problem p02 is missing from run b"),
    (lambda d: pd.concat([d, run([1] * 4)[3:]]), "problem p03 is missing from run a"),
    (lambda d: pd.concat([d, d.assign(sample=1)]), "problem p00 has 1 samples in run a and 2 in run b"),
    (lambda d: d.assign(benchmark="other"), "run a is on benchmark toy and run b on other"),
    (lambda d: pd.concat([d, d.assign(benchmark="other")]), "run b mixes the benchmarks other, toy"),
    (lambda d: pd.concat([d, d.assign(window=16)]), "run b mixes the windows 8, 16"),
    (lambda d: pd.concat([d, d[:1]]), "run b has a sample twice.*p00"),
    (lambda d: d.drop(columns=["verdict", "seed"]), "run b lacks the column seed, verdict"),
    (lambda d: d.assign(verdict="fine"), "p00: unknown verdict 'fine'"), (lambda d: d[:0], "no samples")])
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(ValueError, match=message): compare(run([1, 0, 1]), change(run([1, 1, 0])))


def test_uneven_samples_are_refused_even_if_both_agree():
    uneven = pd.concat([run([1, 0]), run([1, 0])[1:].assign(sample=1)])
    with pytest.raises(ValueError, match="problem p00 has 1 samples, others more"): compare(uneven, uneven)


def test_verdicts_are_shares_of_samples_and_several_may_be_right():
    b = run([1, 0, 0, 0, 1]).assign(verdict=["several", "wrong", "no_answer", "cut", "correct"])
    side = compare(run([1] * 5), b).b
    assert side.verdicts == dict.fromkeys(VERDICTS, .2) and side.accuracy.value == .4


def test_verdicts_are_those_of_grading():
    from z1.measure.answers import Verdict
    assert {v for k, v in vars(Verdict).items() if k.isupper()} <= set(VERDICTS)


def test_cost_counts_every_token():
    side = compare(run([1, 1]), run([1, 0])).a
    assert side.cost == 7 and side.tokens == dict(thinking=1.5, hint=0, answer=2, total=3.5)
    report = compare(run([1, 1]), run([0, 0])).to_markdown()
    assert "| tokens a right answer | 3.5 | none |" in report


def test_closed_windows_are_counted_whatever_the_verdict():
    report = compare(run([1, 0, 0, 0], cut=[True, True, False, False]), run([1] * 4)).to_markdown()
    assert "| window closed | 50.0% | 0.0% |" in report and "| samples `cut` | 0.0% | 0.0% |" in report


def test_tiny_p_values_are_not_written_as_zero():
    assert "p < 0.0001" in compare(run([0] * 40), run([1] * 40)).summary()


def test_links_lead_to_the_sample():
    a, b = run([1, 0], key=["k0", "k1"]), run([0, 1]).set_index(pd.Index([10, 11]))
    first = flips(one_run(a, "a"), one_run(b, "b"), ("x/a.jsonl", "y/b.parquet"))[0]
    assert first.links == ("x/a.jsonl#k0", "y/b.parquet, row 10")
    assert compare(a.drop(columns="key"), b, sources=("a.jsonl", "")).flips[1].links == ("a.jsonl#shifted@8/p01/0", "")
    assert "[sample](my%20runs/a%29.jsonl#shifted@8/p00/0)" in compare(
        a.drop(columns="key"), b, sources=("my runs/a).jsonl", "")).to_markdown()


@few
@given(st.text(max_size=90) | st.none())
def test_no_answer_breaks_the_report(answer):
    a = run([1, 0]).assign(answer=pd.array([answer, "2"], dtype=object))
    lines = compare(a, run([0, 0])).to_markdown().split("\n")
    rows = lines[lines.index("## Flips") + 2:]
    assert len(rows) == 4 and rows[3] == "" and len(set(len(re.findall(r"(?<!\\)\|", row)) for row in rows[:3])) == 1


def test_nothing_differs_is_not_certainty():
    assert difference_interval([0.] * 50) == (-wilson(0, 50)[1], wilson(0, 50)[1])


@pytest.mark.parametrize("samples", [1, 4])
def test_the_difference_interval_covers_the_truth(samples):
    "2,000 experiments of 200 problems; b is better by a known average, easy problems are easy for both."
    rng, d = np.random.default_rng(samples), np.linspace(-8, 8, 4001)
    def able(shift, difficulty): return 1 / (1 + np.exp(1.5 * difficulty - shift))
    truth = np.average(able(1.4, d) - able(1, d), weights=stats.norm.pdf(d))
    held = 0
    for _ in range(2000):
        difficulty = rng.standard_normal(200)
        a, b = (rng.binomial(samples, able(shift, difficulty)) / samples for shift in (1, 1.4))
        low, high = difference_interval(b - a)
        held += low <= truth <= high
    assert .93 <= held / 2000 <= .97

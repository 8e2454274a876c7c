"Known values and invariants of the statistics, checks against scipy and statsmodels, and coverage by simulation."
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings, strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from z1.measure.statistics import (Averages, Curve, accuracy_at_equal_tokens, accuracy_interval, best_point, bootstrap, holm, mcnemar, redraws,
                           sign_flip, spearman, token_ratio, tokens_at, tokens_at_best, tokens_at_equal_accuracy, wilson)

few = settings(max_examples=40, deadline=None)
shares = st.floats(0, 1).map(lambda x: round(x, 6))


def table(problems=6, windows=(8, 16, 32), seeds=(0,), **columns):
    "Complete rows of one model: problem i needs 5 * i + 3 tokens and is right once it has them."
    rows = [dict(model="z1", policy="shifted", window=w, benchmark="toy", problem_id=f"p{i}", sample=0,
                 seed=s, cut=5 * i + 3 > w, thinking_tokens=min(5 * i + 3, w), correct=5 * i + 3 <= w)
            for s in seeds for w in windows for i in range(problems)]
    return pd.DataFrame(rows).assign(**columns)


@st.composite
def curves(draw, monotone=False):
    "A random curve of several problems."
    problems, windows = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    size = problems * windows
    def matrix(values):
        return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(problems, windows)
    tokens, correct = matrix(st.integers(1, 500)), matrix(shares)
    if monotone: tokens, correct = np.sort(tokens), np.sort(correct)
    return Curve(tokens, correct, np.arange(1, windows + 1) * 8, samples=2)


# Wilson: Newcombe, Statistics in Medicine 17 (1998), Table I, method 3
@pytest.mark.parametrize("k, n, low, high", [(81, 263, .2553, .3662), (15, 148, .0624, .1605),
                                             (0, 20, 0, .1611), (1, 29, .0061, .1718)])
def test_wilson_published(k, n, low, high):
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([.8, .95, .99]))
def test_wilson_is_statsmodels_and_holds_the_estimate(n, share, level):
    k = round(share * n)
    low, high = wilson(k, n, level)
    assert 0 <= low <= k / n <= high <= 1
    assert (low, high) == pytest.approx(proportion_confint(k, n, 1 - level, "wilson"), abs=1e-12)


@pytest.mark.parametrize("arguments, field", [((1, 0), "n is 0"), ((3, 2), "k is 3"), ((-1, 2), "k is -1"),
                                              ((1, 2, 95), "level is 95")])
def test_wilson_refuses(arguments, field):
    with pytest.raises(ValueError, match=field): wilson(*arguments)


def test_bootstrap_is_deterministic_and_close_to_theory():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(values)
    assert (low, high) == bootstrap(values) != bootstrap(values, seed=1)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=.15 * half)


def test_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(1).beta(.5, .3, 300)
    for statistic in (np.mean, np.median):
        theirs = stats.bootstrap((values,), statistic, n_resamples=4000, method="percentile", rng=0)
        assert bootstrap(values, statistic, 4000) == pytest.approx(tuple(theirs.confidence_interval), abs=.01)


def test_clustered_bootstrap_agrees_with_cluster_robust_errors():
    "Redrawing problems is what cluster-robust standard errors do by formula; ignoring problems is not."
    rng = np.random.default_rng(2)
    right = rng.binomial(1, rng.beta(.4, .4, 300)[:, None], (300, 8))
    model = sm.OLS(right.ravel().astype(float), np.ones(right.size))
    robust = model.fit(cov_type="cluster", cov_kwds={"groups": np.repeat(np.arange(300), 8)}).conf_int()[0]
    ours = bootstrap(right.mean(1), n=8000)
    assert ours == pytest.approx(tuple(robust), abs=.08 * np.ptp(robust))
    assert np.ptp(ours) > 1.8 * np.ptp(model.fit().conf_int()[0])


def test_redraws_are_of_problems_and_cannot_be_spoilt():
    counts = redraws(7, 100, 0)
    assert counts.shape == (100, 7) and (counts.sum(1) == 7).all()
    with pytest.raises(ValueError, match="read-only"): counts[0, 0] = 5


@few
@given(st.lists(shares, min_size=1, max_size=30))
def test_bootstrap_of_a_mean_stays_within_the_values(values):
    low, high = bootstrap(values, n=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_bootstrap_refuses_nothing_and_nan():
    with pytest.raises(ValueError, match="no problems"): bootstrap([])
    with pytest.raises(ValueError, match="NaN"): bootstrap([1, np.nan])


def test_interval_names_its_recipe():
    assert accuracy_interval([1, 0, 1])[2] == "wilson"
    assert accuracy_interval([1, .5, 1], 2)[2] == "bootstrap"
    assert accuracy_interval([0, 0, 0], 2) == (*wilson(0, 3), "wilson")   # never a width of zero
    with pytest.raises(ValueError, match="samples is 1"): accuracy_interval([1, .5])


def test_mcnemar_by_hand():
    a, b = [1] * 8 + [0] * 2 + [1] * 5, [0] * 8 + [1] * 2 + [1] * 5
    assert mcnemar(a, b) == (pytest.approx(112 / 1024), 8, 2)
    assert mcnemar([1] * 5, [0] * 5).p == pytest.approx(2 / 32)
    assert mcnemar([True, False], [True, False]) == (1, 0, 0)


@few
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_paired_tests_are_symmetric_and_agree(pairs):
    a, b = zip(*pairs)
    one, other = mcnemar(a, b), mcnemar(b, a)
    assert 0 < one.p <= 1 and one == (other.p, other.only_b, other.only_a)
    difference, p = sign_flip(a, b)
    assert difference == pytest.approx(np.mean(a) - np.mean(b)) and p == pytest.approx(one.p, abs=.03)


@few
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_statsmodels(pairs):
    a, b = np.array(pairs).T
    counts = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert mcnemar(a, b).p == pytest.approx(min(their_mcnemar(counts, exact=True).pvalue, 1))


@few
@given(st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=30))
def test_holm_is_statsmodels(p):
    p = pd.Series(p)
    known = p.dropna()
    corrected = holm(p)
    assert corrected.isna().equals(p.isna())
    if len(known): assert list(corrected.dropna()) == pytest.approx(list(multipletests(known, method="holm")[1]))


@pytest.mark.parametrize("size", [6, 12])
def test_sign_flip_agrees_with_scipys_permutations(size):
    "scipy tries all 2^P flips of so few problems; ours are random ones."
    rng = np.random.default_rng(size)
    for shift in (0, .1, .4):
        a, b = (rng.integers(0, 5, size) / 4 for _ in "ab")
        a = np.minimum(a + shift, 1)
        theirs = stats.permutation_test((a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples",
                                        n_resamples=np.inf, vectorized=True)
        difference, p = sign_flip(a, b, 40000)
        assert difference == pytest.approx(theirs.statistic) and p == pytest.approx(theirs.pvalue, abs=.012)


@pytest.mark.parametrize("test", [mcnemar, sign_flip])
def test_pairs_must_be_pairs(test):
    with pytest.raises(ValueError, match="shape"): test([1, 0], [1])
    with pytest.raises(ValueError, match="missing"): test([1, np.nan], [1, 0])
    with pytest.raises(ValueError, match="sign_flip"): mcnemar([.5, 1], [1, 0])


def test_spearman():
    assert spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert spearman([1, 2, 3], [1, 3, 2]) == pytest.approx(.5)
    with pytest.raises(ValueError, match="y is constant"): spearman([1, 2], [3, 3])


def test_from_samples_averages_and_orders():
    df = pd.concat([table(), table(seeds=(1,), correct=False, thinking_tokens=4)]).sample(frac=1, random_state=0)
    curve = Curve.from_samples(df, "z1", "shifted")
    assert curve.samples == 2 and curve.problems == tuple(f"p{i}" for i in range(6))
    assert curve.windows.tolist() == [8, 16, 32]
    assert curve.tokens[1].tolist() == [6, 6, 6] and curve.correct[1].tolist() == [.5, .5, .5]
    assert curve.correct[5].tolist() == [0, 0, .5]


def test_points_of_single_samples():
    points = Curve.from_samples(table(), "z1", "shifted").points()
    assert points.columns.tolist() == ["window", "tokens", "accuracy", "low", "high", "cut", "interval"]
    assert points.accuracy.tolist() == pytest.approx([2 / 6, 3 / 6, 1]) and set(points.interval) == {"wilson"}
    assert (points.accuracy + points.cut).tolist() == pytest.approx([1, 1, 1])
    assert (points.low[1], points.high[1]) == wilson(3, 6)


@pytest.mark.parametrize("change, message", [
    (lambda d: d.drop(columns=["cut"]), "column cut"),
    (lambda d: d[~((d.window == 16) & (d.problem_id == "p3"))], "problem p3 has 0 of 1 samples at window 16"),
    (lambda d: pd.concat([d, table(windows=(8, 16), seeds=(1,))]), "1 of 2 samples at window 32"),
    (lambda d: pd.concat([d, d[:1]]), "occurs twice"),
    (lambda d: d.assign(model="r1"), "r1 with shifted"),
    (lambda d: d[:0], "there are: none"),
    (lambda d: d.assign(thinking_tokens=d.thinking_tokens.where(d.window > 8)), "thinking_tokens"),
    (lambda d: pd.concat([d, table(benchmark="other")]), "mix the benchmarks other, toy"),
])
def test_from_samples_refuses(change, message):
    with pytest.raises(ValueError, match=message): Curve.from_samples(change(table()), "z1", "shifted")


@pytest.mark.parametrize("tokens, correct, windows, message", [
    ([[1, 2]], [[0, 1]], [16, 8], "windows must increase"), ([[1, 2]], [[0, 1]], [8], "windows"),
    ([[1, 2]], [[0, 2]], [8, 16], "correct"), ([[1, -2]], [[0, 1]], [8, 16], "tokens must"),
    ([[1, np.nan]], [[0, 1]], [8, 16], "tokens must"),
    (np.ones((0, 2)), np.ones((0, 2)), [8, 16], "tokens is")])
def test_a_curve_refuses(tokens, correct, windows, message):
    with pytest.raises(ValueError, match=message): Curve(tokens, correct, windows)


def test_tokens_at_by_hand():
    curve = Curve([[10, 20, 30, 40]], [[.2, .6, .5, .8]], [1, 2, 3, 4], samples=10)
    assert [tokens_at(curve, x) for x in (.2, .4, .6, .65, .8)] == pytest.approx([10, 15, 20, 35, 40])
    assert np.isnan([tokens_at(curve, .19), tokens_at(curve, .81)]).all()
    assert best_point(curve) == (.8, 40, 4) and best_point(Curve([[1, 2]], [[1, 1]], [8, 16])).window == 8
    with pytest.raises(ValueError, match="accuracy is 60"): tokens_at(curve, 60)


@few
@given(curves(), st.lists(shares, min_size=1, max_size=6))
def test_tokens_at_lies_on_the_curve(curve, targets):
    for target in targets:
        found, tokens, accuracy = tokens_at(curve, target), curve.tokens.mean(0), curve.correct.mean(0)
        inside = accuracy[0] - 1e-9 <= target <= accuracy.max() + 1e-9
        if not np.isnan(found): assert inside and tokens.min() - 1e-6 <= found <= tokens.max() + 1e-6
        elif inside: assert min(abs(accuracy[0] - target), abs(accuracy.max() - target)) < 1e-8
    assert tokens_at(curve, best_point(curve).accuracy) == pytest.approx(best_point(curve).tokens, rel=1e-6)


@few
@given(curves(monotone=True), st.lists(shares, min_size=2, max_size=6))
def test_tokens_at_rises_with_the_accuracy(curve, targets):
    found = np.array([tokens_at(curve, t) for t in sorted(targets)])
    assert (np.diff(found[~np.isnan(found)]) >= -1e-6).all()


@few
@given(curves())
def test_a_curve_against_itself_has_ratio_one(curve):
    out = tokens_at_equal_accuracy(curve, curve, n=50)
    assert out.ratio.dropna().to_numpy() == pytest.approx(1)
    assert out[["low", "high"]].dropna().to_numpy() == pytest.approx(1)
    assert tokens_at_best(curve, curve, n=50).ratio == pytest.approx(1)


@few
@given(curves())
def test_points_hold_their_estimate(curve):
    points = curve.points()
    assert (points.low <= points.accuracy + 1e-9).all() and (points.accuracy <= points.high + 1e-9).all()


def pair(seed=0, problems=300, factor=.5):
    "Two curves where a needs `factor` of b's tokens, by construction."
    rng = np.random.default_rng(seed)
    need, windows = rng.lognormal(3.7, .9, (problems, 1)), np.array([8, 16, 32, 64, 128, 256, 512])
    return [Curve(np.minimum(need * f, windows * f), need <= windows, windows * f) for f in (factor, 1)]


def test_equal_accuracy_recovers_an_exact_ratio():
    a, b = pair()
    out = tokens_at_equal_accuracy(a, b, n=200)
    sure = out.dropna()
    assert len(out) == 21 and len(sure) > 15
    assert sure[["ratio", "low", "high"]].to_numpy() == pytest.approx(.5)
    end = tokens_at_best(a, b, n=200)
    assert end[["ratio", "low", "high", "reached"]].tolist() == pytest.approx([.5, .5, .5, 1])


def test_averages_alone_give_the_same_ratio():
    a, b = pair()
    measured, published = tokens_at_equal_accuracy(a, b, n=50), token_ratio(a.means, b.means)
    pd.testing.assert_frame_equal(measured[published.columns], published)
    end = tokens_at_best(a, b, n=50)
    assert published.iloc[-1].tolist() == pytest.approx(end[published.columns].tolist())


rising = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 1000)), min_size=2, max_size=6,
                  unique_by=(lambda p: p[0], lambda p: p[1])).map(
    lambda p: Averages(np.sort([t for t, _ in p]).astype(float), np.sort([a for _, a in p]) / 1000))


@settings(max_examples=200, deadline=None)
@given(rising, rising)
def test_the_extremes_of_a_ratio_are_at_its_bends(c, d):
    "Between two bends both curves are straight, and a ratio of straight lines only rises or only falls."
    low, high = max(c.accuracy[0], d.accuracy[0]), min(c.accuracy[-1], d.accuracy[-1])
    assume(low < high)
    bends = [x for curve in (c, d) for x in curve.accuracy if low <= x <= high]
    at_bends, anywhere = (token_ratio(c, d, x).ratio for x in (bends, np.linspace(low, high, 50)))
    assert at_bends.notna().all() and anywhere.between(at_bends.min() - 1e-6, at_bends.max() + 1e-6).all()


def test_a_ratio_needs_shares_and_a_common_accuracy():
    low, high = Averages(np.array([10., 20]), np.array([.1, .2])), Averages(np.array([10., 20]), np.array([.3, .9]))
    with pytest.raises(ValueError, match="no common accuracy: one curve begins at 0.3, one ends at 0.2"): token_ratio(low, high)
    percent = Averages(low.tokens, 100 * low.accuracy)
    with pytest.raises(ValueError, match="divided by 100"): token_ratio(percent, percent)
    with pytest.raises(ValueError, match="list of numbers"): token_ratio(low, low, [[.1]])


def test_equal_accuracy_is_reproducible_and_shows_what_is_out_of_reach():
    a, b = pair()
    c, d = pair(seed=1)
    out = tokens_at_equal_accuracy(a, d, [.1, .5, 1.], seed=3)
    pd.testing.assert_frame_equal(out, tokens_at_equal_accuracy(a, d, [.1, .5, 1.], seed=3))
    assert out.low[1] < out.ratio[1] < out.high[1] and out.reached[1] == 1
    flat = Curve(b.tokens, b.correct * .5, b.windows, samples=2)
    assert tokens_at_equal_accuracy(a, flat, [.9]).ratio.isna().all()


def test_equal_accuracy_needs_the_same_problems():
    a, b = pair()
    with pytest.raises(ValueError, match="same problems"): tokens_at_equal_accuracy(a, pair(problems=20)[1])
    named = Curve(b.tokens, b.correct, b.windows, problems=tuple(range(len(b.tokens))))
    with pytest.raises(ValueError, match="same problems"): tokens_at_best(a, named)
    with pytest.raises(ValueError, match="no common"): tokens_at_equal_accuracy(
        a, Curve(b.tokens, np.zeros_like(b.correct), b.windows))
    with pytest.raises(ValueError, match="accuracies"): tokens_at_equal_accuracy(a, b, [50])


# -- accuracy at equal tokens -------------------------------------------------------------------------------------

def test_accuracy_at_equal_tokens_by_hand():
    a = Curve([[10, 20, 40]], [[.2, .6, 1]], [1, 2, 3], samples=10)
    b = Curve([[20, 40]], [[.2, .4]], [1, 2], samples=10)
    out = accuracy_at_equal_tokens(a, b, [10, 20, 30, 40, 41], n=50)
    assert out.accuracy_a[:4].tolist() == pytest.approx([.2, .6, .8, 1]) and np.isnan(out.accuracy_a[4])
    assert out.difference[1:4].tolist() == pytest.approx([.4, .5, .6]) and out.difference[[0, 4]].isna().all()
    assert out.loc[1:3, ["low", "high"]].to_numpy() == pytest.approx(np.array([[.4] * 2, [.5] * 2, [.6] * 2]))
    assert accuracy_at_equal_tokens(a, b, n=50).tokens.iloc[[0, -1]].tolist() == [20, 40]


@few
@given(curves(monotone=True), st.lists(st.floats(0, 600), min_size=1, max_size=6))
def test_accuracy_at_equal_tokens_is_numpys_interpolation(curve, tokens):
    spent, right = curve.tokens.mean(0), curve.correct.mean(0)
    half = Curve(curve.tokens, curve.correct * .5, curve.windows, samples=2)
    out = accuracy_at_equal_tokens(curve, half, tokens, n=20)
    for at, accuracy in zip(tokens, out.accuracy_a):
        if np.isnan(accuracy): assert at < spent[0] + 1e-9 or at > spent[-1] - 1e-9
        elif (np.diff(spent) > 1e-6).all(): assert accuracy == pytest.approx(np.interp(at, spent, right), abs=1e-6)
    assert out.difference.dropna().to_numpy() == pytest.approx(out.accuracy_a.dropna().to_numpy() / 2)


@few
@given(curves())
def test_a_curve_against_itself_has_no_difference(curve):
    out = accuracy_at_equal_tokens(curve, curve, [curve.tokens.mean(0).max()], n=50)
    assert out[["difference", "low", "high"]].fillna(0).to_numpy() == pytest.approx(0)


def test_accuracy_at_equal_tokens_refuses():
    a, b = pair()
    with pytest.raises(ValueError, match="same problems"): accuracy_at_equal_tokens(a, pair(problems=20)[1])
    with pytest.raises(ValueError, match="tokens must"): accuracy_at_equal_tokens(a, b, [-1])
    with pytest.raises(ValueError, match="no common tokens"): accuracy_at_equal_tokens(
        a, Curve(b.tokens + 1000, b.correct, b.windows))


# -- coverage: 2,000 experiments in a world whose truth is known --------------------------------------------------

WINDOWS = np.array([16, 32, 64, 96, 128, 192, 256, 384, 512])
NEED, ABLE, SLOPE = dict(a=3.6, b=4.4), dict(a=2., b=1.8), dict(a=1., b=1.2)  # log tokens; log odds; its fall
GUESS, HARDER, SPREAD = .1, .7, .5  # right when cut; log tokens a unit of difficulty; and within a problem


def experiment(rng, model, difficulty, samples):
    "A measured curve: harder problems need more tokens and are failed more often; what is cut is guessed."
    shape = (len(difficulty), samples, 1)
    d = difficulty[:, None, None]
    need = np.exp(NEED[model] + HARDER * d + SPREAD * rng.standard_normal(shape))
    right = rng.random(shape) < 1 / (1 + np.exp(SLOPE[model] * d - ABLE[model]))
    correct = np.where(need <= WINDOWS, right, rng.random(shape) < GUESS)
    return Curve(np.minimum(need, WINDOWS).mean(1), correct.mean(1), WINDOWS, samples=samples)


def true_curve(model):
    "Average tokens and accuracy of infinitely many problems, by numerical integration over difficulties."
    d, log = np.linspace(-8, 8, 4001)[:, None], np.log(WINDOWS)
    weight = stats.norm.pdf(d[:, 0]) / stats.norm.pdf(d).sum()
    mean = NEED[model] + HARDER * d
    done = stats.norm.cdf(log, mean, SPREAD)
    short = np.exp(mean + SPREAD ** 2 / 2) * stats.norm.cdf(log, mean + SPREAD ** 2, SPREAD)  # lognormal, below w
    right = done / (1 + np.exp(SLOPE[model] * d - ABLE[model])) + (1 - done) * GUESS
    return weight @ (short + WINDOWS * (1 - done)), weight @ right


def test_the_truth_is_that_of_very_many_problems():
    d = np.random.default_rng(0).standard_normal(200_000)
    for model in "ab":
        large, (tokens, accuracy) = experiment(np.random.default_rng(1), model, d, 1), true_curve(model)
        assert large.tokens.mean(0) == pytest.approx(tokens, rel=.01)
        assert large.correct.mean(0) == pytest.approx(accuracy, abs=.005)


def test_intervals_cover_the_truth():
    "95% intervals hold the truth in 93 to 97 of 100 experiments: 2,000 of them, 200 problems, 1 or 4 samples."
    (ta, ca), (tb, cb) = true_curve("a"), true_curve("b")
    top, accuracies, budgets = min(ca.max(), cb.max()), np.array([.4, .6]), np.array([20, 35])
    def ratio_at(x): return np.interp(x, ca, ta) / np.interp(x, cb, tb)
    truth = np.array([ca[2], ca[-1], ca[2], ca[-1], *ratio_at(accuracies), ratio_at(top),
                      *np.interp(budgets, ta, ca) - np.interp(budgets, tb, cb)])
    names = ["wilson, early", "wilson", "bootstrap, early", "bootstrap", "ratio at .4", "ratio at .6",
             "ratio at the best", "difference at 20", "difference at 35"]
    rng, intervals = np.random.default_rng(0), []
    for _ in range(2000):
        d = rng.standard_normal(200)
        one, a, b = (experiment(rng, model, d, samples) for model, samples in (("a", 1), ("a", 4), ("b", 4)))
        ratio, end, gain = (tokens_at_equal_accuracy(a, b, accuracies), tokens_at_best(a, b),
                            accuracy_at_equal_tokens(a, b, budgets))
        intervals.append(np.vstack([
            [accuracy_interval(one.correct[:, w])[:2] for w in (2, -1)], np.transpose(bootstrap(a.correct[:, [2, -1]])),
            ratio[["low", "high"]], [[end.low, end.high]], gain[["low", "high"]]]).astype(float))
    low, high = np.moveaxis(intervals, -1, 0)
    assert np.isfinite(low).mean() > .999                             # an interval is nearly always given
    covered = dict(zip(names, ((low <= truth) & (truth <= high)).mean(0)))
    assert all(.93 <= share <= .97 for share in covered.values()), covered

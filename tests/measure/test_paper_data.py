"""The paper's numbers in data/paper, recomputed where they can be."""
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from pytest import approx

from z1.measure import figures, published
from z1.measure.statistics import Averages, token_ratio
from z1.data.phrases import draw_bubbles, split_words

PAPER = Path(__file__).resolve().parents[2]/"data"/"paper"
FILES = sorted(PAPER.glob("*.csv"))
Z1, R1 = "Z1-7B", "R1-Distill-Qwen-7B"


def read(name): return pd.read_csv(PAPER/f"{name}.csv", keep_default_na=False, na_values={"figure1b_point": [""]})


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_row_has_a_source_and_every_file_a_description(path):
    df = read(path.stem)
    assert len(df) and (df.source.str.len() > 0).all()
    assert not df.duplicated().any()
    assert f"`{path.name}`" in (PAPER/"README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name, column, rows, total", [
    ("table1", "pass_at_1", 61, 3109.4), ("table2", "value", 55, 36204.3), ("table3", "value", 19, 291879),
    ("scaling", "thinking_tokens", 30, 40399), ("scaling", "pass_at_1", 30, 1382.9),
    ("figure1b", "thinking_tokens", 8, 9725), ("figure1b", "pass_at_1", 8, 337.7),
    ("trigrams", "count", 100, 7799330), ("reported", "value", 26, 1720.0), ("benchmarks", "problems", 4, 1726)])
def test_no_number_has_changed_unnoticed(name, column, rows, total):
    df = read(name)
    assert len(df) == rows and df[column].sum() == approx(total)


def test_table1_averages_are_the_mean_of_their_row_unless_noted():
    wide = read("table1").pivot(index="model", columns="benchmark", values="pass_at_1")
    notes = {r.model: r.note for r in read("table1").itertuples() if r.note}
    for model, row in wide.iterrows():
        four = row.drop("average")
        if four.isna().any(): assert pd.isna(row.average)
        elif model in notes: assert notes[model].endswith(f"{four.mean():.1f}") and abs(four.mean() - row.average) > .9
        else: assert row.average == approx(four.mean(), abs=.051)
    assert set(notes) == {"DeepSeek-R1", "s1.1-7B"}


@pytest.mark.parametrize("quantity, within", [("pass@1", .051), ("thinking tokens", .51)])
def test_table2_averages_are_means(quantity, within):
    df = read("table2").query("quantity == @quantity")
    wide = df.pivot(index="subset", columns="benchmark", values="value")
    assert len(wide) == 5
    assert wide["average"].tolist() == approx(wide.drop(columns="average").mean(axis=1).tolist(), abs=within)


def test_tables_agree_about_z1():
    best = read("scaling").query("model == @Z1").groupby("benchmark").last()
    table1 = read("table1").query("model == @Z1").set_index("benchmark").pass_at_1
    full = read("table2").query("subset == 'full' and benchmark != 'average'")
    for name, row in best.iterrows():
        mine = full[full.benchmark == name].set_index("quantity").value
        assert row.pass_at_1 == table1[name] == mine["pass@1"]
        assert row.thinking_tokens == mine["thinking tokens"]


def test_figure1b_is_the_mean_of_three_benchmarks():
    means = read("scaling").dropna(subset=["figure1b_point"]).groupby(["model", "figure1b_point"])
    assert (means.benchmark.nunique() == 3).all() and (means.size() == 3).all()
    shown = read("figure1b").set_index(["model", "point"])
    for key, mean in means[["thinking_tokens", "pass_at_1"]].mean().iterrows():
        assert shown.pass_at_1[key] == approx(mean.pass_at_1, abs=.1)
        assert shown.thinking_tokens[key] == approx(mean.thinking_tokens, abs=3)


def test_the_points_that_figure4_leaves_out():
    left = read("scaling").query("in_figure4 == 'no'")
    assert set(zip(left.model, left.benchmark, left.thinking_tokens)) == {
        (Z1, "GPQA Diamond", 256), (Z1, "LiveCodeBench v5", 732), (Z1, "MATH500", 255), (Z1, "MATH500", 471),
        (R1, "GPQA Diamond", 512), (R1, "LiveCodeBench v5", 3580), (R1, "MATH500", 512), (R1, "MATH500", 1760), (R1, "MATH500", 2541)}
    best = read("scaling").query("model == @Z1").groupby("benchmark").pass_at_1.max()
    above = left[left.pass_at_1 > left.benchmark.map(best)]
    assert set(zip(above.model, above.thinking_tokens)) == {(R1, 3580), (R1, 1760), (R1, 2541)}


def test_figure4_has_two_points_that_table6_lacks():
    points = read("scaling")
    extra = points.query("in_table6 == 'no'")
    assert set(zip(extra.model, extra.thinking_tokens)) == {(R1, 5808), (Z1, 985)} and set(extra.in_figure4) == {"yes"}
    assert (points.in_table6 == "yes").sum() == 28 and (points.in_figure4 == "yes").sum() == 21
    assert extra.source.str.startswith("read off Figure 4").all()


def test_curves_are_in_order():
    for _, curve in read("scaling").groupby(["model", "benchmark"]):
        assert curve.thinking_tokens.is_monotonic_increasing and curve.pass_at_1.is_monotonic_increasing


def test_what_is_claimed_is_the_headline_and_nothing_computed():
    [claim] = read("claims").itertuples()
    assert claim.value == .3 and "about 30%" in claim.source


@pytest.mark.parametrize("benchmark, accuracy, at_best, lowest, highest", [
    ("GPQA Diamond", 39.9, .24, .14, .30), ("LiveCodeBench v5", 35.3, .30, .12, .30), ("MATH500", 76.4, .87, .69, 1.04),
    (published.MEAN_LABEL, 53.1, .49, .40, .49)])
def test_published_thinking_tokens_at_equal_accuracy(benchmark, accuracy, at_best, lowest, highest):
    table = published.paper_ratios().query("benchmark == @benchmark")
    assert 100 * table.accuracy.iloc[-1] == approx(accuracy)
    assert (table.ratio.iloc[-1], table.ratio.min(), table.ratio.max()) == approx((at_best, lowest, highest), abs=.005)


def test_linear_and_logarithmic_interpolation_agree():
    for points in (*(p for _, p in read("scaling").groupby("benchmark")), read("figure1b")):
        pair = [published.published_curve(points, model) for model in (Z1, R1)]
        linear = token_ratio(*pair, published.at_equal_accuracy(points).accuracy)
        logs = token_ratio(*(Averages(np.log(c.tokens), c.accuracy) for c in pair), linear.accuracy)
        assert (np.exp(logs.tokens_a - logs.tokens_b) - linear.ratio).abs().max() < .02


def test_equal_accuracy_by_hand():
    table = published.paper_ratios().groupby("benchmark").last()
    assert table.tokens_a["MATH500"] == 1185
    assert table.tokens_b["MATH500"] == approx(1337 + (76.4 - 76.0) / (83.4 - 76.0) * (1760 - 1337))
    assert table.tokens_a["GPQA Diamond"] == approx(946 + (39.9 - 33.3) / (41.9 - 33.3) * (1548 - 946))
    assert table.tokens_b["GPQA Diamond"] == approx(5808)


def test_table1_beside_what_is_reported():
    theirs = read("reported").set_index(["model", "benchmark", "metric"]).value
    slip, suspicion = (R1, "MATH500"), ("QwQ-32B-Preview", "GPQA Diamond")
    elsewhere = {("GPT-4o-0513", "MATH500"), ("GPT-4o-0513", "GPQA Diamond")}
    paper = read("table1").set_index(["model", "benchmark"]).pass_at_1
    compared = [key for key in paper.index if (*key, "pass@1") in theirs.index]
    assert len(compared) == 14
    assert {k for k in compared if paper[k] != theirs[(*k, "pass@1")]} == {slip, suspicion} | elsewhere
    assert {k for k in compared if paper[k] == theirs.get((k[0], "AIME 2024", "cons@64"))} == {slip, suspicion}
    row = read("table1").query("model == @R1 and benchmark not in ('average', 'MATH500')").pass_at_1
    assert (row.sum() + theirs[R1, "MATH500", "pass@1"]) / 4 == approx(46.45)


@pytest.mark.parametrize("a, b, points", [("longest", "shortest", 1.7), ("full", "random 64K", 3.0), ("full", "random 16K", 4.6)])
def test_gaps_of_table2_beside_their_width(a, b, points):
    gap, width = published.subset_gap(a, b)
    assert (gap, width) == approx((points, 4.0), abs=.1)
    assert published.subset_gap(b, a) == approx((-gap, width))


def test_the_width_of_a_gap_by_simulation():
    "Benchmarks drawn anew for both subsets: the spread of the difference is what the formula says."
    scores = read("table2").query("quantity == 'pass@1'").set_index(["subset", "benchmark"]).value / 100
    sizes = read("benchmarks").set_index("benchmark").problems.drop("BigCodeBench-Hard")
    rng = np.random.default_rng(0)
    means = [np.mean([rng.binomial(n, scores[subset, b], 20000) / n for b, n in sizes.items()], axis=0)
             for subset in ("longest", "shortest")]
    assert 196 * np.std(means[0] - means[1]) == approx(published.subset_gap("longest", "shortest")[1], rel=.02)


def test_the_readme_of_the_data_quotes_what_is_computed():
    text = (PAPER/"README.md").read_text(encoding="utf-8")
    ends = published.paper_ratios().groupby("benchmark").ratio.last()
    [quoted] = re.findall(r"GPQA Diamond \((.*?)\) and LiveCodeBench \((.*?)\).*?MATH500 it is (.*?),.*?Figure 1b, (0.\d\d)", text, re.S)
    order = ["GPQA Diamond", "LiveCodeBench v5", "MATH500", published.MEAN_LABEL]
    assert list(map(float, quoted)) == ends[order].round(2).tolist()
    gap, width = published.subset_gap("longest", "shortest")
    assert f"is {gap:.1f} points on average" in text and f"is {width:.1f} points" in text


def test_table3_is_what_table3_has():
    df = read("table3")
    assert set(df.quantity) == {"rows", "shortest", "longest"}                # its mean and total stand in Table 2
    assert (df.groupby("dataset")[["domain", "teacher"]].nunique() == 1).all(axis=None)
    facts = df.drop_duplicates("dataset").set_index("dataset")
    assert facts.domain.to_dict() == {
        "s1": "General", "s1.1": "General", "CodeForces-CoTs": "Competition Code", "OpenR1-Math-220k": "Math",
        "OpenThoughts": "General", "Z1-Code-Reasoning-107K": "General Code"}
    others = {"s1": "Gemini 2.0 Flash Thinking Experimental", "Z1-Code-Reasoning-107K": "QwQ-32B-Preview"}
    assert all(teacher == others.get(dataset, "DeepSeek R1") for dataset, teacher in facts.teacher.items())
    full = read("table2").query("subset == 'full' and benchmark == ''").set_index("quantity").value
    assert (full["mean length"], full["tokens"]) == (1159, 124)


def test_the_figures_show_every_point():
    points = read("scaling")
    fig = published.paper_fig4(points)
    drawn = sorted((x, y) for ax in fig.axes for line in ax.lines if line.get_marker() in "os"
                   for x, y in zip(*line.get_data()))
    assert drawn == sorted(zip(points.thinking_tokens, points.pass_at_1))
    crosses = sum(len(line.get_xdata()) for ax in fig.axes for line in ax.lines if line.get_marker() == "x")
    assert crosses == (points.in_figure4 == "no").sum() == 9
    assert "9 of Table 6's 28" in fig.get_suptitle() and "4 of Z1's and 5 of R1's" in fig.get_suptitle()


def test_the_figure_of_ratios_marks_published_points_only():
    ratios = published.paper_ratios()
    fig = published.paper_equal(ratios, .3)
    lines = [line for line in fig.axes[0].lines if line.get_marker() not in ("None", None, "")]
    assert sum(len(line.get_markevery()) for line in lines) == ratios.point.sum()
    assert all(line.get_markerfacecolor() == "white" for line in lines)
    assert fig.axes[0].get_title(loc="left").endswith("GPQA and LiveCodeBench; on MATH500 it is 87%")


def test_a_figure_is_the_same_bytes_every_time(tmp_path):
    draw = lambda: figures.add_caption(published.paper_fig1b(read("figure1b")), "Published.")
    first = [p.read_bytes() for p in figures.save_figure(draw(), "f", tmp_path/"a")]
    assert first == [p.read_bytes() for p in figures.save_figure(draw(), "f", tmp_path/"b")]
    assert sorted(p.name for p in (tmp_path/"a").iterdir()) == ["f.png", "f.svg"]


def test_trigrams_are_words_as_the_paper_counts_them():
    df = read("trigrams")
    assert not df.duplicated(["dataset", "trigram"]).any()
    assert all(len(split_words(t)) == 3 and " ".join(split_words(t)) == t for t in df.trigram)
    for _, table in df.groupby("dataset"): assert (table["count"] > 0).all() and table["count"].is_monotonic_decreasing


@pytest.mark.parametrize("dataset, table, total, last", [
    ("Z1-Code-Reasoning-107K", 4, 1104856, ("- we use", 11042)), ("OpenThoughts-114K", 5, 6694474, ("the angle between", 77260))])
def test_both_lists_of_trigrams_are_complete(dataset, table, total, last):
    df = read("trigrams").query("dataset == @dataset")
    assert len(df) == 50 and df["count"].sum() == total and (df.trigram.iloc[-1], df["count"].iloc[-1]) == last
    assert set(df.source) == {f"arXiv 2504.00810v1, Table {table}"}


@figures.themed
def bubble_figure(sets, **options):
    fig, ax = plt.subplots(figsize=(11, 6))
    draw_bubbles(ax, sets, dict.fromkeys(sets, "black"), **options)
    return fig


def drawn(sets, **options): return bubble_figure(sets, **options).axes[0]


def test_figure3_shows_every_count():
    sets = dict(iter(read("trigrams").groupby("dataset", sort=False)))
    ax = drawn(sets, hollow=True, own_scale=True)
    areas = sorted(c.radius ** 2 for c in ax.patches)
    assert areas == approx(sorted(n / t["count"].sum() for t in sets.values() for n in t["count"]))
    shared = {"i need to", "we need to", "the number of", "the sum of", "to find the", "need to find", "sum of the"}
    assert sum(c.get_linestyle() == "--" for c in ax.patches) == 2 * len(shared)
    assert {f"{n:,}" for t in sets.values() for n in t["count"]} <= {t.get_text() for t in ax.texts}


def test_bubbles_on_one_scale_have_the_counts_as_areas():
    sets = {name: table.head(5) for name, table in read("trigrams").groupby("dataset", sort=False)}
    ax = drawn(sets)
    assert sorted(c.radius ** 2 for c in ax.patches) == approx(sorted(n for t in sets.values() for n in t["count"]))

"""The paper's numbers in data/paper, recomputed where they can be."""
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from pytest import approx

from z1 import figures
from z1.trajectories import bubbles, words

PAPER = Path(__file__).resolve().parents[1]/"data"/"paper"
FILES = sorted(PAPER.glob("*.csv"))
Z1, R1 = "Z1-7B", "R1-Distill-Qwen-7B"


def read(name): return pd.read_csv(PAPER/f"{name}.csv", keep_default_na=False, na_values={"figure1b_point": [""]})


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_row_has_a_source_and_every_file_a_description(path):
    df = read(path.stem)
    assert len(df) and (df.source.str.len() > 0).all()
    assert not df.duplicated().any()
    assert f"`{path.name}`" in (PAPER/"README.md").read_text(encoding="utf-8")


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
    assert set(zip(left.model, left.thinking_tokens)) == {(R1, 3580), (R1, 1760), (R1, 2541)}
    best = read("scaling").query("model == @Z1").groupby("benchmark").pass_at_1.max()
    assert (left.pass_at_1.to_numpy() > best[left.benchmark].to_numpy()).all()
    extra = read("scaling").query("in_table6 == 'no'")
    assert set(zip(extra.model, extra.thinking_tokens)) == {(R1, 5808), (Z1, 985)}


def test_curves_are_in_order():
    for _, curve in read("scaling").groupby(["model", "benchmark"]):
        assert curve.thinking_tokens.is_monotonic_increasing and curve.pass_at_1.is_monotonic_increasing


def test_claims_follow_from_the_figure():
    end = read("figure1b").query("point == 4").set_index("model").thinking_tokens
    claims = sorted(read("claims").value)
    assert claims == sorted(figures.PAPER_RATIOS.values())
    assert end[Z1] / end[R1] == approx(claims[1], abs=.005)


def test_the_figures_show_every_point():
    points = read("scaling")
    fig = figures.paper_fig4(points)
    drawn = sorted((x, y) for ax in fig.axes for line in ax.lines if line.get_marker() in "os"
                   for x, y in zip(*line.get_data()))
    assert drawn == sorted(zip(points.thinking_tokens, points.pass_at_1))
    crosses = sum(len(line.get_xdata()) for ax in fig.axes for line in ax.lines if line.get_marker() == "x")
    assert crosses == 3


def test_a_figure_is_the_same_bytes_every_time(tmp_path):
    draw = lambda: figures.caption(figures.paper_fig1b(read("figure1b")), "Published.")
    first = [p.read_bytes() for p in figures.save(draw(), "f", tmp_path/"a")]
    assert first == [p.read_bytes() for p in figures.save(draw(), "f", tmp_path/"b")]
    assert sorted(p.name for p in (tmp_path/"a").iterdir()) == ["f.png", "f.svg"]


def test_trigrams_are_words_as_the_paper_counts_them():
    df = read("trigrams")
    assert set(df.dataset) == {"Z1-Code-Reasoning-107K", "OpenThoughts-114K"}
    assert not df.duplicated(["dataset", "trigram"]).any()
    assert all(len(words(t)) == 3 and " ".join(words(t)) == t for t in df.trigram)
    for _, table in df.groupby("dataset"): assert (table["count"] > 0).all() and table["count"].is_monotonic_decreasing


def test_figure3_can_be_drawn_with_every_count_readable():
    sets = dict(iter(read("trigrams").groupby("dataset", sort=False)))
    fig, ax = plt.subplots(figsize=(10, 6))
    bubbles(ax, sets, dict.fromkeys(sets, "black"), hollow=True)
    plt.close(fig)
    areas, counts = sorted(c.radius ** 2 for c in ax.patches), sorted(read("trigrams")["count"])
    assert areas == approx(counts)
    shared = {"i need to", "we need to", "the number of"}
    assert sum(c.get_linestyle() == "--" for c in ax.patches) == 2 * len(shared)
    assert {f"{n:,}" for n in counts} <= {t.get_text() for t in ax.texts}

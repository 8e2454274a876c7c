"Exact trigrams whatever the hash does, circles that don't overlap, tables that add up."
import os
import subprocess
import sys
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from z1.data.phrases import SMALLEST, draw_bubbles, composition, label_size, length_table, pack_bubbles, top_trigrams

letters = st.text("aAbİß.,\t\n\u2003\x1c ", max_size=40)  # lower case of two letters, and every kind of white space
few = settings(max_examples=60)


def simple(texts, n):
    "Every trigram in one dictionary; split on white space as `str.split` does."
    counts = Counter()
    for text in texts:
        w = text.lower().split()
        counts.update(" ".join(w[i:i + 3]) for i in range(len(w) - 2))
    best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]
    return best, counts.total()


def pairs(table): return list(zip(table.trigram, table["count"]))


@given(st.lists(letters, max_size=12), st.integers(1, 5), st.sampled_from([1, 3, 8]))
def test_trigrams_are_exact(texts, n, bits):
    "With 2 buckets everything collides, and the result must not notice."
    best, total = simple(texts, n)
    table = top_trigrams(texts, n, bits)
    assert pairs(table) == best
    assert table.per_million.tolist() == pytest.approx([1e6 * c / total for _, c in best])


def test_the_search_goes_on_until_nothing_can_be_missed():
    "300 equally frequent trigrams share few buckets: the first 64 examined do not prove anything."
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 12, 400)) for _ in range(20)]
    for bits in (8, 10, 12): assert pairs(top_trigrams(texts, 3, bits)) == simple(texts, 3)[0]
    same = ["a b c", "d e f", "g h i"] * 5
    assert pairs(top_trigrams(same, 2)) == [("a b c", 5), ("d e f", 5)], "equal counts by alphabet"


def test_trigrams_do_not_depend_on_the_hash_of_a_run():
    code = ("import random; from z1.data.phrases import top_trigrams; r = random.Random(0);"
            "print(top_trigrams([' '.join(r.choices('abcdefgh', k=200)) for _ in range(20)], 20, 6).to_csv(), end='')")
    said = {subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, text=True,
                           check=True, capture_output=True).stdout for seed in ("1", "2")}
    assert len(said) == 1 and len(said.pop().splitlines()) == 21


def test_no_trigram_spans_two_texts():
    assert pairs(top_trigrams(["a b", "c d", "e"])) == []
    assert pairs(top_trigrams(["a b c", "c d e"])) == [("a b c", 1), ("c d e", 1)]


def test_names_are_held_for_full_buckets_only(monkeypatch):
    "50,000 trigrams that occur once never get a dictionary entry."
    import z1.data.phrases as module
    named, sizes = module._count_named, []
    def watched(*args):
        sizes.append(len(counts := named(*args)))
        return counts
    monkeypatch.setattr(module, "_count_named", watched)
    texts = [" ".join(f"w{t}.{i}" for i in range(500)) + 3 * " the same again" for t in range(100)]
    assert len(top_trigrams(texts, 3)) == 3 and sum(sizes) < 5000


@pytest.mark.parametrize("texts, n, said", [("abc", 5, "type str"), (iter(["a"]), 5, "type list_iterator"),
                                            (["a", 3], 5, "text 1 is of type int"), (["a b c"], 0, "n is 0")])
def test_bad_texts_are_named(texts, n, said):
    with pytest.raises(ValueError, match=said): top_trigrams(texts, n)


@few
@given(st.lists(st.floats(.05, 100), min_size=1, max_size=30))
def test_circles_never_overlap_and_hang_together(radii):
    r, c = np.array(radii), pack_bubbles(radii)
    assert np.isfinite(c).all()
    gaps = np.hypot(*(c[:, None] - c).transpose(2, 0, 1)) - r - r[:, None]
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min() > -1e-6 * r.max()
    if len(r) > 1: assert (gaps.min(1) < 1e-6 * r.max()).all(), "each touches another"


def test_circles_are_packed_closely():
    r = np.ones(50)
    assert np.hypot(*pack_bubbles(r).T).max() + 1 < 1.35 * np.sqrt(50)  # a disc with a little over half of its area filled


@pytest.mark.parametrize("radii", [[], [1, 0], [1, -2], [1, float("nan")]])
def test_impossible_circles_are_refused(radii):
    with pytest.raises(ValueError, match="radii"): pack_bubbles(radii)


@few
@given(st.lists(st.text("abW#$.1", min_size=1, max_size=16), min_size=1, max_size=4), st.floats(.1, 50))
def test_labels_lie_inside_their_circle(lines, radius):
    size, bases = label_size(lines, radius)
    assert 0 < size and (abs(size * bases) < radius).all() and (np.diff(bases) < 0).all()
    assert label_size(lines, 2 * radius)[0] == pytest.approx(2 * size)


def test_bubbles_show_counts_as_areas_and_mark_what_is_shared():
    sets = {"one": pd.DataFrame({"trigram": ["a b c", "x $y $z"], "count": [400, 100]}),
            "two": pd.DataFrame({"trigram": ["a b c", "only in two", "tiny as dust"], "count": [1600, 900, 1]})}
    fig, ax = plt.subplots(figsize=(8, 5))
    draw_bubbles(ax, sets, {"one": "red", "two": "blue"})
    circles = sorted(ax.patches, key=lambda p: p.radius)
    assert [round(c.radius ** 2) for c in circles] == [1, 100, 400, 900, 1600]
    assert [c.get_linestyle() for c in circles] == ["-", "-", "--", "-", "--"]
    said = [t.get_text() for t in ax.texts]
    assert {"one", "two", "1,600", "900"} <= set(said)
    assert not {"tiny", "1"} & set(said), "what can't be read is left out"
    fig.canvas.draw()
    assert all(t.get_fontsize() >= SMALLEST for t in ax.texts)
    inside = ax.get_window_extent()
    for t in ax.texts: assert inside.x0 - 2 <= t.get_window_extent().x0 and t.get_window_extent().x1 <= inside.x1 + 2
    plt.close(fig)


def test_bubbles_refuse_an_empty_set():
    empty = pd.DataFrame({"trigram": [], "count": []})
    ax = plt.figure().add_subplot()
    with pytest.raises(ValueError, match="'none' is empty"): draw_bubbles(ax, {"none": empty}, {"none": "red"})
    plt.close("all")


@given(st.lists(st.integers(1, 500), min_size=1, max_size=50))
def test_quantiles_are_lengths_that_occur(lengths):
    [row] = length_table({"set": lengths}).to_dict("records")
    middle = [row[q] for q in ("5%", "25%", "50%", "75%", "95%")]
    assert set(middle) <= set(lengths) and sorted(middle) == middle and list(row)[-1] == "max"
    facts = dict(rows=len(lengths), tokens=sum(lengths), min=min(lengths), max=max(lengths))
    assert {name: row[name] for name in facts} == facts
    assert sum(n <= row["50%"] for n in lengths) >= len(lengths) / 2


def test_an_empty_set_of_lengths_is_named():
    with pytest.raises(ValueError, match="'b' is empty"): length_table({"a": [1], "b": []})


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(1, 900)), min_size=1, max_size=40))
def test_composition_adds_up(pairs):
    rows = pd.DataFrame(pairs, columns=["difficulty", "tokens"])
    table = composition(rows)
    assert table.rows.sum() == len(rows) and table.tokens.sum() == rows.tokens.sum()
    assert table["share of rows"].sum() == pytest.approx(1) == table["share of tokens"].sum()
    for part in table.itertuples():
        ends = list(map(int, part.difficulty.split("-")))
        assert part.tokens == sum(t for d, t in pairs if ends[0] <= d <= ends[-1])


def test_composition_names_what_is_missing():
    rows = pd.DataFrame({"difficulty": [0, 20], "tokens": [1, 2]})
    with pytest.raises(ValueError, match="1 of 2 rows.*0 to 20"): composition(rows)
    with pytest.raises(ValueError, match="tokens"): composition(rows[["difficulty"]])

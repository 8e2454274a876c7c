"Both rules against brute force, orders that do not depend on the file, and the sizes of the paper's Table 2."
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from z1.data.subsets import ORDERS, PAPER_BUDGET, BUDGET_RULES, Subset, algorithm1, order_rows, random_rows, authors_script, select

TABLE2 = Path(__file__).resolve().parents[2]/"data"/"paper"/"table2.csv"
lengths = st.lists(st.integers(1, 12), min_size=1, max_size=9)  # few values: many ties
budgets = st.integers(1, 80)
rows = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 12), min_size=1, max_size=12)


@given(lengths, budgets)
def test_algorithm1_is_the_lexicographically_first_choice_that_fits(tokens, budget):
    "Of all 2^n choices that fit, greedy skipping is the one that says yes earliest."
    fits = (c for c in product((1, 0), repeat=len(tokens)) if sum(np.multiply(c, tokens)) <= budget)
    assert algorithm1(tokens, budget) == [i for i, yes in enumerate(max(fits)) if yes]


@given(lengths, budgets)
def test_script_is_the_shortest_beginning_that_reaches_the_budget(tokens, budget):
    enough = [k for k in range(len(tokens) + 1) if sum(tokens[:k]) >= budget] or [len(tokens)]
    assert authors_script(tokens, budget) == list(range(enough[0]))


@given(rows, budgets, st.sampled_from(sorted(ORDERS)), st.sampled_from(sorted(BUDGET_RULES)), st.integers(0, 3))
def test_budgets_hold_and_the_files_order_does_not_matter(rows, budget, order, rule, seed):
    ids, tokens = list(rows), list(rows.values())
    if budget < min(tokens):
        with pytest.raises(ValueError, match="smallest"): select(ids, tokens, order, budget, rule, seed)
        return
    subset = select(ids, tokens, order, budget, rule, seed)
    again = select(ids[::-1], tokens[::-1], order, budget, rule, seed)
    assert set(subset.ids) == set(again.ids)
    used = sum(subset.lengths)
    if rule == "algorithm1":
        assert used <= budget
        left = [n for id, n in rows.items() if id not in subset.ids]
        assert all(used + n > budget for n in left), "nothing that was left out would still fit"
    else: assert any(used - n < budget for n in subset.lengths), "without one of its rows it is below the budget"
    assert [ids[i] for i in subset.indices] == list(subset.ids) and list(subset.indices) == sorted(set(subset.indices))
    assert [rows[id] for id in subset.ids] == list(subset.lengths)


@given(rows, st.sampled_from(sorted(ORDERS)))
def test_orders_are_permutations_sorted_by_length(rows, order):
    ids, tokens = list(rows), list(rows.values())
    queue = order_rows(ids, tokens, order)
    assert sorted(queue) == list(range(len(ids)))
    along = [tokens[i] for i in queue]
    if order == "shortest": assert along == sorted(along)
    if order == "longest": assert along == sorted(along, reverse=True)
    if order != "random":
        for a, b in zip(queue, queue[1:]): assert tokens[a] != tokens[b] or ids[a] < ids[b]


def test_script_overshoots_and_algorithm1_does_not_on_the_same_rows():
    ids, tokens = list("abcde"), [7, 5, 4, 3, 2]
    assert select(ids, tokens, "longest", 10).ids == ("a", "d")
    assert select(ids, tokens, "longest", 10, "script").ids == ("a", "b")
    assert select(ids, tokens, "longest", 12, "script").ids == ("a", "b"), "a row that fits exactly is the last"
    for rule in BUDGET_RULES: assert select(ids, tokens, "shortest", 1000, rule).ids == tuple(ids)  # a budget for all


def test_random_subsets_are_nested_and_stable():
    ids, tokens = [f"row{i}" for i in range(200)], list(range(1, 201))
    small, large = (set(random_rows(ids, tokens, k).ids) for k in (20, 80))
    assert small < large and small != set(random_rows(ids, tokens, 20, seed=1).ids)
    fewer = set(random_rows(ids[1:], tokens[1:], 20).ids)
    assert len(fewer - small) <= 1, "without one row the others keep their order"
    assert random_rows(ids[:6], tokens[:6], 3).ids == ("row0", "row1", "row4"), "the same on every machine, for ever"


def test_random_rows_are_a_fair_sample():
    ids, tokens = list(range(1000)), list(range(1, 1001))
    means = [random_rows(ids, tokens, 100, seed).report()["mean"] for seed in range(100)]
    assert np.mean(means) == pytest.approx(500.5, abs=12)  # a standard error is 289 / 100 * sqrt(.9) = 2.7
    chosen = np.bincount([i for s in range(100) for i in random_rows(ids, tokens, 100, s).indices], minlength=1000)
    assert chosen.max() < 25 and (chosen == 0).sum() < 5  # each row is expected in 10 of 100


def test_ids_may_be_numbers_and_columns_arrays():
    subset = select(np.arange(4), np.array([3, 1, 2, 5]), "longest", 6)
    assert isinstance(subset, Subset) and subset.indices == (1, 3)
    assert subset.report() == {"subset": "longest, algorithm1, 6 tokens", "rows": 2, "tokens": 6, "mean": 3.0,
                               "min": 1, "max": 5}


@pytest.mark.parametrize("ids, tokens, said", [
    (["a"], [1, 2], "1 ids but 2"), ([], [], "no rows"), (["a", "a"], [1, 2], "id 'a'"), (["a", 1], [1, 2], "int, str"),
    (["a", "b"], [1, 0], "'b' has 0"), (["a", "b"], [1, None], "'b' has None"), (["a"], [float("nan")], "'a' has nan"),
    (["a"], [2.5], "'a' has 2.5")])
def test_bad_rows_are_named(ids, tokens, said):
    with pytest.raises(ValueError, match=said): select(ids, tokens, "longest", 10)


@pytest.mark.parametrize("change, said", [
    (dict(order="hardest"), "'hardest'.*longest, shortest, random"),
    (dict(rule="greedy"), "'greedy'.*algorithm1, script"), (dict(budget=2), "smallest, 'b', has 3"), (dict(budget=-5), "-5 tokens")])
def test_bad_requests_are_explained(change, said):
    with pytest.raises(ValueError, match=said):
        select(**dict(ids=["a", "b"], tokens=[4, 3], order="longest", budget=10) | change)


@pytest.mark.parametrize("k", [0, -1, 3])
def test_a_number_of_rows_must_exist(k):
    with pytest.raises(ValueError, match="between 1 and 2"): random_rows(["a", "b"], [1, 2], k)


def test_table2_sizes_follow_from_its_budget_except_for_the_shortest():
    "Samples and mean length as printed, rounded, allow for T tokens; 90K of mean 807 do not."
    facts = pd.read_csv(TABLE2, keep_default_na=False).query("benchmark == ''")
    wide = facts.pivot(index="subset", columns="quantity", values="value")
    def range_of(subset):
        rows, mean = wide.loc[subset, ["samples", "mean length"]]
        return (rows - .5) * 1000 * (mean - .5), (rows + .5) * 1000 * (mean + .5)
    for subset in "random 64K", "longest": assert range_of(subset)[0] <= PAPER_BUDGET <= range_of(subset)[1]
    assert range_of("shortest")[1] < PAPER_BUDGET
    assert round(PAPER_BUDGET / 1e6) == wide.tokens["longest"] == wide.tokens["shortest"] == wide.tokens["random 64K"]
    assert round(PAPER_BUDGET / 64_000) == wide["mean length"]["random 64K"]
    assert round(107_173 * wide["mean length"]["full"] / 1e6) == wide.tokens["full"]

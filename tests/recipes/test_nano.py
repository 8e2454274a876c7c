"Recipes hang together: what they ask of a model fits into it, and the Makefile knows their models."
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, strategies as st

from z1.recipes import nano
from z1.nano.programs import ALL_BUCKETS, STYLES, make_problems
from z1.recipes.nano import GPU, NANO, RECIPES, SMOKE, SUBSETS, make_tokenizer, model_policies, recipe_hash, training_rows
from z1.nano.training import TokenBatches

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("recipe", [NANO, GPU], ids=["nano", "gpu"])
def test_what_is_asked_of_a_model_fits_into_it(recipe):
    tokenizer = make_tokenizer(replace(recipe, tokenizer_problems=300))
    problems = list(make_problems("test", 400, recipe.test_seed, recipe.test_shares))
    for name, m in recipe.models.items():
        texts = [(p.prompt, STYLES[m.style](p).response) for p in problems]
        prompt = max(len(tokenizer(q).input_ids) for q, _ in texts) + 20                # the turns around it
        longest = max(len(tokenizer(q + r).input_ids) for q, r in texts) + 20
        assert longest <= recipe.architecture.context, "no trajectory is longer than the context"
        policies = [p for family in model_policies(recipe, name, tokenizer) for p in family]
        assert max(p.max_tokens for p in policies) + prompt <= recipe.architecture.context, "and no answer"
        assert m.windows == tuple(sorted(set(m.windows))) and m.windows[-1] >= 0.9 * max(len(tokenizer(r).input_ids) for _, r in texts)


def test_long_programs_are_the_gpu_recipes_alone():
    assert max(p.difficulty for p in make_problems("train", 300, 0, GPU.train_shares)) > 24
    assert max(p.difficulty for p in make_problems("train", 300, 0, NANO.train_shares)) <= 16
    assert len(GPU.train_shares) == len(GPU.test_shares) == len(ALL_BUCKETS) and sum(GPU.test_shares) == sum(GPU.train_shares) == 100


def test_committed_models_are_what_the_recipe_asks_for():
    for model in NANO.models:
        for seed in NANO.seeds:
            made = json.loads((ROOT/"data"/"models"/"nano"/f"{model}-s{seed}"/"manifest.json").read_text())
            assert made["recipe_hash"] == recipe_hash(NANO, model, seed)


def test_committed_samples_are_of_the_committed_models():
    runs = [json.loads(line) for line in open(ROOT/"data"/"results"/"nano"/"manifests.jsonl", encoding="utf-8")]
    assert {run["model"] for run in runs} == {f"data/models/nano/{model}-s{seed}" for model in NANO.models for seed in NANO.seeds}
    for run in runs:
        weights = (ROOT/run["model"]/"model.safetensors").read_bytes()
        assert run["weights"] == hashlib.sha256(weights).hexdigest()[:12], run["model"]


def test_every_model_has_a_hash_of_its_own():
    for recipe in RECIPES.values():
        hashes = {recipe_hash(recipe, model, seed) for model in recipe.models for seed in recipe.seeds}
        assert len(hashes) == len(recipe.models) * len(recipe.seeds), recipe.name


def test_the_makefile_knows_every_recipe_and_its_models():
    text = (ROOT/"Makefile").read_text()
    assert set(RECIPES) | {"coder", "paper"} == set(re.search(r"filter ([a-z ]+),\$\(RECIPE\)\),,\$\(error unknown", text)[1].split())
    subsets, others = re.findall(r"^MODELS +:= (.+)$", text, re.M)
    assert subsets.split() == list(SUBSETS.models)
    for recipe in (NANO, SMOKE, GPU): assert others.split() == list(recipe.models)


def test_subsets_take_their_share_of_response_tokens(monkeypatch):
    rows = Dataset.from_list([{"id": f"r{i}", "question": "", "response": "", "tokens": 10 + 7 * i % 300, "total_tokens": 400,
                               "difficulty": 0, "style": "z1"} for i in range(500)])
    monkeypatch.setattr(nano, "load_rows", lambda path: rows)
    total, found = sum(rows["tokens"]), {name: training_rows(SUBSETS, name) for name in SUBSETS.models}
    for name, part in found.items():
        share = SUBSETS.models[name].subset[1]
        assert share * total - 310 < sum(part["tokens"]) <= share * total, name
        assert part["id"][:] == found[name.removesuffix("_steps")]["id"][:], "the same rows, however long they are seen"
    assert len(found["longest"]) < len(found["random"]) < len(found["shortest"])


@given(st.lists(st.integers(5, 400), min_size=1, max_size=60), st.integers(1, 200), st.integers(0, 3))
def test_any_number_of_steps_is_as_many_passes_as_it_takes(lengths, steps, seed):
    once, some = list(TokenBatches(lengths, 512, 1, seed)), list(TokenBatches(lengths, 512, 1, seed, steps))
    assert len(some) == steps and some[:len(once)] == once[:steps]
    rows = sum(map(len, some[:len(once)]))
    assert steps < len(once) or sorted(i for batch in some[:len(once)] for i in batch) == list(range(len(lengths))) and rows == len(lengths)

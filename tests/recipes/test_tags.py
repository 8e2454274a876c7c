"The recipe of four arms: what is equal in them, what a window looks for, and the whole path with a tiny model."
import json
from dataclasses import replace

import pytest
from datasets import disable_progress_bars
from hypothesis import given, settings, strategies as st
from transformers import AutoTokenizer
from transformers.utils import logging

from z1.core import Ledger, root
from z1.data.traced_functions import FORMS
from z1.recipes.tags import (ARMS, BASE, END, arm_hash, arm_policies, arm_rows, arm_training, asked_problems, check_delimiter,
                             detectable_difference, get_scale, match_tokens, paired_power, rows_in_step)
from z1.rows import count_tokens

disable_progress_bars(), logging.disable_progress_bar()
DRY = get_scale("dry")


@pytest.fixture(scope="module")
def tokenizer(): return AutoTokenizer.from_pretrained(root()/DRY.training.base)


@pytest.fixture(scope="module")
def rows(tokenizer): return {arm: arm_rows(replace(DRY, steps=12), arm, tokenizer) for arm in ARMS}


def test_arms_have_equal_rows_tokens_and_steps(rows):
    for kind in ("mixed", "long"):
        plain, tagged = rows[f"none_{kind}"], rows[f"tags_{kind}"]
        assert [r["id"] for r in plain] == [r["id"] for r in tagged]
        assert [r["response"] for r in plain] == [r["response"].replace("<think>\n", "").replace("\n</think>", "") for r in tagged]
    total = {arm: sum(r["tokens"] for r in found) for arm, found in rows.items()}
    assert abs(total["none_mixed"] - total["none_long"]) < min(r["tokens"] for r in rows["none_long"])
    for arm, found in rows.items(): assert len(found) == 12 * rows_in_step(DRY, arm)
    assert {r["id"] for r in rows["none_long"]} <= {r["id"] for r in rows["none_mixed"]}
    assert [r["style"] for r in rows["none_mixed"]] == list(FORMS) * (len(rows["none_mixed"]) // 2)
    assert {r["style"] for r in rows["none_long"]} == {"long"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(50, 500), min_size=30, max_size=80), st.integers(0, 10**6))
def test_matched_rows_have_their_tokens(tokens, seed):
    rows = len(tokens) * 2 // 3
    low, high = (sum(sorted(tokens, reverse=r)[:rows]) for r in (False, True))
    budget = low + seed % (high - low + 1)
    try: taken = match_tokens(tokens, rows, budget)
    except ValueError: return                                       # it says so where it finds none
    assert len(set(taken)) == rows and taken == sorted(taken)
    assert abs(sum(tokens[i] for i in taken) - budget) < min(tokens)


def test_the_rows_hash_changes_with_what_rows_depend_on_alone():
    first = arm_hash(DRY, "tags_long")
    for same in (dict(seeds=(7,)), dict(windows=(8,)), dict(asked={"traced": 9})): assert arm_hash(replace(DRY, **same), "tags_long") == first
    others = [arm_hash(replace(DRY, **other), "tags_long") for other in (dict(steps=5), dict(batch=2), dict(data_seed=1))]
    assert len({first, *others, *(arm_hash(DRY, arm) for arm in ARMS)}) == 1 + 3 + len(ARMS) - 1


def test_training_differs_between_arms_in_the_batch_alone():
    configs = [arm_training(DRY, arm, 3) for arm in ARMS]
    assert {c.global_batch for c in configs} == {4, 6} and len({replace(c, global_batch=1, micro_batch=1) for c in configs}) == 1


def test_a_delimiter_is_looked_for_with_its_empty_line(tokenizer):
    policy = arm_policies(DRY, "tags_mixed", tokenizer)[-1]
    assert tokenizer.decode(policy.end_ids) == END and policy.name == "delimited"
    written = tokenizer("<think>\n1: a=2\n</think>\n\nThe final answer is 2.", add_special_tokens=False).input_ids
    answer = policy.split([*written, tokenizer.eos_token_id][:policy.window]).answer
    assert tokenizer.decode(answer).startswith("The final answer")
    with pytest.raises(ValueError, match="response 1: the ids"): check_delimiter(tokenizer, ["a\n</think>\n\nb", "no thought"])
    hints = [tokenizer.decode(arm_policies(DRY, arm, tokenizer)[-1].forced) for arm in ("none_mixed", "tags_mixed", BASE)]
    assert hints[0] == hints[2] and hints[1] == END + hints[0].lstrip("\n")         # both are made to say the same


@settings(max_examples=30, deadline=None)
@given(st.integers(60, 800), st.floats(.15, .6))
def test_what_is_detectable_is_detected_with_that_power(n, discordant):
    try: difference = detectable_difference(n, discordant)
    except ValueError:
        assert paired_power(n, discordant, discordant) < .8
        return
    assert abs(paired_power(n, difference, discordant) - .8) < .02 and detectable_difference(2 * n, discordant) < difference


def test_an_arm_is_trained_merged_and_decoded(tokenizer, rows, tmp_path):
    "The whole path with the tiny model: adapters, a merged model, free trajectories, windows, samples."
    from z1.engines.engine import load_engine
    from z1.finetune import finetune
    from z1.training.adapters import merge_adapter
    from z1.measure.sweep import sweep, to_sample
    from datasets import Dataset
    recipe = replace(DRY, steps=2)
    config = arm_training(recipe, "tags_long", 0, str(root()/recipe.training.base))
    folder = finetune(config, Dataset.from_list(rows["tags_long"][:8]), tmp_path/"tags_long", quiet=True)
    manifest = json.loads((folder/"manifest.json").read_text())
    assert manifest["steps"] == 2 and manifest["too_long"] == 0 and manifest["trained"] < manifest["parameters"] / 2
    assert (folder/"adapter_model.safetensors").exists() and not (folder/"model.safetensors").exists()
    whole = merge_adapter(config, folder, tmp_path/"whole")
    assert (whole/"model.safetensors").exists() and not list(whole.glob("adapter*")) and merge_adapter(config, "gone", whole) == whole
    engine, problems = load_engine("transformers", whole, dtype="float32"), asked_problems(recipe, "traced")
    policies = arm_policies(recipe, "tags_long", engine.tokenizer, engine.eos_ids)
    with Ledger(tmp_path/"outputs.jsonl", key="key") as ledger: outputs = sweep(engine, problems, policies, ledger, progress=False)
    samples = [to_sample(o, engine.tokenizer, model="tags_long", seed=0, run="dry") for o in outputs]
    assert len(samples) == len(problems) * len(policies)
    assert all(s.thinking_tokens <= s.window for s in samples if s.policy == "delimited")
    assert {s.hint_tokens for s in samples if s.cut and s.policy == "delimited"} <= {len(policies[-1].forced)}

"A plan must count what the run will do: steps, tokens and padding exactly, memory by the bytes."
from dataclasses import replace

import numpy as np
import pytest
from datasets import disable_progress_bars
from hypothesis import given, settings, strategies as st
from transformers import AutoModelForCausalLM, Qwen2Config

from z1.training.finetune import FineTuning
from z1.training.planner import Machine, count_work, training_flops, estimated_hours, model_size, memory_by_purpose, pack_lengths, plan

disable_progress_bars()
SHAPE = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
             vocab_size=99)
SMALL = FineTuning(global_batch=4, micro_batch=2, max_length=64)
rows = st.lists(st.integers(1, 80), min_size=12, max_size=90)


def test_the_papers_836_steps_come_from_256_rows_a_step():
    lengths = [1000] * 107_173
    steps = {batch: count_work(FineTuning(global_batch=batch), lengths).steps for batch in (256, 128)}
    assert steps == {256: 836, 128: 1674}


@given(rows, st.integers(1, 3))
def test_unpacked_every_micro_batch_is_padded_to_its_longest(lengths, epochs):
    work = count_work(replace(SMALL, epochs=epochs), [*lengths, 64, 64, 64, 64])
    kept = [n for n in [*lengths, 64, 64, 64, 64] if n <= 64]
    assert work.rows == work.sequences == len(kept) and work.too_long == len(lengths) + 4 - len(kept)
    assert work.steps == epochs * (len(kept) // 4) and work.rows_a_step == 4
    assert work.tokens <= work.padded <= 64 * 4 * work.steps and work.squares <= work.padded_squares
    if len(kept) % 4 == 0: assert work.tokens == epochs * sum(kept)
    same = count_work(replace(SMALL, epochs=epochs), [50] * 12)
    assert same.tokens == same.padded and same.largest == 100


@settings(max_examples=20)
@given(rows)
def test_blocks_hold_every_row_once_and_none_is_over_the_length(lengths):
    kept = [n for n in lengths if n <= 64] + [64]
    blocks = pack_lengths(np.asarray(kept), 64)
    assert sorted(n for b in blocks for n in b) == sorted(kept) and max(map(sum, blocks)) <= 64


def test_packing_makes_steps_larger_and_fewer_and_pads_nothing():
    lengths = [10, 20, 30, 40] * 50
    loose, packed = (count_work(replace(SMALL, packing=p), lengths) for p in ("none", "bfd"))
    assert packed.steps < loose.steps and packed.rows_a_step > 2 * loose.rows_a_step
    assert packed.tokens == packed.padded and loose.tokens < loose.padded


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_model(tied):
    config = Qwen2Config(**SHAPE, tie_word_embeddings=tied)
    size, model = model_size(config), AutoModelForCausalLM.from_config(config)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.multiplying == size.parameters - (0 if tied else 99 * 32)
    assert size.block * 3 + 99 * 32 * (1 if tied else 2) + 32 == size.parameters
    assert training_flops(size, 10, 0) == 60 * size.multiplying and training_flops(size, 0, 7) == 12 * 3 * 32 * 7


def test_sharding_divides_what_is_held_and_offload_moves_it():
    size, work = model_size(Qwen2Config(**SHAPE)), count_work(SMALL, [10] * 8)
    one, two, eight = (memory_by_purpose(SMALL, size, work, Machine(gpus=n)) for n in (1, 2, 8))
    held = ("weights", "gradients", "optimiser")
    assert sum(one[n] for n in held) == 16 * size.parameters and one["gathered"] == 0
    for n in held: assert one[n] == 2 * two[n] == 8 * eight[n]
    away = memory_by_purpose(replace(SMALL, cpu_offload=True), size, work, Machine(gpus=8))
    assert away["cpu"] == 16 * size.parameters and not any(away[n] for n in held)
    copies = memory_by_purpose(replace(SMALL, fsdp=False), size, work, Machine(gpus=8))
    assert copies == one
    kept = memory_by_purpose(replace(SMALL, gradient_checkpointing=False), size, work, Machine(gpus=8))
    assert eight["activations"] < kept["activations"]
    thin = memory_by_purpose(replace(SMALL, lora_rank=4), size, work, Machine(gpus=1), trained=100)
    assert thin["weights"] == 2 * size.parameters + 400 and thin["optimiser"] == 800


def test_hours_follow_the_machine_and_recomputation():
    size, work = model_size(Qwen2Config(**SHAPE)), count_work(SMALL, [10] * 8)
    slow, fast = estimated_hours(SMALL, size, work, Machine(gpus=1)), estimated_hours(SMALL, size, work, Machine(gpus=8))
    assert slow == pytest.approx(8 * fast)
    kept = estimated_hours(replace(SMALL, gradient_checkpointing=False), size, work, Machine(gpus=1))
    assert slow == pytest.approx(4 / 3 * kept)


def test_a_plan_refuses_what_the_run_would_refuse_and_says_what_does_not_fit():
    config = Qwen2Config(**SHAPE)
    with pytest.raises(ValueError, match="do not fill a step"): plan(SMALL, config, [10] * 3, Machine(gpus=1))
    with pytest.raises(ValueError, match="does not divide"): plan(SMALL, config, [10] * 8, Machine(gpus=3))
    assert "DOES NOT FIT" in str(plan(SMALL, config, [10] * 8, Machine(gpus=1, memory=1e-6)))
    assert "DOES NOT FIT" not in str(plan(SMALL, config, [10] * 8, Machine(gpus=1)))

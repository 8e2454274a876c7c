"Training on every token that should count and no other, and a kill -9 that changes not one bit of the model."
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from hypothesis import given, settings, strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from z1.core import Manifest
from z1.nano.tokenizer import train_tokenizer
from z1.rows import count_tokens, filter_rows, length_statistics, load_rows, save_rows
from z1.turns import render
from z1.nano.programs import STYLES, make_problems
from z1.nano.training import Architecture, TokenBatches, Training, is_trained, last_checkpoint, make_nano_trainer, new_model, train

disable_progress_bars(), logging.disable_progress_bar()
ROOT = Path(__file__).resolve().parents[2]
TINY = Architecture(hidden=16, layers=2, heads=2, feed_forward=32)
SHORT = Training(epochs=2, batch_tokens=1024)
SAVE = 7                                       # steps between checkpoints


# -- batches ----------------------------------------------------------------------------------------------------

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=120)


@given(lengths, st.integers(1, 900), st.integers(1, 3), st.integers(0, 99))
def test_a_batch_holds_whole_rows_within_its_tokens_and_each_row_once_an_epoch(lengths, most, epochs, seed):
    batches = list(TokenBatches(lengths, most, epochs, seed))
    assert len(batches) == len(TokenBatches(lengths, most, epochs, seed))
    assert Counter(i for b in batches for i in b) == {i: epochs for i in range(len(lengths))}
    for b in batches: assert b and (max(lengths[i] for i in b) * len(b) <= most or len(b) == 1)
    seen = []
    for b in batches:                                             # an epoch ends before the next begins
        seen += b
        assert max(Counter(seen).values()) - min(Counter({i: 0 for i in range(len(lengths))} | Counter(seen)).values()) <= 1


@given(lengths, st.integers(1, 900), st.integers(0, 99))
def test_the_seed_fixes_the_order(lengths, most, seed):
    one = TokenBatches(lengths, most, 2, seed)
    assert list(one) == list(one) == list(TokenBatches(lengths, most, 2, seed))
    assert list(TokenBatches(lengths, most, 3, seed))[:len(one)] == list(one)


def test_seeds_and_epochs_have_orders_of_their_own():
    rows = [random.Random(0).randint(20, 300) for _ in range(400)]
    first, other, two = (list(TokenBatches(rows, 2048, n, s)) for n, s in ((1, 0), (1, 1), (2, 0)))
    assert first != other and two[:len(first)] == first != two[len(first):]
    assert sum(max(rows[i] for i in b) * len(b) for b in first) < 1.15 * sum(rows)      # little padding


# -- rows and masks ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def trajectories():
    return [STYLES[style](p) for style, seed in (("z1", 5), ("r1", 6)) for p in make_problems("train", 100, seed)]


@pytest.fixture(scope="module")
def tokenizer(trajectories): return train_tokenizer(t.prompt + t.response for t in trajectories)


@pytest.fixture(scope="module")
def rows(trajectories, tokenizer): return Dataset.from_list(filter_rows(trajectories, tokenizer, 1280)[0])


def test_in_200_padded_rows_the_response_and_its_end_are_learned_and_nothing_else(rows, tokenizer, tmp_path):
    trainer = make_nano_trainer(rows, tokenizer, new_model(TINY, tokenizer, 0), Training(batch_tokens=4096), 0, tmp_path, quiet=True)
    data, seen, padded = trainer.train_dataset, 0, 0
    for batch in TokenBatches(rows["total_tokens"], 4096, 1, 0):
        got = trainer.data_collator([data[i] for i in batch])
        for i, ids, mask, labels in zip(batch, got["input_ids"], got["attention_mask"], got["labels"]):
            row, real = rows[i], mask.bool()
            prompt = render(tokenizer, row["question"])
            assert int(real.sum()) == row["total_tokens"] == len(prompt) + row["tokens"], "nothing is cut"
            assert ids[real].tolist()[:len(prompt)] == list(prompt), "the prompt is the one that is decoded from"
            learned = labels != -100
            assert not (learned & ~real).any() and labels[learned].tolist() == ids[learned].tolist()
            assert learned[real].tolist() == [False] * len(prompt) + [True] * row["tokens"]
            assert tokenizer.decode(labels[learned]) == row["response"] + "<|im_end|>"
            seen, padded = seen + 1, padded + int((~real).sum())
    assert seen == 200 and padded > 0


def test_rows_that_are_too_long_are_dropped_and_counted(trajectories, tokenizer, tmp_path):
    total = [n for _, n in count_tokens(tokenizer, trajectories)]
    most = sorted(total)[140]
    kept, dropped = filter_rows([*trajectories, trajectories[0]], tokenizer, most)
    short = [t.problem_id for t, n in zip(trajectories, total) if n <= most]
    assert [r["id"] for r in kept] == short and max(r["total_tokens"] for r in kept) == most
    assert Counter(r["reason"] for r in dropped) == {"too long": 200 - len(short), "duplicate question": 1}
    responses = {t.problem_id: t.response for t in trajectories}
    assert all(r["response"] == responses[r["id"]] for r in kept + dropped), "never cut"
    save_rows(kept, dropped, tmp_path/"z1.parquet")
    assert load_rows(tmp_path/"z1.parquet").to_list() == kept
    assert [json.loads(line) for line in open(tmp_path/"z1.dropped.jsonl")] == dropped
    assert length_statistics(r["tokens"] for r in kept)["rows"] == len(short)


@pytest.fixture(scope="module")
def reloaded(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_a_reloaded_tokenizer_is_the_same(trajectories, tokenizer, reloaded):
    texts = [t.prompt + t.response for t in trajectories] + ["<|im_start|>user\nx<|im_end|>", "<think>\n1: a</think>", "ü €\n\n  🙂"]
    assert reloaded(texts).input_ids == tokenizer(texts).input_ids and len(reloaded) == len(tokenizer)
    for text, ids in zip(texts, reloaded(texts).input_ids): assert reloaded.decode(ids) == text
    for name in ("eos_token_id", "pad_token_id", "chat_template", "model_max_length"):
        assert getattr(reloaded, name) == getattr(tokenizer, name)
    assert reloaded.eos_token == "<|im_end|>" and reloaded.convert_tokens_to_ids("</think>") == tokenizer("</think>").input_ids[0]
    assert all(render(reloaded, t.prompt) == render(tokenizer, t.prompt) for t in trajectories[:20])


@given(st.text(max_size=30))
@settings(max_examples=50)
def test_any_text_survives_the_tokenizer(tokenizer, reloaded, text):
    ids = tokenizer(text).input_ids
    assert reloaded(text).input_ids == ids and tokenizer.decode(ids) == reloaded.decode(ids)


@given(st.text(alphabet="abc0123456789()%+-*=:# \nprint", max_size=40))
def test_programs_and_traces_are_read_back_as_they_were(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


# -- kill -9 ----------------------------------------------------------------------------------------------------

TRAINER = """
import sys
from pathlib import Path
import torch
from transformers import AutoTokenizer
from z1.core import Manifest
from z1.rows import load_rows
from z1.nano.training import Architecture, Training, train
torch.set_num_threads(1)
folder = Path(sys.argv[1])
print("ready", flush=True)
train(load_rows(folder/"rows.parquet"), AutoTokenizer.from_pretrained(folder/"tokenizer"),
      {TINY}, {SHORT}, Manifest(name="m", style="z1", seed=3, recipe_hash="h"), folder/"model", folder/"work", {SAVE}, quiet=True)
""".format(TINY=TINY, SHORT=SHORT, SAVE=SAVE)


def manifest(): return Manifest(name="m", style="z1", seed=3, recipe_hash="h")


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(rows, tokenizer, one_thread, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return train(rows, tokenizer, TINY, SHORT, manifest(), folder/"model", folder/"work", SAVE, quiet=True)


def test_a_finished_model_is_complete_and_is_not_trained_again(uninterrupted, rows, tokenizer):
    assert is_trained(uninterrupted, "h") and not is_trained(uninterrupted, "another")
    assert not (uninterrupted.parent/"work").exists() and not list(uninterrupted.glob("staging*"))
    facts = json.loads((uninterrupted/"manifest.json").read_text())
    steps = len(TokenBatches(rows["total_tokens"], SHORT.batch_tokens, SHORT.epochs, 3))
    assert facts["steps"] == steps and facts["rows"] == 200 and facts["tokens"] == 2 * sum(rows["total_tokens"])
    assert [json.loads(l)["step"] for l in open(uninterrupted/"log.json")] == list(range(25, steps + 1, 25))
    assert AutoModelForCausalLM.from_pretrained(uninterrupted).dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(uninterrupted)(rows[0]["response"]).input_ids == tokenizer(rows[0]["response"]).input_ids
    before = {f.name: f.stat().st_mtime_ns for f in uninterrupted.iterdir()}
    train(rows, tokenizer, TINY, SHORT, manifest(), uninterrupted, uninterrupted.parent/"none", quiet=True)
    assert before == {f.name: f.stat().st_mtime_ns for f in uninterrupted.iterdir()}


def tear(work, step):
    "Checkpoints that a kill left half written, each newer than the whole one at `step`."
    whole = work/f"checkpoint-{step}"
    for later, state in enumerate((None, "", '{"global_step": 9', "keep only the state"), 1):
        torn = shutil.copytree(whole, work/f"checkpoint-{step + 1000 * later}")
        weights = (torn/"model.safetensors").read_bytes()
        (torn/"model.safetensors").write_bytes(weights[:len(weights) // later - 1])
        if later > 1: (torn/"optimizer.pt").unlink()
        if state is None or later == 4: (torn/"trainer_state.json").unlink()
        else: (torn/"trainer_state.json").write_text(state)


def test_killed_at_a_random_step_and_resumed_the_model_is_the_same_to_the_bit(uninterrupted, rows, tokenizer, tmp_path):
    save_rows(list(rows), [], tmp_path/"rows.parquet")
    tokenizer.save_pretrained(tmp_path/"tokenizer")
    moment, work = random.Random(11), tmp_path/"work"
    errors = tmp_path/"errors.txt"
    process = subprocess.Popen([sys.executable, "-c", TRAINER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               stderr=errors.open("w"))
    assert any(line == "ready\n" for line in process.stdout), errors.read_text()
    saves, deadline = moment.randint(1, 3), time.time() + 120
    while not (work/f"checkpoint-{saves * SAVE}").exists() and time.time() < deadline: time.sleep(0.005)
    time.sleep(moment.uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (tmp_path/"model").exists(), errors.read_text()
    if (whole := last_checkpoint(work)) is None:                  # killed inside its first save: nothing to resume
        assert saves == 1
    else:
        step = int(whole.name.split("-")[1])
        assert step % SAVE == 0 and json.loads((whole/"trainer_state.json").read_text())["global_step"] == step
        tear(work, step)
        assert last_checkpoint(work) == whole, "a torn checkpoint is not used"
    resumed = train(rows, tokenizer, TINY, SHORT, manifest(), tmp_path/"model", work, SAVE, quiet=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md"):
        assert (resumed/name).read_bytes() == (uninterrupted/name).read_bytes(), name
    steps = [[json.loads(l)["step"] for l in open(f/"log.json")] for f in (resumed, uninterrupted)]
    assert steps[0] == steps[1] and not work.exists()


def test_the_state_that_makes_a_checkpoint_whole_is_written_last(rows, tokenizer, tmp_path, monkeypatch):
    from transformers import TrainerState
    written, save = [], TrainerState.save_to_json

    def spy(self, path):
        written.append({f.name for f in Path(path).parent.iterdir() if f.stat().st_size})
        save(self, path)
    monkeypatch.setattr(TrainerState, "save_to_json", spy)
    some = rows.select(range(30))
    train(some, tokenizer, TINY, Training(batch_tokens=2048), manifest(), tmp_path/"model", tmp_path/"work", 2, quiet=True)
    assert written
    for names in written: assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= names


def test_a_kill_while_the_model_is_published_is_mended(uninterrupted, rows, tokenizer, one_thread, tmp_path, monkeypatch):
    folder, replace = tmp_path/"model", os.replace

    def killed(source, target):
        if Path(target) == folder/last: raise KeyboardInterrupt    # stands for the kill: nothing after it happens
        replace(source, target)
    monkeypatch.setattr(os, "replace", killed)
    for last in ("README.md", "manifest.json", "config.json", "model.safetensors"):
        with pytest.raises(KeyboardInterrupt):
            train(rows, tokenizer, TINY, SHORT, manifest(), folder, tmp_path/"work", 100, quiet=True)
        assert not is_trained(folder, "h")
    monkeypatch.undo()
    train(rows, tokenizer, TINY, SHORT, manifest(), folder, tmp_path/"work", 100, quiet=True)
    assert is_trained(folder, "h") and not (tmp_path/"work").exists()
    assert (folder/"model.safetensors").read_bytes() == (uninterrupted/"model.safetensors").read_bytes()
    assert {f.name for f in folder.iterdir()} == {f.name for f in uninterrupted.iterdir()}
    steps = len(TokenBatches(rows["total_tokens"], SHORT.batch_tokens, SHORT.epochs, 3))
    assert json.loads((folder/"manifest.json").read_text())["steps"] == steps

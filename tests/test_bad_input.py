"What a person may get wrong, or a crash leave behind: each is refused in words that name it and say what to do."
import json
import math
import shutil

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from z1.core import Ledger, Problem
from z1.nano.tokenizer import train_tokenizer
from z1.rows import filter_rows, load_rows
from z1.engines.engine import TransformersEngine
from z1.engines.request import Request
from z1.turns import render
from z1.measure.sweep import sweep
from z1.policies import make_policies
from z1.data.generation import teach_by_function
from z1.nano.programs import ANSWER_LEAD, STYLES, make_problems
from z1.recipes.nano import RECIPES, get_recipe
from z1.nano.training import Architecture, is_trained, last_checkpoint, new_model
from z1.window import HINT, HardCut

PROBLEMS = list(make_problems("train", 20, seed=3))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([t for p in PROBLEMS for s in STYLES.values() for t in (p.prompt, s(p).response)] + [HINT] * 5)


@pytest.fixture(scope="module")
def engine(tokenizer):
    return TransformersEngine(new_model(Architecture(hidden=16, layers=1, heads=2, feed_forward=32, context=200), tokenizer, 0).eval(), tokenizer)


# -- recipes and models -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["nanoo", "", "NANO", "../nano", None])
def test_an_unknown_recipe(name):
    with pytest.raises(ValueError, match=f"unknown recipe {name!r}: use one of nano, smoke"): get_recipe(name)


def test_the_recipes_are_called_what_they_are():
    for name, recipe in RECIPES.items(): assert get_recipe(name) is recipe and recipe.name == name


@pytest.mark.parametrize("path", ["data/models/nano/none", "/none/such", "none", "./none/such", ""])
def test_a_model_path_that_does_not_exist(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no model at .*train it first, or mend the path"): TransformersEngine.from_pretrained(path)


@pytest.fixture(scope="module")
def published(engine, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    engine.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert TransformersEngine.from_pretrained(folder, device="cpu").context == 200
    return folder


@pytest.mark.parametrize("left", [None, 0, 50], ids=["missing", "empty", "torn"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_folder_with_a_damaged_part(published, tmp_path, name, left):
    folder = shutil.copytree(published, tmp_path/"damaged")
    if left is None: (folder/name).unlink()
    else: (folder/name).write_bytes((folder/name).read_bytes()[:left])
    with pytest.raises(ValueError, match="(no model at|cannot load the model) .*damaged"):
        TransformersEngine.from_pretrained(folder, device="cpu")


# -- windows and prompts ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("window", [0, -1, -(10**9), True, False, 1.0, math.inf, "8", None])
@pytest.mark.parametrize("name", ["shifted", "lead_in", "hard_cut", "delimited"])
def test_a_window_that_is_no_positive_number_of_tokens(tokenizer, name, window):
    with pytest.raises(ValueError, match=r"\.window must be a whole number of tokens, 1 or more, but is "):
        make_policies(name, [8, window], tokenizer, ANSWER_LEAD)


@pytest.mark.parametrize("tokens", [0, -1, True])
def test_no_room_for_an_answer(tokenizer, tokens):
    with pytest.raises(ValueError, match=r"answer_tokens must be a whole number of tokens, 1 or more"):
        make_policies("shifted", [8], tokenizer, ANSWER_LEAD, answer_tokens=tokens)


def test_a_policy_nobody_knows_and_a_hint_that_is_missing_or_ends_the_turn(tokenizer):
    with pytest.raises(ValueError, match="unknown policy 'magic': use one of shifted, lead_in, hard_cut, unlimited, delimited, budget_forcing"):
        make_policies("magic", [8], tokenizer)
    with pytest.raises(ValueError, match="hint_ids is empty: HardCut needs no hint"): make_policies("shifted", [8], tokenizer)
    with pytest.raises(ValueError, match="hint_ids contains .* which ends the turn: leave it out"):
        make_policies("shifted", [8], tokenizer, "stop<|im_end|>")


def test_a_prompt_that_exceeds_the_context(engine, tokenizer, tmp_path):
    long = Problem("long-1", "b", "What does this program print?\n" + "1: a=1;b=2;c=3\n" * 60, "1", 0)
    n = len(render(tokenizer, long.prompt))
    assert n > engine.context
    with Ledger(tmp_path/"l", key="request") as ledger:
        with pytest.raises(ValueError, match=f"long-1: a prompt of {n} and 8 new tokens make {n + 8}, but the context is 200: shorten either"):
            sweep(engine, [PROBLEMS[0], long], make_policies("hard_cut", [8], tokenizer), ledger, progress=False)
    assert not (tmp_path/"l").read_text(), "it is refused before anything is decoded"
    short = render(tokenizer, PROBLEMS[0].prompt)
    with pytest.raises(ValueError, match="request 1: .* but the context is 200"):
        engine.generate([Request(short, HardCut(4, (2,))), Request(short, HardCut(200, (2,)))])


def test_a_tokenizer_without_a_chat_template(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    bare = type(tokenizer).from_pretrained(tmp_path)
    bare.chat_template = None
    with pytest.raises(ValueError, match="no chat template: set tokenizer.chat_template"): render(bare, "1+1?")


# -- nothing to work on -----------------------------------------------------------------------------------------

COLUMNS = {"id": ["1"], "question": ["q"], "response": ["r"], "tokens": [3], "total_tokens": [9], "difficulty": [0], "style": ["z1"]}


def test_no_problems_to_generate_from_or_to_evaluate(engine, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="no problems to generate from; ask the recipe for at least one"):
        teach_by_function([], STYLES["z1"], tmp_path/"l", "r")
    assert not (tmp_path/"l").exists()
    with Ledger(tmp_path/"s", key="request") as ledger, pytest.raises(ValueError, match="no problems to evaluate: the benchmark is empty"):
        sweep(engine, [], make_policies("hard_cut", [8], tokenizer), ledger)


def test_no_row_is_left_to_train_on(tokenizer):
    with pytest.raises(ValueError, match="no row left of 0"): filter_rows([], tokenizer, 100)
    with pytest.raises(ValueError, match=r"no row left of 20: \{'too long': 20\}; give more problems, or raise max_tokens above 5"):
        filter_rows([STYLES["z1"](p) for p in PROBLEMS], tokenizer, 5)


def test_a_training_set_that_is_missing_empty_torn_or_another_table(tmp_path):
    path = tmp_path/"z1.parquet"
    with pytest.raises(ValueError, match=r"z1\.parquet: no such training set; run the exp_generate notebook first"): load_rows(path)
    whole = pa.table(COLUMNS)
    parquet.write_table(whole, path)
    assert len(load_rows(path)) == 1
    data = path.read_bytes()
    for torn in (b"", data[:4], data[:len(data) // 2], data[:-1], b"id,question\n", b"\0" * 200):
        path.write_bytes(torn)
        with pytest.raises(ValueError, match=r"z1\.parquet: not a readable Parquet file; delete it and run exp_generate"): load_rows(path)
    parquet.write_table(whole[:0], path)
    with pytest.raises(ValueError, match=r"z1\.parquet: holds no rows; delete it"): load_rows(path)
    for name in COLUMNS:
        parquet.write_table(whole.drop([name]), path)
        with pytest.raises(ValueError, match=rf"z1\.parquet: lacks column\(s\) \['{name}'\]"): load_rows(path)


# -- what a crash leaves behind ---------------------------------------------------------------------------------

GOOD = json.dumps({"recipe_hash": "h", "name": "m"})


@pytest.mark.parametrize("content", [
    b"", b"{", GOOD[:-1].encode(), GOOD.encode()[:12], b"\0" * 40, b"\xff\xfe\xfa", b"[]", b"null", b"3", b'"h"', b"{}",
    b'{"recipe_hash": null}', b'{"recipe_hash": "g"}', b'{"name": "h"}'])
def test_a_manifest_that_is_corrupt_or_anothers_is_no_finished_model(tmp_path, content):
    (tmp_path/"model.safetensors").write_bytes(b"weights")
    (tmp_path/"manifest.json").write_text(GOOD)
    assert is_trained(tmp_path, "h")
    (tmp_path/"manifest.json").write_bytes(content)
    assert is_trained(tmp_path, "h") is False


def test_a_folder_without_weights_or_manifest_is_no_finished_model(tmp_path):
    assert not is_trained(tmp_path/"none", "h") and not is_trained(tmp_path, "h")
    (tmp_path/"manifest.json").write_text(GOOD)
    assert not is_trained(tmp_path, "h")


def test_without_a_whole_checkpoint_training_begins_anew(tmp_path):
    assert last_checkpoint(tmp_path) is None and last_checkpoint(tmp_path/"none") is None
    for step, state in ((10, None), (20, ""), (30, '{"global'), (5, "{}")):
        (tmp_path/f"checkpoint-{step}").mkdir()
        if state is not None: (tmp_path/f"checkpoint-{step}"/"trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path).name == "checkpoint-5"


@pytest.mark.parametrize("name", ["generation", "sweep"])
def test_a_corrupt_ledger_is_named_with_its_line(engine, tokenizer, tmp_path, name):
    path = tmp_path/f"{name}.jsonl"

    def work():
        if name == "generation": return teach_by_function(PROBLEMS[:4], STYLES["z1"], path, "r", progress=False)
        with Ledger(path, key="request", run="r") as ledger:
            return sweep(engine, PROBLEMS[:4], make_policies("hard_cut", [4], tokenizer), ledger, progress=False)
    expected, lines = work(), path.read_text().splitlines(keepends=True)
    for bad in ("not json\n", '{"no": "key"}\n', lines[1].replace('"run": "r"', '"run": "old"')):
        path.write_text(lines[0] + bad + "".join(lines[2:]))
        with pytest.raises(ValueError, match=rf"{name}\.jsonl, line 2: .*delete the file to start again"): work()
    path.write_text("".join(lines[:2]) + lines[2][:9])
    assert work() == expected and path.read_text() == "".join(lines)

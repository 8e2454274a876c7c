"The cards say what was measured, in the hub's schema, and are those that lie there."
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from z1.recipes.cards import SAMPLES, all_cards, model_card

DATA = Path(__file__).resolve().parents[2]/"data"
CARDS = all_cards(DATA)
OF_MODELS = [path for path in CARDS if "models" in path.parts]
OF_ARMS = [path for path in OF_MODELS if path.parts[-3] == "tags_cpu"]
OF_NANO = [path for path in OF_MODELS if path not in OF_ARMS]


def name(path): return path.parent.name


@pytest.mark.parametrize("path", CARDS, ids=name)
def test_the_card_that_lies_there_is_the_one_that_is_rendered(path):
    assert path.read_text(encoding="utf-8") == CARDS[path], "python -m z1.recipes.cards writes them again"


def test_every_committed_model_has_one():
    assert {p.parent for p in OF_NANO} == {p.parent for p in (DATA/"models"/"nano").glob("*/model.safetensors")}
    assert {p.parent for p in OF_ARMS} == {p.parent for p in (DATA/"models"/"tags_cpu").glob("*/adapter_model.safetensors")}


@pytest.mark.parametrize("path", OF_MODELS, ids=name)
def test_the_hub_s_reader_gives_every_number_back(path):
    data = ModelCard(CARDS[path], ignore_metadata_errors=False).data
    index = eval_results_to_model_index(data.model_name, data.eval_results)
    back, results = model_index_to_eval_results(index)
    assert data.model_name == back == name(path) and len(results) == len(data.eval_results) and all(e in results for e in data.eval_results)
    assert yaml.safe_load(CARDS[path].split("---\n")[1])["model-index"] == index


@pytest.mark.parametrize("path", OF_ARMS, ids=name)
def test_an_adapter_s_numbers_are_those_of_its_samples(path):
    arm, _, seed = name(path).rpartition("-s")
    table = pd.read_parquet(DATA/"results"/"tags_cpu"/"samples.parquet").query(f"model == {arm!r} and seed == {seed}")
    right = table.groupby(["benchmark", "policy", "window"]).correct.mean()
    given = {(e.dataset_name, *e.metric_args.values()): e.metric_value for e in ModelCard(CARDS[path]).data.eval_results if e.metric_type == "accuracy"}
    assert given == right.round(4).to_dict() and len(given)


@pytest.mark.parametrize("path", OF_NANO, ids=name)
def test_a_model_s_numbers_are_those_of_its_samples(path):
    data = ModelCard(CARDS[path]).data
    model, _, seed = name(path).rpartition("-s")
    policy = {"z1": "shifted"}.get(model, "delimited")
    table = pd.read_parquet(DATA/"results"/"nano"/"samples.parquet").query(
        f"model == {model!r} and seed == {seed} and policy == {policy!r} and benchmark == 'nano-test'")
    right = table.groupby("window").correct.mean()
    given = {e.metric_args["window"]: e.metric_value for e in data.eval_results if e.metric_type == "accuracy"}
    assert given == right.round(4).to_dict()


@pytest.mark.parametrize("path", CARDS, ids=name)
def test_the_front_matter_has_what_the_hub_sorts_by(path):
    data = (ModelCard if path in OF_MODELS else DatasetCard)(CARDS[path], ignore_metadata_errors=False).data.to_dict()
    common = {"language": "en", "license": "apache-2.0"}
    library = "peft" if path in OF_ARMS else "transformers"
    wanted = {"pipeline_tag": "text-generation", "library_name": library} if path in OF_MODELS else {"task_categories": ["text-generation"]}
    assert (common | wanted).items() <= data.items() and {"z1", "test-time-scaling"} <= set(data["tags"])


def test_the_tables_of_the_samples_card_exist_and_have_as_many_rows():
    [card] = [text for path, text in CARDS.items() if path not in OF_MODELS]
    files = {f["path"] for c in DatasetCard(card).data.configs for f in c["data_files"]}
    assert {f"{recipe}/samples.parquet" for recipe in SAMPLES} <= files
    for file, rows in re.findall(r"`(\S+\.parquet)` \| ([\d,]+) \|", card):
        assert len(pd.read_parquet(DATA/"results"/file)) == int(rows.replace(",", "")) and file in files


def test_a_card_holds_no_number_of_another_model():
    samples = pd.read_parquet(DATA/"results"/"nano"/"samples.parquet")
    folder = DATA/"models"/"nano"/"z1-s0"
    assert model_card(folder, samples) == model_card(folder, samples.query("model == 'z1' and seed == 0"))
    with pytest.raises(ValueError, match="no samples of z1, seed 0"): model_card(folder, samples.query("model != 'z1'"))


def test_what_a_card_says_to_do_works(monkeypatch, capsys):
    monkeypatch.chdir(DATA.parent)
    [code] = re.findall(r"```python\n(.*?)```", CARDS[DATA/"models"/"nano"/"z1-s0"/"README.md"], re.S)
    exec(code, {})
    assert "The final answer is" in capsys.readouterr().out

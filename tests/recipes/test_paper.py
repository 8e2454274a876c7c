"The paper's recipe from its first notebook to its last, a tiny model standing in: `make figures RECIPE=paper DRY_RUN=1`."
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from running import experiment, notebooks, papermill, shell
from transformers import AutoModelForCausalLM

from z1.data.curation import load_set
from z1.measure.sweep import read_samples
from z1.recipes.paper import DRY_RUN, PAPER, PAPER_RECIPES, all_steps

ROOT = Path(__file__).resolve().parents[2]
RESULTS, MODEL = ROOT/"data"/"results"/DRY_RUN.name, ROOT/DRY_RUN.contenders["z1"].model


def make(*args):
    "What make said, and its exit code; it is started as if from a shell and not from within another make."
    done = subprocess.run(["make", *args], cwd=ROOT, env=shell(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200)
    return done.stdout, done.returncode


@pytest.fixture(scope="module")
def whole():
    "A run from nothing."
    pytest.importorskip("vllm")
    for folder in (RESULTS, ROOT/"data"/"datasets"/DRY_RUN.name): shutil.rmtree(folder, ignore_errors=True)
    said, code = make("figures", "RECIPE=paper", "DRY_RUN=1", "FRESH=1", "JOBS=2")
    assert code == 0, said
    return said


def test_every_step_runs_once(whole):
    assert sorted(notebooks(whole)) == sorted(all_steps(DRY_RUN)), "the Makefile and the recipe name the same steps"
    again, code = make("figures", "RECIPE=paper", "DRY_RUN=1")
    assert code == 0 and not notebooks(again), "a second run finds everything done"


def test_a_teacher_on_vllm_wrote_what_the_student_learned(whole):
    taught = pd.read_parquet(ROOT/"data"/"datasets"/DRY_RUN.name/"taught"/"trajectories.parquet")
    assert len(taught) == 64 and (taught.status == "ended").sum() > 50
    manifest = json.loads((ROOT/"data"/"datasets"/DRY_RUN.name/"taught"/"trajectories.manifest.json").read_text())
    assert manifest["lesson"]["teacher"]["engine"] == manifest["engine"]["engine"] == "vllm"
    kept = load_set(ROOT/"data"/"datasets"/DRY_RUN.name/"set")
    assert set(kept["id"]) <= set(taught.id) and json.loads((MODEL/"manifest.json").read_text())["rows"] == len(kept)


def test_two_processes_shared_the_model(whole):
    made = json.loads((MODEL/"manifest.json").read_text())
    assert made["processes"] == 2 and "FSDP2" in made["sharding"]
    assert made["held"] <= made["parameters"] / 2 * 1.02, "each process held half of the parameters"
    assert AutoModelForCausalLM.from_pretrained(MODEL).num_parameters() == made["parameters"], "and all of them were published"


def test_the_curve_has_every_model_benchmark_and_window(whole):
    table = read_samples(RESULTS)
    for name, c in DRY_RUN.contenders.items():
        for benchmark in DRY_RUN.benchmarks:
            rows = table[(table.model == name) & (table.benchmark == benchmark)]
            assert set(rows.window) == set(c.windows) and len(rows) == len(c.windows) * DRY_RUN.rows and set(rows.policy) == {c.policy}
    runs = [json.loads(line) for line in (RESULTS/"manifests.jsonl").read_text().splitlines()]
    assert {r["engine"] for r in runs} == {"vllm"} and {r["run"] for r in runs} == set(table.run)
    for name in ("fig_benchmarks.svg", "fig_benchmarks.png", "tab_benchmarks.md", "tab_benchmarks.csv"):
        assert (RESULTS/"figures"/name).stat().st_size
    assert "DRY RUN" in (RESULTS/"figures"/"tab_benchmarks.md").read_text()


def test_two_runs_of_one_setting_are_not_averaged(whole, tmp_path):
    "A folder with an older run beside a newer one: collecting names both."
    first, *_ = (RESULTS/"benchmarks"/"math500").glob("z1-*/")
    for source, name in ((first, "z1-old"), (first, "z1-new")): shutil.copytree(source, tmp_path/"math500"/name)
    table = pd.read_parquet(tmp_path/"math500"/"z1-old"/"samples.parquet").assign(run="older")
    table.to_parquet(tmp_path/"math500"/"z1-old"/"samples.parquet")
    error, _ = papermill("exp_collect", tmp_path/"out.ipynb", runs=str(tmp_path), out=str(tmp_path/"all"))
    assert "delete the folder of all but one run" in error
    assert not (tmp_path/"all").exists()


def test_days_of_work_are_not_deleted():
    for target in ("fresh", "clean"):
        said, code = make(target, "RECIPE=paper")
        assert code and "may hold days of work" in said and "rm -rf" not in said
    if not shutil.which("nvidia-smi"):
        said, code = make("figures", "RECIPE=paper")
        assert code and "needs GPUs; DRY_RUN=1 walks it" in said
    said, code = make("help", "RECIPE=nano", "DRY_RUN=1")
    assert code and "only the recipe paper has a dry run" in said


@pytest.mark.parametrize("recipe", PAPER_RECIPES.values(), ids=list(PAPER_RECIPES))
def test_notebooks_know_the_parameters(recipe):
    "papermill warns of an unknown parameter and goes on; here it is an error."
    for step, parameters in all_steps(recipe).items():
        notebook = json.loads(experiment(step.split('-')[0]).read_text())
        [cell] = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", ())]
        known = re.findall(r"^(\w+) = ", "".join(cell["source"]), re.M)
        assert set(parameters) <= set(known), step
        assert yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(parameters)))) == json.loads(json.dumps(parameters))


def test_the_paper_is_followed():
    training = PAPER.training
    assert (training.learning_rate, training.warmup_steps, training.epochs, training.global_batch) == (1e-5, 100, 2, 256)
    assert PAPER.lesson.max_tokens == 8192 and PAPER.contenders["z1"].windows[-1] == 4096 and PAPER.after == 5000 - 4096

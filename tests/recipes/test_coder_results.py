"The committed results of the recipe coder: every row has its manifest, every caption its n."
import json
import re
from pathlib import Path

import pytest

from z1.measure.sweep import read_samples
from z1.recipes.coder import QUESTIONS, ways
from z1.recipes.coder_results import read_manifests, read_outputs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT/"data"/"results"/"coder"
needs_samples = pytest.mark.skipif(not (FOLDER/"samples.parquet").exists(), reason="nothing is graded yet")


@needs_samples
def test_every_row_has_a_manifest_that_names_its_weights():
    manifests = {m["run"]: m for m in read_manifests(FOLDER)}
    samples = read_samples(FOLDER)
    assert set(samples.run) == set(manifests)
    for m in manifests.values():
        assert m["weights"] == "dequantised Q4_K_M" and m["dtype"] == "bfloat16" and m["model"].startswith("Qwen/Qwen2.5-Coder-")


@needs_samples
def test_every_problem_of_a_benchmark_has_every_policy_and_window():
    samples = read_samples(FOLDER)
    assert set(samples.benchmark) <= set(QUESTIONS) and set(samples.model) <= {"coder-0.5b", "coder-1.5b"}
    for benchmark, rows in samples.groupby("benchmark"):
        cells = rows.groupby(["policy", "window"]).problem_id.nunique()
        assert cells.nunique() == 1 and len(rows) == cells.sum(), benchmark
        asked = {name: set(windows) or {0} for name, _, windows in ways(QUESTIONS[benchmark])}
        for policy, found in rows.groupby("policy").window.unique().items(): assert set(found) == asked[policy], policy


@pytest.mark.parametrize("path", sorted((ROOT/"figures").glob("*_coder_*.svg")) + sorted((ROOT/"figures").glob("fig_examples_*.svg"))
                         + sorted((ROOT/"figures").glob("tab_coder_*.md")), ids=lambda p: p.name)
def test_captions_give_n(path):
    assert re.search(r"n = \d+", path.read_text(encoding="utf-8")), path.name


def test_outputs_of_two_runs_are_refused(tmp_path):
    (tmp_path/"outputs.jsonl").write_text("".join(json.dumps({"key": k, "ids": [1], "run": k}) + "\n" for k in "ab"))
    with pytest.raises(ValueError, match="outputs of 2 runs"): read_outputs(tmp_path)


def test_a_torn_line_is_left_out(tmp_path):
    (tmp_path/"outputs.jsonl").write_text('{"key": "a", "ids": [1], "run": "r"}\n{"key": "b", "id')
    assert read_outputs(tmp_path) == ("r", {"a": (1,)})

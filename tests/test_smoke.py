"The whole job from nothing, as a newcomer runs it: `make figures RECIPE=smoke`. It writes under data/*/smoke only."
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from running import notebooks, shell

from z1.measure.sweep import SAMPLE_COLUMNS, read_samples
from z1.recipes.nano import SMOKE, word_problems
from z1.recipes.nano import test_problems as held_out

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT/"data"/"results"/"smoke"
OURS = [ROOT/"data"/kind/"smoke" for kind in ("datasets", "models", "results", "runs")]
LIMIT = 900  # seconds; alone it takes two or three minutes


def start(*args):
    "make in a process group of its own, as if started from a shell and not from within another make."
    return subprocess.Popen(["make", "figures", "RECIPE=smoke", "JOBS=2", *args], cwd=ROOT, env=shell(), start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def make(*args):
    "Run it to its end; what it said, and the seconds it took."
    process, begun = start(*args), time.time()
    try: said = process.communicate(timeout=LIMIT)[0]
    finally: kill(process)
    assert process.returncode == 0, said
    return said, time.time() - begun


def kill(process):
    "kill -9 the whole group; then wait for what has a group of its own, the kernels, to notice (they ask every second)."
    try: family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess: family = []
    try: os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError: pass
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    for p in alive: p.kill()
    return [p for p in alive]


def artefacts():
    "Bytes of every figure and table. The seconds that a training took are measured anew by each, so they are left out."
    found = {p.name: p.read_bytes() for p in sorted((RESULTS/"figures").iterdir())}
    timed = pd.read_csv(RESULTS/"figures"/"tab_nano_equal.csv").drop(columns=["z1 seconds", "r1 seconds"])
    assert found.pop("tab_nano_equal.md")
    return found | {"tab_nano_equal.csv": timed.to_csv().encode()}


def untouched():
    "Size and time of everything that belongs to other recipes, but for the dry run that another test makes meanwhile."
    def below(place):
        for folder, inner, names in os.walk(place):
            inner[:] = set(inner) - {"smoke", "paper_dry_run"}                     # never entered: one may vanish meanwhile
            yield from (Path(folder)/name for name in names)

    files = [p for place in (ROOT/"figures", ROOT/"data"/"models", ROOT/"data"/"paper") for p in below(place)]
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


@pytest.fixture(scope="module")
def whole():
    "An uninterrupted run from nothing."
    for folder in OURS: shutil.rmtree(folder, ignore_errors=True)
    others = untouched()
    said, seconds = make("FRESH=1")
    return {"said": said, "seconds": seconds, "samples": read_samples(RESULTS), "artefacts": artefacts(), "others": others,
            "raw": pd.read_parquet(RESULTS/"samples.parquet"), "weights": weights(),
            "manifests": [json.loads(line) for line in open(RESULTS/"manifests.jsonl")]}


def weights(): return {p.parent.name: p.read_bytes() for p in sorted((ROOT/"data"/"models"/"smoke").glob("*/model.safetensors"))}


def test_what_it_writes_is_ignored_by_git():
    if not (ROOT/".git").exists(): pytest.skip("not a git checkout")
    paths = [f"data/{kind}/smoke/x" for kind in ("datasets", "models", "results", "runs")] + ["data/results/smoke/figures/x.svg"]
    done = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True)
    assert set(done.stdout.split()) == set(paths), "add data/models/smoke/ and data/results/smoke/ to .gitignore"


BY_HAND = {"exp_speed", "exp_grading_speed", "exp_curation_speed", "exp_packing_speed", "exp_benchmark", "exp_compare", "exp_teach",
           "exp_curate", "exp_finetune", "exp_filters", "fig_benchmarks", "exp_decoding_speed", "exp_coder_decode",
           "exp_coder_collect", "exp_coder_confidence", "exp_coder_closings", "exp_coder_counting", "exp_tags_data", "exp_tags_train",
           "exp_tags_decode", "exp_tags_collect", "exp_window_page"}


def test_from_nothing_to_figures(whole):
    ran = notebooks(whole["said"])
    experiments = {p.stem for p in (ROOT/"nbs"/"experiments").glob("*/*.ipynb")} - BY_HAND
    assert len(ran) == len(set(ran)) and {re.sub(r"-.*", "", name) for name in ran} == experiments, "every notebook, once"
    drawn = {p.rsplit(".")[0] for p in whole["artefacts"]}
    for name in experiments:                                       # fig_examples has a picture for each benchmark
        assert name[:4] not in ("fig_", "tab_") or any(d == name or d.startswith(name + "_") for d in drawn), name
    for name in drawn:
        ends = {".svg", ".png"} if name.startswith("fig_") else {".md", ".csv"}
        assert all((RESULTS/"figures"/(name + end)).stat().st_size for end in ends), name
    assert "up to date" in whole["said"].splitlines()[-1]
    assert untouched() == whole["others"], "smoke writes under data/*/smoke only"


def test_its_samples_are_complete_and_add_up(whole):
    table = whole["raw"]
    assert list(table.columns) == SAMPLE_COLUMNS
    assert (table.thinking_tokens + table.hint_tokens + table.answer_tokens == table.total_tokens).all()
    assert not table.duplicated(["model", "policy", "window", "benchmark", "problem_id", "sample", "seed"]).any()
    expected = sum(len(SMOKE.seeds) * (len(m.policies) * len(m.windows) * SMOKE.test_problems + 2 * SMOKE.word_problems)
                   for m in SMOKE.models.values())
    assert len(table) == expected and set(table.model) == set(SMOKE.models) and set(table.seed) == set(SMOKE.seeds)
    asked = {p.id for p in held_out(SMOKE) + word_problems(SMOKE)}
    assert set(table.problem_id) == asked
    assert (table.correct == (table.verdict == "correct")).all() and set(table.verdict) <= {"correct", "wrong", "no_answer", "cut"}
    assert (table.thinking_tokens <= table.window).all() and (table[~table.cut].hint_tokens == 0).all()


def test_every_row_has_its_manifest_and_every_manifest_its_rows(whole):
    runs = [m["run"] for m in whole["manifests"]]
    assert len(runs) == len(set(runs)) == len(SMOKE.models) * len(SMOKE.seeds) and set(whole["samples"].run) == set(runs)
    for m in whole["manifests"]:
        rows = whole["samples"].query("run == @m['run']")
        assert len(rows) == m["samples"] and set(rows.seed) == {m["seed"]} and m["recipe"] == "smoke"
        assert {"commit", "engine", "torch", "transformers", "dtype", "prompt_hash", "hardware", "wall_seconds"} <= set(m)
        assert m["model"] == f"data/models/smoke/{rows.model.iloc[0]}-s{m['seed']}"


def test_a_second_run_is_up_to_date_within_seconds(whole):
    said, seconds = make()
    assert notebooks(said) == [] and "up to date" in said and seconds < 10, said


def test_a_figure_drawn_again_is_the_same_to_the_byte(whole):
    (RESULTS/"notebooks"/"fig_nano_scaling.ipynb").unlink()
    (RESULTS/"figures"/"fig_nano_scaling.svg").unlink()
    said, _ = make()
    assert notebooks(said) == ["fig_nano_scaling"] and artefacts() == whole["artefacts"]


def test_killed_at_a_random_moment_and_made_again_everything_is_the_same(whole):
    (RESULTS/"samples.parquet").unlink()
    victim, after = random.choice([n for n in notebooks(whole["said"]) if n.startswith("exp_")]), random.uniform(0, 12)
    process, begun = start("FRESH=1"), []
    for line in process.stdout:
        begun += notebooks(line)
        if victim in begun: break
    time.sleep(after)
    assert process.poll() is None, "it ended before it was killed"
    survivors = kill(process)
    begun += notebooks(process.stdout.read())
    note = f"killed {after:.1f} seconds into {victim}; begun by then: {begun}"
    assert not survivors, f"{note}: kernels outlived the kill: {survivors}"
    finished = {p.stem for p in (RESULTS/"notebooks").glob("*.ipynb")}
    said, _ = make()
    assert finished <= set(begun) and not finished & set(notebooks(said)), f"{note}: what was finished is not run again"
    pd.testing.assert_frame_equal(read_samples(RESULTS), whole["samples"])
    assert weights() == whole["weights"], note
    assert artefacts() == whole["artefacts"], note
    runs = [json.loads(line)["run"] for line in open(RESULTS/"manifests.jsonl")]
    assert runs == [m["run"] for m in whole["manifests"]], note
    for ledger in RESULTS.glob("ledger/*.jsonl"):
        keys = [json.loads(line)["request"] for line in open(ledger)]
        assert len(keys) == len(set(keys)), f"{note}: {ledger.name} holds a request twice"
    assert notebooks(make()[0]) == [], note

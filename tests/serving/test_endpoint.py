"The endpoint engine against the reference loop, over real HTTP, through servers that fail in every way they can."
import asyncio
import hashlib
import json
import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings, strategies as st

from z1.serving import endpoint
from z1.core import Ledger
from z1.serving.endpoint import EndpointEngine, next_stretch
from z1.serving.replicas import HOPELESS, Fault, Lost, Refused, Unreachable, summarise_failures, read_response
from z1.engines.request import Request, Sampling, settle
from z1.policies import from_parameters, BudgetForcing, SoftLanding, SwitchPenalty
from z1.window import DelimitedWindow, HardCut, NoThinking, ShiftedWindow, Unlimited, decode

EOS, HINT, END, LONE, WAIT, SWITCH = (0, 1), (2, 3, 4), (5, 2), (6,), (7, 8), (9, 3)
VOCABULARY, CONTEXT = 12, 400


# -- the model, the reference ---------------------------------------------------------------------------------------

def score(row, token, seed=0):
    "What a model that has read `row` thinks of `token`: 0 to 8."
    h = hashlib.blake2b(repr((seed, list(row), token)).encode(), digest_size=2).digest()
    return int.from_bytes(h, "big") / 2**13 - (1 if token in EOS else 0)


def best(row, bias=None, seed=0):
    return max(range(VOCABULARY), key=lambda t: score(row, t, seed) + (bias or {}).get(t, 0))


def reference(request, kind="ids"):
    "By `decode`; a server of text doesn't tell which id ended the turn, so there it is always the first."
    def next_token(ids):
        less = dict.fromkeys(request.policy.switch_ids, -request.policy.penalty) if request.policy.penalised(ids) else {}
        token = best([*request.prompt_ids, *ids], less)
        return EOS[0] if kind in ("text", "strict") and token in EOS else token
    return decode(request.policy, next_token, request.start)


class Letters:
    "A tokenizer with one letter for each id; `merged` writes two of the same as one, so that counts differ."
    eos_token_id, bos_token_id = 0, None
    def __init__(self, merged=False): self.merged = merged
    def __len__(self): return VOCABULARY + 100
    def decode(self, ids, **kwargs): return "".join(chr(65 + i) * 2 if i < 20 else chr(65 + i - 20) for i in ids)
    def encode(self, text, **kwargs):
        if text == endpoint.HINT: return [2, 4, 3, 9]
        ids, n = [], 0
        while n < len(text):
            double = text[n:n + 2] == text[n] * 2
            ids.append(ord(text[n]) - 65 + (0 if double else 20))
            n += 1 + double
        return ids


class Single(Letters):
    "One letter for each id, there and back."
    def decode(self, ids, **kwargs): return "".join(chr(65 + i) for i in ids)
    def encode(self, text, **kwargs):
        return [2, 4, 3, 9] if text == endpoint.HINT else [ord(c) - 65 for c in text]


# -- the server -----------------------------------------------------------------------------------------------------

class Server(ThreadingHTTPServer):
    "A completions endpoint of one kind; `fault(number of the call, body)` names what goes wrong with it, if anything."
    request_queue_size, daemon_threads = 300, True

    def __init__(self, kind, fault=lambda call, body: None, wait=0.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.kind, self.fault, self.wait, self.calls, self.dead = kind, fault, wait, [], False
        self.lock, self.busy, self.most_busy, self.times, self.headers = threading.Lock(), 0, 0, [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, address): pass                  # a client that went away

    def complete(self, body):
        "One choice, token by token."
        text = self.kind == "text"
        row = Single().encode(body["prompt"]) if isinstance(body["prompt"], str) else list(body["prompt"])
        stop = set(body.get("stop_token_ids", ())) | (set() if body.get("ignore_eos") else set(EOS))
        if self.kind == "llama.cpp": stop = {*EOS, 11}              # its own ends, of which we don't know the last
        found = from_parameters(body.get("vllm_xargs"), EOS, body["max_tokens"], None) if self.kind == "window" else None
        policy, written = found or (Unlimited(10**6, EOS), 0)
        out, bias = row[len(row) - written:], {int(i): b for i, b in body.get("logit_bias", {}).items()}
        prompt, seed, why = row[:len(row) - written], body.get("seed", 0), "length"
        for _ in range(body["max_tokens"]):
            token = policy.force(out)
            less = dict.fromkeys(policy.switch_ids, -policy.penalty) if policy.penalised(out) else bias
            out.append(best(prompt + out, less, seed) if token is None else token)
            if out[-1] in stop or self.kind == "llama.cpp" and Single().decode(out[written:]).endswith(tuple(body.get("stop", ()))):
                why = "stop"
                break
        ids = out[written:]
        said = Single().decode(ids[:-1] if why == "stop" else ids)
        return {"text": said, "finish_reason": why} | ({} if text else {"token_ids": ids})

    def answer_to(self, choice, fingerprint):
        "The whole answer; llama.cpp's has its ids elsewhere."
        if self.kind != "llama.cpp": return {"choices": [choice], "system_fingerprint": fingerprint}
        why = "eos" if choice["finish_reason"] == "stop" else "limit"
        return {"choices": [{"text": choice["text"]}], "system_fingerprint": fingerprint,
                "__verbose": {"tokens": choice["token_ids"], "stop_type": why}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args): pass

    def reply(self, status, data, headers=(), claim=0):
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) + claim))
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, message, *headers):
        self.reply(status, json.dumps({"error": {"message": message}}).encode(), headers)

    def do_GET(self):
        cards = [{"id": "other", "max_model_len": 7}, {"id": "toy", "max_model_len": CONTEXT}]
        self.reply(200, json.dumps({"data": cards}).encode())

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.calls.append(body)
            server.times.append(time.monotonic())
            server.headers.append(dict(self.headers))
            server.busy += 1
            server.most_busy, call = max(server.most_busy, server.busy), len(server.calls)
        try: self.answer(server, body, "drop" if server.dead else server.fault(call, body))
        finally:
            with server.lock: server.busy -= 1

    def answer(self, server, body, fault):
        time.sleep(server.wait)
        if fault == "slow": time.sleep(1.5)
        if fault == "drop": self.close_connection = True
        elif fault == "429": self.error(429, "too many requests", ("Retry-After", "0.3"))
        elif isinstance(fault, int): self.error(fault, f"as it pleases: {fault}")
        elif fault in SHAPES: self.reply(200, json.dumps(SHAPES[fault]).encode())
        elif server.kind == "text" and not isinstance(body["prompt"], str): self.error(400, "prompt must be a string")
        elif "vllm_xargs" in body and server.kind == "strict": self.error(422, "vllm_xargs: extra field")
        elif len(body["prompt"]) + body["max_tokens"] > CONTEXT: self.error(400, "longer than the context")
        else:
            choice = server.complete(body)
            if fault == "short": choice |= {"token_ids": [] if server.kind == "llama.cpp" else [11], "finish_reason": "length"}
            data = json.dumps(server.answer_to(choice, f"toy-{server.kind}")).encode()
            if fault == "half": data = data[:len(data) // 2]
            self.reply(200, data[:20] if fault == "cut" else data, claim=len(data) - 20 if fault == "cut" else 0)
            if fault == "cut": self.close_connection = True


SHAPES = {"no choices": {"choices": []}, "a list": [1], "null": None, "choices": {"choices": [3]}, "empty": {},
          "no ids": {"choices": [{"text": "x", "token_ids": None, "finish_reason": "stop"}]},
          "text": {"choices": [{"text": "", "token_ids": "12", "finish_reason": "content_filter"}]}}


@contextmanager
def serve(kind="ids", of=Server, **kwargs):
    server = of(kind, **kwargs)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try: yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def connect(*servers, mode=None, tokenizer=None, **kwargs):
    "An engine in the mode of its server, which is told everything and so asks nothing."
    return EndpointEngine([s.url for s in servers], tokenizer or Single(), "toy", CONTEXT,
                          **{"mode": mode or servers[0].kind, "pause": 0.01, "retries": 6, **kwargs})


def run(engine, requests, sampling=Sampling()):
    "The outputs in order; each must come once."
    out = list(engine.generate(requests, sampling, progress=False))
    assert Counter(i for i, _ in out) == Counter(range(len(requests)))
    return [ids for _, ids in sorted(out)]


def policies():
    for w in (1, 2, 5, 9, 17):
        yield ShiftedWindow(w, HINT, EOS, 6)
        yield DelimitedWindow(w, END, HINT, EOS, 6)
        yield DelimitedWindow(w, LONE, (), EOS, 6)
        yield HardCut(w, EOS)
        yield Unlimited(w, EOS, LONE)
        for slack, line in ((1, (2, 9)), (5, (2, 9, 11)), (8, (10,)), (3, ())): yield SoftLanding(w, HINT, EOS, 6, slack, line)
        yield SoftLanding(w, HINT, EOS, 6, 4, (9, 10), LONE)
        for times in (1, 3):
            yield BudgetForcing(w, WAIT, HINT, EOS, (), times, 6)
            yield BudgetForcing(w, WAIT, HINT, EOS, LONE, times, 6)
    yield NoThinking(HINT, EOS, 6)


def penalties():
    for policy in policies():
        if not isinstance(policy, NoThinking):
            for span in (1, 3, 50): yield SwitchPenalty(policy, SWITCH, 2.5, span)


def some(which, prompts=((10, 2), (11, 5, 10), (3,))):
    return [Request(p, policy, name=f"{p} {policy}") for policy in which for p in prompts]


def plain(n, window=7):
    return [Request((10, 2 + i % 9, 2 + i // 9 % 9, 2 + i // 81), ShiftedWindow(window, HINT, EOS, 4), name=f"row {i}")
            for i in range(n)]


# -- free stretches, without a server -------------------------------------------------------------------------------

size, phrase = st.integers(1, 20), st.lists(st.integers(2, 11), min_size=1, max_size=3).map(tuple)
windowed = st.one_of(
    st.builds(ShiftedWindow, size, phrase, st.just(EOS), st.integers(1, 6)),
    st.builds(DelimitedWindow, size, phrase, st.one_of(st.just(()), phrase), st.just(EOS), st.integers(1, 6)),
    st.builds(HardCut, size, st.just(EOS)), st.builds(Unlimited, size, st.just(EOS), phrase),
    st.builds(BudgetForcing, size, phrase.filter(lambda wait: not {*LONE} & {*wait}), phrase, st.just(EOS),
              st.sampled_from([(), LONE]), st.integers(0, 3),
              st.integers(1, 6)),
    st.builds(SoftLanding, size, phrase, st.just(EOS), st.integers(1, 6), st.integers(1, 9),
              st.one_of(st.just(()), phrase), st.one_of(st.just(()), phrase)))
any_policy = st.one_of(windowed, st.builds(NoThinking, phrase, st.just(EOS), st.integers(1, 6)),
                       st.builds(SwitchPenalty, windowed, phrase, st.floats(0.5, 8), st.integers(1, 12)))


@settings(max_examples=400, deadline=None)
@given(any_policy, st.lists(st.integers(0, 11), min_size=1, max_size=3), st.lists(st.integers(0, 11), max_size=12))
def test_free_stretches_and_what_is_given_make_the_reference(policy, prompt, start):
    request, over = settle(Request(tuple(prompt), policy, start=tuple(start)))
    expected = reference(request)
    while not over:
        request = endpoint.write_forced(request)
        if not request.policy.done(request.start):
            ids, part = list(request.start), next_stretch(request.policy, request.start)
            assert len(ids) < part.until <= policy.max_tokens
            while len(ids) < part.until and (len(ids) == len(request.start) or ids[-1] not in part.stop):
                assert request.policy.slack or request.policy.force(ids) is None
                ids.append(best([*prompt, *ids], part.bias))
            ids = endpoint.landed(request.policy, tuple(ids), len(request.start))
            assert len(ids) > len(request.start)
            request = replace(request, start=ids)
        request, over = settle(request)
    assert request.start == expected


# -- equal to the reference -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["window", "ids", "llama.cpp", "text"])
def test_every_policy_is_the_reference(kind):
    requests = some(policies()) + (some(penalties()) if kind != "text" else [])
    with serve(kind) as server:
        engine = connect(server)
        for request, ids in zip(requests, run(engine, requests)): assert ids == reference(request, kind), request
        calls = len(server.calls)
    rounds = sum(isinstance(r.policy, (BudgetForcing, SwitchPenalty)) for r in requests)
    if kind == "window": assert len(requests) <= calls <= len(requests) + 4 * rounds
    else: assert calls > len(requests) * 1.3


def test_the_tests_see_every_kind_of_ending():
    splits = [(r.policy, r.policy.split(reference(r))) for r in some(policies())]
    assert sum(s.cut and len(s.answer) > 0 for _, s in splits) > 10
    assert sum(not s.cut and not s.answer for _, s in splits) > 10
    assert any(not s.cut and s.answer for p, s in splits if p.end_ids)
    waited = [r for r in some(policies()) if isinstance(r.policy, BudgetForcing) and len(reference(r)) > 4]
    assert any(reference(r) != reference(replace(r, policy=replace(r.policy, times=0))) for r in waited)
    alone = {r: reference(r) for r in some(penalties())}
    assert sum(reference(replace(r, policy=r.policy.policy)) != ids for r, ids in alone.items()) > 20


@pytest.mark.parametrize("kind", ["window", "ids", "llama.cpp", "text"])
def test_a_start_is_gone_on_from(kind):
    requests = [replace(r, start=reference(r, kind)[:n]) for r in some(policies(), [(10, 3)]) for n in (1, 3, 8, 19, 99)]
    with serve(kind) as server:
        outputs = run(connect(server), requests)
        assert outputs == [reference(r, kind) for r in requests]
        assert len(server.calls) < 3 * len(requests)


def test_a_complete_start_asks_nobody():
    request = plain(1)[0]
    with serve() as server:
        engine = connect(server)
        assert run(engine, [replace(request, start=reference(request))]) == [reference(request)]
        assert run(engine, []) == [] and server.calls == []


def test_two_hundred_at_a_time():
    requests = plain(400)
    with serve(wait=0.2) as server:
        assert run(connect(server, concurrency=200), requests) == [reference(r) for r in requests]
        assert 100 < server.most_busy <= 200


def test_no_more_than_allowed_are_under_way():
    with serve(wait=0.01) as server:
        run(connect(server, concurrency=3), plain(20))
        assert server.most_busy <= 3


def test_outputs_come_as_they_finish_and_nobody_waits_for_others():
    slow = lambda call, body: "slow" if body["prompt"][1] == 11 else None
    quick = plain(6)
    with serve(fault=slow) as server:
        out = connect(server).generate([replace(quick[0], prompt_ids=(10, 11)), *quick], progress=False)
        began = time.monotonic()
        assert sorted(next(out)[0] for _ in quick) == [1, 2, 3, 4, 5, 6]
        assert time.monotonic() - began < 1
        assert [i for i, _ in out] == [0]


# -- random numbers -------------------------------------------------------------------------------------------------

def test_samples_differ_by_seed_and_can_be_repeated():
    requests = [Request((10, 2), ShiftedWindow(9, HINT, EOS, 6), seed=s) for s in (0, 1, 2, 3, -1, 2**70)]
    warm = Sampling(temperature=0.7, top_p=0.9)
    with serve() as server:
        outputs = run(connect(server), requests, warm)
        assert len(set(outputs)) == len(outputs)
        seeds = [b["seed"] for b in server.calls]
        assert len(set(seeds)) == len(seeds) > len(outputs) and all(0 <= s < 2**31 for s in seeds)
        assert {(b["temperature"], b["top_p"]) for b in server.calls} == {(0.7, 0.9)}
        assert run(connect(server), requests[::-1], warm)[::-1] == outputs
        server.calls.clear()
        run(connect(server), requests)
        assert not any("seed" in b for b in server.calls)


def test_the_servers_own_settings_are_overruled():
    with serve() as server:
        run(connect(server), plain(1))
        assert {k: server.calls[0][k] for k in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")} == {
            "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


# -- text -----------------------------------------------------------------------------------------------------------

def test_text_that_is_tokenised_otherwise_keeps_the_windows_form():
    "Two letters the same become one token, so an output may come out shorter than it was written, or longer."
    requests = [Request(tuple(20 + i for i in (10, 2 + k)), policy) for k in range(8) for policy in policies()]
    with serve("text") as server:
        outputs = run(connect(server, tokenizer=Letters()), requests)
    assert len(set(outputs)) > 50
    for request, ids in zip(requests, outputs):
        s = request.policy.split(ids)
        assert len(ids) <= request.policy.max_tokens and s.hint in (request.policy.forced, ())
        assert ids[-1] in EOS or len(ids) == request.policy.max_tokens


def test_text_refuses_a_penalty_by_name_and_before_anything_is_asked():
    with serve("text") as server:
        with pytest.raises(ValueError, match="row 3.*SwitchPenalty needs token ids"):
            connect(server).generate([*plain(3), Request((10,), SwitchPenalty(HardCut(5, EOS), SWITCH), name="row 3")])
        assert server.calls == []


def test_text_leaves_the_opening_token_to_the_server():
    tokenizer = Single()
    tokenizer.bos_token_id = 11
    with serve("text") as server:
        run(connect(server, tokenizer=tokenizer), [Request((11, 10), HardCut(5, EOS))])
        assert {b["prompt"][0] for b in server.calls} == {"K"} and server.calls[0]["stop"] == ["A", "B"]


# -- faults ---------------------------------------------------------------------------------------------------------

EVERY = ["429", 408, 409, 500, 502, 503, "drop", "cut", "half", "short", *SHAPES]


@pytest.mark.parametrize("kind", ["window", "ids", "llama.cpp", "text"])
@pytest.mark.parametrize("fault", EVERY)
def test_a_fault_costs_no_row_and_repeats_none(kind, fault):
    if kind == "text" and fault in ("short", "no ids"): fault = "text"
    requests = plain(20)
    with serve(kind, fault=lambda call, body: fault if call % 3 == 0 else None) as server:
        assert run(connect(server), requests) == [reference(r, kind) for r in requests]
        assert len(server.calls) > 1.3 * len(requests)


def test_a_time_out_is_a_fault():
    requests = plain(12)
    with serve(fault=lambda call, body: "slow" if call % 5 == 0 else None) as server:
        assert run(connect(server, timeout=0.5), requests) == [reference(r) for r in requests]


def test_retry_after_is_honoured():
    with serve(fault=lambda call, body: "429" if call == 1 else None) as server:
        run(connect(server), plain(1))
        assert server.times[1] - server.times[0] >= 0.3


@pytest.mark.parametrize("text, seconds", [("2.5", 2.5), ("", 0), ("soon", 0), ("-3", 0), ("nan", 0),
                                           ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_what_a_server_may_write_in_retry_after(text, seconds):
    import httpx2
    with pytest.raises(Fault) as e: read_response(httpx2.Response(503, text="x", headers={"retry-after": text}))
    assert e.value.after == seconds


def test_patience_grows():
    with serve(fault=lambda call, body: 500 if call < 5 else None) as server:
        run(connect(server, pause=0.1), plain(1))
        gaps = [b - a for a, b in zip(server.times, server.times[1:])]
        assert gaps[0] >= 0.05 and gaps[1] >= 0.1 and gaps[2] >= 0.2 and gaps[3] >= 0.4


def test_what_is_lost_is_named_and_everything_else_is_done(tmp_path):
    bad, requests = {4, 17, 33}, plain(40)
    prompts = {requests[i].prompt_ids for i in bad}
    down = lambda call, body: 500 if tuple(body["prompt"][:4]) in prompts else None
    with serve(fault=down) as server:
        engine = connect(server, retries=2)
        with pytest.raises(ConnectionError, match=r"3 of 40 .* 2 retries: row 4, row 17, row 33 \(500: as it pleases"):
            with Ledger(tmp_path/"rows.jsonl") as ledger:
                for i, ids in engine.generate(requests, progress=False): ledger.append({"id": i, "ids": ids})
        with Ledger(tmp_path/"rows.jsonl") as ledger:
            assert ledger.done == set(range(40)) - bad
            server.fault = lambda call, body: None
            server.calls.clear()
            todo = [i for i in range(40) if i not in ledger]
            for n, ids in engine.generate([requests[i] for i in todo], progress=False):
                ledger.append({"id": todo[n], "ids": ids})
            assert {tuple(b["prompt"][:4]) for b in server.calls} == prompts
    rows = {row["id"]: tuple(row["ids"]) for row in Ledger(tmp_path/"rows.jsonl").rows()}
    assert rows == dict(enumerate(map(reference, requests)))


def test_half_of_all_lost_one_by_one_costs_that_half_only():
    requests = plain(40)
    odd = lambda call, body: "cut" if requests.index(next(r for r in requests if r.prompt_ids == tuple(
        body["prompt"][:4]))) % 2 else None
    with serve(fault=odd) as server:
        done = []
        with pytest.raises(ConnectionError, match="20 of 40"):
            for i, ids in connect(server, retries=1, concurrency=2).generate(requests, progress=False): done.append(i)
        assert sorted(done) == list(range(0, 40, 2))


def test_nobody_there_is_found_out_once_not_for_every_request():
    with serve() as server: engine = connect(server, retries=3, concurrency=4, pause=0.05)
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="500 of 500"): run(engine, plain(500))
    assert time.monotonic() - began < 5
    with pytest.raises(Unreachable): connect(server, mode="auto", retries=1)


def test_a_refusal_names_the_request_and_is_not_repeated():
    requests = [*plain(5), Request((10,) * 300, HardCut(150, EOS), name="the long one")]
    with serve() as server:
        engine = connect(server)
        engine.context = 10**6
        with pytest.raises(ValueError, match="the long one: 400: longer than the context"): run(engine, requests)
        assert sum(len(b["prompt"]) == 300 for b in server.calls) == 1
        engine.context = CONTEXT
        with pytest.raises(ValueError, match="the long one.*the context is 400"): engine.generate(requests)
        server.fault = lambda call, body: 401
        with pytest.raises(ValueError, match="row 0: 401"): run(engine, plain(1))


# -- odd answers ----------------------------------------------------------------------------------------------------

class Odd(Single):
    "A tokenizer that stumbles over what it does not know."
    def encode(self, text, **kwargs):
        if "?" in text: raise TypeError("what is that?")
        text.encode()                                               # as a real one: no halves of characters
        return [ord(c) - 65 if c != "\ufffd" else 11 for c in text] if text != endpoint.HINT else super().encode(text)


def answers(odd, kind, prompt):
    "A server that gives `odd` in place of its choice whenever it is asked about one prompt."
    def complete(self, body):
        choice = Server.complete(self, body)
        asked = Single().encode(body["prompt"]) if isinstance(body["prompt"], str) else body["prompt"]
        return choice | odd if tuple(asked[:len(prompt)]) == prompt else choice
    return type("Asked", (Server,), {"complete": complete})


def serve_odd(odd, kind, prompt): return serve(kind, of=answers(odd, kind, prompt))


def harvest(engine, requests):
    "What came back, and the error at the end if there was one."
    done = {}
    try:
        for i, ids in engine.generate(requests, progress=False): done[i] = ids
    except Exception as e: return done, e
    return done, None


@pytest.mark.parametrize("kind, odd, error", [
    ("text", {"text": "C\ud83dD"}, None), ("text", {"text": "\udc80", "finish_reason": "length"}, None),
    ("text", {"text": "C?"}, Refused), ("text", {"text": 7}, ConnectionError), ("text", {"text": None}, ConnectionError), ("text", {"text": ["C"]}, ConnectionError),
    ("text", {"finish_reason": float("nan")}, ConnectionError), ("text", {"finish_reason": ["stop"]}, ConnectionError),
    ("ids", {"token_ids": [3.0, 0.0]}, None), ("ids", {"token_ids": [3.5, 0]}, ConnectionError), ("ids", {"token_ids": [-1, 0]}, ConnectionError),
    ("ids", {"token_ids": [2**70, 0]}, ConnectionError), ("ids", {"token_ids": [2**40, 0]}, ConnectionError), ("ids", {"token_ids": [None, 0]}, ConnectionError),
    ("ids", {"token_ids": [True, 0]}, ConnectionError), ("ids", {"token_ids": ["3", 0]}, ConnectionError), ("ids", {"token_ids": {"0": 1}}, ConnectionError),
    ("ids", {"token_ids": [float("nan"), 0]}, ConnectionError), ("ids", {"token_ids": [float("inf")]}, ConnectionError),
    ("window", {"token_ids": [3.5, 0]}, ConnectionError), ("window", {"token_ids": [10] * 14}, Refused),
    ("text", {"text": "C", "more": "\ud83d"}, None)], ids=repr)
def test_an_odd_answer_costs_its_request_at_most(kind, odd, error):
    requests = plain(12)
    with serve_odd(odd, kind, requests[3].prompt_ids) as server:
        done, found = harvest(connect(server, tokenizer=Odd(), retries=1), requests)
    assert {i: ids for i, ids in done.items() if i != 3} == {i: reference(r, kind) for i, r in enumerate(requests) if i != 3}
    if error is None: assert found is None and 3 in done
    else: assert isinstance(found, error) and "row 3" in str(found) and "row 4" not in str(found)


@pytest.mark.parametrize("data", [b'{"choices": ' + b"[" * 100_000, b'{"choices": [{"text": "\xff"}]}', b'{"n": ' + b"9" * 5000 + b"}", b"\xff\xfe{", b""])
def test_bytes_that_are_no_json_are_a_fault(data):
    import httpx2
    with pytest.raises(Fault, match="not JSON"): read_response(httpx2.Response(200, content=data))
    with pytest.raises(Fault, match="503: "): read_response(httpx2.Response(503, content=data))
    with pytest.raises(ValueError, match="^400: "): read_response(httpx2.Response(400, content=data))


def test_a_message_with_half_a_character_can_be_written_down():
    import httpx2
    with pytest.raises(ValueError) as e: read_response(httpx2.Response(400, content=b'{"error": {"message": "odd \\ud83d"}}'))
    assert str(e.value) == "400: odd \ufffd"


def test_every_refusal_is_named_and_nobody_waits_for_it():
    requests, bad = plain(40), {0, 1, 2, 3, 30}
    prompts = {requests[i].prompt_ids for i in bad}
    with serve(fault=lambda call, body: 422 if tuple(body["prompt"][:4]) in prompts else None) as server:
        for concurrency in (1, 8):
            done, error = harvest(connect(server, concurrency=concurrency), requests)
            assert set(done) == set(range(40)) - bad and isinstance(error, Refused)
            assert error.reasons == {f"row {i}": "422: as it pleases: 422" for i in bad}
            assert str(error).splitlines()[::3] == ["row 0: 422: as it pleases: 422", "and 2 more"]


def test_what_was_refused_weighs_more_than_what_was_lost():
    requests = plain(12)
    faults = {requests[2].prompt_ids: 400, requests[5].prompt_ids: 500}
    with serve(fault=lambda call, body: faults.get(tuple(body["prompt"][:4]))) as server:
        done, error = harvest(connect(server, retries=1), requests)
    assert len(done) == 10 and error.reasons == {"row 2": "400: as it pleases: 400"}


def test_a_server_that_refuses_everybody_is_not_asked_for_ever():
    with serve(fault=lambda call, body: 401) as server:
        done, error = harvest(connect(server, concurrency=4), plain(300))
        assert not done and type(error) is ValueError and str(error).startswith("none of 300 requests was answered; the first refusal: 401")
        assert HOPELESS <= len(server.calls) < HOPELESS + 8


@given(st.integers(1, 100), st.dictionaries(st.integers(0, 99), st.sampled_from([Lost("gone"), ValueError("no"), TypeError("odd")]), min_size=1))
def test_the_account_names_whatever_failed(n, failed):
    failed = {i: e for i, e in failed.items() if i < n} or {0: Lost("gone")}
    error = summarise_failures([f"row {i}" for i in range(n)], failed, 2)
    refused = {f"row {i}" for i, e in failed.items() if not isinstance(e, Lost)}
    if isinstance(error, Refused): assert set(error.reasons) == refused
    elif isinstance(error, ConnectionError): assert not refused and all(f"row {i}" in str(error) for i in failed)
    else: assert len(failed) == n >= HOPELESS and refused


@pytest.mark.parametrize("card, message", [({"id": "toy", "max_model_len": 400.0}, None), ({"id": "toy", "max_model_len": "400"}, "field 'max_model_len' is '400', but must be int: pass context="),
                                           ({"id": "toy", "max_model_len": 2**70}, "pass context="), ({"id": 7, "max_model_len": 400}, "field 'id' is 7.*pass model="),
                                           ({"id": "toy", "max_model_len": None}, "does not say its context")])
def test_what_a_server_says_of_itself_is_looked_at(card, message, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.reply(200, json.dumps({"data": [card]}).encode()))
    with serve() as server:
        if message is None: assert EndpointEngine(server.url, Single(), mode="ids").context == 400
        else:
            with pytest.raises(ValueError, match=message): EndpointEngine(server.url, Single(), mode="ids")


def test_a_server_without_the_processor_is_found_out():
    with serve("ids") as server:
        with pytest.raises(ValueError, match="row 0: the server did not force .*'shifted'.*vllm_window"):
            run(connect(server, mode="window"), [Request((10, 3), ShiftedWindow(1, HINT, EOS, 20), name="row 0")])


# -- replicas -------------------------------------------------------------------------------------------------------

def test_replicas_share_the_work():
    requests = plain(60)
    with serve(wait=0.02) as a, serve(wait=0.02) as b, serve(wait=0.02) as c:
        assert run(connect(a, b, c, concurrency=12), requests) == [reference(r) for r in requests]
        assert min(len(s.calls) for s in (a, b, c)) > 20
        assert max(s.most_busy for s in (a, b, c)) <= 5


@pytest.mark.parametrize("how", ["drop", "close"])
def test_a_replica_may_die(how):
    requests = plain(80)
    with serve(wait=0.01) as a, serve(wait=0.01) as b:
        engine, out = connect(a, b, concurrency=8, retries=3, pause=0.2), []
        for row in engine.generate(requests, progress=False):
            out.append(row)
            if len(out) == 10:
                b.dead = True
                if how == "close": b.socket.close()
                before = len(b.calls)
        assert sorted(out) == list(enumerate(map(reference, requests)))
        assert len(b.calls) - before < 30 and len(a.calls) > 100


def test_an_endpoint_needs_an_address():
    with pytest.raises(ValueError, match="one endpoint at least"): EndpointEngine([], Single())
    with pytest.raises(ValueError, match="http:// or https://"): EndpointEngine("localhost:1/v1", Single())
    for wrong in ({"mode": "magic"}, {"concurrency": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))): EndpointEngine("http://localhost:1/v1", Single(), **wrong)


# -- getting to know the server -------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, mode", [("window", "window"), ("ids", "ids"), ("llama.cpp", "llama.cpp"), ("text", "text"),
                                        ("strict", "text")])
def test_the_mode_is_found_out_once(kind, mode):
    with serve(kind) as server:
        engine = EndpointEngine(server.url, Single(), pause=0.01)
        assert (engine.mode, engine.model, engine.context) == (mode, "other", 7)
        engine = EndpointEngine(server.url + "/", Single(), "toy", pause=0.01)
        assert (engine.mode, engine.model, engine.context) == (mode, "toy", CONTEXT)
        calls, info = len(server.calls), engine.info()
        assert run(engine, plain(9)) == [reference(r, kind) for r in plain(9)]
        assert calls <= 4 and engine.info() == info
        assert (info["engine"], info["mode"], info["servers"]) == ("endpoint", mode, [f"toy-{kind}"])


def test_a_fault_does_not_change_the_mode():
    with serve("window", fault=lambda call, body: "cut" if call == 1 else None) as server:
        assert connect(server, mode="auto").mode == "window"


def test_a_server_that_refuses_everything_says_why():
    with serve(fault=lambda call, body: 403) as server:
        with pytest.raises(ValueError, match="403: as it pleases"): connect(server, mode="auto")
        with pytest.raises(ValueError, match="does not say its context: pass context="):
            EndpointEngine(server.url, Single(), "a third", mode="ids")


def test_the_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serve() as server:
        engine = connect(server)
        run(engine, plain(1))
        assert server.headers[0]["Authorization"] == "Bearer sk-secret" and "sk-secret" not in str(engine.info())
        monkeypatch.delenv("OPENAI_API_KEY")
        run(connect(server), plain(1))
        assert "Authorization" not in server.headers[-1]


# -- where and how it runs ------------------------------------------------------------------------------------------

def test_inside_a_running_event_loop():
    async def cell(server): return run(connect(server, mode="auto"), plain(5))
    with serve() as server: assert asyncio.run(cell(server)) == [reference(r) for r in plain(5)]


def test_leaving_early_ends_what_is_under_way():
    with serve(wait=0.1) as server:
        out = connect(server, concurrency=8).generate(plain(200), progress=False)
        next(out)
        out.close()
        calls = len(server.calls)
        time.sleep(0.5)
        assert len(server.calls) <= calls + 8 < 60
        assert not [t for t in threading.enumerate() if "portal" in t.name]


@pytest.fixture
def interruptible():
    "A process that was started in the background ignores Ctrl-C; this one shall not, for a while."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_what_is_under_way(interruptible):
    with serve(wait=3) as server:
        out = connect(server, concurrency=8).generate(plain(50), progress=False)
        timer, began = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)), time.monotonic()
        timer.start()
        with pytest.raises(KeyboardInterrupt): next(out)
        assert time.monotonic() - began < 2
        assert not [t for t in threading.enumerate() if "portal" in t.name]

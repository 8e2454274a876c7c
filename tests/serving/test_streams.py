"Streams against `generate`: whoever comes and goes meanwhile, everybody gets what they would have got alone."
import hashlib
import random
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from second_wind import SecondWind

from z1.engines.request import Request, Sampling, settle
from z1.nano.programs import make_problems
from z1.policies import POLICIES, BudgetForcing, SoftLanding, SwitchPenalty, make_policies
from z1.serving.streams import Stepped, Streams, sliced
from z1.turns import render
from z1.window import DelimitedWindow, HardCut, NoThinking, ShiftedWindow, Unlimited, decode

EOS, HINT, END, WAIT, SWITCH = (0, 1), (2, 3, 4), (5,), (7, 8), (9, 3)
HINTED = "\n\nI overthought it, the final answer should be:\n\nThe final answer is "
SHIFTED = ShiftedWindow(6, HINT, EOS, 5)
EVERY = [SHIFTED, HardCut(7, EOS), Unlimited(20, EOS, END), DelimitedWindow(6, END, HINT, EOS, 4), NoThinking(HINT, EOS, 5),
         BudgetForcing(12, WAIT, HINT, EOS, times=2), BudgetForcing(12, WAIT, HINT, EOS, END, 3), SoftLanding(6, HINT, EOS, 5, 4, (10, 11)),
         SoftLanding(6, HINT, EOS, 5, 3), SwitchPenalty(SHIFTED, SWITCH, 3.0, 4), SwitchPenalty(Unlimited(20, EOS, END), SWITCH, 3.0, 4),
         SwitchPenalty(BudgetForcing(12, WAIT, HINT, EOS, times=2), SWITCH, 3.0, 4), SecondWind(5, WAIT, HINT, EOS, 4)]


class Hashed:
    "A model of twelve tokens, whose liking is a hash of all that came before."
    context, vocabulary, eos_ids, tokenizer, asked = 10**6, 12, EOS, (), 0
    def generate(self, requests, sampling=Sampling(), progress=True):
        for i, r in enumerate(requests):
            def score(ids, token):
                h = hashlib.blake2b(repr((r.prompt_ids, ids, token)).encode(), digest_size=2).digest()
                less = r.policy.penalty if token in r.policy.switch_ids and r.policy.penalised(ids) else 0
                return int.from_bytes(h, "big") / 2**13 - less - (token in EOS)
            yield i, decode(r.policy, lambda ids: max(range(12), key=lambda token: score(list(ids), token)), r.start)


def whole(advance, request):
    "An output, round after round."
    request, done = settle(request)
    while not done:
        [(_, ids)] = advance({"it": request})
        assert ids[:len(request.start)] == request.start
        request, done = settle(replace(request, start=ids))
    return request.start


@pytest.mark.parametrize("policy", EVERY, ids=lambda p: p.name)
@given(prompt=st.integers(0, 10**6), tokens=st.sampled_from([1, 2, 3, 16]))
def test_slices_make_the_whole(policy, prompt, tokens):
    request = Request((prompt,), policy)
    assert whole(sliced(Hashed(), tokens), request) == dict(Hashed().generate([request]))[0]


@pytest.mark.parametrize("kind", [Stepped, lambda engine: sliced(engine, 7)], ids=["stepped", "sliced"])
def test_people_come_and_go_and_everybody_gets_their_own(plain, kind):
    rng, problems = random.Random(1), list(make_problems("test", 2 * len(POLICIES), seed=2))
    names = [*POLICIES, *(f"tip+{name}" for name in POLICIES if name != "no_thinking")]
    policies = [make_policies(name, [rng.randint(8, 24)], plain.tokenizer, HINTED, switch=["#"])[0] for name in names]
    asked = [Request(render(plain.tokenizer, p.prompt), policy) for p, policy in zip(problems, policies)]
    alone, advance, written, running, left = {}, kind(plain), {}, {}, list(enumerate(asked))
    for i, request in left: [(_, alone[i])] = plain.generate([request], progress=False)
    while left or running:
        while left and (not running or rng.random() < 0.1): running.update([left.pop(0)])
        for i, ids in list(advance(running)):
            running[i], done = settle(replace(running[i], start=ids))
            if done: written[i] = running.pop(i).start
        if running and rng.random() < 0.01: running.pop(rng.choice(list(running)))
    assert len(written) > len(asked) // 2 and written == {i: alone[i] for i in written}


def test_those_who_do_not_fit_into_the_batch_wait(plain):
    [policy] = make_policies("hard_cut", [20], plain.tokenizer)
    asked = [Request(render(plain.tokenizer, p.prompt), policy) for p in make_problems("test", 3, seed=3)]
    advance = Stepped(plain)
    advance.engine = type("Small", (), {"model": plain.model, "batch_tokens": asked[0].longest + 1})
    assert len(list(advance(dict(enumerate(asked))))) == 1


def test_readers_at_once_share_the_batch_and_leave_nothing_behind(plain, monkeypatch):
    seen, step = [], Stepped.__call__
    monkeypatch.setattr(Stepped, "__call__", lambda self, requests: (seen.append(len(requests)), time.sleep(0.005), step(self, requests))[-1])
    [policy] = make_policies("unlimited", [60], plain.tokenizer)
    asked = [Request(render(plain.tokenizer, p.prompt), policy) for p in make_problems("test", 4, seed=4)]
    streams, got = Streams(plain), {}
    def read(i): got[i] = [s.request.start for s in streams.follow(asked[i], pause=0)][-1]
    readers = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for reader in readers: reader.start()
    for reader in readers: reader.join(60)
    assert got == dict(plain.generate(asked, progress=False)) and max(seen) == 4
    until = time.monotonic() + 5
    while streams.thread and time.monotonic() < until: time.sleep(0.01)
    assert not streams.thread and not streams.running


def test_whoever_leaves_frees_the_engine():
    class Endless(Hashed):
        def generate(self, requests, sampling=Sampling(), progress=True):
            for i, r in enumerate(requests): yield i, r.start + (3,) * (r.policy.max_tokens - len(r.start))
    streams = Streams(Endless())
    following = streams.follow(Request((4,), Unlimited(10**5, EOS)))
    assert next(following) and len(streams.running) == 1
    following.close()
    until = time.monotonic() + 5
    while streams.thread and time.monotonic() < until: time.sleep(0.01)
    assert not streams.running and not streams.thread


def test_who_waits_for_an_engine_that_takes_long_is_shown_something_all_the_same():
    class Slow(Hashed):
        def generate(self, requests, **options):
            time.sleep(0.3)
            yield from super().generate(requests, **options)
    looks = [s.request.start for s in Streams(Slow()).follow(Request((4,), HardCut(3, EOS)), pause=0, patience=0.05)]
    assert len(looks) > 2 and looks[0] == looks[1] == () and looks[-1]

"The window of nbs/01_window.ipynb against arbitrary token ids and arbitrary deterministic models."
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from z1 import window
from z1.policies import BudgetForcing, SoftLanding, SwitchPenalty
from z1.window import DelimitedWindow, HardCut, NoThinking, ShiftedWindow, Unlimited, decode, fork, thinking_end

EOS = (0, 1)
token = st.integers(0, 5)                    # so few that hints, delimiters and ends turn up by accident
free_token = st.integers(2, 5)               # one that does not end the turn
outputs = st.lists(token, max_size=30)
phrase = st.lists(free_token, min_size=1, max_size=4).map(tuple)
ends = st.sampled_from([(0,), (1,), EOS])

size = st.integers(1, 20)
landings = st.builds(SoftLanding, window=size, hint_ids=phrase, eos_ids=ends, answer_tokens=st.integers(1, 6),
                     slack=st.one_of(st.none(), st.integers(1, 9)), line_ids=st.sampled_from([(), (2,), (5, 3), (0, 4)]),
                     end_ids=st.one_of(st.just(()), phrase))
policies = st.one_of(
    landings,
    st.builds(ShiftedWindow, window=size, hint_ids=phrase, eos_ids=ends, answer_tokens=st.integers(1, 6)),
    st.builds(DelimitedWindow, window=size, end_ids=phrase, hint_ids=st.one_of(st.just(()), phrase),
              eos_ids=ends, answer_tokens=st.integers(1, 6)),
    st.builds(HardCut, window=size, eos_ids=ends),
    st.builds(NoThinking, lead_ids=phrase, eos_ids=ends, answer_tokens=st.integers(1, 6)),
    st.builds(BudgetForcing, window=size, wait_ids=st.sampled_from([(3,), (4, 3), (3, 3, 5)]), hint_ids=phrase, eos_ids=ends,
              end_ids=st.sampled_from([(), (2,)]), times=st.integers(0, 3), answer_tokens=st.integers(1, 6)),
    st.builds(Unlimited, max_tokens=size, eos_ids=ends, end_ids=st.one_of(st.just(()), phrase)))


def model(seed, ending=0.1):
    "A deterministic language model: the next id is a hash of the seed and of everything so far."
    def next_token(ids):
        h = hashlib.blake2b(repr((seed, list(ids))).encode(), digest_size=8).digest()
        return h[1] % 2 if h[0] < 256 * ending else 2 + h[1] % 4
    return next_token


models = st.builds(model, st.integers(0, 10**6), st.sampled_from([0.0, 0.02, 0.1, 0.3]))


def two_phase(policy, next_token):
    "The paper's procedure: generate, look whether it was cut, append, generate again. No code of `window`."
    def generate(ids, n):
        for _ in range(n):
            ids = ids + [next_token(ids)]
            if ids[-1] in policy.eos_ids: break
        return ids
    if isinstance(policy, (HardCut, Unlimited)): return tuple(generate([], policy.max_tokens))
    if isinstance(policy, NoThinking): return tuple(generate(list(policy.lead_ids), policy.answer_tokens))
    if isinstance(policy, BudgetForcing): return s1(policy, next_token)
    if isinstance(policy, SoftLanding): return landed(policy, next_token, generate)
    first, end = generate([], policy.window), getattr(policy, "end_ids", ())
    if first[-1] in policy.eos_ids: return tuple(first)
    closed = end and any(tuple(first[i:i + len(end)]) == tuple(end) for i in range(len(first)))
    if closed: return tuple(generate(first, policy.max_tokens - len(first)))
    return tuple(generate(first + list(end) + list(policy.hint_ids), policy.answer_tokens))


def contains(ids, part): return any(tuple(ids[i:i + len(part)]) == tuple(part) for i in range(len(ids)))


def landed(policy, next_token, generate):
    "Write up to the window, then token by token to the end of a line; then append, and write the rest."
    ids = generate([], policy.window)
    for _ in range(policy.slack):
        if ids[-1] in policy.eos_ids + policy.line_ids: break
        ids = generate(ids, 1)
    if ids[-1] in policy.eos_ids: return tuple(ids)
    if not (policy.end_ids and contains(ids, policy.end_ids)): ids += policy.end_ids + policy.hint_ids
    return tuple(generate(ids, policy.max_tokens - len(ids)))


def s1(policy, next_token):
    "Budget forcing as s1 does it: stop at the end of thinking, drop it, append the wait, generate again."
    ids, waits, ends = [], 0, set(policy.eos_ids + policy.end_ids)
    while len(ids) < policy.window and not (ids and ids[-1] in ends):
        ids = ids + [next_token(ids)]
        if ids[-1] in ends and waits < policy.times and len(ids) - 1 + len(policy.wait_ids) < policy.window:
            ids, waits = ids[:-1] + list(policy.wait_ids), waits + 1
    if ids[-1] in policy.eos_ids: return tuple(ids)
    if ids[-1] not in policy.end_ids: ids += list(policy.end_ids + policy.hint_ids)
    room = policy.max_tokens - len(ids)
    for _ in range(room if ids[-1] in policy.end_ids and len(ids) <= policy.window else policy.answer_tokens):
        ids = ids + [next_token(ids)]
        if ids[-1] in policy.eos_ids: break
    return tuple(ids)


@settings(max_examples=400, deadline=None)
@given(policies, outputs)
def test_the_parts_add_up(policy, ids):
    s = policy.split(ids)
    assert s.thinking + s.hint + s.answer == tuple(ids)
    assert s == policy.split(tuple(ids))
    if not s.cut and not isinstance(policy, NoThinking): assert s.hint == ()


@settings(max_examples=400, deadline=None)
@given(policies, models)
def test_decode_is_the_two_phase_procedure(policy, next_token):
    out = decode(policy, next_token)
    assert out == two_phase(policy, next_token)
    if isinstance(policy, BudgetForcing): policy = replace(policy, waits=policy.times)    # how it is at the end
    assert len(out) <= policy.max_tokens and policy.done(out) and policy.trim(out) == out
    s = policy.split(out)
    assert s.thinking + s.hint + s.answer == out
    if policy.window: assert len(s.thinking) <= policy.window + policy.slack
    if isinstance(policy, SoftLanding) and s.cut: assert len(s.thinking) >= policy.window
    assert s.hint == (policy.forced if s.cut or isinstance(policy, NoThinking) else ())


@settings(max_examples=400, deadline=None)
@given(policies, models, st.integers(1, 60))
def test_fork_and_continue_is_decode(policy, next_token, length):
    free = decode(Unlimited(length, policy.eos_ids), next_token)
    forked = fork(policy, free)
    if not isinstance(policy, BudgetForcing): assert forked.done == policy.done(forked.ids)
    assert decode(policy, next_token, start=forked.ids) == decode(policy, next_token)
    if isinstance(policy, HardCut) and length >= policy.window: assert forked.done
    if forked.done and not policy.split(forked.ids).cut: assert forked.ids == free[:len(forked.ids)]


@settings(max_examples=300, deadline=None)
@given(policies, outputs)
def test_force_is_pure(policy, ids):
    before, first = list(ids), policy.force(ids)
    policy.force(ids + [2]); policy.split(ids); policy.next_due(len(ids))
    assert policy.force(tuple(ids)) == policy.force(ids) == first and ids == before


@settings(max_examples=300, deadline=None)
@given(policies, st.lists(token, min_size=45, max_size=45))
def test_next_due_never_comes_too_late(policy, ids):
    for n in range(45):
        due = policy.next_due(n)
        assert due is None or due >= n
        assert all(policy.force(ids[:m]) is None for m in range(n, 45 if due is None else min(due, 45)))


@settings(max_examples=300, deadline=None)
@given(policies, outputs)
def test_nothing_is_forced_once_thinking_has_ended(policy, ids):
    ended = thinking_end(ids[:policy.closing(ids)], policy.eos_ids, policy.end_ids) is not None
    if ended: assert policy.force(ids) is None


@settings(max_examples=300, deadline=None)
@given(policies, outputs)
def test_forced_ids_are_forced_in_order(policy, ids):
    if (t := policy.force(ids)) is not None:
        assert t == policy.forced[len(ids) - policy.closing(ids)]
        assert policy.slack or policy.closing(ids) == policy.window
        assert t not in policy.eos_ids


def test_thinking_end_takes_whichever_comes_first():
    assert thinking_end([2, 3, 0, 2, 4], (0,), (2, 4)) == 3
    assert thinking_end([2, 4, 0], (0,), (2, 4)) == 2
    assert thinking_end([2, 4], (0,), (2, 4)) == 2
    assert thinking_end([2, 2, 4], (0,), (2, 4)) == 3
    assert thinking_end([], (0,), (2, 4)) is None
    assert thinking_end([3, 1, 0], EOS) == 2


@pytest.mark.parametrize("ids, cut", [
    ([2, 2, 2, 0], False),          # ends at the last position of the window
    ([2, 0], False),                # ends earlier
    ([2, 2, 2], False),             # has not got there
    ([2, 2, 2, 2], True),           # as long as the window, not ended
    ([2, 2, 2, 2, 0], True),        # ended one too late
    ([3, 4, 3, 4, 3, 4], True)])    # the hint's own ids in the thinking change nothing
def test_the_boundary(ids, cut):
    shifted, hard = ShiftedWindow(4, (3, 4), (0,)), HardCut(4, (0,))
    assert shifted.split(ids).cut == hard.split(ids).cut == cut
    assert shifted.split(ids).thinking == (tuple(ids[:4]) if cut else tuple(ids))


def test_a_hint_said_by_chance_does_not_part_the_paths():
    policy, free = ShiftedWindow(2, (3, 4), (0,), 4), [5, 5, 3, 4, 5, 0]
    assert fork(policy, free) == ((5, 5, 3, 4, 5, 0), True)
    assert fork(policy, [5, 5, 3, 5, 5, 0]) == ((5, 5, 3, 4), False)


def test_a_delimiter_across_the_boundary_is_forced_anew():
    policy = DelimitedWindow(3, (2, 3), (4,), (0,), 2)
    assert fork(policy, [5, 5, 2, 3, 5, 0]) == ((5, 5, 2, 2, 3, 4), False)
    assert fork(policy, [5, 2, 3, 5, 0]) == ((5, 2, 3, 5, 0), True)


@settings(max_examples=400, deadline=None)
@given(st.one_of(landings, landings.map(lambda p: SwitchPenalty(p, (3,), 1.0, 4))), outputs, outputs)
def test_where_patience_ends_is_settled_once_and_for_all(policy, ids, more):
    closing = policy.closing(ids)
    assert policy.limit <= closing <= policy.limit + policy.slack
    if closing <= len(ids):
        assert policy.closing(ids + more) == policy.closing(ids[:closing]) == closing
        assert closing == policy.limit + policy.slack or ids[closing - 1] in policy.line_ids
    for n in range(policy.limit, min(closing, len(ids) + 1)): assert ids[n - 1] not in policy.line_ids
    if len(ids) < closing: assert policy.force(ids) is None


@settings(max_examples=200, deadline=None)
@given(policies, outputs)
def test_without_slack_patience_ends_at_the_limit(policy, ids):
    if not isinstance(policy, SoftLanding): assert policy.closing(ids) == policy.limit and policy.slack == 0


@pytest.mark.parametrize("ids, closing, cut", [
    ([2, 2, 2, 5], 4, True),                       # the line ends with the window's last token
    ([2, 2, 5, 2], 7, False),                      # a line that ended before is no end
    ([2, 2, 2, 2, 5], 5, True),                    # within the slack
    ([2, 2, 2, 2, 2, 2, 5], 7, True),              # with its last token
    ([2, 2, 2, 2, 2, 2, 2, 5], 7, True),           # too late
    ([2, 2, 2, 2, 0], 7, False),                   # the turn ends within the slack
    ([2, 2, 2, 2, 0, 5], 6, False)])               # and whatever comes after it
def test_the_boundaries_of_a_soft_landing(ids, closing, cut):
    policy = SoftLanding(4, (5, 4), (0,), 2, slack=3, line_ids=(5,))               # the hint begins with the end of a line
    assert (policy.closing(ids), policy.split(ids).cut) == (closing, cut)
    if cut and len(ids) == closing: assert fork(policy, ids + [2, 2, 2, 2, 2]).ids == (*ids, 5, 4)


def test_the_module_knows_no_engine():
    source = open(window.__file__, encoding="utf-8").read()
    assert "import torch" not in source and "transformers" not in source
    assert len({*window.CLOSINGS.values()}) == 7 and all(text.startswith("\n\n") for text in window.CLOSINGS.values())
    assert "boxed{}" in window.MATH_HINT and window.HINT.startswith("\n\n") and window.HINT.endswith(":\n\n")


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "8", None, float("nan")])
@pytest.mark.parametrize("make", [lambda n: ShiftedWindow(n, (2,), (0,)), lambda n: HardCut(n, (0,)),
                                  lambda n: DelimitedWindow(n, (2,), (3,), (0,)),
                                  lambda n: Unlimited(n, (0,)), lambda n: SoftLanding(n, (2,), (0,)),
                                  lambda n: ShiftedWindow(8, (2,), (0,), answer_tokens=n)])
def test_a_bad_number_names_its_field(make, bad):
    with pytest.raises(ValueError, match=r"\.(window|max_tokens|answer_tokens) must be a whole number"):
        make(bad)


@pytest.mark.parametrize("bad", ["text", 3, (True,), (-1,), (1.0,), None, (None,)])
def test_bad_ids_name_their_field(bad):
    for make in (lambda b: ShiftedWindow(8, b, (0,)), lambda b: HardCut(8, b),
                 lambda b: Unlimited(8, (0,), b), lambda b: DelimitedWindow(8, b, (2,), (0,))):
        with pytest.raises(ValueError, match=r"_ids must be a tuple of token ids"): make(bad)

"The window inside vLLM against the policies themselves: vLLM's own interface classes, random batches, no engine."
import importlib.metadata
import random
import sys
from types import SimpleNamespace as Fake

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from z1.nano.tokenizer import train_tokenizer
from z1.engines.request import Request
from z1.policies import to_parameters, BudgetForcing, SoftLanding, SwitchPenalty
from z1.window import HINT, DelimitedWindow, HardCut, NoThinking, ShiftedWindow, Unlimited

pytest.importorskip("vllm")
from vllm import SamplingParams  # noqa: E402
from vllm.v1.sample import logits_processor as v1  # noqa: E402
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality  # noqa: E402
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState, loader  # noqa: E402
from z1.serving.vllm_window import DeviceBatch, HostBatch, PolicyReader, WindowProcessor, check_params, penalise_switches  # noqa: E402

CONTEXT, WORDS, EOS, ROOM = 96, 12, (0,), 60
NAME = "z1.vllm_window:WindowProcessor"


def config(**changes):
    "The fields of vLLM's configuration that are looked at."
    model = Fake(max_model_len=CONTEXT, get_vocab_size=lambda: WORDS, logits_processors=None, skip_tokenizer_init=True)
    return Fake(**{"model_config": model, "speculative_config": None, "use_v2_model_runner": False,
                   "scheduler_config": Fake(async_scheduling=False)} | changes)


def params(extra=None, max_tokens=ROOM, **more):
    return SamplingParams(**{"max_tokens": max_tokens, "stop_token_ids": list(EOS), "ignore_eos": True,
                             "extra_args": extra} | more)


# -- random requests -------------------------------------------------------------------------------------------------
seeds = st.integers(0, 2**32).map(random.Random)


def words(rng, least, most):
    "A few token ids, from so few that delimiters, switches and ends turn up by accident."
    return tuple(rng.choice((1, 2, 3)) for _ in range(rng.randint(least, most)))


def a_window(rng):
    window, hint, end = rng.randint(1, 14), words(rng, 1, 3), words(rng, 1, 2)
    return rng.choice((lambda: ShiftedWindow(window, hint, EOS), lambda: DelimitedWindow(window, end, hint, EOS),
                       lambda: DelimitedWindow(window, end, (), EOS), lambda: Unlimited(ROOM, EOS, end),
                       lambda: BudgetForcing(window, (11,), hint, EOS, end[:1]), lambda: HardCut(ROOM, EOS),
                       lambda: a_landing(rng, window, hint), lambda: a_landing(rng, window, hint, end),
                       lambda: a_landing(rng, window, (), end)))()


def a_landing(rng, window, hint, end=()):
    "A soft landing, to exactly `slack` tokens or to ends of lines that turn up in hints and delimiters, too."
    lines = rng.choice(((), (4,), (1, 4), (2, WORDS - 1)))
    return SoftLanding(window, hint, EOS, ROOM, rng.choice((1, 2, 5, 12, None)), lines, end)


def a_request(rng):
    "A request as vLLM has it: a prompt that may hold output already, and what it is going to say."
    policy = a_window(rng) if rng.random() < 0.8 else NoThinking(words(rng, 1, 3), EOS)
    if rng.random() < 0.5 and not isinstance(policy, NoThinking):
        policy = SwitchPenalty(policy, words(rng, 1, 2), rng.choice((1.5, 3, 1e300)), rng.randint(1, 9))
    start, prompt = list(words(rng, 0, 5)) if rng.random() < 0.3 else [], list(words(rng, 1, 4))
    extra = to_parameters(policy, len(start))
    said = [rng.choice((1, 2, 3, 4)) if rng.random() < 0.98 else EOS[0] for _ in range(40)]
    return Fake(policy=policy, extra=extra or None, start=start, prompt=prompt + start, output=[], said=said)


def expect(logits, row, r):
    "What the policies say about this row, in the plainest way."
    ids, out = r.start + r.output, logits[row].clone()
    if not r.extra: return out
    if (forced := r.policy.force(ids)) is not None:
        out[:] = float("-inf")
        out[forced] = 0
    elif r.policy.penalised(ids):
        out[list(set(r.policy.switch_ids))] -= torch.tensor(float(r.policy.penalty), dtype=torch.float32)
    return out


def advance(r): r.output.append(r.said[len(r.output)])


# -- V1 --------------------------------------------------------------------------------------------------------------
def change(batch, rested, rng):
    "Let requests leave, come, come back and change places; what vLLM tells its processors about it."
    removed, added, moved = [], [], []
    for i, r in enumerate(batch):
        if rng.random() < 0.25:
            rested.append(r)                          # preempted: it comes back, output and all
            batch[i] = None
            if rng.random() < 0.5: removed.append(i)
    for i in [i for i, r in enumerate(batch) if r is None] + [len(batch)] * (len(batch) < 7):
        replaced = i < len(batch) and i not in removed  # a row that nobody was told about has a new occupant
        if not replaced and rng.random() < 0.5: continue
        r = rested.pop(rng.randrange(len(rested))) if rested and rng.random() < 0.5 else a_request(rng)
        r.output = list(r.output[:38])                # vLLM may make a new list of it
        batch[i:i + 1] = [r]
        added.append((i, params(r.extra), r.prompt, r.output))
        if i in removed and rng.random() < 0.5: removed.remove(i)
    while None in batch:                              # close the gaps from the end, as vLLM does
        last = batch.pop()
        if last is None: continue
        hole = batch.index(None)
        moved.append((len(batch), hole, MoveDirectionality.UNIDIRECTIONAL))
        batch[hole] = last
    if len(batch) > 1 and rng.random() < 0.5:
        a, b = rng.sample(range(len(batch)), 2)
        moved.append((a, b, MoveDirectionality.SWAP))
        batch[a], batch[b] = batch[b], batch[a]
    return BatchUpdate(len(batch), removed, added, moved) if removed or added or moved else None


@settings(max_examples=40)
@given(seeds)
def test_v1_follows_any_batch(rng):
    processor, again = (WindowProcessor(config(), torch.device("cpu"), False) for _ in range(2))
    batch, rested = [], []
    for step in range(60):
        update = change(batch, rested, rng) if rng.random() < 0.3 else None
        for p in (processor, again): p.update_state(update)
        if not batch: continue
        logits = torch.randn(len(batch), WORDS, generator=torch.Generator().manual_seed(step))
        wanted = torch.stack([expect(logits, i, r) for i, r in enumerate(batch)])
        got = again.apply(processor.apply(logits))    # loaded twice: nothing happens twice
        assert got is logits and torch.equal(got, wanted)
        for r in batch:                               # rows that are still reading their prompt get no token
            if len(r.output) < 39 and rng.random() < 0.9: advance(r)


def test_v1_reads_again_what_was_taken_back():
    policy = SwitchPenalty(DelimitedWindow(9, (5, 6), (7,), EOS), (3,), span=2)
    output, batch = [1, 1, 5, 6], HostBatch("cpu")
    row = Fake(policy=policy, extra=to_parameters(policy), start=[], prompt=[1], output=output)
    batch.update(BatchUpdate(1, [], [(0, params(row.extra), [1], output)], []), PolicyReader(config()).read)
    for taken, token in ((0, 3), (3, 1), (0, 3), (2, 1), (0, 1)):
        logits = torch.zeros(1, WORDS)
        if 6 not in output: assert torch.equal(batch.apply(logits.clone())[0], expect(logits, 0, row))
        del output[len(output) - taken:]
        output.append(token)


def test_v1_placeholders_hold_a_place():
    "With asynchronous scheduling a token may be -1: it is there, but not known."
    batch, output = HostBatch("cpu"), []
    batch.update(BatchUpdate(1, [], [(0, params({"window": 2, "hint": [7]}), [1], output)], []), PolicyReader(config()).read)
    said = []
    for _ in range(4):
        said.append(batch.apply(torch.eye(1, WORDS)).argmax().item())
        output.append(-1)
    assert said == [0, 0, 7, 0]


def test_a_landing_is_looked_at_from_its_window_until_its_hint_is_said():
    "Of a long thought only the newest token is read, and nothing more once the hint is over."
    batch, output = HostBatch("cpu"), []
    asked = params({"window": 20, "slack": 20, "line": [4], "hint": [7, 8]})
    batch.update(BatchUpdate(1, [], [(0, asked, [1], output)], []), PolicyReader(config()).read)
    row, looks, said = batch.rows[0], [], []
    row.look, look = (lambda: looks.append(len(output)) or look()), row.look
    for n in range(60):
        before = row.seen
        said.append(batch.apply(torch.eye(1, WORDS)).argmax().item())
        assert n <= 20 or row.seen - before <= 1
        output.append(4 if n == 29 else 1)
    assert looks == [*range(20, 33)] and said.index(7) == 30 and said[31] == 8 and sum(said) == 15


def test_a_list_of_lines_is_made_a_table_once_and_odd_ids_do_no_harm():
    device = WindowProcessor(config(use_v2_model_runner=True), slots_of(4)).batch
    for slot, lines in enumerate(([4, 5], [4, 5], [3], [])):
        device.add(slot, PolicyReader(config()).read(params({"window": 8, "slack": 2, "line": lines, "hint": [7]}), 1))
    assert device.tables[0] is device.tables[1] is not device.tables[2] and set(device.tables) == {0, 1, 2}
    assert device.table.cache_info().misses == 2
    device.add(0, (SoftLanding(8, (7,), EOS, line_ids=(4, WORDS, 10**9)), 0))
    device.add(2, None)
    assert device.tables[0].nonzero().flatten().tolist() == [4] and set(device.tables) == {0, 1}


def test_a_first_runner_that_hides_outputs_refuses_lines_and_no_fixed_slack():
    blind = PolicyReader(config(scheduler_config=Fake(async_scheduling=True)))
    with pytest.raises(ValueError, match="line"): blind.read(params({"window": 8, "slack": 2, "line": [4], "hint": [7]}), 4)
    assert blind.read(params({"window": 8, "slack": 2, "line": [], "hint": [7]}), 4)[0].slack == 2


def test_waiting_rows_are_not_looked_at():
    batch, outputs = HostBatch("cpu"), [[] for _ in range(9)]
    reads = PolicyReader(config()).read
    batch.update(BatchUpdate(9, [], [(i, params({"window": 40, "hint": [7]} if i < 8 else None), [1], o)
                                     for i, o in enumerate(outputs)], []), reads)
    assert set(batch.rows) == set(range(8)) and batch.due == 41
    looked = []
    for row in batch.rows.values():
        row.look, look = (lambda row=row, look=row.look: looked.append(row) or look()), row.look
    for n in range(60):
        logits = torch.zeros(9, WORDS)
        assert batch.apply(logits) is logits and bool(logits.any()) == (n == 40)
        for o in outputs: o.append(1)
    assert len(looked) == 2 * 8                     # the hint's one token, and that it is over
    batch.update(BatchUpdate(1, list(range(8)), [], [(8, 0, MoveDirectionality.UNIDIRECTIONAL)]), reads)
    assert batch.rows == {}


def test_idle_batches_do_nothing():
    logits = object()                               # anything that is touched would fail
    v1_side, v2_side = HostBatch("cpu"), DeviceBatch(slots_of(4))
    for _ in range(3): assert v1_side.apply(logits) is logits and v2_side.apply(logits, None) is logits
    v1_side.update(BatchUpdate(1, [], [(0, params({"window": 9, "hint": [7]}), [1], [])], []), PolicyReader(config()).read)
    for _ in range(9): assert v1_side.apply(logits) is logits


# -- V2 ----------------------------------------------------------------------------------------------------------------
def slots_of(n):
    "vLLM's own request state, with plain tensors in it."
    tokens = torch.full((n, CONTEXT), 77, dtype=torch.int32)
    return LogitsProcRequestState(torch.device("cpu"), n, WORDS, Fake(gpu=tokens), Fake(np=np.zeros(n, np.int32)),
                                  Fake(np=np.zeros(n, np.int32)), Fake(gpu=torch.zeros(n, dtype=torch.int32)))


def context(slots, lengths, padding=0):
    index = torch.tensor(slots)
    return LogitsContext(expanded_idx_mapping=index, idx_mapping=index, idx_mapping_np=np.array(slots),
                         expanded_local_pos=torch.zeros_like(index), input_ids=index, pos=torch.tensor(lengths) - 1,
                         seq_lens_upper_bound_np=np.array(lengths + [0] * padding, dtype=np.int32))


@settings(max_examples=40)
@given(seeds)
def test_v2_follows_any_batch(rng):
    states, running, rested = slots_of(5), {}, []
    processor, again = (WindowProcessor(config(use_v2_model_runner=True), states) for _ in range(2))
    for step in range(60):
        for slot in [s for s in running if rng.random() < 0.06]:
            rested.append(running.pop(slot)[0])       # nobody is told; the slot is simply used again
        for slot in sorted(set(range(5)) - set(running)):
            if rng.random() < 0.5: continue
            r = rested.pop(rng.randrange(len(rested))) if rested and rng.random() < 0.5 else a_request(rng)
            ids = r.prompt + r.output                 # a resumed request reads its output along with its prompt
            states.prompt_len.np[slot], states.prefill_len.np[slot] = len(r.prompt), len(ids)
            states.all_token_ids.gpu[slot, :len(ids)] = torch.tensor(ids)
            for p in (processor, again): assert p.add_request(slot, params(r.extra)) == bool(r.extra)
            running[slot] = r, rng.randint(1, len(ids))
        for p in (processor, again): p.apply_staged_writes()
        slots = rng.sample(sorted(running), rng.randint(0, len(running)))
        if not slots: continue
        logits = torch.randn(len(slots), WORDS, generator=torch.Generator().manual_seed(step))
        before, lengths = logits.clone(), [running[s][1] for s in slots]
        got = again.apply(processor.apply(logits, context(slots, lengths, padding=2)), context(slots, lengths))
        assert got is logits
        for i, s in enumerate(slots):
            r, length = running[s]
            whole = len(r.prompt) + len(r.output)
            if length < whole: running[s] = r, rng.randint(length + 1, whole)  # still reading: no token is drawn
            else:
                assert torch.equal(got[i], expect(before, i, r))
                if len(r.output) == 39: continue
                advance(r)
                states.all_token_ids.gpu[s, whole] = r.output[-1]
                running[s] = r, whole + 1


def test_v2_with_speculation_is_refused_at_the_door_and_idle_inside():
    speculative = config(speculative_config=object())
    processor = WindowProcessor(speculative, slots_of(2))
    assert not processor.add_request(0, params({"window": 8, "hint": [7]}))
    with pytest.raises(ValueError, match="speculative"): PolicyReader(speculative).read(params({"window": 8, "hint": [7]}), 4)


# -- loading -----------------------------------------------------------------------------------------------------------
def test_both_of_vllms_loaders_take_the_class():
    for load in (v1._load_logitsprocs_by_fqcns, loader._load_v2_logitsprocs_by_fqcns):
        assert load([NAME]) == load([WindowProcessor]) == [WindowProcessor]
    assert WindowProcessor(config(), torch.device("cpu"), True).is_argmax_invariant() is False


def test_both_of_vllms_loaders_take_the_entry_point(monkeypatch):
    entry = importlib.metadata.EntryPoint("z1_window", NAME, v1.LOGITSPROCS_GROUP)
    points = lambda group: [entry] if group == "vllm.logits_processors" else []  # noqa: E731
    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    monkeypatch.setattr(loader, "entry_points", points)
    assert v1._load_logitsprocs_plugins() == loader._load_v2_logitsprocs_plugins() == [WindowProcessor]


def test_two_owners_penalise_once_even_in_a_buffer_that_is_used_again():
    policy, logits = SwitchPenalty(Unlimited(9, EOS), (3, 3)), torch.zeros(2, WORDS)
    for n in (1, 2):
        for owner in ("one", "two"): penalise_switches(logits, owner, [1], [policy])
        assert logits[1, 3] == -3 * n and logits.count_nonzero() == 1


def test_without_vllm_there_is_one_clear_sentence(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "vllm"]: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "z1.serving.vllm_window")
    from z1.serving.vllm_window import BatchRow  # noqa: F401  # what needs no vLLM can be had without it
    with pytest.raises(ImportError, match="needs vLLM 0.32: pip install"):
        from z1.serving.vllm_window import WindowProcessor  # noqa: F401


# -- refusing ----------------------------------------------------------------------------------------------------------
NAN, INF = float("nan"), float("inf")
WRONG = [
    ({"window": 0}, "window"), ({"window": -3}, "window"), ({"window": True}, "window"), ({"window": False}, "window"),
    ({"window": "8"}, "window"), ({"window": 8.0}, "window"), ({"window": 8.5}, "window"), ({"window": NAN}, "window"),
    ({"window": INF}, "window"), ({"window": None}, "window"), ({"window": [8]}, "window"), ({"window": {}}, "window"),
    ({"window": 10**12}, "window"), ({"window": 59}, "window"), ({"window": 8, "hint": ""}, "hint"),
    ({"window": 8, "hint": []}, "hint"), ({"window": 8, "hint": 7}, "hint"), ({"window": 8, "hint": ["a"]}, "hint"),
    ({"window": 8, "hint": [1.0]}, "hint"), ({"window": 8, "hint": [True]}, "hint"),
    ({"window": 8, "hint": [-1]}, "hint"), ({"window": 8, "hint": [[1]]}, "hint"),
    ({"window": 8, "hint": [WORDS]}, "hint"), ({"window": 8, "hint": [0]}, "hint"),
    ({"window": 8, "hint": [1] * 200}, "hint"), ({"window": 8, "hint": None}, "hint"),
    ({"window": 8, "hint": "\ud800"}, "hint"),
    ({"hint": [1]}, "window"), ({"policy": "magic", "window": 8}, "policy"), ({"policy": 1, "window": 8}, "policy"),
    ({"policy": ["shifted"]}, "policy"), ({"policy": None, "window": 8}, "policy"), ({"policy": {}}, "policy"),
    ({"policy": "delimited", "window": 8}, "end"), ({"policy": "delimited", "window": 8, "end": []}, "end"),
    ({"policy": "delimited", "window": 8, "end": [WORDS]}, "end"), ({"window": 8, "hint": [1], "end": [2]}, "end"),
    ({"policy": "no_thinking", "hint": [1], "window": 8}, "window"), ({"policy": "no_thinking"}, "hint"),
    ({"policy": "no_thinking", "hint": [1], "switch": [2]}, "switch"), ({"policy": "unlimited"}, "switch"),
    ({"switch": []}, "switch"), ({"switch": "wait"}, "switch"), ({"switch": [WORDS]}, "switch"),
    ({"switch": [2], "penalty": 0}, "penalty"), ({"switch": [2], "penalty": -1.0}, "penalty"),
    ({"switch": [2], "penalty": NAN}, "penalty"), ({"switch": [2], "penalty": INF}, "penalty"),
    ({"switch": [2], "penalty": True}, "penalty"), ({"switch": [2], "penalty": "3"}, "penalty"),
    ({"switch": [2], "span": 0}, "span"), ({"switch": [2], "span": 1.5}, "span"), ({"penalty": 3.0}, "switch"),
    ({"window": 8, "hint": [1], "written": -1}, "written"), ({"window": 8, "hint": [1], "written": 1.0}, "written"),
    ({"window": 8, "hint": [1], "written": 5}, "written"), ({"window": 8, "hint": [1], "written": 2**60}, "written"),
    ({"written": 1}, "switch"),
    ({"window": 8, "slack": 0}, "slack"), ({"window": 8, "slack": -1}, "slack"), ({"window": 8, "slack": True}, "slack"),
    ({"window": 8, "slack": "2"}, "slack"), ({"window": 8, "slack": 2.0}, "slack"), ({"window": 8, "slack": [2]}, "slack"),
    ({"window": 8, "slack": 2**40, "line": []}, "slack"), ({"slack": 2}, "window"), ({"line": [4]}, "window"),
    ({"window": 8, "line": "a"}, "line"), ({"window": 8, "line": [WORDS]}, "line"), ({"window": 8, "line": [-1]}, "line"),
    ({"window": 8, "line": 4}, "line"), ({"window": 8, "line": [True]}, "line"), ({"window": 8, "line": None}, "line"),
    ({"policy": "no_thinking", "hint": [1], "slack": 2}, "slack"), ({"switch": [2], "policy": "unlimited", "line": []}, "line"),
]


class InputProcessor:
    "As much of vLLM's as the check looks for among its callers."
    def __init__(self, **changes):
        self.vllm_config, self.generation_config_fields = config(**changes), {"eos_token_id": [0, 9]}
        words = {"a": [1], "a hint": [1, 2], "end": [0]}
        tokenizer = Fake(encode=lambda text, add_special_tokens: words.get(text, [3] * len(text.split())))
        self.renderer = Fake(tokenizer=tokenizer, get_eos_token_id=lambda: 0)
    def process_inputs(self, prompt, params): WindowProcessor.validate_params(params)


@pytest.mark.parametrize("wrong, field", WRONG, ids=[repr(w)[:60] for w, _ in WRONG])
def test_malformed_parameters_are_refused_by_name_and_do_no_harm_inside(wrong, field):
    prompt = {"prompt_token_ids": [1, 2, 3, 4]}
    with pytest.raises(ValueError, match=field): InputProcessor().process_inputs(prompt, params(wrong))
    host, states = WindowProcessor(config(), torch.device("cpu"), False), slots_of(2)
    device, logits = WindowProcessor(config(), states), torch.zeros(1, WORDS)
    host.update_state(BatchUpdate(1, [], [(0, params(wrong), [1, 2, 3, 4], [])], []))
    states.prompt_len.np[:] = 4
    assert not device.add_request(0, params(wrong))
    assert not host.apply(logits).any() and not device.apply(logits, context([0], [4])).any()


@pytest.mark.parametrize("wrong", [w for w, _ in WRONG[:12] + WRONG[13:22] + WRONG[27:35] + WRONG[-17:-8]], ids=repr)
def test_most_is_seen_even_where_vllm_cannot_be_asked(wrong):
    with pytest.raises(ValueError): check_params(params(wrong))


def test_good_parameters_pass_and_others_are_left_alone():
    prompt = {"prompt_token_ids": [1, 2, 3, 4]}
    soft = {"slack": 2, "line": [4, 5]}
    for good in ({"window": 8}, {"window": 8, "slack": 2, "line": []}, {"window": 8, "line": [4, 5]},
                 {"policy": "delimited", "window": 8, "end": [1], "switch": [2], **soft},
                 {"window": 8, "hint": "a hint", "written": 4}, {"switch": [2]}, {"session_id": "x"},
                 None, {"policy": "delimited", "window": 8, "end": "a"}, {"window": 8, "hint": [1], "other": object()}):
        InputProcessor().process_inputs(prompt, params(good, ignore_eos=False, stop_token_ids=None))
        check_params(params(good))


def test_a_delimiter_at_which_decoding_pauses_does_not_end_the_turn():
    budget = BudgetForcing(8, wait_ids=(4,), hint_ids=(), eos_ids=EOS, end_ids=(5,))
    asked = params(to_parameters(budget), stop_token_ids=list(budget.stop_ids))
    assert PolicyReader(config()).read(asked, 1)[0] == DelimitedWindow(8, (5,), (), EOS, ROOM - 9)


@pytest.mark.parametrize("extra, more, prompt, reason", [
    ({"window": 8, "hint": "end"}, {}, [1], "hint contains"),
    ({"window": 8, "hint": "end"}, {"ignore_eos": True, "stop_token_ids": None}, [1], "hint contains"),
    ({"window": 8, "hint": [9]}, {"ignore_eos": False, "stop_token_ids": None}, [1], "hint contains"),
    ({"policy": "delimited", "window": 8, "end": "end"}, {}, [1], "end contains"),
    ({"window": 70, "hint": [1]}, {"max_tokens": 90}, [1] * 26, "window"),
    ({"window": 8, "hint": "a " * 90}, {"max_tokens": None}, [1], "hint of 90 tokens"),
    ({"window": 8, "hint": [1], "written": 2}, {}, None, "written"),
])
def test_what_only_the_engine_knows(extra, more, prompt, reason):
    given = {"prompt_token_ids": prompt} if prompt else {"prompt_embeds": None}
    with pytest.raises(ValueError, match=reason): InputProcessor().process_inputs(given, params(extra, **more))


@pytest.mark.parametrize("extra, stop, refused", [
    ({"window": 8, "hint": "so it is"}, "it", True), ({"window": 8, "hint": [5, 6, 7]}, ["x", "o it"], True),
    ({"policy": "delimited", "window": 8, "end": [6], "hint": [7]}, ["it is"], True), ({"policy": "no_thinking", "hint": [5]}, "so", True),
    ({"window": 8, "hint": "so it is"}, ["It", "is it"], False), ({"switch": [5]}, "so", False),
    ({"policy": "delimited", "window": 8, "end": [6]}, ["is"], False)])
def test_a_stop_string_in_what_is_forced_is_refused(extra, stop, refused):
    words = {5: "so", 6: "it", 7: "is"}
    door = InputProcessor()
    door.renderer.tokenizer = Fake(encode=lambda text, add_special_tokens: [k for w in text.split() for k, v in words.items() if v == w],
                                   decode=lambda ids: " ".join(words[i] for i in ids))
    asked = params(extra, stop=stop)
    if not refused: return door.process_inputs({"prompt_token_ids": [1]}, asked)
    with pytest.raises(ValueError, match="^stop: .* occurs in the hint '.*' and would end every output there"):
        door.process_inputs({"prompt_token_ids": [1]}, asked)


def test_what_ends_a_turn_where_a_request_names_nothing_is_what_the_model_declares():
    "vLLM adds the ends of its generation_config (here 0 and 9) and its tokenizer's to the request, unless that ignores them."
    seen = []
    class Door(InputProcessor):
        def process_inputs(self, prompt, asked):
            asked.update_from_generation_config(self.generation_config_fields, self.renderer.get_eos_token_id())
            seen.append(PolicyReader(self.vllm_config, self.renderer.tokenizer).read(asked, 1)[0].eos_ids)
    Door().process_inputs({}, params({"window": 8, "hint": [1]}, ignore_eos=False, stop_token_ids=None))
    Door().process_inputs({}, params({"window": 8, "hint": [1]}, ignore_eos=False, stop_token_ids=[4]))
    Door().process_inputs({}, params({"window": 8, "hint": [1]}))
    assert seen == [(0, 9), (0, 4, 9), EOS]


def test_outputs_that_v1_would_not_show_are_refused():
    blind = {"scheduler_config": Fake(async_scheduling=True)}
    delimited, prompt = {"policy": "delimited", "window": 8, "end": [1]}, {"prompt_token_ids": [1]}
    with pytest.raises(ValueError, match="--logits-processors"):
        InputProcessor(**blind).process_inputs(prompt, params(delimited))
    InputProcessor(**blind).process_inputs(prompt, params({"window": 8}))       # a matter of counting only
    InputProcessor(**blind | {"use_v2_model_runner": True}).process_inputs(prompt, params(delimited))
    named = InputProcessor(**blind)
    named.vllm_config.model_config.logits_processors = [NAME]
    named.process_inputs(prompt, params(delimited))


def test_text_is_encoded_as_the_tokenizer_does_it_alone_and_only_once():
    tokenizer = train_tokenizer([HINT] * 5 + ["user\nassistant\n"])
    reader = PolicyReader(config(), tokenizer)
    reader.model.get_vocab_size = lambda: len(tokenizer)
    policy, _ = reader.read(params({"window": 8}), 4)
    assert list(policy.hint_ids) == tokenizer(HINT, add_special_tokens=False)["input_ids"]
    reader.read(params({"window": 9}), 4)
    assert reader.encode.cache_info().misses == 1

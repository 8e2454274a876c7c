"The transformers engine against the reference loop of nbs/01_window.ipynb, token by token, in float32."
import copy
import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from z1.engines.batch import Finished, GumbelProcessor, PenaltyProcessor, RoomyLayer, WindowProcessor, gumbel, new_cache, shared_trunks
from z1.engines.engine import TransformersEngine
from z1.engines.request import Request, Sampling
from z1.turns import render
from z1.policies import BudgetForcing, SoftLanding, SwitchPenalty
from z1.window import DelimitedWindow, HardCut, NoThinking, ShiftedWindow, Unlimited, decode, fork

VOCABULARY, CONTEXT = 97, 160
EOS, HINT = (0, 3), (40, 41, 42)
END, LONE = (28, 92), (5,)       # delimiters that this random model writes now and then
LINES = (*range(20, 97, 4), 40)  # and the hint begins with the end of a line
MANY = tuple(i for i in range(0, VOCABULARY, 7) if i not in {*HINT, *END, *LONE})    # ends come early
WINDOWS = (1, 2, 7, 16, 33)
WARM = Sampling(temperature=0.9, top_p=0.95)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=CONTEXT,
        tie_word_embeddings=True, initializer_range=0.5, bos_token_id=None, eos_token_id=0)).eval()


@pytest.fixture(scope="module")
def reference(model):
    "Greedy decoding by the reference loop: no cache, no batch, no padding."
    known = {}

    def run(request, sampling=Sampling()):
        @torch.no_grad()
        def next_token(ids):
            key, policy = (request.prompt_ids, tuple(ids)), request.policy
            if key not in known: known[key] = model(torch.tensor([[*request.prompt_ids, *ids]])).logits[0, -1]
            scores = known[key].clone()
            if policy.penalised(ids): scores[list(policy.switch_ids)] -= policy.penalty
            if sampling.temperature:
                scores = torch.log_softmax(scores / sampling.temperature, 0)
                order = scores.argsort(descending=True)
                before = scores[order].exp().cumsum(0) - scores[order].exp()
                scores[order[before >= sampling.top_p]] = -torch.inf
                noise = gumbel(torch.tensor([request.seed]), torch.tensor([len(ids)]), VOCABULARY)
                scores = scores + noise[0]
            return int(scores.argmax())
        return decode(request.policy, next_token, request.start)
    return run


@pytest.fixture(scope="module")
def prompts():
    torch.manual_seed(2)
    return [tuple(torch.randint(7, VOCABULARY, (n,)).tolist()) for n in (1, 2, 5, 11, 12, 30)]


def policies(eos=EOS):
    for w in WINDOWS:
        yield ShiftedWindow(w, HINT, eos, answer_tokens=6)
        yield DelimitedWindow(w, END, HINT, eos, answer_tokens=6)
        yield DelimitedWindow(w, LONE, (), eos, answer_tokens=3)
        yield HardCut(w, eos)
        yield Unlimited(w, eos, end_ids=END)
        for slack, lines in ((1, LINES), (4, LINES), (None, LINES), (20, LINES[::5]), (5, ())):
            yield SoftLanding(w, HINT, eos, 6, slack, lines)
        yield SoftLanding(w, HINT, eos, 3, 9, LINES[::4], END)
        yield SwitchPenalty(SoftLanding(w, HINT, eos, 5, 12, LINES[::3]), tuple(range(10, 60, 2)), 4.0, 6)
        for times in (0, 1, 3):
            yield BudgetForcing(w, (50,), HINT, eos, times=times, answer_tokens=5)
            yield BudgetForcing(w, (50, 51), HINT, eos, LONE, times, 5)
        yield SwitchPenalty(ShiftedWindow(w, HINT, eos, 5), tuple(range(10, 60, 2)), 4.0, 6)
        yield SwitchPenalty(DelimitedWindow(w, END, (), eos, 5), tuple(range(10, 60, 2)), 4.0, 3)
        yield SwitchPenalty(BudgetForcing(w, (50,), HINT, eos, LONE, 2, 5), (11, 12, 13), 9, 60)
    yield NoThinking(HINT, eos, answer_tokens=5)


def run(model, requests, sampling=Sampling(), **kwargs):
    out = list(TransformersEngine(model, None, **kwargs).generate(requests, sampling, progress=False))
    assert sorted(i for i, _ in out) == list(range(len(requests)))
    return [ids for _, ids in sorted(out)]


def test_mixed_in_one_batch_every_policy_and_window_is_the_reference(model, reference, prompts):
    requests = [Request(p, policy) for p in prompts for policy in policies()]
    for request, ids in zip(requests, run(model, requests)):
        assert ids == reference(request), request
        assert sum(map(len, request.policy.split(ids)[:3])) == len(ids) <= request.policy.max_tokens


@pytest.mark.parametrize("batch_tokens", [1, 300, 2**20])
def test_the_size_of_the_batch_changes_nothing(model, prompts, batch_tokens):
    requests = [Request(p, policy) for p in prompts[::2] for policy in policies()]
    assert run(model, requests, batch_tokens=batch_tokens) == run(model, requests)


def test_the_tests_see_every_kind_of_ending(model, prompts):
    "A random model must end early, be cut, and close its own thinking now and then."
    requests = [Request(p, policy) for p in prompts for policy in policies(MANY)]
    requests += [Request(p, policy) for p in prompts for policy in policies(EOS)]
    found = run(model, requests)
    splits = [(r.policy, r.policy.split(ids)) for r, ids in zip(requests, found) if r.policy.window]
    assert sum(s.cut for _, s in splits) > 10 and sum(not s.cut and not s.answer for _, s in splits) > 10
    beyond = [(s.cut, len(s.thinking) - p.window, p.slack) for p, s in splits if isinstance(p, SoftLanding) and p.slack > 2]
    for kind in (lambda cut, n, slack: cut and n == 0, lambda cut, n, slack: cut and 0 < n < slack,
                 lambda cut, n, slack: cut and n == slack, lambda cut, n, slack: not cut and 0 < n < slack):
        assert sum(kind(*one) for one in beyond) > 5
    for end in (END, LONE): assert any(not s.cut and s.answer and p.end_ids == end for p, s in splits)


def test_a_soft_landing_may_fill_the_context(model, reference, prompts):
    requests = [Request(p, SoftLanding(80, HINT, EOS, CONTEXT - len(p) - 80 - 30 - 3, 30, lines)) for p in prompts
                for lines in (LINES[::4], LINES, ())]
    assert {r.longest for r in requests} == {CONTEXT}
    assert run(model, requests) == [reference(r) for r in requests]


def test_early_ends_leave_their_neighbours_alone(model, reference, prompts):
    requests = [Request(p[k:] + p[:k], Unlimited(60, MANY)) for p in prompts for k in range(min(len(p), 6))]
    outputs = run(model, requests)
    assert len({len(ids) for ids in outputs}) > 4
    assert outputs == [reference(r) for r in requests]


def spoilt(ids, rng):
    "A draft that is right, wrong somewhere, cut, too long, or nothing of this model's."
    at = rng.randrange(len(ids))
    return rng.choice([ids, ids[:at] + ((ids[at] + 1) % VOCABULARY,) + ids[at + 1:], ids[:at], ids * 2, ids[at:], (VOCABULARY + 9,) + ids])


@pytest.mark.parametrize("sampling", [Sampling(), WARM])
def test_a_draft_changes_nothing(model, prompts, sampling):
    rng = random.Random(4)
    requests = [Request(p, policy, seed=3) for p in prompts[::2] for eos in (EOS, MANY) for policy in policies(eos)]
    outputs = run(model, requests, sampling)
    drafted = [replace(r, draft=spoilt(ids, rng)) for r, ids in zip(requests, outputs)]
    assert run(model, drafted, sampling) == outputs
    assert run(model, drafted[::-1], sampling, batch_tokens=900)[::-1] == outputs
    started = [replace(r, start=ids[:len(ids) // 2]) for r, ids in zip(drafted, outputs)]
    assert run(model, started, sampling) == run(model, [replace(r, draft=()) for r in started], sampling)


def test_a_right_draft_is_read_and_not_written(model, prompts):
    requests = [Request(p, HardCut(50, (VOCABULARY,))) for p in prompts]
    drafted = [replace(r, draft=ids) for r, ids in zip(requests, run(model, requests))]
    steps = []
    hook = model.register_forward_pre_hook(lambda *x: steps.append(x[2]["input_ids"].shape[1]), with_kwargs=True)
    run(model, drafted)
    hook.remove()
    assert len(steps) == 1 and steps[0] == max(map(len, prompts)) + 49


def tokens_read(model, requests, sampling=Sampling(), **kwargs):
    "The outputs, and how many tokens the model read before it wrote (a step of decoding reads one a row)."
    read = []
    def count(module, args, given):
        if given["input_ids"].shape[1] > 1: read.append(given["input_ids"].numel())
    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    outputs = run(model, requests, sampling, **kwargs)
    hook.remove()
    return outputs, sum(read)


def forks(prompts, starts, hints=(HINT, HINT[::-1] * 3), windows=(1, 2, 9, 20, 33, 50, 70), **kwargs):
    "Starts cut at every window, under every hint, as a sweep asks for them."
    return [Request(p, ShiftedWindow(w, h, (VOCABULARY,), 4), start=s[:w] + h, **kwargs)
            for p, s in zip(prompts, starts) for w in windows for h in hints]


def test_what_a_draft_was_read_for_is_not_read_again_for_its_forks(model, prompts):
    free = [Request(p, Unlimited(70, (VOCABULARY,))) for p in prompts]
    starts = run(model, free)
    requests = forks(prompts, starts, hints=(HINT,), windows=(1, 20, 69)) + forks(prompts[:1], [starts[1]], hints=(HINT,))
    alone, read = tokens_read(model, requests)
    engine = TransformersEngine(model, None)
    assert [ids for _, ids in sorted(engine.generate([replace(r, draft=ids) for r, ids in zip(free, starts)], progress=False))] == starts
    widths = []
    hook = model.register_forward_pre_hook(lambda *x: widths.append(x[2]["input_ids"].numel()), with_kwargs=True)
    again = [ids for _, ids in sorted(engine.generate(requests, progress=False))]
    hook.remove()
    assert again == alone                                         # another thought of the first prompt is read after all
    assert sum(n for n in widths if n > len(requests)) < read / 2


@pytest.mark.parametrize("sampling", [Sampling(), WARM])
def test_forks_that_share_their_reading_are_those_decoded_one_by_one(model, reference, prompts, sampling):
    prompts = prompts[::2]
    starts = run(model, [Request(p, Unlimited(70, (VOCABULARY,)), seed=5) for p in prompts], sampling)
    requests = forks(prompts, starts, seed=5)
    requests += forks(prompts[:2], [s[:30] + s[40:] + s[30:40] for s in starts], seed=6)  # of another thought
    requests += [Request(p, q, seed=7) for p in prompts for q in (HardCut(9, EOS), Unlimited(70, EOS))]
    longer = Unlimited(80, (VOCABULARY,))
    requests += [Request(prompts[0], longer, start=starts[0][:n]) for n in (0, 1, 2, 69)]
    alone = [run(model, [r], sampling)[0] for r in requests]
    assert run(model, requests, sampling) == alone
    assert run(model, requests[::-1], sampling, batch_tokens=1500)[::-1] == alone
    assert alone[::9] == [reference(r, sampling) for r in requests[::9]]


def test_a_shared_prefix_is_read_once(model, prompts):
    torch.manual_seed(3)
    for p in prompts:
        start = tuple(torch.randint(7, VOCABULARY, (70,)).tolist())
        requests = forks([p], [start], windows=(20, 33, 50, 70))
        tail = len(HINT) * 3 - 1                               # the newest token is read by the first step
        shared = len(p) + len(start)
        outputs, read = tokens_read(model, requests)
        assert read == shared + len(requests) * tail
        alone, each = zip(*(tokens_read(model, [r]) for r in requests))
        assert outputs == [ids for ids, in alone]
        assert sum(each) == sum(len(p + r.start) - 1 for r in requests) > 1.9 * read
    same = [Request(prompts[-1], HardCut(3, EOS), seed=s) for s in range(9)]
    assert tokens_read(model, same, WARM)[1] == len(prompts[-1]) - 1      # samples share their prompt


def test_forks_of_one_problem_share_a_batch(model, prompts):
    two = [prompts[3], prompts[4][:11]]                           # prompts of the same length
    starts = [tuple(range(10, 80)), tuple(range(20, 90))]
    requests = forks(two, starts)
    mixed = [r for pair in zip(requests[:14], requests[14:]) for r in pair]
    width = max(len(r.prompt_ids) + r.policy.max_tokens for r in mixed)
    assert tokens_read(model, mixed, batch_tokens=14 * width)[1] == tokens_read(model, mixed)[1]


def test_trunks():
    def ask(start, prompt=(1,) * 9): return Request(prompt, Unlimited(200, EOS), start=start)
    long = tuple(range(5, 95))
    assert shared_trunks([ask(long)]) == ([0], 0)
    assert shared_trunks([ask(long[:50]), ask(long), ask(long[:20])]) == ([1, 1, 1], 0)           # prefixes
    assert shared_trunks([ask(long[:50] + HINT), ask(long + HINT)]) == ([1, 1], 2)
    assert shared_trunks([ask(long, (2,) * 9), ask(long)]) == ([0, 1], 0)                         # other prompts
    assert shared_trunks([ask(long), ask(long[::-1])]) == ([0, 1], 0)                             # other thoughts
    assert shared_trunks([ask(()), ask(()), ask((5,))]) == ([2, 2, 2], 0)                         # samples
    assert shared_trunks([]) == ([], 0)


@pytest.mark.parametrize("sampling", [Sampling(), WARM])
def test_a_fork_continued_is_direct_decoding(model, prompts, sampling):
    for eos in (EOS, MANY):
        some = [(i, p) for i in range(len(prompts)) for p in policies(eos)]
        bases = list(dict.fromkeys((i, p.free(60)) for i, p in some))
        free = dict(zip(bases, run(model, [Request(prompts[i], p, seed=i) for i, p in bases], sampling)))
        direct = run(model, [Request(prompts[i], p, seed=i) for i, p in some], sampling)
        starts = [Request(prompts[i], p, seed=i, start=fork(p, free[i, p.free(60)]).ids) for i, p in some]
        forked = run(model, starts, sampling)
        assert forked == direct


def test_sampling_is_the_reference_with_noise(model, reference, prompts):
    requests = [Request(p, policy, seed=s) for p in prompts[2:4] for s in (0, 7, -1, 2**62)
                for policy in (ShiftedWindow(7, HINT, EOS, 6), Unlimited(20, EOS))]
    outputs = run(model, requests, WARM)
    assert outputs == [reference(r, WARM) for r in requests]
    assert len(set(outputs)) > len(outputs) // 2


def test_samples_do_not_depend_on_their_batch(model, prompts):
    requests = [Request(p, ShiftedWindow(16, HINT, EOS, 6), seed=s) for p in prompts for s in range(5)]
    together = run(model, requests, WARM)
    assert together == [run(model, [r], WARM)[0] for r in requests]
    assert together == run(model, requests[::-1], WARM, batch_tokens=400)[::-1]


def test_a_small_window_is_the_beginning_of_a_large_one(model, prompts):
    for sampling in (Sampling(), WARM):
        for p in prompts:
            two = [Request(p, ShiftedWindow(w, HINT, EOS, 6), seed=3) for w in (7, 33)]
            small, large = run(model, two, sampling)
            n = len(ShiftedWindow(7, HINT, EOS).split(small).thinking)
            assert small[:n] == large[:n]


def test_the_processors_work_in_a_plain_generate(model, reference, prompts):
    some = [p for p in policies() if not isinstance(getattr(p, 'policy', p), BudgetForcing)][:16]
    most = max(p.max_tokens for p in some)
    ids, begin = torch.tensor([prompts[3]] * len(some)), [len(prompts[3])] * len(some)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False,
                         eos_token_id=-1, pad_token_id=0, logits_processor=[PenaltyProcessor(some, begin), WindowProcessor(some, begin)],
                         stopping_criteria=[Finished(some, begin)])
    for policy, row in zip(some, out[:, len(prompts[3]):].tolist()):
        assert policy.trim(row) == reference(Request(prompts[3], policy))


def test_idle_steps_look_at_no_row():
    class Silent(ShiftedWindow):
        def force(self, ids): raise AssertionError("asked before anything was due")
    processor = WindowProcessor([Silent(50, HINT, EOS)] * 4 + [Unlimited(99, EOS)] * 4, [10] * 8)
    scores = torch.zeros(8, VOCABULARY)
    for n in range(10, 60): assert processor(torch.zeros(8, n, dtype=torch.long), scores) is scores
    with pytest.raises(AssertionError): processor(torch.zeros(8, 60, dtype=torch.long), scores)


def test_forcing_leaves_other_rows_and_the_callers_scores_alone():
    scores = torch.randn(2, VOCABULARY)
    before = scores.clone()
    process = WindowProcessor([ShiftedWindow(1, HINT, EOS), HardCut(9, EOS)], [3, 3])
    out = process(torch.full((2, 4), 9), scores)
    assert torch.equal(scores, before) and torch.equal(out[1], before[1])
    assert out[0].argmax() == HINT[0] and out[0].isinf().sum() == VOCABULARY - 1


def test_noise_is_gumbel_and_has_an_address():
    seeds, where = torch.arange(2000), torch.full((2000,), 5)
    noise = gumbel(seeds, where, 50)
    assert noise.isfinite().all()
    assert abs(noise.mean() - 0.5772) < 0.01 and abs(noise.var() - torch.pi**2 / 6) < 0.03
    assert torch.equal(noise[[7, 3]], gumbel(torch.tensor([7, 3]), torch.tensor([5, 5]), 50))
    assert abs(torch.corrcoef(torch.stack([noise[:, 0], noise[:, 1]]))[0, 1]) < 0.08
    assert abs(torch.corrcoef(torch.stack([noise[:, 0], gumbel(seeds, where + 1, 50)[:, 0]]))[0, 1]) < 0.08
    scores = GumbelProcessor([7], [2])(torch.zeros(1, 7, dtype=torch.long), torch.zeros(1, 50))
    assert torch.equal(scores[0], noise[7])
    GumbelProcessor([2**70, -2**70], [0, 0])                        # any whole number is a seed


def test_nothing_of_the_callers_is_changed(model, prompts):
    requests = [Request(prompts[0], p) for p in policies()]
    spoilt = copy.deepcopy(model)
    spoilt.generation_config.update(do_sample=True, temperature=0.1, repetition_penalty=3.0, max_length=3)
    state = lambda m: (m.generation_config.to_dict(), m.config.to_dict(), m.training,
                       {k: v.clone() for k, v in m.state_dict().items()})
    before, asked = state(spoilt), copy.deepcopy(requests)
    assert run(spoilt, requests) == run(model, requests)
    after = state(spoilt)
    assert before[:3] == after[:3] and all(torch.equal(before[3][k], after[3][k]) for k in before[3])
    assert requests == asked


def test_results_arrive_as_batches_finish(model, prompts):
    stream = TransformersEngine(model, None, batch_tokens=1).generate(
        [Request(p, HardCut(3, EOS)) for p in prompts], progress=False)
    first, ids = next(stream)
    assert 1 <= len(ids) <= 3 and first in range(len(prompts))
    stream.close()


def test_no_requests_and_finished_starts(model, prompts):
    assert run(model, []) == []
    done, policy = fork(HardCut(2, EOS), [9, 9, 9]), HardCut(2, EOS)
    assert done.done and run(model, [Request(prompts[0], policy, start=done.ids)]) == [done.ids]
    assert run(model, [Request(prompts[0], Unlimited(9, EOS), start=(9, 0, 9, 9, 9, 9, 9, 9, 9))]) == [(9, 0)]


def test_requests_that_cannot_be_met_are_named_before_anything_is_decoded(model, prompts):
    engine, good = TransformersEngine(model, None), Request(prompts[0], HardCut(2, EOS))
    with pytest.raises(ValueError, match=r"request 1: .* the context is 160"):
        engine.generate([good, Request(prompts[-1], Unlimited(CONTEXT, EOS))])
    with pytest.raises(ValueError, match="request 1: there is no token 97"):
        engine.generate([good, Request((1, VOCABULARY), HardCut(2, EOS))])
    with pytest.raises(ValueError, match="request 0: there is no token 500"):
        engine.generate([Request((1,), ShiftedWindow(2, (500,), EOS))])
    full = Request(prompts[1], Unlimited(CONTEXT - len(prompts[1]), (VOCABULARY,)))
    assert len(run(model, [full])[0]) == CONTEXT - len(prompts[1])       # exactly full is allowed


@pytest.mark.parametrize("bad, word", [
    (dict(prompt_ids=()), "prompt_ids is empty"), (dict(prompt_ids="text"), "prompt_ids must be"),
    (dict(prompt_ids=(1, -1)), "prompt_ids must be"), (dict(prompt_ids=(1, True)), "prompt_ids must be"),
    (dict(start=(1.5,)), "start must be"), (dict(policy=16), "policy must be"),
    (dict(policy=None), "policy must be"),
    (dict(seed=1.0), "seed must be"), (dict(seed=None), "seed must be"), (dict(seed=True), "seed must be")])
def test_bad_requests(bad, word):
    with pytest.raises(ValueError, match=f"Request.{word}"):
        Request(**{"prompt_ids": (1,), "policy": HardCut(2, EOS), **bad})


@pytest.mark.parametrize("bad", [
    dict(temperature=-0.1), dict(temperature=float("nan")), dict(temperature=float("inf")),
    dict(top_p=0), dict(top_p=1.01), dict(top_p=float("nan"))])
def test_bad_sampling(bad):
    with pytest.raises(ValueError, match=f"Sampling.{[*bad][0]} must be"): Sampling(**bad)


def test_a_layer_with_room_is_a_layer(model):
    plain, roomy = DynamicCache(config=model.config), new_cache(model)
    assert all(isinstance(x, RoomyLayer) for x in roomy.layers)
    x = torch.tensor([[9, 8, 7], [1, 2, 3]])
    with torch.no_grad():
        for _ in range(150):
            a, b = (model(x, past_key_values=c).logits[:, -1] for c in (plain, roomy))
            assert torch.equal(a, b)
            x = a.argmax(1, keepdim=True)
    assert plain.get_seq_length() == roomy.get_seq_length() == 152
    sliding = copy.deepcopy(model)
    sliding.config.layer_types, sliding.config.sliding_window = ["full_attention", "sliding_attention"], 8
    with pytest.raises(ValueError, match="full attention only"): new_cache(sliding)


@pytest.fixture(scope="module")
def tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(["user assistant what is it\n"], trainers.BpeTrainer(
        vocab_size=60, special_tokens=special, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", chat_template=(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"))


def test_render(tokenizer):
    ids = render(tokenizer, "what is it")
    assert type(ids) is tuple and all(type(i) is int for i in ids)
    assert tokenizer.decode(ids) == "<|im_start|>user\nwhat is it<|im_end|>\n<|im_start|>assistant\n"
    with pytest.raises(ValueError, match="no chat template"):
        render(PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer), "what is it")


def test_a_saved_model_decodes_as_it_did(model, tokenizer, prompts, tmp_path):
    model.save_pretrained(tmp_path/"m")
    tokenizer.save_pretrained(tmp_path/"m")
    requests = [Request(p, ShiftedWindow(7, HINT, EOS, 6)) for p in prompts]
    engine = TransformersEngine.from_pretrained(tmp_path/"m", device="cpu")
    assert [ids for _, ids in sorted(engine.generate(requests, progress=False))] == run(model, requests)
    info = engine.info()
    assert info["engine"] == "transformers" and info["dtype"] == "float32" and info["device"] == "cpu"
    assert info["model"] == str(tmp_path/"m") and engine.context == CONTEXT
    json.dumps(info)
    assert TransformersEngine.from_pretrained(tmp_path/"m", "bfloat16").info()["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="dtype must be"):
        TransformersEngine.from_pretrained(tmp_path/"m", "float99")
    shutil.copytree(tmp_path/"m", tmp_path/"torn")
    weights = tmp_path/"torn"/"model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot load the model"):
        TransformersEngine.from_pretrained(tmp_path/"torn")


def test_a_path_without_a_model(tmp_path):
    for path in (tmp_path, tmp_path/"missing", "data/models/nano/missing", "missing"):
        with pytest.raises(ValueError, match="no model at"): TransformersEngine.from_pretrained(path)


def test_a_model_in_training_mode(model):
    with pytest.raises(ValueError, match="training mode"):
        TransformersEngine(copy.deepcopy(model).train(), None)

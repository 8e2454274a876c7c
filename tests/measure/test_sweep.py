"The sweep against decoding every window on its own, a kill -9 in the middle of it, and results that cannot be read."
import json
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from z1.core import Ledger, Sample
from z1.nano.tokenizer import train_tokenizer
from z1.engines.engine import TransformersEngine
from z1.engines.request import Request, Sampling
from z1.turns import render
from z1.measure.sweep import SAMPLE_COLUMNS, read_samples, sweep, to_sample, write_samples
from z1.policies import make_policies
from z1.nano.programs import ANSWER_LEAD, STYLES, make_problems
from z1.window import HINT, Unlimited

ROOT = Path(__file__).resolve().parents[2]
WINDOWS = (1, 2, 7, 16, 33)
WARM = Sampling(temperature=0.9, top_p=0.95)
PROBLEMS = list(make_problems("train", 6, seed=9))


class Counting:
    "An engine that remembers what it was asked."
    def __init__(self, engine): self.engine, self.tokenizer, self.asked = engine, engine.tokenizer, []

    def generate(self, requests, sampling, progress=False):
        self.asked += requests
        return self.engine.generate(requests, sampling, progress=False)


@pytest.fixture(scope="module")
def tokenizer():
    some = list(make_problems("train", 150, seed=8))
    return train_tokenizer([t for p in some for s in STYLES.values() for t in (p.prompt, s(p).response)] + [HINT] * 5)


@pytest.fixture(scope="module")
def base(tokenizer):
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=640, tie_word_embeddings=True, initializer_range=0.5,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id)).eval()
    return TransformersEngine(model, tokenizer)


@pytest.fixture
def engine(base): return Counting(base)


@pytest.fixture(scope="module")
def ends(base, tokenizer):
    "Ids that this random model happens to write: some to end its turn, one to end its thinking."
    requests = [Request(render(tokenizer, p.prompt), Unlimited(40, (tokenizer.eos_token_id,)), seed=s)
                for p in PROBLEMS for s in range(4)]
    counts = Counter(i for _, ids in base.generate(requests, WARM, progress=False) for i in set(ids))
    hint = set(tokenizer(HINT + ANSWER_LEAD + "</think>").input_ids)
    usual = [i for i, _ in counts.most_common() if i not in hint]
    return (tokenizer.eos_token_id, *usual[2:7]), tuple(usual[8:9])


@pytest.fixture(scope="module")
def policies(tokenizer, ends):
    "Every family of the recipes, with a delimiter and with ends that a random model does write, and one that is never cut."
    def family(kind, hint="", **change):
        return [replace(p, eos_ids=ends[0], **change) for p in make_policies(kind, WINDOWS, tokenizer, hint, answer_tokens=5)]
    lead = "\n" + ANSWER_LEAD
    return [*family("shifted", HINT + ANSWER_LEAD), *family("lead_in", lead), *family("hard_cut"), *family("delimited", lead),
            *family("delimited", lead, end_ids=ends[1], name="own_delimiter"), Unlimited(40, ends[0], end_ids=ends[1]),
            *family("soft_landing", HINT + ANSWER_LEAD), *family("grace", lead, slack=6)]


def swept(engine, policies, sampling, samples, path, problems=PROBLEMS, run="r", **kwargs):
    with Ledger(path, key="request", run=run, **kwargs) as ledger:
        return sweep(engine, problems, policies, ledger, sampling, samples, seed=4, progress=False)


@pytest.mark.parametrize("sampling, samples", [(Sampling(), 1), (WARM, 3)], ids=["greedy", "three samples"])
def test_the_sweep_is_every_window_decoded_on_its_own(engine, base, policies, sampling, samples, tmp_path):
    outputs = swept(engine, policies, sampling, samples, tmp_path/"l")
    assert [(o.policy, o.problem.id, o.sample) for o in outputs] == \
        [(q, p.id, s) for q in policies for p in PROBLEMS for s in range(samples)]
    seeds = {}                                   # which random numbers a sample got, in the order of its problem's tries
    for r in engine.asked:
        if not r.start: seeds.setdefault(r.prompt_ids, []).append(r.seed)
    assert all(len(s) == samples for s in seeds.values()) and len({x for s in seeds.values() for x in s}) == 6 * samples
    for o in outputs:
        prompt = render(base.tokenizer, o.problem.prompt)
        [(_, alone)] = base.generate([Request(prompt, o.policy, seeds[prompt][o.sample])], sampling, progress=False)
        assert o.ids == alone, (o.policy, o.problem.id, o.sample)
        row = to_sample(o, base.tokenizer, model="random", seed=0, run="r")
        assert row.thinking_tokens + row.hint_tokens + row.answer_tokens == row.total_tokens == len(alone)
        assert row.window == (o.policy.window or 40) and row.thinking_tokens <= row.window + o.policy.slack or o.policy.name == "unlimited"
    rows = [to_sample(o, base.tokenizer, model="random", seed=0, run="r") for o in outputs]
    for name in {p.name for p in policies} - {"unlimited"}:                 # the test is not one of cut samples only
        cut = [r.cut for r in rows if r.policy == name]
        assert any(cut) and (not all(cut)), name
    if samples > 1: assert len({o.ids for o in outputs if o.policy == policies[4]}) > len(PROBLEMS)


@pytest.mark.parametrize("sampling, samples", [(Sampling(), 1), (WARM, 3)], ids=["greedy", "three samples"])
def test_a_sweep_of_one_policy_is_its_part_of_the_whole(engine, policies, sampling, samples, tmp_path):
    def known(outputs): return {(o.policy, o.problem.id, o.sample): o.ids for o in outputs}
    whole = known(swept(engine, policies, sampling, samples, tmp_path/"whole"))
    assert known(swept(engine, policies[::-1], sampling, samples, tmp_path/"reversed")) == whole
    for i in (0, 8, 12, 19, 23):
        part = known(swept(engine, policies[i:i + 1], sampling, samples, tmp_path/f"part{i}"))
        assert part == {k: v for k, v in whole.items() if k[0] == policies[i]}
    some = known(swept(engine, policies, sampling, samples, tmp_path/"some", PROBLEMS[2:4]))
    assert some == {k: v for k, v in whole.items() if k[1] in {p.id for p in PROBLEMS[2:4]}}


def test_shared_prefixes_are_decoded_once(engine, base, policies, tmp_path):
    outputs = swept(engine, policies, Sampling(), 1, tmp_path/"l")
    fresh = sum(len(row["ids"]) for row in map(json.loads, open(tmp_path/"l"))) - sum(len(r.start) for r in engine.asked)
    assert fresh < 0.6 * sum(len(o.ids) for o in outputs)
    assert len([r for r in engine.asked if not r.start]) == len(PROBLEMS)
    before = len(engine.asked)
    assert swept(engine, policies, Sampling(), 1, tmp_path/"l") == outputs and len(engine.asked) == before


def test_samples_of_a_greedy_sweep_are_all_the_same(engine, policies, tmp_path):
    outputs = swept(engine, policies[:3], Sampling(), 2, tmp_path/"l", PROBLEMS[:2])
    assert all(a.ids == b.ids and (a.sample, b.sample) == (0, 1) for a, b in zip(outputs[::2], outputs[1::2]))


# -- kill -9 ----------------------------------------------------------------------------------------------------

SWEEPER = """
import pickle, sys, time
from pathlib import Path
import torch
from z1.core import Ledger
from z1.engines.engine import TransformersEngine
from z1.measure.sweep import sweep

class Slow(Ledger):          # time enough to be killed between any two rows
    def append(self, row):
        super().append(row)
        time.sleep(0.01)

torch.set_num_threads(1)
folder = Path(sys.argv[1])
policies, problems, sampling = pickle.loads((folder/"asked.pickle").read_bytes())
engine = TransformersEngine.from_pretrained(folder/"model", device="cpu", batch_tokens=1500)
print("ready", flush=True)
with Slow(folder/"ledger.jsonl", key="request", run="r", sync_every=3) as ledger:
    sweep(engine, problems, policies, ledger, sampling, samples=2, seed=4, progress=False)
"""


def test_killed_at_a_random_moment_and_run_again_nothing_is_decoded_twice(engine, base, policies, tmp_path):
    base.model.save_pretrained(tmp_path/"model")
    base.tokenizer.save_pretrained(tmp_path/"model")
    path, moment = tmp_path/"ledger.jsonl", random.Random(6)
    (tmp_path/"asked.pickle").write_bytes(pickle.dumps((policies, PROBLEMS, WARM)))
    errors = tmp_path/"errors.txt"
    process = subprocess.Popen([sys.executable, "-c", SWEEPER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               stderr=errors.open("w"))
    assert any(line == "ready\n" for line in process.stdout), errors.read_text()
    rows = moment.randint(1, 80)
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < rows): time.sleep(0.005)
    time.sleep(moment.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.read_text()
    with open(path, "ab") as f: f.write(b'{"request": "shifted@7/trai')                     # as if killed inside a write
    finished = [json.loads(line)["request"] for line in path.read_bytes().split(b"\n")[:-1]]
    assert finished and len(finished) == len(set(finished))

    whole = Counting(base)
    expected = swept(whole, policies, WARM, 2, tmp_path/"whole.jsonl")
    outputs = swept(engine, policies, WARM, 2, path)
    assert outputs == expected
    assert len(engine.asked) == len(whole.asked) - len(finished) < len(whole.asked)
    lines = [[json.loads(line) for line in open(p)] for p in (path, tmp_path/"whole.jsonl")]
    assert len(lines[0]) == len({r["request"] for r in lines[0]})
    assert [r["request"] for r in lines[0]][:len(finished)] == finished, "finished rows stay where they are"
    assert {r["request"]: r["ids"] for r in lines[0]} == {r["request"]: r["ids"] for r in lines[1]}
    assert swept(engine, policies, WARM, 2, path) == expected


def test_an_engine_that_fails_loses_only_what_it_had_not_finished(base, policies, tmp_path):
    class Failing(Counting):
        def generate(self, requests, sampling, progress=False):
            for n, row in enumerate(self.engine.generate(requests, sampling, progress=False)):
                if n == 3: raise RuntimeError("out of memory")
                yield row
    with pytest.raises(RuntimeError): swept(Failing(base), policies, Sampling(), 1, tmp_path/"l")
    again = Counting(base)
    assert swept(again, policies, Sampling(), 1, tmp_path/"l") == swept(Counting(base), policies, Sampling(), 1, tmp_path/"whole")
    assert sum(not r.start for r in again.asked) == len(PROBLEMS) - 3


# -- samples.parquet --------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def samples(base, policies, tmp_path_factory):
    outputs = swept(Counting(base), policies, Sampling(), 1, tmp_path_factory.mktemp("sweep")/"l")
    return [to_sample(o, base.tokenizer, model="random", seed=0, run="r") for o in outputs]


def test_samples_are_read_back_as_they_were_written(samples, tmp_path):
    write_samples(samples, [{"run": "r", "note": "ü"}], tmp_path)
    table = read_samples(tmp_path)
    assert list(table.columns) == SAMPLE_COLUMNS == [f.name for f in fields(Sample)] == (
        "model policy window benchmark problem_id difficulty sample seed cut thinking_tokens hint_tokens answer_tokens total_tokens "
        "answer correct verdict run detail lenient").split()
    back = [{k: None if k == "answer" and v is not None and v != v else v for k, v in row.items()} for row in table.to_dict("records")]
    assert back == [asdict(s) for s in samples]
    assert (table.thinking_tokens + table.hint_tokens + table.answer_tokens == table.total_tokens).all()
    assert [json.loads(line) for line in open(tmp_path/"manifests.jsonl")] == [{"run": "r", "note": "ü"}]
    first = (tmp_path/"samples.parquet").read_bytes()
    write_samples(table, [], tmp_path)
    assert (tmp_path/"samples.parquet").read_bytes() == first and sorted(p.name for p in tmp_path.iterdir()) == ["manifests.jsonl", "samples.parquet"]


@pytest.mark.parametrize("field", ["answer", "detail", "problem_id", "model"])
def test_half_a_character_costs_no_results(samples, tmp_path, field):
    odd = replace(samples[0], **{field: "x \ud83d"})
    write_samples([odd, *samples[1:]], [{"note": "\ud83d"}], tmp_path)
    assert read_samples(tmp_path)[field].iloc[0] == "x \ufffd" and json.loads((tmp_path/"manifests.jsonl").read_text())["note"] == "\ud83d"
    table = pd.DataFrame([asdict(s) for s in samples]).astype({field: object})
    table.loc[1, field] = "x \ud83d"                                                    # a table that somebody else made
    write_samples(table, [], tmp_path)
    assert read_samples(tmp_path)[field].iloc[1] == "x \ufffd" and table.loc[1, field] == "x \ud83d"


def test_samples_without_oddities_are_written_as_they_are(samples, tmp_path):
    table = pd.DataFrame([asdict(s) for s in samples])
    table[SAMPLE_COLUMNS].to_parquet(tmp_path/"plain.parquet", index=False)
    for some in (samples, table):
        write_samples(some, [], tmp_path)
        assert (tmp_path/"samples.parquet").read_bytes() == (tmp_path/"plain.parquet").read_bytes()


def test_a_number_that_is_none_is_named_with_its_problem(samples, tmp_path):
    for bad in (2**70, 3.5, "hard", None):
        with pytest.raises(ValueError, match=f"sample of problem '{samples[1].problem_id}': field 'difficulty' is "):
            write_samples([samples[0], replace(samples[1], difficulty=bad)], [], tmp_path)
    write_samples([samples[0], replace(samples[1], difficulty=3.0)], [], tmp_path)
    assert read_samples(tmp_path).difficulty.tolist() == [samples[0].difficulty, 3]


def test_results_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"samples\.parquet: no results yet; run `make figures`"): read_samples(tmp_path)


@pytest.mark.parametrize("change", [
    lambda t: t.drop(columns="verdict"), lambda t: t.assign(extra=1), lambda t: t[SAMPLE_COLUMNS[::-1]],
    lambda t: t.rename(columns={"cut": "was_cut"}), lambda t: t[[]]], ids=["missing", "extra", "order", "renamed", "none"])
def test_results_with_other_columns(samples, tmp_path, change):
    change(pd.DataFrame([asdict(s) for s in samples])).to_parquet(tmp_path/"samples.parquet", index=False)
    with pytest.raises(ValueError, match=r"samples\.parquet: has columns .*delete it and run `make figures` again"): read_samples(tmp_path)


@pytest.mark.parametrize("part", ["thinking_tokens", "hint_tokens", "answer_tokens", "total_tokens"])
def test_results_whose_tokens_do_not_add_up(samples, tmp_path, part):
    table = pd.DataFrame([asdict(s) for s in samples])
    table.loc[7, part] += 1
    table.to_parquet(tmp_path/"samples.parquet", index=False)
    with pytest.raises(ValueError, match=rf"problem '{table.problem_id[7]}', window {table.window[7]} do not add up; delete"): read_samples(tmp_path)


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_a_results_file_torn_at_any_byte(samples, tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("torn")
    write_samples(samples, [], folder)
    whole = (folder/"samples.parquet").read_bytes()
    (folder/"samples.parquet").write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match="not a readable Parquet file; delete it and run `make figures` again"): read_samples(folder)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"model,policy\n", b"\0" * 500, b"PAR1" + b"\0" * 500 + b"PAR1"])
def test_a_results_file_that_is_something_else(tmp_path, content):
    (tmp_path/"samples.parquet").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable Parquet file; delete it"): read_samples(tmp_path)

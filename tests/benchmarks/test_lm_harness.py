"""lm_eval's own tasks in a window: the scores are ours, sample by sample, and a kill costs nothing."""
import copy, json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs lm_eval: pip install 'z1[lm_eval]'")

from hypothesis import given, strategies as st
from z1.core import Ledger, Problem
from z1.engines.engine import TransformersEngine, load_engine
from z1.measure.sweep import sweep, to_sample
from z1.policies import make_policies
from z1.benchmarks.lm_harness import HarnessProtocol, WindowLM, register, visible_text
from z1.nano.programs import ANSWER_LEAD
from z1.window import HINT, decode

ROOT = Path(__file__).resolve().parents[2]
MODEL, TASKS = "data/models/nano/z1-s0", "data/examples/lm_harness"
ARGUMENTS = {"pretrained": MODEL, "hint": HINT + ANSWER_LEAD, "answer_tokens": 8}
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the task names its questions from there


@pytest.fixture(scope="module")
def engine(): return load_engine("transformers", ROOT/MODEL)


@pytest.fixture(scope="module")
def problems():
    rows = map(json.loads, (ROOT/TASKS/"programs.jsonl").read_text().splitlines())
    return [Problem(r["id"], "nano", r["prompt"], r["answer"], 0) for r in rows]


def simple(lm, **more):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    tasks = TaskManager(include_path=TASKS, include_defaults=False)  # its thousands of others take seconds
    return simple_evaluate(lm, tasks=["nano_programs"], task_manager=tasks,
                           **{"apply_chat_template": True, "bootstrap_iters": 0} | more)


def verdicts(samples): return [bool(s["exact_match"]) for s in sorted(samples, key=lambda s: s["doc_id"])]


def own(engine, problems, window, path):
    "This project's own evaluation of the same problems."
    policies = make_policies("shifted", [window], engine.tokenizer, ARGUMENTS["hint"], ARGUMENTS["answer_tokens"])
    with Ledger(path) as ledger: outputs = sweep(engine, problems, policies, ledger, progress=False)
    return [to_sample(o, engine.tokenizer, model="z1", seed=0, run="") for o in outputs]


# -- the same scores ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("window", [24, 128])
def test_scores_are_our_own_sample_by_sample(engine, problems, window, tmp_path):
    ours = own(engine, problems, window, tmp_path/"own.jsonl")
    assert len({s.correct for s in ours}) == len({s.cut for s in ours}) == 2, "all alike would show nothing"
    lm = WindowLM(engine=engine, window=window, hint=ARGUMENTS["hint"], answer_tokens=8)
    results = simple(lm)
    assert verdicts(results["samples"]["nano_programs"]) == [s.correct for s in ours]
    assert results["results"]["nano_programs"]["exact_match,answer"] == sum(s.correct for s in ours) / 20
    found = results["config"]["z1"]["summary"]["nano_programs"]
    for name in ("cut", "thinking_tokens", "hint_tokens", "answer_tokens"):
        assert found[name] == pytest.approx(sum(getattr(s, name) for s in ours) / 20)


def command(folder, *more, **arguments):
    "The command line as a user types it."
    return [sys.executable, "-m", "z1.lm_harness", "--model", "z1", "--model_args", json.dumps(ARGUMENTS | arguments),
            "--include_path", TASKS, "--tasks", "nano_programs", "--apply_chat_template", "--log_samples",
            "--output_path", str(folder), *more]


def read(folder):
    "(results, samples) that the command line has written."
    [results], [samples] = folder.rglob("results_*.json"), folder.rglob("samples_*.jsonl")
    return json.loads(results.read_text()), list(map(json.loads, samples.read_text().splitlines()))


def test_a_killed_command_goes_on_and_ends_alike(engine, problems, tmp_path):
    ledger, ours = tmp_path/"rows.jsonl", own(engine, problems, 128, tmp_path/"own.jsonl")
    run = command(tmp_path/"out", window=128, ledger=str(ledger), batch_tokens=1)   # one output at a time
    with open(tmp_path/"log", "w") as log:
        process = subprocess.Popen(run, cwd=ROOT, env=OFFLINE, stdout=log, stderr=log)
        def rows(): return ledger.read_bytes().count(b"\n") if ledger.exists() else 0
        while rows() < 5 and process.poll() is None: time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = ledger.read_bytes()
    assert 5 <= before.count(b"\n") < 20, (tmp_path/"log").read_text()
    done = subprocess.run(run, cwd=ROOT, env=OFFLINE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "exact_match" in done.stdout and "thinking_tokens" in done.stderr
    results, samples = read(tmp_path/"out")
    assert verdicts(samples) == [s.correct for s in ours]
    assert results["config"]["z1"]["summary"]["nano_programs"]["outputs"] == 20
    assert ledger.read_bytes().startswith(before[:before.rfind(b"\n") + 1]), "finished rows were written again"
    assert len({json.loads(line)["id"] for line in ledger.read_text().splitlines()}) == 20


def test_a_bad_argument_on_the_command_line_is_named(tmp_path):
    done = subprocess.run(command(tmp_path, window=0), cwd=ROOT, env=OFFLINE, capture_output=True, text=True)
    assert done.returncode and done.stderr.splitlines()[-1].startswith("ValueError: model_args: window")


# -- caches -------------------------------------------------------------------------------------------------------

class Counting:
    "An engine that counts what it is asked, and dies after a few outputs if told to."
    def __init__(self, engine, most=10**6):
        self.inner, self.tokenizer, self.most, self.asked = engine, engine.tokenizer, most, 0
    def info(self): return self.inner.info()
    def generate(self, requests, sampling, progress=True):
        for out in self.inner.generate(requests, sampling, progress=False):
            if self.asked == self.most: raise RuntimeError("no power")
            self.asked += 1
            yield out


def model(engine, **more):
    return WindowLM(engine=engine, **{"window": 64, "hint": ARGUMENTS["hint"], "answer_tokens": 8} | more)


def test_lm_evals_cache_keeps_what_was_finished_and_refuses_another_window(engine, tmp_path):
    with pytest.raises(RuntimeError): simple(model(Counting(engine, most=7)), use_cache=str(tmp_path/"c"))
    second = Counting(engine)
    again = simple(model(second), use_cache=str(tmp_path/"c"))
    assert second.asked == 13
    assert verdicts(again["samples"]["nano_programs"]) == verdicts(simple(model(engine))["samples"]["nano_programs"])
    for other in ({"window": 32}, {"graded": "all"}):
        with pytest.raises(ValueError, match="use_cache"): simple(model(engine, **other), use_cache=str(tmp_path/"c"))


def test_a_ledger_serves_another_way_of_grading_but_no_other_window(engine, tmp_path):
    simple(model(engine, ledger=tmp_path/"rows.jsonl"))
    counting = Counting(engine)
    lm = model(counting, ledger=tmp_path/"rows.jsonl", graded="all")
    texts = [s["resps"][0][0] for s in simple(lm)["samples"]["nano_programs"]]
    assert counting.asked == 0
    assert sum("I overthought it" in t for t in texts) == 20 * lm.summary()["nano_programs"]["cut"]
    with pytest.raises(ValueError, match="rows.jsonl"): model(engine, window=32, ledger=tmp_path/"rows.jsonl")


# -- repeats and settings -----------------------------------------------------------------------------------------

def repeated(lm, **kwargs):
    from lm_eval.api.instance import Instance
    prompt = lm.apply_chat_template([{"role": "user", "content": "What does this program print?\n1: a=1;b=2;c=3"}])
    request = Instance("generate_until", {}, (prompt, {"until": []} | kwargs), 0, ("mine", 0, 4))
    return lm.generate_until([request] * 4)


def test_drawn_tries_differ_and_come_back_alike_and_greedy_ones_are_decoded_once(engine, tmp_path):
    counting = Counting(engine)
    lm = model(counting, ledger=tmp_path/"rows.jsonl")
    drawn = repeated(lm, do_sample=True, temperature=3.0)
    assert len(set(drawn)) > 1 and counting.asked == 4
    assert repeated(model(engine), do_sample=True, temperature=3.0) == drawn, "the seed decides"
    assert repeated(model(engine, seed=1), do_sample=True, temperature=3.0) != drawn
    assert repeated(model(counting, ledger=tmp_path/"rows.jsonl"), do_sample=True, temperature=3.0) == drawn
    assert counting.asked == 4
    assert len(set(repeated(lm))) == 1 and counting.asked == 5


@pytest.mark.parametrize("kwargs, named", [
    ({"max_gen_toks": 64}, "max_gen_toks=64"), ({"max_new_tokens": 64}, "max_gen_toks=64"), ({"top_k": 5}, "top_k=5"),
    ({"do_sample": True, "temperature": -1.0}, "temperature"), ({"do_sample": True, "top_p": 0}, "top_p")])
def test_a_setting_that_cant_be_met_is_named(engine, kwargs, named):
    with pytest.raises(ValueError, match=named): repeated(model(engine), **kwargs)


def test_settings_that_change_nothing_are_fine(engine):
    quiet = {"num_beams": 1, "do_sample": False, "temperature": 0.8, "max_tokens": 500}
    assert repeated(model(engine), **quiet) == repeated(model(engine))


def test_the_number_that_an_error_proposes_is_enough(engine):
    with pytest.raises(ValueError) as e: repeated(lm := model(engine), max_gen_toks=10)
    repeated(lm, max_gen_toks=lm.policy.max_tokens)
    assert f"max_gen_toks={lm.policy.max_tokens}" in str(e.value)


@pytest.mark.parametrize("policy", ["shifted", "no_thinking", "budget_forcing"])
def test_a_stop_string_that_ends_an_output_in_its_hint_is_refused(engine, policy):
    lm = model(engine, policy=policy, stop_in="text")
    with pytest.raises(ValueError, match="mine: until, with stop_in=text: .*overthought.* occurs in the hint .*final answer"):
        repeated(lm, until=["Question:", "overthought"])
    if policy == "budget_forcing":
        with pytest.raises(ValueError, match="'Wait' occurs"): repeated(lm, until=["Wait"])
    assert len(repeated(lm, until=["Question:"])) == len(repeated(model(engine, policy=policy), until=["overthought"])) == 4


def test_the_ends_that_the_model_declares_end_its_outputs(engine, tmp_path):
    two = TransformersEngine(engine.model, engine.tokenizer)
    two.eos_ids = (*engine.eos_ids, engine.tokenizer.encode("\n2: ", add_special_tokens=False)[0])
    lm = model(two, hint="\nThe final answer is ", ledger=tmp_path/"rows.jsonl")
    assert lm.policy.eos_ids == two.eos_ids and lm.config.get("eos_ids") == list(two.eos_ids)
    repeated(lm)
    assert all(row["ids"][-1] == two.eos_ids[1] for row in lm.outputs.rows.values())
    with pytest.raises(ValueError, match="rows.jsonl"): model(engine, hint="\nThe final answer is ", ledger=tmp_path/"rows.jsonl")


# -- arguments ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, named", [
    ({"window": "64"}, "window"), ({"window": True}, "window"), ({"window": 0}, "window"), ({"hint": 5}, "hint"),
    ({"answer_tokens": 0}, "answer_tokens"), ({"policy": "shift"}, "shift"), ({"policy": "delimited"}, "end"),
    ({"graded": "hint"}, "graded"),
    ({"stop_in": "all"}, "stop_in"), ({"engine": "torch"}, "torch"), ({"windw": 3}, "windw"), ({"seed": None}, "seed"),
    ({"pretrained": None}, "pretrained"), ({"pretrained": "data/models/none"}, "data/models/none"),
    ({"engine": "endpoint", "url": "x"}, "url"), ({"engine": "endpoint"}, "urls"),
    ({" the rest of a hint": ""}, "the rest of a hint")])
def test_a_bad_argument_is_named(arguments, named):
    with pytest.raises(ValueError, match=named): WindowLM(**{"window": 64} | ARGUMENTS | arguments)


def test_arguments_as_one_text(engine):
    lm = WindowLM.create_from_arg_string(f"pretrained={MODEL},window=64,policy=hard_cut", {"batch_size": 1})
    assert (lm.policy.name, lm.policy.limit) == ("hard_cut", 64)


def test_scoring_given_texts_is_refused_with_another_task(engine):
    from lm_eval.api.instance import Instance
    for kind in ("loglikelihood", "loglikelihood_rolling"):
        with pytest.raises(NotImplementedError, match="piqa.*generate_until"):
            getattr(model(engine), kind)([Instance(kind, {}, ("a", "b"), 0, ("piqa", 0, 1))])


# -- prompts ------------------------------------------------------------------------------------------------------

def test_a_system_instruction_arrives(engine):
    samples = simple(model(engine), system_instruction="Be brief.")["samples"]["nano_programs"]
    assert all(s["arguments"][0][0].startswith("<|im_start|>system\nBe brief.<|im_end|>") for s in samples)


def test_a_system_instruction_arrives_in_a_template_without_a_place_for_it(engine):
    lm = model(engine)
    lm.tokenizer = copy.deepcopy(engine.tokenizer)
    lm.tokenizer.chat_template = ("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
                                  + engine.tokenizer.chat_template)
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    assert lm.apply_chat_template(talk).startswith("<|im_start|>user\nBe brief.\n\n2+2?<|im_end|>")
    prefilled = lm.apply_chat_template([*talk, {"role": "assistant", "content": "It is"}], add_generation_prompt=False)
    assert prefilled.startswith("<|im_start|>user\nBe brief.\n\n2+2?<|im_end|>") and prefilled.endswith("It is")


def test_a_template_that_isnt_there_is_named(engine):
    lm = model(engine)
    with pytest.raises(ValueError, match="'other'"): lm.chat_template("other")
    lm.tokenizer = type("Plain", (), {"chat_template": None})()
    with pytest.raises(ValueError, match="chat template"): lm.apply_chat_template([])


# -- which text is graded -----------------------------------------------------------------------------------------

class Letters:
    "A tokenizer of single characters."
    eos_token_id = 0
    def __call__(self, text, **_): return type("Ids", (), {"input_ids": [ord(c) for c in text]})
    def decode(self, ids, **_): return "".join(chr(i) for i in ids if i)


texts = st.text(st.sampled_from("ab.<"), max_size=20)


@given(texts, st.lists(st.sampled_from([".", "ab", "b<", ""]), max_size=2), st.booleans(),
       st.sampled_from(["shifted", "hard_cut", "delimited", "no_thinking", "unlimited"]))
def test_nothing_is_graded_that_the_protocol_does_not_say(thought, until, ends, name):
    letters = Letters()
    def clean(text): return not any(s in text for s in until if s)
    end = "<" if name == "delimited" else ""
    def make(**more): return HarnessProtocol(6, name, hint="HINT", answer_tokens=30, end=end, **more)
    policy = make().make(letters)
    script = iter([ord(c) for c in thought] + ([0] if ends else [ord("a")] * 99))
    ids = decode(policy, lambda _: next(script, 0))
    split = policy.split(ids)
    whole = letters.decode(ids)
    assert visible_text(make(graded="all"), policy, ids, [], letters) == whole
    answer = visible_text(make(), policy, ids, until, letters)
    cut = visible_text(make(stop_in="text", graded="all"), policy, ids, until, letters)
    assert clean(cut) and whole.startswith(cut)
    if split.hint or policy.end_ids: assert letters.decode(split.answer).startswith(answer) and clean(answer)
    elif split.cut: assert answer == ""
    else: assert answer == whole


# -- being found --------------------------------------------------------------------------------------------------

def test_registering_leaves_lm_evals_own_models_alone():
    code = ("from z1.benchmarks.lm_harness import register; register(); register()\n"
            "from lm_eval.api.registry import get_model, model_registry\n"
            "assert get_model('z1') is register() and 'hf' in model_registry")
    subprocess.run([sys.executable, "-c", code], check=True, env=OFFLINE, cwd=ROOT)


def test_without_lm_eval_one_sentence_says_what_to_install():
    code = ("import sys; sys.modules['lm_eval'] = None\nimport z1.benchmarks.lm_harness\n"
            "try: z1.benchmarks.lm_harness.WindowLM\nexcept ImportError as e: print(e)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=OFFLINE, cwd=ROOT)
    assert "pip install 'z1[lm_eval]'" in done.stdout and done.stdout.count("\n") == 1, done.stderr

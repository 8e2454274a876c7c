"What a model is shown, and where its turn ends: templates of every kind, and files that disagree about the end."
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace as Fake

import pytest
import torch
from hypothesis import given, strategies as st
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, Qwen2Config

from z1.benchmarks.suites import BENCHMARKS
from z1.core import Ledger
from z1.engines.engine import EndpointEngine, TransformersEngine, ends_of, load_engine
from z1.measure.sweep import sweep, to_sample
from z1.policies import make_policies, BudgetForcing, SwitchPenalty
from z1.data.generation import Lesson, ask_about, teacher_settings, teach
from z1.nano.programs import ANSWER_LEAD, make_problems
from z1.engines.request import refuse_stops
from z1.turns import chat, model_ends, other_ends, read_tokenizer, render
from z1.window import HINT, Unlimited

MODEL = Path(__file__).resolve().parents[2]/"data/models/nano/z1-s0"
PAD, START, END = 0, 1, 2                          # <|endoftext|>, <|im_start|>, <|im_end|>
PROBLEMS = list(make_problems("dev", 12, seed=3))


@pytest.fixture
def tokenizer(): return AutoTokenizer.from_pretrained(MODEL)


# -- a place for the system's words -------------------------------------------------------------------------------

TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>\n' }}"
OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
LOOP = "{% for m in messages %}" + TURN + "{% endfor %}" + OPEN
HOMELESS = {
    "refuses": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + LOOP,
    "wants the user first": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
                            "{{ raise_exception('roles must alternate') }}{% endif %}" + TURN + "{% endfor %}" + OPEN,
    "drops it": "{% for m in messages %}{% if m['role'] != 'system' %}" + TURN + "{% endif %}{% endfor %}" + OPEN}
HOSPITABLE = {
    "plain": LOOP,
    "has one of its own": "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}" + LOOP,
    "moves it itself": "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}{% set messages = "
                       "messages[1:] %}{% else %}{% set s = '' %}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m['role'] + "
                       "'\n' + (s if loop.first else '') + m['content'] + '<|im_end|>\n' }}{% endfor %}" + OPEN}


@pytest.mark.parametrize("template", HOMELESS.values(), ids=HOMELESS)
@pytest.mark.parametrize("system", ["Be brief.", "Think.\n\nThen answer in \\boxed{}.", "2+2?"])
def test_a_template_without_a_system_turn_gives_its_words_to_the_user(tokenizer, template, system):
    tokenizer.chat_template = template
    text = tokenizer.decode(render(tokenizer, "What is 2+2?", system))
    assert text == f"<|im_start|>user\n{system}\n\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("template", HOSPITABLE.values(), ids=HOSPITABLE)
def test_a_template_with_a_place_for_it_is_left_alone(tokenizer, template):
    tokenizer.chat_template = template
    for system in ("Be brief.", " Be long. \n"):
        turns = [{"role": "system", "content": system}, {"role": "user", "content": "Be brief. What is 2+2?"}]
        theirs = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert chat(tokenizer, turns, add_generation_prompt=True) == theirs and theirs.count(system.strip()) >= 1
        assert render(tokenizer, turns[1]["content"], system) == tuple(tokenizer.encode(theirs, add_special_tokens=False))


def test_earlier_turns_stay_where_they_are(tokenizer):
    tokenizer.chat_template = HOMELESS["refuses"]
    talk = [{"role": role, "content": text} for role, text in
            (("system", "Add."), ("user", "1+1?"), ("assistant", "2"), ("user", "1+2?"), ("assistant", "It is"))]
    text = chat(tokenizer, talk, continue_final_message=True)
    assert text.startswith("<|im_start|>user\nAdd.\n\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>") and text.endswith("It is")
    with pytest.raises(ValueError, match="knows no system turn.*the user's"): chat(tokenizer, talk[:1])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_protocol_is_complete_in_every_template(tokenizer, name):
    protocol = BENCHMARKS[name].protocol
    for template in (HOMELESS | HOSPITABLE).values():
        tokenizer.chat_template = template
        text = tokenizer.decode(render(tokenizer, "What is 1+1?", protocol.system))
        assert protocol.system.strip() in text and "What is 1+1?" in text


def test_other_errors_of_a_template_are_not_swallowed(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no tools, no talk') }}"
    for system in ("", "Be brief."):
        with pytest.raises(Exception, match="no tools, no talk"): render(tokenizer, "1+1?", system)


# -- what the files declare ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("configs, ends", [
    ([], (2,)), ([{}], (2,)), ([{"eos_token_id": None}], (2,)), ([{"eos_token_id": 0}], (2, 0)),
    ([{"eos_token_id": [0, 2]}, {"eos_token_id": 7}], (2, 0, 7)), ([{"text_config": {"eos_token_id": [1, 106]}}], (2, 1, 106)),
    ([{"text_config": None, "eos_token_id": [2, 2]}], (2,)), ([{"eos_token_id": -1}], (2,))])
def test_ends_are_all_that_is_declared_once_each_the_tokenizers_first(configs, ends):
    assert model_ends(Fake(eos_token_id=2), *configs) == ends


def test_configurations_may_be_objects():
    assert model_ends(Fake(eos_token_id=9), GenerationConfig(), Qwen2Config()) == (9,)
    assert model_ends(Fake(eos_token_id=9), GenerationConfig(eos_token_id=[3, 9]), LlamaConfig(eos_token_id=4)) == (9, 3, 4)


def test_a_tokenizer_without_an_end_gets_the_models_first(tokenizer):
    tokenizer.eos_token = None
    assert model_ends(tokenizer) == () and tokenizer.eos_token is None
    assert model_ends(tokenizer, {"eos_token_id": [END, PAD]}) == (END, PAD) and tokenizer.eos_token == "<|im_end|>"
    assert other_ends(tokenizer, (END,)) == {} and other_ends(tokenizer, (END, PAD)) == {"eos_ids": [END, PAD]}


def copy_of(tmp_path, eos_token, generation, architecture=END):
    "The nano model as others come: its files disagree about the end of a turn."
    folder = tmp_path/"model"
    shutil.copytree(MODEL, folder)
    for name, change in (("tokenizer_config.json", {"eos_token": eos_token}), ("config.json", {"eos_token_id": architecture}),
                         ("generation_config.json", {"eos_token_id": generation})):
        (folder/name).write_text(json.dumps(json.loads((folder/name).read_text()) | change))
    return folder


FILES = {"generation_config": ("<|endoftext|>", [PAD, END], PAD), "config": ("<|endoftext|>", PAD, [PAD, END]),
         "one each": ("<|endoftext|>", END, PAD), "no tokenizer's": (None, [END, PAD], END)}


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_the_sweep_ends_where_the_model_does_whatever_file_says_so(files, tmp_path):
    plain, odd = TransformersEngine.from_pretrained(MODEL), TransformersEngine.from_pretrained(copy_of(tmp_path, *files))
    assert set(odd.eos_ids) == set(read_tokenizer(tmp_path/"model")[1]) == {PAD, END} and plain.eos_ids == (END,)
    def rows(engine):
        policies = make_policies("shifted", [16, 200], engine.tokenizer, HINT + ANSWER_LEAD, 8)   # by its tokenizer alone
        with Ledger(tmp_path/f"{id(engine)}.jsonl", key="request") as ledger:
            outputs = sweep(engine, PROBLEMS, policies, ledger, progress=False)
        return [to_sample(o, engine.tokenizer, model="m", seed=0, run="r") for o in outputs], [o.ids for o in outputs]
    assert rows(odd) == rows(plain)
    assert any(not s.cut for s in rows(plain)[0]) and "eos_ids" not in plain.info() and set(odd.info()["eos_ids"]) == {PAD, END}


def test_ends_reach_every_kind_of_policy():
    policies = make_policies("tip+budget_forcing", [9], AutoTokenizer.from_pretrained(MODEL), "\n", end="</think>",
                             switch=[" b:"], eos_ids=[END, PAD])
    assert policies[0].eos_ids == (END, PAD) and isinstance(policies[0], SwitchPenalty)
    more = policies[0].ending([7])
    assert more.eos_ids == (END, PAD, 7) and isinstance(more.policy, BudgetForcing) and more.ending([7, PAD]) == more
    with pytest.raises(ValueError, match="hint_ids contains .* which ends the turn"): more.ending(more.policy.hint_ids)


def test_a_teacher_ends_where_its_files_say(tmp_path):
    odd = load_engine("transformers", copy_of(tmp_path, "<|endoftext|>", [PAD, END]))
    plain = load_engine("transformers", MODEL)
    lesson = Lesson(max_tokens=300, name="nano")
    records = [teach(PROBLEMS[:4], e, tmp_path/f"{n}.jsonl", lesson, progress=False) for n, e in (("odd", odd), ("plain", plain))]
    assert [r["ended"] for r in records] == [4, 4] and records[0]["tokens"] == records[1]["tokens"]
    assert teacher_settings(odd, lesson)["teacher"]["eos_ids"] == [PAD, END] and "eos_ids" not in teacher_settings(plain, lesson)["teacher"]
    assert ask_about(PROBLEMS[0], odd.tokenizer, Lesson(ends=("<|im_end|>",))).policy.eos_ids == (PAD, END)


def test_an_engine_that_does_not_say_has_its_tokenizers_end(tokenizer):
    assert ends_of(Fake(tokenizer=tokenizer)) == (END,) and ends_of(Fake(tokenizer=tokenizer, eos_ids=(5, 6))) == (5, 6)


def test_an_endpoint_knows_the_ends_of_the_folder_it_is_given(tmp_path):
    folder = copy_of(tmp_path, "<|endoftext|>", [PAD, END])
    for given in (folder, str(folder), AutoTokenizer.from_pretrained(folder)):
        engine = EndpointEngine("http://localhost:1/v1", given, model="m", context=99, mode="ids")
        assert engine.eos_ids == (PAD, END) and engine.info()["eos_ids"] == [PAD, END]
    for name in ("generation_config.json", "config.json"): (folder/name).unlink()
    assert read_tokenizer(AutoTokenizer.from_pretrained(MODEL))[1] == (END,)
    (folder/"config.json").write_text('{"model_type": "qwen2"}')
    assert read_tokenizer(folder)[1] == (PAD,)


def test_vllms_engine_knows_them_too():
    pytest.importorskip("vllm")
    from z1.serving.vllm import VLLMEngine
    model = Fake(model="m", max_model_len=99, get_vocab_size=lambda: 400, dtype=torch.float32, hf_config=Qwen2Config(eos_token_id=PAD),
                 try_get_generation_config=lambda: {"eos_token_id": [END, PAD]})
    llm = Fake(llm_engine=Fake(model_config=model, engine_core=None), get_tokenizer=lambda: Fake(eos_token_id=PAD))
    engine = VLLMEngine(llm, "m")
    assert engine.eos_ids == (PAD, END) and engine.info()["eos_ids"] == [PAD, END]


# -- stop strings -------------------------------------------------------------------------------------------------

@given(st.text(max_size=8), st.text(min_size=1, max_size=3), st.text(max_size=8))
def test_a_stop_string_in_the_hint_is_refused_with_both_named(before, stop, after):
    hint = before + stop + after
    with pytest.raises(ValueError) as e: refuse_stops(["", stop], hint)
    assert repr(stop) in str(e.value) and repr(hint) in str(e.value)
    refuse_stops(["", hint + "?"], hint)


def test_a_turn_must_end():
    with pytest.raises(ValueError, match="no turn could end. An engine's eos_ids are its model's"): Unlimited(9, ())


# -- hints as ids -------------------------------------------------------------------------------------------------

def test_nowhere_are_special_tokens_added_to_a_hint():
    "A tokenizer that begins every text with a token of its own (Llama's, Gemma's) would put it into the middle of an output."
    root = MODEL.parents[3]
    texts = {path: "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"]) for path in root.glob("nbs/**/*.ipynb")}
    for path, text in (texts | {root/"README.md": (root/"README.md").read_text()}).items():
        assert not re.findall(r"tokenizer\.encode\((?![^\n]*add_special_tokens=False)[^\n]*", text), path.name

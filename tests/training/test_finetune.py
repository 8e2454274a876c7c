"Full fine-tuning: what is learned, what is dropped, what is sharded, what is published, and what is refused."
import copy
import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from hypothesis import given, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed
from transformers.utils import logging

from z1.core import Trajectory, exclusive_access
from z1.engines.gguf import save_gguf
from z1.nano.tokenizer import CHATML, train_tokenizer
from z1.rows import count_tokens
from z1.turns import conversation, render
from z1.training.finetune import FineTuning, accumulation, encode_rows, finetune, make_chat_trainer, training_order, read_job

disable_progress_bars(), logging.disable_progress_bar()
ROOT = Path(__file__).resolve().parents[2]
QWEN = ("{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")     # a newline after every end token


@pytest.fixture(scope="module")
def tokenizer():
    "One token a byte, and the special ones."
    bytewise = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   additional_special_tokens=["<|im_start|>"], clean_up_tokenization_spaces=False)
    made.chat_template = CHATML
    return made


@pytest.fixture(scope="module")
def rows():
    "1,000 rows of 2 to 600 characters, with everything that text has."
    draw = random.Random(0)
    def text(most): return "".join(draw.choices("abc xyz.\n\t0+=é🙂<|>", k=draw.randint(1, most)))
    most = (10, 60, 250, 540)
    return Dataset.from_list([{"question": text(60), "response": text(draw.choice(most))} for _ in range(1000)])


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    "A tiny model and its tokenizer, as one finds them on the hub."
    folder = tmp_path_factory.mktemp("base")
    set_seed(0)
    Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, initializer_range=0.2, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(base):
    return FineTuning(base=str(base), learning_rate=1e-2, warmup_steps=3, global_batch=8, micro_batch=2, max_length=512,
                      bf16=False, gradient_checkpointing=False, save_steps=3)


# -- masks ------------------------------------------------------------------------------------------------------

def conversations(trainer, size):
    "The ids and labels of every conversation in a trainer's batches, padding removed, blocks taken apart."
    data = trainer.train_dataset
    for i in range(0, len(data), size):
        batch = trainer.data_collator([data[j] for j in range(i, min(i + size, len(data)))])
        if "position_ids" in batch:
            starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist() + [batch["input_ids"].shape[1]]
            for a, b in zip(starts, starts[1:]): yield batch["input_ids"][0, a:b], batch["labels"][0, a:b]
        else:
            for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"]):
                assert (labels[mask == 0] == -100).all(), "padding is not learned"
                yield ids[mask == 1], labels[mask == 1]


def mean_loss(trainer):
    total = learned = 0
    trainer.model.eval()
    with torch.no_grad():
        for batch in torch.utils.data.DataLoader(trainer.train_dataset, 8, collate_fn=trainer.data_collator):
            count = int((batch["labels"][:, 1:] != -100).sum())
            total, learned = total + trainer.model(**batch, use_cache=False).loss.double() * count, learned + count
    return float(total) / learned, learned


@pytest.mark.parametrize("template", [CHATML, QWEN], ids=["plain", "qwen"])
def test_on_1000_rows_the_response_and_its_end_are_learned_packed_and_unpacked_and_none_is_cut(
        template, rows, tokenizer, tiny, tmp_path):
    tokenizer.chat_template = template
    whole = [tokenizer.apply_chat_template(t["prompt"] + t["completion"], tokenize=False)
             for t in map(conversation, rows["question"], rows["response"])]
    lengths = [len(tokenizer(w.rstrip("\n") if template == QWEN else w).input_ids) for w in whole]
    most = sorted(lengths)[949]                                    # a length that rows have: the longest that is kept
    encoded = encode_rows(tokenizer, rows, most)
    kept = [r for r, n in zip(rows, lengths) if n <= most]
    assert len(kept) == len(encoded) >= 950 and 1 <= len(rows) - len(encoded) <= 50
    config, losses = replace(tiny, max_length=most), {}
    for packing in ("none", "bfd"):
        trainer = make_chat_trainer(replace(config, packing=packing), encoded, tokenizer, tmp_path/packing, quiet=True)
        seen = Counter()
        for ids, labels in conversations(trainer, 16):
            learned = labels != -100
            start = int(learned.int().argmax())
            assert learned[start:].all() and labels[start:].tolist() == ids[start:].tolist()
            seen[tokenizer.decode(ids[:start]), tokenizer.decode(labels[start:])] += 1
        ask = [tokenizer.apply_chat_template(conversation(r["question"], "")["prompt"], tokenize=False,
                                             add_generation_prompt=True) for r in kept]
        assert seen == Counter(zip(ask, (r["response"] + "<|im_end|>" for r in kept)))
        losses[packing], learned = mean_loss(trainer)
        assert learned == sum(len(tokenizer(r["response"]).input_ids) + 1 for r in kept)
    tokenizer.chat_template = CHATML
    assert len(trainer.train_dataset) < 0.75 * len(encoded), "rows share blocks"
    assert abs(losses["none"] - losses["bfd"]) < 1e-6


def test_trl_prepares_the_same_from_conversations(rows, tokenizer, base, tmp_path):
    from trl import SFTConfig, SFTTrainer
    some = rows.select(range(200))
    turns = some.map(lambda r: conversation(r["question"], r["response"]), remove_columns=some.column_names)
    args = SFTConfig(output_dir=str(tmp_path), max_length=None, bf16=False, use_cpu=True, report_to=[])
    theirs = SFTTrainer(model=AutoModelForCausalLM.from_pretrained(base), args=args, train_dataset=turns,
                        processing_class=tokenizer).train_dataset
    ours = encode_rows(tokenizer, some, 10**6)
    assert ours["input_ids"][:] == theirs["input_ids"][:] and ours["labels"][:] == theirs["labels"][:]


def test_a_response_does_not_merge_with_the_prompt(tokenizer):
    merging = train_tokenizer(["\n1: x\n2: y"] * 9)                    # "\n1: " is one token
    for response in ("1: x", "\n1: x", "\n\n", " x", ""):
        row = encode_rows(merging, Dataset.from_list([{"question": "?", "response": response}]), 512)[0]
        start = row["labels"].count(-100)
        asked = merging.apply_chat_template(conversation("?", "")["prompt"], add_generation_prompt=True)["input_ids"]
        assert row["input_ids"][:start] == asked, "what is read is what is read at inference"
        assert merging.decode(row["labels"][start:]) == response + "<|im_end|>"


def test_a_row_that_trl_would_cut_is_an_error(rows, tokenizer, tiny, tmp_path):
    encoded = encode_rows(tokenizer, rows.select(range(100)), 512)
    longest = max(map(len, encoded["input_ids"]))
    for packing in ("none", "bfd"):
        make_chat_trainer(replace(tiny, packing=packing, max_length=longest), encoded, tokenizer, tmp_path, quiet=True)
    with pytest.raises(RuntimeError, match="tokens went to trl and .* are left"):
        make_chat_trainer(replace(tiny, packing="bfd", max_length=longest - 1), encoded, tokenizer, tmp_path, quiet=True)


def test_templates_that_would_spoil_the_mask_are_refused(rows, tokenizer):
    for template in (CHATML.replace("<|im_end|>", ""), "{{ messages|length }}" + CHATML):
        tokenizer.chat_template = template
        try:
            with pytest.raises(ValueError, match="must write a question the same way .* and end the answer"):
                encode_rows(tokenizer, rows.select(range(3)), 512)
        finally: tokenizer.chat_template = CHATML


THOUGHT, PLAIN = "<think>\nTwo twos.\n</think>\n\nFour.", "\nTwo twos are four. \n"
ANSWERS = {"drops thoughts": "{% set c = c.split('</think>')[-1] %}", "adds an empty one": "{{ '<think>\n\n</think>\n\n' }}",
           "trims": "{% set c = c | trim %}", "spaces": "{{ ' ' }}", "leaves it": ""}
RESPONSES = [THOUGHT, PLAIN, "The tag </think> ends a thought.", "<think></think>", "", " "]


def answering(answer, generation=""):
    "A template that does something to an assistant's words, and may begin them itself when it asks for them."
    return ("{% for m in messages %}{% set c = m.content %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + answer
            + "{% endif %}{{ c }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
            "{{ " + repr(generation) + " }}{% endif %}")


@pytest.fixture
def templated(tokenizer):
    "The tokenizer, to be given any template."
    yield tokenizer
    tokenizer.chat_template = CHATML


def learned(tokenizer, response):
    "(what is read, what is learned) of a row, as text."
    row = encode_rows(tokenizer, Dataset.from_list([{"question": "2+2?", "response": response}]), 512)[0]
    start = row["labels"].count(-100)
    assert row["labels"][start:] == row["input_ids"][start:]
    return tokenizer.decode(row["input_ids"][:start]), tokenizer.decode(row["labels"][start:])


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("response", RESPONSES)
def test_whatever_a_template_makes_of_an_answer_the_response_and_its_end_are_learned(templated, answer, response):
    templated.chat_template = answering(answer)
    assert learned(templated, response) == (templated.decode(render(templated, "2+2?")), response + "<|im_end|>")


@pytest.mark.parametrize("answer", ["{% set c = c.split('</think>')[-1] %}", "{{ '<think>\n\n</think>\n\n' }}"], ids=["drops", "adds"])
def test_a_template_that_begins_a_thought_needs_one_to_go_on(templated, answer):
    templated.chat_template = answering(answer, "<think>\n")
    asked = templated.decode(render(templated, "2+2?"))
    assert learned(templated, THOUGHT) == (asked.removesuffix("<think>\n"), THOUGHT + "<|im_end|>")
    rest = THOUGHT.removeprefix("<think>\n")
    assert learned(templated, rest) == (asked, rest + "<|im_end|>")
    for response in (PLAIN, "", "<think>Two twos.</think>"):
        rows = Dataset.from_list([{"question": "?", "response": r} for r in (THOUGHT, response)])
        with pytest.raises(ValueError, match="row 1: the chat template of .* begins every answer with '<think>") as e:
            encode_rows(templated, rows, 512)
        assert repr(response) in str(e.value) and "</think>" in str(e.value)


def test_an_empty_thought_that_is_always_read_is_no_part_of_the_answer(templated):
    templated.chat_template = answering("", "<think>\n\n</think>\n\n")
    for response in RESPONSES: assert learned(templated, response) == (templated.decode(render(templated, "2+2?")), response + "<|im_end|>")


def test_ids_are_those_of_inference_where_the_prompt_ends_in_a_thought(templated):
    templated.chat_template = answering("", "<think>\n")
    row = encode_rows(templated, Dataset.from_list([{"question": "?", "response": "<think>\n\nHm.</think>4"}]), 512)[0]
    asked = list(render(templated, "?"))
    assert row["input_ids"] == asked + templated.encode("\nHm.</think>4<|im_end|>", add_special_tokens=False)


def test_a_tokenizer_that_adds_tokens_of_its_own_adds_none_here(tokenizer):
    from tokenizers.processors import TemplateProcessing
    eager = copy.deepcopy(tokenizer)
    eager.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A <|endoftext|>", special_tokens=[
        ("<|endoftext|>", tokenizer.pad_token_id)])
    assert len(eager("x").input_ids) == 3
    rows = Dataset.from_list([{"question": "2+2?", "response": PLAIN}])
    assert encode_rows(eager, rows, 512)[0] == encode_rows(tokenizer, rows, 512)[0]
    assert count_tokens(eager, [Trajectory("p", "2+2?", PLAIN, 1, "z1")]) == [(
        len(PLAIN) + 1, len(encode_rows(tokenizer, rows, 512)[0]["input_ids"]))]


# -- order and configuration --------------------------------------------------------------------------------------

@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 3), st.integers(0, 9))
def test_an_epoch_is_whole_steps_and_has_no_row_twice(sequences, batch, epochs, seed):
    config = FineTuning(global_batch=batch, epochs=epochs, seed=seed)
    if sequences < batch:
        with pytest.raises(ValueError, match="do not fill a step"): training_order(sequences, config)
        return
    walk, an_epoch = training_order(sequences, config), sequences - sequences % batch
    assert len(walk) == epochs * an_epoch and set(walk) <= set(range(sequences))
    assert all(len(set(walk[i:i + an_epoch])) == an_epoch for i in range(0, len(walk), an_epoch))
    assert training_order(sequences, replace(config, epochs=epochs + 1))[:len(walk)] == walk


@given(st.integers(1, 512), st.integers(1, 16), st.integers(1, 16))
def test_the_global_batch_is_kept_or_refused(batch, micro, processes):
    try: assert accumulation(FineTuning(global_batch=batch, micro_batch=micro), processes) * micro * processes == batch
    except ValueError as e: assert batch % (micro * processes) and str(micro * processes) in str(e)


def test_a_wrong_configuration_names_its_field(tmp_path, rows):
    with pytest.raises(ValueError, match="packing = 'wrapped'"): FineTuning(packing="wrapped")
    with pytest.raises(ValueError, match="micro_batch = 0"): FineTuning(micro_batch=0)
    with pytest.raises(ValueError, match="learning_rate = '1e-05': must be float .*write 1.0e-5"): FineTuning(learning_rate="1e-05")
    with pytest.raises(ValueError, match="epochs = True: must be int"): FineTuning(epochs=True)
    for job, message in (({"rows": "r", "folder": "f", "learning_rte": 1}, "learning_rte"), ({"rows": "r"}, "folder")):
        (tmp_path/"job.json").write_text(json.dumps(job))
        with pytest.raises(ValueError, match=f"job.json.*{message}"): read_job(tmp_path/"job.json")
    with pytest.raises(ValueError, match="save_steps = 10: must be a multiple of log_steps = 4"):
        FineTuning(save_steps=10, log_steps=4)


# -- whole runs ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def job(tiny, rows, tmp_path_factory):
    "A function that writes a job of 68 rows and returns its file."
    folder = tmp_path_factory.mktemp("jobs")
    rows.select(range(68)).to_parquet(folder/"rows.parquet")

    def write(name, **over):
        (folder/f"{name}.json").write_text(json.dumps(
            asdict(tiny) | {"rows": str(folder/"rows.parquet"), "folder": str(folder/name)} | over))
        return folder/f"{name}.json"
    return write


def command(job, processes, shim=True):
    "The command line of a job; two processes shard on the CPU with the shim of fsdp_on_cpu."
    if processes == 1: return [sys.executable, "-m", "z1.finetune", str(job)]
    entry = ["-m", "z1.training.fsdp_on_cpu"] if shim else ["-m", "z1.finetune"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*torchrun, *entry, str(job)]


LONG = dict(packing="bfd", epochs=12)  # steps enough for one process and two to drift apart, if they did
ENV = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
                    "PYTHONPATH": str(ROOT)}


def run(job, processes, **kw):
    done = subprocess.run(command(job, processes, **kw), env=ENV, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr[-8000:]


def log(folder): return [json.loads(line) for line in open(folder/"log.jsonl")]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two sharded processes"])
def finished(request, job):
    made = job(f"whole{request.param}", **LONG)
    code, errors = run(made, request.param)
    assert code == 0, errors
    return request.param, made.with_suffix("")


def test_what_is_published(finished, tiny, tokenizer):
    processes, folder = finished
    facts = json.loads((folder/"manifest.json").read_text())
    assert facts["processes"] == processes and ("FSDP2" in facts["sharding"]) == (processes == 2)
    assert facts["rows"] + facts["too_long"] == 68 and facts["steps"] == len(log(folder))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and model.lm_head.weight is model.model.embed_tokens.weight
    assert facts["parameters"] == facts["trained"] == model.num_parameters()
    size = (folder/"model.safetensors").stat().st_size
    assert 2 * model.num_parameters() < size < 2 * model.num_parameters() + 8000, "tied weights are there once"
    for name in ("generation_config.json", "chat_template.jinja", "tokenizer.json"): assert (folder/name).stat().st_size
    assert facts["run"] in (folder/"README.md").read_text() and "<|im_start|>user" in (folder/"README.md").read_text()


def test_one_and_two_processes_train_alike(job, finished):
    processes, folder = finished
    if processes == 1: pytest.skip("compared from the other side")
    if not folder.with_name("whole1").exists(): assert run(job("whole1", **LONG), 1)[0] == 0
    one, two = log(folder.with_name("whole1")), log(folder)
    assert [e["tokens"] for e in one] == [e["tokens"] for e in two]
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(one, two, strict=True)) < 1e-4


def test_processes_that_do_not_shard_are_an_error(job):
    code, errors = run(job("unsharded"), 2, shim=False)
    assert code and "nothing is sharded: accelerate has fallen back" in errors


def test_folders_of_another_run_are_refused(tiny, rows, tmp_path):
    some, short = rows.select(range(16)), replace(tiny, epochs=1)
    folder = finetune(short, some, tmp_path/"model", quiet=True)
    def stamps(): return {f.name: f.stat().st_mtime_ns for f in folder.iterdir()}
    before = stamps()
    assert finetune(short, some, folder) == folder and before == stamps(), "a finished run is not run again"
    for config, data in ((replace(short, seed=1), some), (short, rows.select(range(17)))):
        with pytest.raises(ValueError, match="model: belongs to another run"): finetune(config, data, folder)
    (tmp_path/"other.work").mkdir()
    (tmp_path/"other.work"/"run.json").write_text('{"run": "abc"}')
    with pytest.raises(ValueError, match="other.work: belongs to another run: .*run was 'abc'"):
        finetune(short, some, tmp_path/"other")


def test_a_base_from_a_quantised_file_is_named_as_such(tiny, rows, tmp_path):
    file = tmp_path/"base-q8_0.gguf"
    nano = ROOT/"data"/"models"/"nano"/"z1-s0"
    save_gguf(AutoModelForCausalLM.from_pretrained(nano), AutoTokenizer.from_pretrained(nano), file)
    some, short = rows.select(range(16)), replace(tiny, epochs=1, base=str(nano), max_length=1000)
    quantised, plain = (json.loads((finetune(replace(short, base=base), some, tmp_path/name, quiet=True)/"manifest.json").read_text())
                        for name, base in (("quantised", str(file)), ("plain", short.base)))
    assert quantised["config"]["base"] == str(file) and quantised["base_weights"] == "dequantised Q8_0"
    assert "base_weights" not in plain and plain["weights"] != quantised["weights"]


@pytest.mark.parametrize("packing", ["none", "bfd"])
def test_the_log_counts_the_tokens_that_trl_saw(packing, tiny, rows, tokenizer, tmp_path):
    "On one process, where trl counts right; on several it loses some of the last step's."
    trainer = make_chat_trainer(replace(tiny, epochs=1, packing=packing), encode_rows(tokenizer, rows.select(range(150)), 512), tokenizer,
                           tmp_path, quiet=True)
    trainer.train()
    entries = [e for e in trainer.state.log_history if "tokens" in e]
    assert len(entries) > 2 and [e["tokens"] for e in entries] == [e["num_tokens"] for e in entries]


def test_a_run_that_goes_on_elsewhere_is_left_alone(tiny, rows, tmp_path):
    with exclusive_access(tmp_path/"model.work"/"lock"), pytest.raises(RuntimeError, match="another process is writing"):
        finetune(replace(tiny, epochs=1), rows.select(range(16)), tmp_path/"model", quiet=True)
    assert [p.name for p in (tmp_path/"model.work").iterdir()] == ["lock"]


def test_a_merged_adapter_computes_what_the_adapter_does(tiny, rows, tokenizer, tmp_path):
    from peft import PeftModel
    some, thin = rows.select(range(64)), replace(tiny, lora_rank=2, epochs=1)
    adapter = finetune(replace(thin, lora_merge=False), some, tmp_path/"adapter", quiet=True)
    whole = finetune(thin, some, tmp_path/"merged", quiet=True)
    merged = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    ids = torch.tensor([encode_rows(tokenizer, some, 512)[0]["input_ids"]])
    with torch.no_grad():
        plain = base(ids).logits
        beside, inside = PeftModel.from_pretrained(base, adapter)(ids).logits, merged(ids).logits
    assert (beside - inside).abs().max() < 0.1 * (beside - plain).abs().max(), "equal but for bf16"
    assert {f.name for f in adapter.iterdir()} >= {"adapter_model.safetensors", "adapter_config.json"}

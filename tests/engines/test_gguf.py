"GGUF files that gguf's own writer has made, read back as transformers folders."
import json

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from z1.engines.gguf import NOTE, convert_gguf, open_gguf, read_note, sha256_of

BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]] + [chr(256 + n) for n in range(68)]
TOKENS = [*BYTES, "Ġt", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<tool_call>"]
KINDS = [1] * 257 + [3] * 4 + [4]
VOCABULARY, HIDDEN, HEADS, GROUPS, FEED = 288, 64, 4, 2, 96
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
LAYER = {"attn_norm.weight": (HIDDEN,), "ffn_norm.weight": (HIDDEN,), "attn_q.weight": (HIDDEN, HIDDEN), "attn_q.bias": (HIDDEN,),
         "attn_k.weight": (32, HIDDEN), "attn_k.bias": (32,), "attn_v.weight": (32, HIDDEN), "attn_v.bias": (32,),
         "attn_output.weight": (HIDDEN, HIDDEN), "ffn_gate.weight": (FEED, HIDDEN), "ffn_up.weight": (FEED, HIDDEN),
         "ffn_down.weight": (HIDDEN, FEED)}
THEIRS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
          "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
          "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def values(seed=0):
    "Random weights of two layers under the names of the file."
    rng, shapes = np.random.default_rng(seed), {"token_embd.weight": (VOCABULARY, HIDDEN), "output_norm.weight": (HIDDEN,)}
    shapes |= {f"blk.{n}.{name}": shape for n in range(2) for name, shape in LAYER.items()}
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def write(path, tensors, kinds=lambda name: Kind.Q8_0, file_type=gguf.LlamaFileType.MOSTLY_Q8_0, arch="qwen2", **facts):
    "A GGUF file, word by word; `facts` replace what it states (None: leave out)."
    w = gguf.GGUFWriter(path, arch)
    stated = {"block_count": 2, "context_length": 128, "embedding_length": HIDDEN, "feed_forward_length": FEED,
              "attention.head_count": HEADS, "attention.head_count_kv": GROUPS} | facts
    for name, value in stated.items():
        if value is not None: w.add_uint32(f"{arch}.{name}", value)
    w.add_float32(f"{arch}.rope.freq_base", 1e6)
    w.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-6)
    if file_type is not None: w.add_file_type(file_type)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(TOKENS + [f"[PAD{i}]" for i in range(len(TOKENS), VOCABULARY)])
    w.add_token_types(KINDS + [5] * (VOCABULARY - len(TOKENS)))
    w.add_token_merges(["Ġ t"])
    w.add_bos_token_id(257)
    w.add_eos_token_id(259)
    w.add_pad_token_id(257)
    w.add_chat_template(TEMPLATE)
    for name, t in tensors.items():
        kind = kinds(name) if t.ndim == 2 else Kind.F32
        w.add_tensor(name, gguf.quantize(t, kind), raw_dtype=kind)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    return path


def there_and_back(t, kind):
    "What is left of a tensor in bfloat16."
    return torch.from_numpy(gguf.dequantize(gguf.quantize(t, kind), kind).copy()).bfloat16()


def their_name(name):
    "transformers' name, from a table of our own."
    if not name.startswith("blk."): return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
                                            "output.weight": "lm_head.weight"}[name]
    _, n, part, end = name.split(".")
    return f"model.layers.{n}.{THEIRS[part]}.{end}"


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q5_1])
@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_is_the_files(tmp_path, kind, tied):
    tensors = values() | ({} if tied else {"output.weight": values(1)["token_embd.weight"]})
    folder = convert_gguf(write(tmp_path/"m.gguf", tensors, lambda name: kind), tmp_path/"m")
    model = AutoModelForCausalLM.from_pretrained(folder)
    found = model.state_dict()
    assert model.config.tie_word_embeddings is tied and model.dtype == torch.bfloat16 and type(model) is Qwen2ForCausalLM
    for name, t in tensors.items():
        assert torch.equal(found[their_name(name)], there_and_back(t, kind if t.ndim == 2 else Kind.F32)), name
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


@pytest.mark.parametrize("finer", ["token_embd.weight", "output.weight"])
def test_one_matrix_stored_twice_is_one_and_the_finer_is_kept(tmp_path, finer):
    tensors = values()
    tensors["output.weight"] = tensors["token_embd.weight"]
    kinds = lambda name: Kind.Q8_0 if name in (finer, "blk.0.attn_q.weight") else Kind.Q4_0
    folder = convert_gguf(write(tmp_path/"m.gguf", tensors, kinds), tmp_path/"m")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, there_and_back(tensors["output.weight"], Kind.Q8_0))
    once = Qwen2ForCausalLM(Qwen2Config(**model.config.to_dict()))
    assert model.num_parameters() == once.num_parameters()


def test_it_computes_what_the_original_would(tmp_path):
    tensors = values()
    folder = convert_gguf(write(tmp_path/"m.gguf", tensors, lambda name: Kind.F16, gguf.LlamaFileType.MOSTLY_F16), tmp_path/"m")
    model = AutoModelForCausalLM.from_pretrained(folder).float()
    assert read_note(folder)["weights"] == "F16"
    config = Qwen2Config(vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=FEED, num_hidden_layers=2, rms_norm_eps=1e-6,
                         num_attention_heads=HEADS, num_key_value_heads=GROUPS, rope_theta=1e6, tie_word_embeddings=True)
    original = Qwen2ForCausalLM(config).eval()
    original.load_state_dict({their_name(n): torch.from_numpy(t) for n, t in tensors.items()}, strict=False)
    ids = torch.tensor([[1, 50, 200, 256, 7]])
    with torch.no_grad(): gap = (model(ids).logits - original(ids).logits).abs().max()
    assert gap < 0.05 * original(ids).logits.std()


def test_the_configuration_and_the_ends(tmp_path):
    folder = convert_gguf(write(tmp_path/"m.gguf", values()), tmp_path/"m")
    config = Qwen2Config.from_pretrained(folder)
    assert (config.rms_norm_eps, config.rope_parameters["rope_theta"], config.max_position_embeddings) == (1e-6, 1e6, 128)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (257, 259, 257)
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == [259, 257] and not generation.do_sample


def test_the_tokenizer_is_the_files(tmp_path):
    folder = convert_gguf(write(tmp_path/"m.gguf", values()), tmp_path/"m")
    t = AutoTokenizer.from_pretrained(folder)
    assert len(t) == len(TOKENS) and t.convert_ids_to_tokens(range(len(TOKENS))) == TOKENS
    assert t("<|im_start|>a t12<|im_end|>").input_ids == [258, TOKENS.index("a"), 256, TOKENS.index("1"), TOKENS.index("2"), 259]
    assert t("<tool_call>").input_ids == [261] and t.decode([260, 261], skip_special_tokens=True) == "<tool_call>"
    assert (t.eos_token, t.pad_token, t.bos_token) == ("<|im_end|>", "<|endoftext|>", "<|endoftext|>")
    assert t.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False) == "<|im_start|>a<|im_end|>"
    for text in ("é ü 漢字\n\n  x", "don't 3.14", "\t\r\n"): assert t.decode(t(text).input_ids) == text


@pytest.mark.parametrize("file_type, said", [(gguf.LlamaFileType.MOSTLY_Q4_K_M, "dequantised Q4_K_M"), (None, "dequantised Q8_0"),
                                             (gguf.LlamaFileType.MOSTLY_BF16, "BF16")])
def test_the_note_says_what_it_is(tmp_path, file_type, said):
    file = write(tmp_path/"m.gguf", values(), file_type=file_type)
    note = json.loads((convert_gguf(file, tmp_path/"m")/NOTE).read_text())
    assert (note["weights"], note["file"], note["sha256"]) == (said, "m.gguf", sha256_of(file))


@pytest.mark.parametrize("change, words", [
    (dict(arch="llama"), "general.architecture is 'llama'"), (dict(block_count=3), "'blk.2.attn_q.weight' is missing"),
    (dict(block_count=1), "belong to no Qwen2 model"), (dict(feed_forward_length=128), r"is \(96, 64\), not \(128, 64\)"),
    (dict(context_length=None), "does not state 'qwen2.context_length'")])
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, change, words):
    file = write(tmp_path/"m.gguf", values(), **change)
    with pytest.raises(ValueError, match=words) as e: convert_gguf(file, tmp_path/"m")
    assert "m.gguf" in str(e.value) and not (tmp_path/"m").exists()


@pytest.mark.parametrize("cut", [0, 3, 20, 200, 5000, -1, -4000])
def test_a_torn_file_is_refused(tmp_path, cut):
    file = write(tmp_path/"m.gguf", values())
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match="m.gguf: torn, or not a GGUF file"): open_gguf(file)


def test_what_a_killed_conversion_left_is_no_hindrance(tmp_path):
    (tmp_path/".m.staging").mkdir()
    (tmp_path/".m.staging"/"model-00001.safetensors").write_text("half")
    folder = convert_gguf(write(tmp_path/"m.gguf", values()), tmp_path/"m")
    assert not (tmp_path/".m.staging").exists() and not (folder/"model-00001.safetensors").exists()

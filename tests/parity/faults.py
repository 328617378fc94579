"""The faults that exports are known to have, each an edit of a correct file, and what the check must say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, TokenType, quants

from parity.gguf_edit import Key, Parts, Stored

Edit = Callable[[Parts, dict[str, Path]], None]


@dataclass(frozen=True)
class Fault:
    """What is done to the file of a model, and what the check must say: the rung, the cause, and where."""

    edit: Edit
    rung: str
    cause: str
    where: str
    model: str = "tuned_llama"


def _weights(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    return lambda parts, _: parts.tensors[name].set(change(parts.tensors[name].weights()))


def _key(name: str, value: object) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        parts.keys[name].value = value

    return edit


def _new_key(name: str, value: object, kind: GGUFValueType) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        parts.keys[name] = Key(value, kind)

    return edit


def _without(*names: str) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        for name in names:
            parts.keys.pop(name, None)
            parts.tensors.pop(name, None)

    return edit


def _swap(first: str, second: str) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        parts.tensors[first], parts.tensors[second] = parts.tensors[second], parts.tensors[first]

    return edit


def _copy(source: str, target: str) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        parts.tensors[target] = parts.tensors[source]

    return edit


def _linear_rope(parts: Parts, _: dict[str, Path]) -> None:
    parts.keys["llama.rope.scaling.type"] = Key("linear", GGUFValueType.STRING)
    parts.keys["llama.rope.scaling.factor"] = Key(4.0, GGUFValueType.FLOAT32)


def _unpermuted(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Undoes the converter's permutation by an index, written apart from the check's own."""
    width = matrix.shape[0] // heads
    order = [head * width + 2 * (i % (width // 2)) + i // (width // 2) for head in range(heads) for i in range(width)]
    return matrix[order]


def _no_permutation(parts: Parts, _: dict[str, Path]) -> None:
    for layer in range(2):
        for name, heads in ((f"blk.{layer}.attn_q.weight", 4), (f"blk.{layer}.attn_k.weight", 2)):
            parts.tensors[name].set(_unpermuted(parts.tensors[name].weights(), heads))


def _merged_at(share: float, only: str = "") -> Edit:
    """Puts the adapter in at another scale: 0 is not at all."""

    def edit(parts: Parts, files: dict[str, Path]) -> None:
        base = Parts(files["base"])
        for name, stored in parts.tensors.items():
            before, after = base.tensors[name].weights(), stored.weights()
            if only in name and not np.array_equal(before, after):
                stored.set(before + np.float32(share) * (after - before))

    return edit


def _damaged_block(matrix: np.ndarray) -> np.ndarray:
    matrix = matrix.copy()
    matrix[100, :256] = matrix[100, :256][::-1] * 3
    return matrix


def _token_type(token: str, kind: TokenType) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        place = parts.keys["tokenizer.ggml.tokens"].value.index(token)
        types = list(parts.keys["tokenizer.ggml.token_type"].value)
        types[place] = int(kind)
        parts.keys["tokenizer.ggml.token_type"].value = types

    return edit


def _swap_tokens(parts: Parts, _: dict[str, Path]) -> None:
    tokens = list(parts.keys["tokenizer.ggml.tokens"].value)
    tokens[40], tokens[41] = tokens[41], tokens[40]
    parts.keys["tokenizer.ggml.tokens"].value = tokens


def _lose_merges(parts: Parts, _: dict[str, Path]) -> None:
    parts.keys["tokenizer.ggml.merges"].value = parts.keys["tokenizer.ggml.merges"].value[:20]


def _other_template(text: str, instead: str) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        key = parts.keys["tokenizer.chat_template"]
        assert text in key.value
        key.value = key.value.replace(text, instead)

    return edit


def _scores_lost(parts: Parts, _: dict[str, Path]) -> None:
    key = parts.keys["tokenizer.ggml.scores"]
    key.value = [-1000.0] * len(key.value)


def _flip_space(parts: Parts, _: dict[str, Path]) -> None:
    key = parts.keys.setdefault("tokenizer.ggml.add_space_prefix", Key(True, GGUFValueType.BOOL))
    key.value = not key.value


def _other_end(parts: Parts, _: dict[str, Path]) -> None:
    parts.keys["tokenizer.ggml.eos_token_id"].value = 0
    for name in ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"):
        parts.keys.pop(name, None)


def _end(key: str, text: str) -> Edit:
    """Makes a token end generation; a BPE model's own end stays one by the key that is left."""

    def edit(parts: Parts, _: dict[str, Path]) -> None:
        eos, token = parts.keys["tokenizer.ggml.eos_token_id"], parts.keys["tokenizer.ggml.tokens"].value.index(text)
        parts.keys["tokenizer.ggml.eot_token_id"] = Key(eos.value, eos.type)
        parts.keys[f"tokenizer.ggml.{key}_token_id"] = Key(token, eos.type)

    return edit


def _rounded_to(kind: GGMLQuantizationType, name: str) -> Edit:
    def edit(parts: Parts, _: dict[str, Path]) -> None:
        weights = quants.dequantize(quants.quantize(parts.tensors[name].weights(), kind), kind)
        parts.tensors[name] = Stored(quants.quantize(weights, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)

    return edit


def _other_model(parts: Parts, _: dict[str, Path]) -> None:
    rng = np.random.default_rng(0)
    for name, stored in parts.tensors.items():
        if name != "rope_freqs.weight":
            stored.set(rng.normal(scale=0.06, size=stored.weights().shape).astype(np.float32))


_Q, _UP, _DOWN, _NORM = "blk.1.attn_q.weight", "blk.0.ffn_up.weight", "blk.1.ffn_down.weight", "blk.1.attn_norm.weight"
_IN_BOTH = r"blk\.1\.attn_q\.weight \(model\.layers\.1\.self_attn\.q_proj\.weight\)"

FAULTS: dict[str, Fault] = {
    # Metadata
    "RoPE base": Fault(_key("llama.rope.freq_base", 5e5), "metadata", "RoPE base is 500000", "rope.freq_base"),
    "RoPE factors missing": Fault(
        _without("rope_freqs.weight"), "metadata", "scaling factors are missing", "rope_freqs"
    ),
    "RoPE factors wrong": Fault(
        _weights("rope_freqs.weight", np.sqrt), "metadata", "scaling factors are wrong", "rope_freqs"
    ),
    "RoPE scaling type": Fault(
        _linear_rope,
        "metadata",
        "RoPE scaling is 'linear' in the file, the model's is 'default'",
        "rope.scaling.type",
        "sentencepiece_llama",
    ),
    "norm epsilon": Fault(
        _key("llama.attention.layer_norm_rms_epsilon", 1e-3), "metadata", "epsilon is 0.001", "rms_epsilon"
    ),
    "heads of keys": Fault(_key("llama.attention.head_count_kv", 4), "metadata", "value heads is 4", "count_kv"),
    "a layer dropped": Fault(_key("llama.block_count", 1), "metadata", "number of layers is 1", "block_count"),
    "soft cap of the logits dropped": Fault(
        _without("gemma2.final_logit_softcapping"), "metadata", "soft cap of the logits is 30", "final_logit", "gemma"
    ),
    "soft cap of the logits": Fault(
        _key("gemma2.final_logit_softcapping", 1.0), "metadata", "soft cap of the logits is 1", "final_logit", "gemma"
    ),
    "soft cap of attention": Fault(
        _key("gemma2.attn_logit_softcapping", 0.0), "metadata", "soft cap of attention is 0", "attn_logit", "gemma"
    ),
    "sliding window ignored": Fault(
        _without("gemma2.attention.sliding_window"), "metadata", "window of 24 tokens is missing", "sliding_w", "gemma"
    ),
    "sliding window of another length": Fault(
        _key("gemma2.attention.sliding_window", 4096), "metadata", "sliding window is 4096", "sliding_w", "gemma"
    ),
    # Tokenizer
    "a turn marker is text": Fault(
        _token_type("<|im_start|>", TokenType.NORMAL), "token types", "not of type CONTROL", r"<\|im_start\|>"
    ),
    "two tokens swapped": Fault(_swap_tokens, "token types", "another vocabulary", "token 4[01]"),
    "end token": Fault(_other_end, "token types", "does not stop llama.cpp", "token 2"),
    "a comma for EOS": Fault(
        _end("eos", ","), "token types", "at ',', which is no end token", r"token \d+ ',': .*ggml.eos_to"
    ),
    "a comma for EOT": Fault(
        _end("eot", ","), "token types", "at ',', which is no end token", r"token \d+ ',': .*ggml.eot_to"
    ),
    "a comma for EOM": Fault(
        _end("eom", ","), "token types", "at ',', which is no end token", r"token \d+ ',': .*ggml.eom_to"
    ),
    "a comma for infilling": Fault(
        _end("fim_pad", ","), "token types", "at ',', which is no end token", r"token \d+ ',': .*ggml.fim_pad_to"
    ),
    "the beginning of a turn for EOS": Fault(
        _end("eos", "<|im_start|>"), "token types", "which is no end token", r"im_start.*ggml.eos_to"
    ),
    "EOS lost": Fault(
        _without("tokenizer.ggml.eos_token_id"),
        "token types",
        "at '.', which is no end token",
        "token 11 '.': .*eos_token_id is missing",
        "gemma",
    ),
    "BOS missing": Fault(_key("tokenizer.ggml.add_bos_token", False), "token ids", "the BOS .* is missing", "bos"),
    "BOS doubled": Fault(
        _other_template("{% for m", "<|begin|>{% for m"), "chat template", "BOS doubled", "chat_template"
    ),
    "BOS added": Fault(
        _new_key("tokenizer.ggml.add_bos_token", True, GGUFValueType.BOOL), "token ids", "adds a token", "add_", "gemma"
    ),
    "EOS added": Fault(
        _key("tokenizer.ggml.add_eos_token", True),
        "token ids",
        "adds a token",
        "add_eos",
        "sentencepiece_llama",
    ),
    "another pre-tokenizer": Fault(_key("tokenizer.ggml.pre", "gpt-2"), "token ids", "split otherwise", "ggml.pre"),
    "merges lost": Fault(_lose_merges, "token ids", "merges are lost", "ggml.merges"),
    "scores lost": Fault(_scores_lost, "token ids", "scores are lost", "ggml.scores", "sentencepiece_llama"),
    "space prefix": Fault(_flip_space, "token ids", "space before a text", "space_prefix", "sentencepiece_llama"),
    "template of another model": Fault(
        _key("tokenizer.chat_template", "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"),
        "chat template",
        r"another model's chat template: it never writes <\|done\|>, <\|im_start\|>",
        "chat_template",
    ),
    "default system prompt": Fault(
        _other_template("{% for m", "<|im_start|>system\nYou are Qwen.<|done|>\n{% for m"),
        "chat template",
        "another system prompt",
        "You are Qwen",
    ),
    "a newline of the template": Fault(
        _other_template("<|done|>\n", "<|done|>"), "chat template", "renders another prompt", "done"
    ),
    "no template": Fault(_without("tokenizer.chat_template"), "chat template", "no chat template", "chat_template"),
    # Weights
    "q and k not permuted": Fault(_no_permutation, "weights", r"not permuted .*\(4 tensors\)", _IN_BOTH),
    "a norm's 1 missing": Fault(
        _weights("blk.0.attn_norm.weight", lambda w: w - 1), "weights", "the 1 .* missing", "blk.0.attn_norm", "gemma"
    ),
    "a norm's 1 added": Fault(_weights(_NORM, lambda w: w + 1), "weights", "1 is added", "blk.1.attn_norm"),
    "a tensor zeroed": Fault(_weights(_DOWN, np.zeros_like), "weights", "all zero", "blk.1.ffn_down"),
    "a tensor transposed": Fault(
        _weights("blk.0.attn_output.weight", lambda w: w.T), "weights", "transposed", "blk.0.attn_output"
    ),
    "a tensor swapped with its neighbour layer's": Fault(
        _swap(_UP, "blk.1.ffn_up.weight"),
        "weights",
        "hold the weights of others",
        r"blk\.0\.ffn_up\.weight .* holds model\.layers\.1\.mlp\.up_proj",
    ),
    "gate and up swapped": Fault(
        _swap("blk.0.ffn_gate.weight", _UP), "weights", "hold the weights of others", "holds model.layers.0.mlp.up_proj"
    ),
    "a layer written twice": Fault(
        _copy("blk.0.attn_v.weight", "blk.1.attn_v.weight"), "weights", "weights of others", "holds model.layers.0"
    ),
    "one block damaged": Fault(_weights(_DOWN, _damaged_block), "weights", "rows 100 to 100", "blk.1.ffn_down"),
    "one block damaged in Q8_0": Fault(
        _weights(_DOWN, _damaged_block), "weights", "rows 100 to 100", "blk.1.ffn_down", "Q8_0"
    ),
    "a sign flipped": Fault(_weights(_UP, np.negative), "weights", "multiplied by -1", "blk.0.ffn_up"),
    "a tensor at another scale": Fault(
        _weights(_UP, lambda w: w * 0.5), "weights", "multiplied by 0.5", "blk.0.ffn_up"
    ),
    "a norm left at ones": Fault(_weights(_NORM, np.ones_like), "weights", "are others than", "blk.1.attn_norm"),
    "not a number": Fault(_weights(_UP, lambda w: np.where(w > 0.2, np.nan, w)), "weights", "not a number", "ffn_up"),
    "embeddings tied wrongly": Fault(_without("output.weight"), "weights", "embeddings are tied", "lm_head"),
    "the embedding for an output": Fault(
        _copy("token_embd.weight", "output.weight"), "weights", "weights of others", "holds model.embed_tokens"
    ),
    "another model's weights": Fault(_other_model, "weights", "another model's weights", "token_embd"),
    "a layer rounded to far fewer bits": Fault(
        _rounded_to(GGMLQuantizationType.TQ2_0, _DOWN), "weights", "others than the model's", "blk.1.ffn_down", "Q8_0"
    ),
    # Merge
    "adapter not merged": Fault(_merged_at(0), "weights", "adapter is not merged", "blk.0.attn_q"),
    "adapter merged twice": Fault(_merged_at(2), "weights", "merged twice", "blk.0.attn_q"),
    "adapter at half scale": Fault(_merged_at(0.5), "weights", "merged at 0.5 of its scale", "blk.0.attn_q"),
    "adapter not merged in one tensor": Fault(_merged_at(0, _Q), "weights", "adapter is not merged", f"^{_IN_BOTH}$"),
    "adapter not merged, Q8_0": Fault(_merged_at(0), "weights", "adapter is not merged", "blk.0.attn_q", "Q8_0"),
    "adapter merged twice, Q8_0": Fault(_merged_at(2), "weights", "merged twice", "blk.0.attn_q", "Q8_0"),
    "adapter at half scale, Q8_0": Fault(_merged_at(0.5), "weights", "merged at 0.5", "blk.0.attn_q", "Q8_0"),
}

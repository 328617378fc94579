"""Tiny fine-tuned models with their references and correct exports, for the tests of parity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from convert.models import LLAMA3_ROPE, byte_level_tokenizer, llama, llama_tokenizer, sentencepiece_model, to_gguf
from convert.zoo import Case, make
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from edgeft.artifacts import Adapter, Checkpoint, GgufFile, Reference
from edgeft.config import ParityConfig, ParityThresholds
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record
from edgeft.merge import merge
from edgeft.parity.check import compare
from edgeft.parity.record import record_reference

_ANYTHING = ParityThresholds(mean_kld=9.0, top1=0.0, ppl_ratio=99.0)
CONFIG = ParityConfig(
    records=3,
    positions=64,
    max_new_tokens=6,
    layers=True,
    # A random model's distributions are nearly flat: rounding its weights to 4 bits moves them far.
    merge=_ANYTHING,
    quantization=_ANYTHING,
    conversion=ParityThresholds(mean_kld=1e-4, top1=0.9, ppl_ratio=1.001),
    runtime_kld=0.05,
)
_TALK = (
    ("turn on the light in the kitchen", '{"room": "kitchen", "state": "on"}'),
    ("What's the temperature, please?", "It is 21 degrees in the garden."),
    ("3 déjà vu  lights off", '{"room": "cellar", "state": "off", "number": 12}'),
)


def checked(reference: Reference, gguf: GgufFile, config: ParityConfig = CONFIG) -> dict[str, Any]:
    """Returns the report on a file. One thread: two that share a busy core with others wait on one another."""
    return compare(reference, gguf, config, threads=1)


def records() -> list[Record]:
    """Returns a few conversations."""
    return [
        Record(({"role": "user", "content": asked}, {"role": "assistant", "content": said}), Place("test", number))
        for number, (asked, said) in enumerate(_TALK)
    ]


@dataclass(frozen=True)
class Export:
    """A model that was trained (`base` is what it was before), its reference, and its correct F32 file."""

    base: Checkpoint
    model: Checkpoint
    reference: Reference
    gguf: GgufFile


def tuned_llama(folder: Path) -> Export:
    """Makes a Llama of byte-level BPE with a BOS, Llama 3's RoPE, an output of its own, and an adapter in it."""
    base = folder / "base"
    byte_level_tokenizer(base, "llama-bpe", add_bos=True)
    for path in base.iterdir():  # llama.cpp knows <|im_end|> by its name, whatever a file says
        path.write_text(path.read_text().replace("<|im_end|>", "<|done|>"))
    llama(base, vocab_size=576, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False, bos_token_id=3, eos_token_id=2)
    adapter = _adapter(base, folder / "adapter")
    model = merge(Checkpoint.open(base), adapter, folder / "merged")
    return _recorded(folder, model, (Checkpoint.open(base), adapter))


def sentencepiece_llama(folder: Path) -> Export:
    """Makes a Llama whose tokenizer is SentencePiece's: scores, a space before texts, and a BOS."""
    model = folder / "model"
    llama_tokenizer(model, sentencepiece_model(model), chat=True)
    llama(model, vocab_size=576, tie_word_embeddings=True)
    return _recorded(folder, Checkpoint.open(model))


def gemma(folder: Path) -> Export:
    """Makes a Gemma 2: norms of 1 + weight, soft caps, and a sliding window."""
    byte_level_tokenizer(folder / "bpe", "qwen2")
    settings: dict[str, Any] = {
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "sliding_window": 24,
        "num_hidden_layers": 3,
    }
    settings |= {"final_logit_softcapping": 25.0, "attn_logit_softcapping": 40.0}
    make(Case("Gemma 2", "window", "Gemma2ForCausalLM", settings, "float32"), folder / "model", folder / "bpe")
    return _recorded(folder, Checkpoint.open(folder / "model"))


def _adapter(base: Path, out: Path) -> Adapter:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    tuned.save_pretrained(str(out))
    return Adapter.open(out)


def _recorded(folder: Path, model: Checkpoint, live: tuple[Checkpoint, Adapter] | None = None) -> Export:
    reference = record_reference(model, live, records(), CONFIG, "cpu", folder / "reference.npz")
    gguf = to_gguf(model.path, folder / "model-f32.gguf")
    return Export(live[0] if live else model, model, reference, gguf)

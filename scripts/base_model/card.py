"""The model card, written from measured figures."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import numpy
import tokenizers
import torch
import transformers
from transformers import LlamaConfig

from base_model.evaluation import FamilyScore
from base_model.shards import ANSWER_WEIGHT, CONTEXT_WEIGHT
from base_model.training import Progress, TrainingConfig, warmup_steps


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything the card reports."""

    config: LlamaConfig
    training: TrainingConfig
    progress: Progress
    parameters: int
    size_bytes: int
    seed: int
    device: str
    families: list[FamilyScore]
    copying: dict[tuple[str, str], float]
    family_documents: int
    copy_count: int
    command: str


def _hardware(device: str) -> str:
    if device.startswith("cuda"):
        return f"one {torch.cuda.get_device_name()}"
    return f"{platform.processor() or platform.machine()} CPU"


def _family_table(figures: Figures) -> str:
    total = max(1, sum(figures.progress.family_tokens))
    lines = ["| family | share of tokens | loss | exact |", "| --- | ---: | ---: | ---: |"]
    for score, tokens in zip(figures.families, figures.progress.family_tokens, strict=True):
        exact = "" if score.exact is None else f"{100 * score.exact:.0f}%"
        lines.append(f"| {score.name} | {100 * tokens / total:.1f}% | {score.loss:.3f} | {exact} |")
    return "\n".join(lines)


def _copy_table(figures: Figures) -> str:
    kinds = list(dict.fromkeys(kind for kind, _ in figures.copying))
    forms = list(dict.fromkeys(form for _, form in figures.copying))
    lines = [f"| kind | {' | '.join(forms)} |", f"| --- |{' ---: |' * len(forms)}"]
    for kind in kinds:
        cells = (f"{100 * figures.copying[kind, form]:.1f}%" for form in forms)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _curve_table(figures: Figures) -> str:
    lines = ["| step | training loss (answers) | held-out loss |", "| ---: | ---: | ---: |"]
    lines += [f"| {int(step)} | {loss:.3f} | {held:.3f} |" for step, loss, held in figures.progress.curve]
    return "\n".join(lines)


def write_card(figures: Figures) -> str:
    """The README.md of the model folder."""
    c, t, p = figures.config, figures.training, figures.progress
    tokens = p.step * t.batch * c.max_position_embeddings
    text_tokens = sum(p.family_tokens)
    return f"""---
license: mit
language: en
pipeline_tag: text-generation
library_name: transformers
---
# edgeft base model

A small English language model, made to be fine-tuned: {figures.parameters / 1e6:.1f} million parameters,
{figures.size_bytes / 1e6:.1f} MB in bfloat16. It was trained from scratch on text that a program writes, so it
knows little about the world. It was made to copy names, codes, numbers and titles exactly, to find the right words in
a sentence, to write valid JSON, and to follow the form of a few examples. The tables below say how well it does so.

## Architecture

Llama: {c.num_hidden_layers} layers, width {c.hidden_size}, MLP width {c.intermediate_size},
{c.num_attention_heads} heads of {c.head_dim}, {c.num_key_value_heads} key-value heads, rotary positions (theta 10000),
context {c.max_position_embeddings}, tied embeddings.

## Tokenizer

Byte-level BPE of its own with {c.vocab_size} entries, the Qwen2 pre-tokenizer (digits one by one), no normalizer, no
beginning-of-text token. ChatML: every turn is `<|im_start|>role`, a line break, the text, `<|im_end|>`. `<|im_end|>`
ends an answer; `<|endoftext|>` separates documents and pads. A token of the curriculum stands for
{p.characters / max(1, text_tokens):.2f} characters of content.

## Training

| | |
| --- | --- |
| tokens seen (with padding) | {tokens:,} |
| steps x rows x context | {p.step:,} x {t.batch} x {c.max_position_embeddings} |
| optimizer | AdamW (0.9, 0.95), weight decay {t.weight_decay}, gradient clip {t.clip} |
| learning rate | {t.learning_rate:g}: {warmup_steps(t, p.step)} steps warm-up, constant, \
linear to 0 in the last {100 * t.decay:.0f}% |
| loss weight | answers and prose {ANSWER_WEIGHT / 10:g}, everything else {CONTEXT_WEIGHT / 10:g}, padding 0 |
| time | {p.seconds:,.0f} s |
| hardware | {_hardware(figures.device)} |
| versions | Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, \
tokenizers {tokenizers.__version__}, numpy {numpy.__version__} |
| seed | {figures.seed} |

{_curve_table(figures)}

## Curriculum and held-out figures

Loss is in nats per answer token (stories and descriptions: per token), exact is the share of last answers that greedy
decoding gives letter for letter. Both are over {figures.family_documents} documents of each family from a random stream
that training did not use; answers of 128 tokens and more are left out of exact.

{_family_table(figures)}

## Copying

Greedy, exact, over {figures.copy_count} strings of each kind. The strings come from a pool (by hash, one string in
64) that training never gives as a value to copy.

{_copy_table(figures)}

## Limits

It has seen no text of people, only text of this generator. It knows no facts, reasons little, and speaks English
alone. Its answers to open questions are of no use. The characters `$ % ^ ~` and the backslash do not occur in the
curriculum: it reads them as noise and cannot write them. Fine-tune it on a narrow task, or use a larger base.

## Make it again

    {figures.command}

Shard i of the curriculum depends on the seed and i alone. The weights differ in the last bits between GPUs.

## Licence

MIT, as the project. All text was generated by `scripts/make_base_model.py` from word lists and grammars of the project.
"""

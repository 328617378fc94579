"""What the base model can do: held-out loss and exact answers by family, and copying of strings never trained on."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaForCausalLM

from base_model.documents import TURN_START, Document, render
from base_model.draw import Draw
from base_model.families import FAMILIES
from base_model.families.requests import ACTIONS, OBJECT_NOUNS, SLOTS
from base_model.model import autocast, next_token_logits
from base_model.shards import ANSWER_WEIGHT, Markup, encode, loss_weights

ANSWER_LIMIT = 128
"""Greedy answers are cut after this many tokens."""
COPY_KINDS: dict[str, tuple[str, Callable[[Draw], str]]] = {
    "invented names": ("person", Draw.invented_name),
    "codes": ("code", Draw.code),
    "numbers": ("phone", Draw.digits),
    "multi-word titles": ("title", Draw.title),
}
"""What is copied: the kind of slot it fills in a request, and how a string is drawn."""


class OutOfTimeError(Exception):
    """The wall-clock limit came before the work was done."""


@dataclass(frozen=True, slots=True)
class FamilyScore:
    """Held-out figures of one family: nats per answer token (prose: per token); share of last answers exactly right."""

    name: str
    loss: float
    exact: float | None


def held_out_documents(seed: int, count: int) -> dict[str, list[Document]]:
    """`count` documents of each family from a random stream that no shard uses."""
    made: dict[str, list[Document]] = {}
    for family in FAMILIES:
        draw = Draw(random.Random(f"{seed}/held-out/{family.name}"))
        made[family.name] = [family.make(draw) for _ in range(count)]
    return made


def _padded(rows: list[Any], pad: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (rows, longest) with padding on one side, and the mask of real tokens."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for at, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[at, place], mask[at, place] = row, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


@torch.no_grad()
def family_losses(
    model: LlamaForCausalLM, tokenizer: Tokenizer, seed: int, count: int, device: str, deadline: float
) -> dict[str, float]:
    """Mean nats per full-weight token of each family's held-out documents. Raises OutOfTimeError."""
    markup = Markup.of(tokenizer)
    entries = [
        (name, ids, loss_weights(ids, markup))
        for name, documents in held_out_documents(seed, count).items()
        for ids in encode(tokenizer, documents)
    ]
    entries.sort(key=lambda entry: len(entry[1]))
    sums = {family.name: np.zeros(2) for family in FAMILIES}
    for start in range(0, len(entries), 128):
        if time.monotonic() > deadline:
            raise OutOfTimeError
        chunk = entries[start : start + 128]
        tokens, _ = _padded([ids for _, ids, _ in chunk], markup.end_of_text, left=False)
        marks, _ = _padded([(weights == ANSWER_WEIGHT) for _, _, weights in chunk], 0, left=False)
        with autocast(device):
            logits = next_token_logits(model, tokens.to(device))
        losses = functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten().to(device), reduction="none"
        )
        table = losses.view(len(chunk), -1).cpu().numpy() * marks[:, 1:].numpy()
        for row, (name, _, _) in enumerate(chunk):
            sums[name] += (table[row].sum(), marks[row, 1:].sum().item())
    return {name: float(total[0] / max(total[1], 1)) for name, total in sums.items()}


@torch.no_grad()
def greedy_answers(
    model: LlamaForCausalLM, tokenizer: Tokenizer, prompts: list[str], device: str, deadline: float
) -> list[str]:
    """The greedy answer to each rendered prompt, batched by length. Raises OutOfTimeError."""
    markup = Markup.of(tokenizer)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(prompts, add_special_tokens=False)]
    order = sorted(range(len(prompts)), key=lambda at: len(encoded[at]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), 512):
        if time.monotonic() > deadline:
            raise OutOfTimeError
        chunk = order[start : start + 512]
        ids, mask = _padded([encoded[at] for at in chunk], markup.end_of_text, left=True)
        with autocast(device):
            written = model.generate(  # type: ignore[misc]
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=ANSWER_LIMIT,
                do_sample=False,
                eos_token_id=markup.turn_end,
                pad_token_id=markup.end_of_text,
            )
        for at, row in zip(chunk, written[:, ids.shape[1] :].tolist(), strict=True):
            answers[at] = tokenizer.decode([t for t in row if t not in (markup.turn_end, markup.end_of_text)])
    return answers


def family_exact(
    model: LlamaForCausalLM, tokenizer: Tokenizer, seed: int, count: int, device: str, deadline: float
) -> dict[str, float]:
    """Share of held-out conversations whose last answer is reproduced exactly, by family; prose has none."""
    prompts: list[str] = []
    wanted: list[tuple[str, str]] = []
    for name, documents in held_out_documents(seed, count).items():
        for document in documents:
            if isinstance(document, str) or len(tokenizer.encode(document[-1].content).ids) >= ANSWER_LIMIT:
                continue
            prompts.append(render(document[:-1]) + f"{TURN_START}assistant\n")
            wanted.append((name, document[-1].content))
    answers = greedy_answers(model, tokenizer, prompts, device, deadline)
    hits: dict[str, list[bool]] = {}
    for (name, answer), given in zip(wanted, answers, strict=True):
        hits.setdefault(name, []).append(given == answer)
    return {name: sum(found) / len(found) for name, found in hits.items()}


def copy_prompts(seed: int, count: int) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(prompt, answer) pairs by (kind, form); every value comes from the pool that training never copies."""
    made: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, (kind, make) in COPY_KINDS.items():
        draw = Draw(random.Random(f"{seed}/copy/{name}"), held_out=True)
        values = draw.distinct(lambda make=make, draw=draw: make(draw), count)  # type: ignore[misc]
        made[name, "verbatim"] = [(f"Repeat exactly: {value}", value) for value in values]
        made[name, "JSON field"] = [_field_prompt(draw, kind, value) for value in values]
    return made


def _field_prompt(draw: Draw, kind: str, value: str) -> tuple[str, str]:
    """A request that mentions `value` among another thing or two, and asks for it under a key."""
    verb, noun = draw.pick(ACTIONS), draw.pick(OBJECT_NOUNS)
    mention = draw.pick(SLOTS[kind].cues).format(value)
    other = draw.pick(("date", "time", "count"))
    rest = draw.pick(SLOTS[other].cues).format(SLOTS[other].make(draw))
    first, second = draw.shuffled([mention, rest])
    key = draw.pick(SLOTS[kind].keys)
    prompt = f"Please {verb} the {noun} {first} {second}.\n\nExtract as JSON: {key} (the {kind})."
    return prompt, json.dumps({key: value}, ensure_ascii=False)


def copy_scores(
    model: LlamaForCausalLM, tokenizer: Tokenizer, seed: int, count: int, device: str, deadline: float
) -> dict[tuple[str, str], float]:
    """Share of held-out strings copied exactly under greedy decoding, by (kind, form)."""
    cells = copy_prompts(seed, count)
    prompts = [
        f"{TURN_START}user\n{prompt}<|im_end|>\n{TURN_START}assistant\n"
        for cell in cells.values()
        for prompt, _ in cell
    ]
    answers = iter(greedy_answers(model, tokenizer, prompts, device, deadline))
    return {key: sum(next(answers) == wanted for _, wanted in cell) / len(cell) for key, cell in cells.items()}

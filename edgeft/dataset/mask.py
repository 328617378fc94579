"""Which tokens of a conversation are trained: derived from the chat template by rendering, never by searching text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from edgeft.artifacts import Message
from edgeft.dataset.records import Record
from edgeft.errors import EdgeftError

Render = Callable[[Sequence[Message], bool], str]
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Example:
    """Token ids of one conversation, and for each whether it carries loss."""

    ids: list[int]
    trained: list[bool]


def tokenize_record(record: Record, render: Render, encode: Encode, end_ids: Collection[int]) -> Example:
    """Returns the ids of a record, with every assistant turn and its end token trained, but those of weight 0.

    `render(messages, add_generation_prompt)` is the chat template, `encode` the tokenizer on a rendered text, `end_ids`
    the tokens that end generation. A turn starts where the rendering of everything before it, with the generation
    prompt, ends: exactly what the model is given at run time. Raises EdgeftError where that prompt, or the turn as the
    model says it at run time, is not how the conversation goes in tokens, or where a turn has no end token.
    """
    messages = list(record.messages)
    ids = encode(render(messages, False))
    trained = [False] * len(ids)
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("weight") == 0:
            continue
        prompt_ids = encode(render(messages[:index], True))
        _require_prefix(prompt_ids, ids, f"messages[{index}]: what the model is given before this turn", record)
        turn_ids = encode(render(messages[: index + 1], False))
        ends = [place for place in range(len(prompt_ids), len(turn_ids)) if turn_ids[place] in end_ids]
        if not ends:
            raise EdgeftError(
                f"messages[{index}]: the template closes this turn without an end-of-generation token",
                where=record.where,
                remedy="the model would never stop: give the tokenizer an eos_token that its chat template uses",
            )
        # A template may show an earlier turn otherwise than the last one, without its reasoning for example.
        _require_prefix(turn_ids[: ends[-1] + 1], ids, f"messages[{index}]: this turn as the model says it", record)
        trained[len(prompt_ids) : ends[-1] + 1] = [True] * (ends[-1] + 1 - len(prompt_ids))
    return Example(ids, trained)


def _require_prefix(part: Sequence[int], whole: Sequence[int], what: str, record: Record) -> None:
    if list(whole[: len(part)]) == list(part):
        return
    place = next((i for i, (ours, theirs) in enumerate(zip(part, whole, strict=False)) if ours != theirs), len(whole))
    raise EdgeftError(
        f"{what} is not how the conversation goes: they differ at token {place}",
        where=record.where,
        remedy="this chat template cannot be trained on conversations of this shape: try single turns",
    )

"""Records that are too long, or whose prompts are: refused, dropped, or shortened by whole exchanges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from edgeft.dataset.findings import Finding, FindingsError
from edgeft.dataset.mask import Example, rendered, tokenize_turns
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView

OverLength = Literal["error", "drop", "truncate"]
"""What becomes of a record that is too long."""

_ALLOWED = 'raise dataset.max_tokens, shorten the record, or set dataset.over_length = "drop" or "truncate"'


@dataclass(frozen=True)
class Limit:
    """The most tokens of an example, and what becomes of a record that has one with more."""

    max_tokens: int
    over_length: OverLength


@dataclass(frozen=True)
class Part:
    """An example with the conversation that it is of, and how many messages were removed from that."""

    record: Record
    example: Example
    removed: int = 0


@dataclass(frozen=True)
class Kept:
    """What is left of a record: none of it when it is dropped. The first part is of the record as a whole."""

    parts: list[Part]
    tokens_in: int


def fit(record: Record, examples: Sequence[Example], tokenizer: TokenizerView, limit: Limit) -> Kept:
    """Returns a record, of which these are the examples, in examples that are within the limit.

    Raises FindingsError where one of them is not and the limit says "error", and where the last exchange of one is too
    long by itself.
    """
    lengths, most = [len(example.ids) for example in examples], limit.max_tokens
    if max(lengths) <= most:
        return Kept([Part(record, example) for example in examples], sum(lengths))
    if limit.over_length == "drop":
        return Kept([], sum(lengths))
    if limit.over_length == "error":
        raise _too_long(record, f"{max(lengths):,} tokens, and the most is {most:,}", _ALLOWED)
    if record.is_text:
        return Kept([Part(record, piece) for piece in _pieces(examples[0], most)], sum(lengths))
    parts = (_shortened(Part(record, example), tokenizer, most) for example in examples)
    return Kept(list(chain.from_iterable(parts)), sum(lengths))


def _shortened(part: Part, tokenizer: TokenizerView, most: int) -> Iterator[Part]:
    """Yields an example without the oldest exchanges of its conversation, as few as make it fit.

    And one more for each turn that the template shows otherwise in the shorter conversation.
    """
    if len(part.example.ids) <= most:
        yield part
        return
    turns = part.example.turns
    shown = replace(part.record, messages=part.record.messages[: turns[-1] + 1])
    target = most
    while shortened := shorten(shown, tokenizer, target):
        removed = len(shown.messages) - len(shortened.messages)
        left = [index - removed for index in turns if index >= removed + _system_messages(shown)]
        first, *others = tokenize_turns(shortened, tokenizer, left)
        over = len(first.ids) - most
        if over <= 0:
            yield Part(shortened, first, part.removed + removed)
            for other in others:
                yield from _shortened(Part(shortened, other, part.removed + removed), tokenizer, most)
            return
        target -= over  # a text that is cut at the start of a turn has more tokens than in one piece
    what = f"its last exchange alone is longer than {most:,} tokens"
    raise _too_long(part.record, what, "raise dataset.max_tokens: to cut it is to cut its question or its answer")


def fit_prompt(record: Record, tokenizer: TokenizerView, limit: Limit) -> tuple[Record | None, list[Finding]]:
    """Returns a test record as it is answered, None where it is dropped, and what became of a prompt that is too long.

    The answer needs no room: generation has its own. Raises FindingsError for plain text, which asks nothing, where the
    template refuses the prompt, and as `fit` does.
    """
    if record.is_text:
        raise FindingsError([no_question(record)])
    length, most = _prompt_length(record, tokenizer), limit.max_tokens
    if length <= most:
        return record, []
    what = f"a prompt of {length:,} tokens, and the most is {most:,}"
    if limit.over_length == "error":
        raise _too_long(record, what, _ALLOWED)
    kept = shorten(record, tokenizer, most, prompt=True) if limit.over_length == "truncate" else None
    if kept is None and limit.over_length == "truncate":
        cut = "raise dataset.max_tokens: to cut it is to cut its question"
        raise _too_long(record, f"the prompt of its last exchange alone is longer than {most:,} tokens", cut)
    message = f"{what}: the record is {'dropped' if kept is None else 'shortened from its start'}"
    remedy = "raise dataset.max_tokens, or shorten the record"
    return kept, [Finding("warning", "over-length", record.place, message, remedy)]


def no_question(record: Record) -> Finding:
    """Returns that a test record is plain text, as an error."""
    message = "plain text asks nothing, and the prompts of test records are to be answered"
    remedy = "write it as a prompt and its answer, or move it to dataset.train"
    return Finding("error", "nothing-to-answer", record.place, message, remedy, "text")


def _prompt_length(record: Record, tokenizer: TokenizerView) -> int:
    return len(tokenizer.encode(rendered(record, tokenizer, record.prompt, prompt=True)))


def shorten(record: Record, tokenizer: TokenizerView, max_tokens: int, *, prompt: bool = False) -> Record | None:
    """Returns the record without its oldest exchanges, as few as make it fit; None when the last alone does not.

    An exchange begins with a user's message. The system message stays, and so does all of the last exchange. With
    `prompt` it is what precedes the last answer that has to fit.
    """
    messages = record.messages
    head = _system_messages(record)
    starts = [index for index, message in enumerate(messages) if message["role"] == "user" and index > head]

    def without(start: int) -> Record:
        return replace(record, messages=(*messages[:head], *messages[start:]))

    def fits(start: int) -> bool:
        if prompt:
            return _prompt_length(without(start), tokenizer) <= max_tokens
        text = rendered(record, tokenizer, without(start).messages, prompt=False)
        return len(tokenizer.encode(text)) <= max_tokens

    first = bisect_left(starts, True, key=fits)
    return without(starts[first]) if first < len(starts) else None


def _system_messages(record: Record) -> int:
    return 1 if record.messages[0]["role"] == "system" else 0


def _pieces(example: Example, most: int) -> Iterator[Example]:
    for start in range(0, len(example.ids), most):
        yield Example(example.ids[start : start + most], example.trained[start : start + most])


def _too_long(record: Record, what: str, remedy: str) -> FindingsError:
    return FindingsError([Finding("error", "over-length", record.place, what, remedy)])

"""Records -> token ids, a list at a time: what a worker process of the tokens stage does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import Message
from edgeft.dataset.findings import Finding
from edgeft.dataset.mask import Example, tokenize_record
from edgeft.dataset.records import Record
from edgeft.dataset.split import hash_key, prompt_key
from edgeft.dataset.store import Block
from edgeft.dataset.tokenizer import OpenTokenizer, TokenizerView
from edgeft.errors import EdgeftError

ROW = np.dtype(
    [
        ("source", "<u2"),  # number of the source
        ("examples", "<i4"),  # 0: dropped; more than 1: a text in pieces
        ("removed", "<u4"),  # messages removed so that it fits
        ("text", "?"),  # plain text rather than a conversation
        ("tokens_in", "<i8"),  # before anything is removed
        ("tokens", "<i8"),  # of its examples
        ("trained", "<i8"),  # of them, those that carry loss
        ("content", "<u8"),  # hashes: of all of it, of what the last answer is given, of the last answer
        ("prompt", "<u8"),
        ("answer", "<u8"),
    ]
)
"""What is kept in memory of a record, 59 bytes."""

Rows = npt.NDArray[np.void]


@dataclass(frozen=True)
class Work:
    """Records of one source, one after another, and the findings that were made among them."""

    source: int
    records: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """What became of a `Work`: a row for each record, examples (their places in `files`), JSON lines of the kept."""

    rows: Rows
    block: Block
    files: list[str]
    lines: list[str]
    findings: list[Finding]


@dataclass(frozen=True)
class RecordTokenizer:
    """How records become tokens; `open()` gives the function that does it."""

    tokenizer: OpenTokenizer
    max_tokens: int
    over_length: Literal["error", "drop", "truncate"]

    def open(self) -> _Worker:
        """Opens the tokenizer."""
        return _Worker(self.tokenizer(), self.max_tokens, self.over_length)


@dataclass(frozen=True)
class _Kept:
    record: Record
    examples: list[Example]
    tokens_in: int
    removed: int = 0


@dataclass(frozen=True)
class _Worker:
    tokenizer: TokenizerView
    max_tokens: int
    over_length: str

    def __call__(self, work: Work) -> Done:
        findings = list(work.findings)
        rows = np.zeros(len(work.records), ROW)
        files: dict[str, int] = {}
        examples: list[tuple[Example, tuple[int, int, int]]] = []
        lines: list[str] = []
        tokenized = tokenize_all(work.records, self.tokenizer)
        for row, record, result in zip(rows, work.records, tokenized, strict=True):
            kept = self._fit(record, result) if isinstance(result, Example) else result
            if isinstance(kept, list):
                findings += kept
                continue
            _fill(row, work.source, record, kept)
            if kept.examples:
                place = (files.setdefault(record.place.file, len(files)), record.place.line, kept.removed)
                examples += [(example, place) for example in kept.examples]
                findings += [note for example in kept.examples for note in example.notes]
                lines.append(kept.record.to_json())
        return Done(rows, _block(examples), list(files), lines, sorted(findings, key=lambda finding: finding.place))

    def _fit(self, record: Record, example: Example) -> _Kept | list[Finding]:
        """Returns the record as examples of at most `max_tokens`; with none when it is dropped."""
        count = len(example.ids)
        if count <= self.max_tokens:
            return _Kept(record, [example], count)
        if self.over_length == "drop":
            return _Kept(record, [], count)
        if self.over_length == "error":
            remedy = 'raise dataset.max_tokens, shorten the record, or set dataset.over_length = "drop" or "truncate"'
            return [_too_long(record, f"{count} tokens, and the most is {self.max_tokens}", remedy)]
        if is_text(record):
            return _Kept(record, list(_pieces(example, self.max_tokens)), count)
        most = self.max_tokens
        while shortened := shorten(record, self.tokenizer, most):
            (result,) = tokenize_all([shortened], self.tokenizer)
            if isinstance(result, list):
                return result
            over = len(result.ids) - self.max_tokens
            if over <= 0:
                return _Kept(shortened, [result], count, len(record.messages) - len(shortened.messages))
            most -= over  # a text that is cut at the start of a turn has more tokens than in one piece
        what = f"its last exchange alone is longer than {self.max_tokens} tokens"
        return [_too_long(record, what, "raise dataset.max_tokens: to cut it is to cut its question or its answer")]


def tokenize_all(records: Sequence[Record], tokenizer: TokenizerView) -> list[Example | list[Finding]]:
    """Returns each record's example, or what keeps it from being one.

    A conversation is `tokenize_record`'s; what it asks for is rendered once, and all whole texts are encoded together.
    A plain text is its tokens and one end token, all of them trained.
    """
    encoded: dict[str, list[int]] = {}
    views = [_Remembering(record, tokenizer, encoded) for record in records]
    texts = list(dict.fromkeys(text for view in views for text in view.texts()))
    encode_all = tokenizer.encode_all or (lambda batch: [tokenizer.encode(text) for text in batch])
    encoded.update(zip(texts, encode_all(texts), strict=True))
    results: list[Example | list[Finding]] = []
    for record, view in zip(records, views, strict=True):
        try:
            results.append(_tokenize(record, view, tokenizer))
        except EdgeftError as error:
            results.append(
                [Finding("error", "untrainable", record.place, fault.what, fault.remedy) for fault in error.problems]
            )
    return results


def tokenize_text(record: Record, tokenizer: TokenizerView) -> Example:
    """Returns the tokens of a plain text and one end token; raises EdgeftError where the tokenizer has none."""
    return _text_example(tokenizer.encode(record.messages[0]["content"]), tokenizer)


def _tokenize(record: Record, view: _Remembering, tokenizer: TokenizerView) -> Example:
    remembering = replace(tokenizer, render=view.render, encode=view.encode)
    if is_text(record):
        return tokenize_text(record, remembering)
    try:
        return tokenize_record(record, remembering)
    except EdgeftError:
        return tokenize_record(record, tokenizer)  # midnight may lie between renderings that are remembered


def is_text(record: Record) -> bool:
    """Returns whether a record is plain text, for continued training, rather than a conversation."""
    return bool(record.messages[0]["role"] == "text")


def shorten(record: Record, tokenizer: TokenizerView, max_tokens: int) -> Record | None:
    """Returns the record without its oldest exchanges, as few as make it fit; None when the last alone does not.

    An exchange begins with a user's message. The system message stays, and so does all of the last exchange.
    """
    messages = record.messages
    head = 1 if messages[0]["role"] == "system" else 0
    starts = [index for index, message in enumerate(messages) if message["role"] == "user" and index > head]

    def without(start: int) -> Record:
        return replace(record, messages=(*messages[:head], *messages[start:]))

    def fits(start: int) -> bool:
        return len(tokenizer.encode(tokenizer.render(without(start).messages, False, record.tools))) <= max_tokens

    first = bisect_left(starts, True, key=fits)
    return without(starts[first]) if first < len(starts) else None


class _Remembering:
    """A tokenizer for one record that renders nothing twice, and encodes nothing that is among `encoded`."""

    def __init__(self, record: Record, tokenizer: TokenizerView, encoded: dict[str, list[int]]) -> None:
        self._record = record
        self._tokenizer = tokenizer
        self._encoded = encoded
        self._rendered: dict[tuple[int, bool], str] = {}

    def render(self, messages: Sequence[Message], add_generation_prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        """Renders messages; the first ones of the conversation with its tools are remembered."""
        own = zip(messages, self._record.messages, strict=False)
        if tools is not self._record.tools or not all(message is theirs for message, theirs in own):
            return self._tokenizer.render(messages, add_generation_prompt, tools)
        key = (len(messages), add_generation_prompt)
        if key not in self._rendered:
            self._rendered[key] = self._tokenizer.render(messages, add_generation_prompt, tools)
        return self._rendered[key]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        ids = self._encoded.get(text)
        return self._tokenizer.encode(text) if ids is None else ids

    def texts(self) -> Iterator[str]:
        """Yields the texts that finding the trained tokens will ask for."""
        messages = self._record.messages
        if is_text(self._record):
            yield messages[0]["content"]
            return
        # The whole first, as `tokenize_record` does: where midnight lies between, the last turn does not fit it.
        wanted = [(len(messages), False)]
        for index in (index for index, message in enumerate(messages) if message["role"] == "assistant"):
            wanted += [(index, True), (index + 1, False)]
        for count, prompt in dict.fromkeys(wanted):
            try:
                yield self.render(messages[:count], prompt, self._record.tools)
            except EdgeftError:
                continue  # asked for again, it is refused again, and then it is reported


def _text_example(ids: list[int], tokenizer: TokenizerView) -> Example:
    if tokenizer.text_end is None:
        raise EdgeftError("a plain text needs an end token, and the tokenizer has none")
    return Example([*ids, tokenizer.text_end], [True] * (len(ids) + 1))


def _pieces(example: Example, most: int) -> Iterator[Example]:
    for start in range(0, len(example.ids), most):
        yield Example(example.ids[start : start + most], example.trained[start : start + most])


def _too_long(record: Record, what: str, remedy: str) -> Finding:
    return Finding("error", "over-length", record.place, what, remedy)


def _fill(row: Any, source: int, record: Record, kept: _Kept) -> None:
    row["source"], row["text"], row["tokens_in"] = source, is_text(record), kept.tokens_in
    row["examples"], row["removed"] = len(kept.examples), kept.removed
    row["tokens"] = sum(len(example.ids) for example in kept.examples)
    row["trained"] = sum(sum(example.trained) for example in kept.examples)
    row["content"], row["prompt"] = int(record.content_hash[:16], 16), prompt_key(record)
    row["answer"] = hash_key(f"{record.answer}\n{record.messages[-1].get('tool_calls')}")


def _block(examples: Sequence[tuple[Example, tuple[int, int, int]]]) -> Block:
    lengths = np.array([len(example.ids) for example, _ in examples], dtype=np.int64)
    count = int(lengths.sum())
    return Block(
        np.fromiter(chain.from_iterable(example.ids for example, _ in examples), np.int32, count),
        np.fromiter(chain.from_iterable(example.trained for example, _ in examples), np.bool_, count),
        lengths,
        np.array([place for _, place in examples], dtype=np.uint32).reshape(-1, 3),
    )

"""Records -> token ids, a list at a time: what a worker process of the tokens stage does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import Message
from edgeft.dataset.findings import Finding, FindingsError
from edgeft.dataset.fitting import Kept, Limit, fit
from edgeft.dataset.mask import Example, tokenize_turns
from edgeft.dataset.records import Record
from edgeft.dataset.split import hash_key, prompt_key
from edgeft.dataset.store import Block
from edgeft.dataset.tokenizer import OpenTokenizer, TokenizerView
from edgeft.errors import EdgeftError

ROW = np.dtype(
    [
        ("source", "<u2"),  # number of the source
        ("examples", "<i4"),  # 0: dropped; more than 1: a text in pieces, a conversation with turns apart
        ("removed", "<u4"),  # messages removed so that it fits, from the example that lost most
        ("text", "?"),  # plain text rather than a conversation
        ("longest", "<i4"),  # tokens of its longest example
        ("tokens_in", "<i8"),  # of its examples before anything is removed
        ("tokens", "<i8"),  # of its examples
        ("trained", "<i8"),  # of them, those that carry loss
        ("content", "<u8"),  # hashes: of all of it, of what the last answer is given, of the last answer
        ("prompt", "<u8"),
        ("answer", "<u8"),
    ]
)
"""What is kept in memory of a record, 63 bytes."""

Rows = npt.NDArray[np.void]
Result = TypeVar("Result")


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
class InWorker(ABC, Generic[Result]):
    """What is done with a `Work`; `open()` opens the tokenizer, in a worker process, and gives the function."""

    tokenizer: OpenTokenizer
    limit: Limit

    def open(self) -> Callable[[Work], Result]:
        """Opens the tokenizer."""
        return partial(self.done, self.tokenizer())

    @abstractmethod
    def done(self, tokenizer: TokenizerView, work: Work) -> Result:
        """Returns what became of the records."""


class RecordTokenizer(InWorker[Done]):
    """How records become tokens."""

    def done(self, tokenizer: TokenizerView, work: Work) -> Done:
        """Returns the examples of the records."""
        findings = list(work.findings)
        rows = np.zeros(len(work.records), ROW)
        files: dict[str, int] = {}
        examples: list[tuple[Example, tuple[int, int, int]]] = []
        lines: list[str] = []
        tokenized = tokenize_all(work.records, tokenizer)
        for row, record, result in zip(rows, work.records, tokenized, strict=True):
            try:
                if isinstance(result, FindingsError):
                    raise result
                kept = fit(record, result, tokenizer, self.limit)
            except FindingsError as error:
                findings += error.findings
                continue
            _fill(row, work.source, record, kept)
            if kept.parts:
                file = files.setdefault(record.place.file, len(files))
                examples += [(part.example, (file, record.place.line, part.removed)) for part in kept.parts]
                findings += kept.parts[0].example.apart
                lines.append(kept.parts[0].record.to_json())
        return Done(rows, _block(examples), list(files), lines, sorted(findings, key=lambda finding: finding.place))


def tokenize_all(records: Sequence[Record], tokenizer: TokenizerView) -> list[list[Example] | FindingsError]:
    """Returns each record's examples, or what keeps it from having any.

    A conversation is `tokenize_turns`'s; what it asks for is rendered once, and all whole texts are encoded together.
    A plain text is its tokens and one end token, all of them trained.
    """
    encoded: dict[str, list[int]] = {}
    views = [_Remembering(record, tokenizer, encoded) for record in records]
    texts = list(dict.fromkeys(text for view in views for text in view.texts()))
    encode_all = tokenizer.encode_all or (lambda batch: [tokenizer.encode(text) for text in batch])
    encoded.update(zip(texts, encode_all(texts), strict=True))
    results: list[list[Example] | FindingsError] = []
    for record, view in zip(records, views, strict=True):
        try:
            results.append(_tokenize(record, view, tokenizer))
        except FindingsError as error:
            results.append(error)
    return results


def tokenize_text(record: Record, tokenizer: TokenizerView) -> Example:
    """Returns the tokens of a plain text and one end token; raises FindingsError where the tokenizer has none."""
    if tokenizer.text_end is None:
        message, remedy = (
            "a plain text needs an end token, and the tokenizer has none",
            "give the tokenizer an eos_token",
        )
        raise FindingsError([Finding("error", "turn-without-end", record.place, message, remedy, "text")])
    ids = tokenizer.encode(record.messages[0]["content"])
    return Example([*ids, tokenizer.text_end], [True] * (len(ids) + 1))


def _tokenize(record: Record, view: _Remembering, tokenizer: TokenizerView) -> list[Example]:
    remembering = replace(tokenizer, render=view.render, encode=view.encode)
    if record.is_text:
        return [tokenize_text(record, remembering)]
    try:
        return tokenize_turns(record, remembering)
    except FindingsError:
        return tokenize_turns(record, tokenizer)  # midnight may lie between renderings that are remembered


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
        if self._record.is_text:
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


def _fill(row: Any, source: int, record: Record, kept: Kept) -> None:
    lengths = [len(part.example.ids) for part in kept.parts]
    row["source"], row["text"], row["tokens_in"] = source, record.is_text, kept.tokens_in
    row["examples"], row["removed"] = len(lengths), max((part.removed for part in kept.parts), default=0)
    row["tokens"], row["longest"] = sum(lengths), max(lengths, default=0)
    row["trained"] = sum(sum(part.example.trained) for part in kept.parts)
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

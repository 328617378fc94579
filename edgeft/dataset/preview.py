"""Records as the model sees them: token by token, with what is trained, special and over the limit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.fitting import Limit, Part, fit
from edgeft.dataset.mask import Example, tokenize_turns
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.dataset.tokenizing import tokenize_text
from edgeft.errors import EdgeftError, Problem


@dataclass(frozen=True)
class Selection:
    """Which records to look at: those on `lines`, else `count` at random by `seed`, else the first `count`."""

    count: int = 3
    seed: int | None = None
    lines: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A token, or several that make up a character between them. `cut` ones are beyond the most tokens of a record.

    Bytes that make no character are shown as "\\xf0".
    """

    ids: tuple[int, ...]
    text: str
    trained: bool
    special: bool
    cut: bool


@dataclass(frozen=True)
class RecordPreview:
    """One example of a record in tokens: number `example` of `examples`, in which the messages `turns` are trained.

    The first shows the whole record, with `notes` on the turns that are examples of their own; `removed` messages were
    taken out so that it fits. `problems` say why a record has no examples.
    """

    place: Place
    cells: tuple[Cell, ...]
    max_tokens: int
    example: int = 1
    examples: int = 1
    turns: tuple[int, ...] = ()
    removed: int = 0
    notes: tuple[Finding, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Tokens of the record."""
        return sum(len(cell.ids) for cell in self.cells)

    @property
    def n_trained(self) -> int:
        """Tokens that carry loss."""
        return sum(len(cell.ids) for cell in self.cells if cell.trained)

    def to_json(self) -> dict[str, Any]:
        """Returns the preview as a JSON object."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "example": self.example,
            "examples": self.examples,
            "turns": list(self.turns),
            "messages_removed": self.removed,
            "tokens": self.n_tokens,
            "tokens_trained": self.n_trained,
            "max_tokens": self.max_tokens,
            "notes": [note.to_json() for note in self.notes],
            "problems": [vars(problem) for problem in self.problems],
            "cells": [vars(cell) | {"ids": list(cell.ids)} for cell in self.cells],
        }


def preview_records(
    records: Iterable[Record], tokenizer: TokenizerView, limit: Limit, selection: Selection
) -> list[RecordPreview]:
    """Returns the chosen records in tokens, in the order of the file (of the request, where lines are named).

    A turn that is an example of its own comes after the whole record. A record that cannot be trained is shown with its
    problems, and one that is too long whole, unless the limit says that it is to be shortened. Raises EdgeftError for a
    line without a record.
    """
    chosen = _chosen(records, selection)
    return [preview for record in chosen for preview in _previews(record, tokenizer, limit)]


def _chosen(stream: Iterable[Record], selection: Selection) -> list[Record]:
    """Returns the records that are to be shown; reads no further than it has to."""
    if not selection.lines and selection.seed is None:
        return list(islice(stream, selection.count))
    records = list(stream)
    if selection.lines:
        by_line: dict[int, list[Record]] = {}
        for record in records:
            by_line.setdefault(record.place.line, []).append(record)
        if missing := [line for line in selection.lines if line not in by_line]:
            where = records[0].place.file if records else ""
            named = ", ".join(map(str, missing))
            raise EdgeftError(f"no record on line {named}", where, f"lines go up to {max(by_line, default=0)}")
        return [record for line in selection.lines for record in by_line[line]]
    places = random.Random(selection.seed).sample(range(len(records)), min(selection.count, len(records)))
    return [records[place] for place in sorted(places)]


def _previews(record: Record, tokenizer: TokenizerView, limit: Limit) -> Iterator[RecordPreview]:
    problems: list[Problem] = []
    parts: list[Part] = []
    try:
        examples = [tokenize_text(record, tokenizer)] if record.is_text else tokenize_turns(record, tokenizer)
        parts = [Part(record, example) for example in examples]
        if limit.over_length == "truncate":
            parts = fit(record, examples, tokenizer, limit).parts
    except EdgeftError as error:
        problems = error.problems
    if not parts:
        yield RecordPreview(record.place, (), limit.max_tokens, problems=tuple(problems))
    for number, part in enumerate(parts, start=1):
        first = number == 1
        yield RecordPreview(
            record.place,
            tuple(_cells(part.example, tokenizer, limit.max_tokens)),
            limit.max_tokens,
            number,
            len(parts),
            part.example.turns,
            part.removed,
            part.example.apart if first else (),
            tuple(problems) if first else (),
        )


def _cells(example: Example, tokenizer: TokenizerView, max_tokens: int) -> Iterator[Cell]:
    """Yields the cells: tokens that hold part of a character wait for the rest of it, if it has the same flags."""
    waiting: list[int] = []
    content = b""
    before = (False, False, False)
    pieces = tokenizer.pieces(example.ids)
    for place, (token, trained, piece) in enumerate(zip(example.ids, example.trained, pieces, strict=True)):
        flags = (trained, token in tokenizer.special_ids, place >= max_tokens)
        if waiting and flags != before:
            yield Cell(tuple(waiting), content.decode("utf-8", "backslashreplace"), *before)
            waiting, content = [], b""
        waiting, content, before = [*waiting, token], content + piece, flags
        if not _may_go_on(content):
            yield Cell(tuple(waiting), content.decode("utf-8", "backslashreplace"), *before)
            waiting, content = [], b""
    if waiting:
        yield Cell(tuple(waiting), content.decode("utf-8", "backslashreplace"), *before)


def _may_go_on(content: bytes) -> bool:
    """Returns whether the last character of some bytes is not complete yet."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False

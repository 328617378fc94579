"""Rows of JSON Lines, of a JSON document and of plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.row import Row
from edgeft.dataset.strict_json import STRICT, JsonError, decode_utf8, json_fault, parse_json, require_shallow

_SPACE = re.compile(r"[ \t\r\n]*")
_LENIENT = json.JSONDecoder()
_NO_LIST = 'expected a list of objects, or an object with one such list, as {"data": [{"messages": [...]}, ...]}'
# An object with one of these is itself a record, not the file around a list of them.
_OF_A_RECORD = frozenset({"messages", "conversations", "conversation", "prompt", "completion", "history", "text"})


def line_rows(lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Row | Finding]:
    """Yields the rows of JSON Lines; blank lines are allowed."""
    for number, line in lines:
        if not line.strip():
            continue
        place = Place(file, number)
        try:
            yield Row(place, parse_json(decode_utf8(line.rstrip(b"\r\n"))))
        except JsonError as fault:
            yield fault.finding(place)


def text_rows(lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Row | Finding]:
    """Yields the paragraphs of plain text: lines up to a blank one, or to the end, joined by newlines."""
    start, paragraph, faulty = 0, list[str](), False
    for number, line in chain(lines, [(0, b"")]):
        if line.strip():
            start = start or number
            try:
                paragraph.append(decode_utf8(line.rstrip(b"\r\n")))
            except JsonError as fault:
                faulty = True
                yield fault.finding(Place(file, number))
        elif start:
            if not faulty:
                yield Row(Place(file, start), {"text": "\n".join(paragraph)})
            start, paragraph, faulty = 0, [], False


def document_rows(content: bytes, file: str) -> Iterator[Row | Finding]:
    """Yields the objects of a JSON list, or of the one list in an object, each at the line where it begins.

    An object without such a list is a row by itself. After a place that is no JSON the rest cannot be read: the last
    finding then says so.
    """
    try:
        text = decode_utf8(content).removeprefix("\ufeff")
    except JsonError:
        yield from _undecodable(content, file)
        return
    if not text.strip():
        return
    try:
        rows_start = _list_start(text)
        if rows_start is None:
            yield Row(Place(file, _line(text, _skip(text, 0))), parse_json(text))
        else:
            yield from _elements(text, rows_start, file)
    except (ValueError, RecursionError) as error:
        yield _stop(error, text, file)


def _undecodable(content: bytes, file: str) -> Iterator[Finding]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            decode_utf8(line)
        except JsonError as fault:
            yield fault.finding(Place(file, number))


def _stop(error: ValueError | RecursionError, text: str, file: str) -> Finding:
    cause = error.__cause__ if isinstance(error.__cause__, json.JSONDecodeError) else error
    fault = json_fault(cause)
    at = cause.pos if isinstance(cause, json.JSONDecodeError) else _skip(text, 0)
    message = f"{fault}; the rest of the file is not read" if fault.code == "invalid-json" else str(fault)
    return Finding("error", fault.code, Place(file, _line(text, at)), message, fault.remedy)


def _list_start(text: str) -> int | None:
    """Returns where the list of rows begins; None where the document is one row."""
    at = _skip(text, 0)
    if text[at] == "[":
        return at
    if text[at] != "{":
        parse_json(text)
        raise JsonError("unknown-format", "the document is neither a list nor an object", _NO_LIST)
    starts: dict[str, int] = {}
    others: set[str] = set()
    for key, start, value in _members(text, at):
        others.add(key)
        if isinstance(value, list) and value and all(isinstance(element, dict) for element in value):
            starts[key] = start
    return next(iter(starts.values())) if len(starts) == 1 and not others & _OF_A_RECORD else None


def _members(text: str, at: int) -> Iterator[tuple[str, int, Any]]:
    """Yields the keys of the object at `at`, with where the value starts, and the value."""
    _LENIENT.raw_decode(text, at)  # a fault is told with its place before anything is yielded
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _LENIENT.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        value, at = _LENIENT.raw_decode(text, start)
        yield key, start, value
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at


def _elements(text: str, start: int, file: str) -> Iterator[Row | Finding]:
    """Yields the elements of the list at `start`; raises JSONDecodeError where it is no JSON."""
    line, counted = 1, 0
    at = _skip(text, start + 1)
    more = text[at : at + 1] != "]"
    while more:
        line, counted = line + text.count("\n", counted, at), at
        place = Place(file, line)
        try:
            value, end = STRICT.raw_decode(text, at)
            require_shallow(value, text[at:end])
            yield Row(place, value)
        except JsonError as fault:
            # Such a value can be stepped over: it is well formed.
            end = _LENIENT.raw_decode(text, at)[1]
            yield fault.finding(place)
        at = _skip(text, end)
        more = text[at : at + 1] == ","
        at = _skip(text, at + 1) if more else at
    if text[at : at + 1] != "]":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    rest = _skip(text, at + 1)
    if text[_skip(text, 0)] == "[" and rest < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1

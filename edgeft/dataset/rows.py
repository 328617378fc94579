"""Files -> rows, whatever the file is: JSONL, JSON, CSV, TSV, Parquet or plain text, each as .gz and .zst too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from edgeft.config import COMPRESSED_SUFFIXES, RECORD_SUFFIXES
from edgeft.dataset.compressed import READ_ERRORS, numbered_lines, open_stream, read_finding
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.json_rows import document_rows, line_rows, text_rows
from edgeft.dataset.row import Row
from edgeft.dataset.table_rows import arrow_rows, csv_rows, parquet_rows

__all__ = ["Row", "is_readable", "read_rows"]

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_PARQUET_MAGIC = b"PAR1"
_ARROW_MAGICS = (b"ARRO", b"\xff\xff\xff\xff")  # a file of Arrow's, and a stream, which is what `datasets` writes
_UNSEEN = b"?"


def is_readable(path: Path) -> bool:
    """Returns whether the name of a file is of a known type."""
    return _suffix(path) in RECORD_SUFFIXES


def read_rows(path: Path) -> Iterator[Row | Finding]:
    """Yields the rows of a file, and an error with its line for each that cannot be decoded; reading then goes on.

    JSON Lines, CSV, plain text, Parquet and Arrow are streamed; a JSON document is loaded whole. Its content decides
    where it differs from its name. Plain text is one row, {"text": ...}, for each paragraph between blank lines. Raises
    EdgeftError where a library is missing for this type of file.
    """
    last = 0
    try:
        with open_stream(path) as stream:
            kind = _kind(_first_lines(path), _suffix(path))
            for item in _decoded(kind, path, stream):
                last = item.place.line
                yield item
    except READ_ERRORS as error:
        # What was being read begins after the last row that came out whole.
        yield read_finding(error, Place(str(path), last + 1 if last else 0))


def _decoded(kind: str, path: Path, stream: BinaryIO) -> Iterator[Row | Finding]:
    file = str(path)
    if kind == "parquet":
        return parquet_rows(path, stream)
    if kind == "arrow":
        return arrow_rows(path, stream)
    if kind == "utf-16":
        place = Place(file, 1)
        return iter([Finding("error", "not-utf8", place, "not UTF-8 at byte 1: this is UTF-16", "save it as UTF-8")])
    if kind == "json":
        return document_rows(stream.read(), file)
    lines = numbered_lines(stream)
    if kind == "text":
        return text_rows(lines, file)
    return csv_rows(lines, file, kind == "tsv") if kind in ("csv", "tsv") else line_rows(lines, file)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for compressed in COMPRESSED_SUFFIXES:
        name = name.removesuffix(compressed)
    return Path(name).suffix


def _first_lines(path: Path) -> tuple[bytes, ...]:
    """Returns the first two lines that are not blank, fewer where there are fewer, stripped."""
    found: list[bytes] = []
    with open_stream(path) as stream, suppress(*READ_ERRORS):
        if (magic := stream.read(4)) == _PARQUET_MAGIC or magic in _ARROW_MAGICS:
            return (magic,)
    try:
        with open_stream(path) as stream:
            for _, line in numbered_lines(stream):
                if stripped := line.strip():
                    found.append(stripped)
                if len(found) == 2:
                    break
    except READ_ERRORS:
        # Told when the file is read for its rows; until then there is something that cannot be seen.
        found.append(_UNSEEN)
    return tuple(found)


def _kind(lines: tuple[bytes, ...], suffix: str) -> str:
    """Returns what a file holds: "parquet", "arrow", "utf-16", "json", "jsonl", "csv", "tsv" or "text"."""
    first, second = (*lines, b"", b"")[:2]
    if first == _PARQUET_MAGIC or suffix == ".parquet":
        return "parquet"
    if first in _ARROW_MAGICS or suffix == ".arrow":
        return "arrow"
    if first.startswith(_UTF16_MARKS):
        return "utf-16"
    if suffix in (".csv", ".tsv", ".txt") and not _is_object(first):
        return {".csv": "csv", ".tsv": "tsv", ".txt": "text"}[suffix]
    return _json_kind(first, second, suffix)


def _json_kind(first: bytes, second: bytes, suffix: str) -> str:
    if _is_json(first):
        return "jsonl" if second else "json"
    # A document that is spread over lines: the first of them is no JSON by itself.
    if (second and first in (b"{", b"[")) or (suffix == ".json" and first.endswith((b"{", b"[", b","))):
        return "json"
    if _is_object(second):
        return "jsonl"
    return "json" if suffix == ".json" or first.startswith(b"[{") else "jsonl"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(line: bytes) -> bool:
    return line.startswith(b"{") and _is_json(line)

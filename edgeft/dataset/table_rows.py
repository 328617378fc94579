"""Rows of CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgeft.dataset.compressed import is_compressed
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.row import Row, without_nulls
from edgeft.dataset.strict_json import JsonError, decode_utf8
from edgeft.errors import EdgeftError

_BATCH_ROWS = 256
_ARROW_FILE = b"ARROW1"
_LONGEST_CELL = 1 << 30
_QUOTING = 'put a cell with quotes in quotes and double those inside it: "say ""hi"""'


def csv_rows(lines: Iterable[tuple[int, bytes]], file: str, tabs: bool) -> Iterator[Row | Finding]:
    """Yields the rows of a table with a header, each at the line where it begins; cells may span lines.

    The delimiter is a tab, or else the most frequent of comma, semicolon and tab in the header. Empty lines are none.
    """
    # The csv module's own limit is for all of its readers, and a long document is more than its default.
    csv.field_size_limit(max(_LONGEST_CELL, csv.field_size_limit()))
    text = _DecodedLines(lines, file)
    reader = csv.reader(text, delimiter="\t" if tabs else text.delimiter(), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield Finding("error", "invalid-csv", Place(file, line), f"not valid CSV: {error}", _QUOTING)
            continue
        finally:
            faults, text.faults = text.faults, []
            yield from faults
        if faults or not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if fault := _header_fault(header, Place(file, line)):
                yield fault
                return
        else:
            yield _row(header, cells, Place(file, line))


def _row(header: list[str], cells: list[str], place: Place) -> Row | Finding:
    if len(cells) == len(header):
        return Row(place, dict(zip(header, cells, strict=True)))
    message = f"{len(cells)} cells, and the header names {len(header)} columns"
    return Finding("error", "column-count", place, message, "quote cells with delimiters or newlines in them")


def _header_fault(header: list[str], place: Place) -> Finding | None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if not twice:
        return None
    message = f"the header names a column twice: {', '.join(map(repr, twice))}"
    return Finding("error", "bad-header", place, message, "the first line names each column once")


class _DecodedLines:
    """Lines as text; one that is not UTF-8 is noted in `faults` and comes out with replacement characters."""

    def __init__(self, lines: Iterable[tuple[int, bytes]], file: str) -> None:
        self._lines = iter(lines)
        self._file = file
        self._first = next(self._lines, None)
        self.faults: list[Finding] = []

    def delimiter(self) -> str:
        """Returns the delimiter that the first line has most of."""
        first = b"" if self._first is None else self._first[1]
        return max(",;\t", key=lambda mark: first.count(mark.encode()))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = self._first or next(self._lines)
        self._first = None
        try:
            return decode_utf8(line)
        except JsonError as fault:
            self.faults.append(fault.finding(Place(self._file, number)))
            return line.decode("utf-8", errors="replace")


def parquet_rows(path: Path, stream: BinaryIO) -> Iterator[Row | Finding]:
    """Yields the rows of a Parquet file, a batch at a time; a null is as if the key were absent.

    `stream` is the file's content, decompressed. Raises EdgeftError without pyarrow.
    """
    yield from _table_rows(path, stream, "Parquet", _parquet_batches)


def arrow_rows(path: Path, stream: BinaryIO) -> Iterator[Row | Finding]:
    """Yields the rows of an Arrow file or stream, which `datasets` writes, as `parquet_rows` does."""
    yield from _table_rows(path, stream, "Arrow", _arrow_batches)


def _parquet_batches(stream: BinaryIO) -> Iterator[Any]:
    import pyarrow.parquet

    return iter(pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=_BATCH_ROWS))


def _arrow_batches(stream: BinaryIO) -> Iterator[Any]:
    import pyarrow.ipc

    if stream.read(len(_ARROW_FILE)) != _ARROW_FILE:
        stream.seek(0)
        yield from pyarrow.ipc.open_stream(stream)
        return
    stream.seek(0)
    file = pyarrow.ipc.open_file(stream)
    yield from map(file.get_batch, range(file.num_record_batches))


def _table_rows(
    path: Path, stream: BinaryIO, form: str, batches: Callable[[BinaryIO], Iterator[Any]]
) -> Iterator[Row | Finding]:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise EdgeftError(f"reading {form} needs pyarrow", str(path), "pip install 'edgeft[train]'") from error
    number = 0
    try:
        with tempfile.TemporaryFile() as copy:
            if is_compressed(path):  # such a file is read from its end, and such a stream cannot seek there cheaply
                shutil.copyfileobj(stream, copy)
                copy.seek(0)
            for batch in batches(copy if is_compressed(path) else stream):
                rows: list[dict[str, Any]] = batch.to_pylist()
                for row in rows:
                    number += 1
                    yield Row(Place(str(path), number), without_nulls(row))
    except (pyarrow.ArrowException, OSError) as error:
        message = f"the {form} file cannot be read: {str(error).splitlines()[0]}"
        place = Place(str(path), number + 1 if number else 0)
        yield Finding("error", "corrupt-file", place, message, "copy or download it again")

"""Records of one file or folder: as a stream, or all of them where any fault is an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeft.dataset.findings import Finding, raise_errors
from edgeft.dataset.record import Record
from edgeft.dataset.sources import stream_path

__all__ = ["Record", "read_records", "stream_records"]


def read_records(path: Path) -> list[Record]:
    """Reads a file or a folder, in any format of `edgeft.dataset.formats`.

    Raises EdgeftError with every fault, and for a file without records.
    """
    items = list(stream_records(path))
    raise_errors(item for item in items if isinstance(item, Finding))
    return [item for item in items if isinstance(item, Record)]


def stream_records(path: Path) -> Iterator[Record | Finding]:
    """Yields the records of a file or a folder and the findings among them, in their order."""
    yield from stream_path(path)

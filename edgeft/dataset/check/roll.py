"""Where each of very many records is, and how it begins, in little memory."""

from __future__ import annotations

import tempfile
from array import array
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from edgeft.dataset.check.texts import asked, excerpt
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record

_MOST_BYTES = 400


def hash64(text: str) -> int:
    """Returns 64 bits of a hash that is the same in every run."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Roll:
    """Records by number, in order of adding. How they begin waits in a temporary file until it is to be shown."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._file_of = array("i")
        self._lines = array("q")
        self._splits = array("b")
        self._ends = array("q")
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the roll, and ends with it)

    def add(self, record: Record, split: int) -> None:
        """Adds the next record; `split` is any small number."""
        place = record.place
        self._file_of.append(self._files.setdefault(place.file, len(self._files)))
        self._lines.append(place.line)
        self._splits.append(split)
        for text in (asked(record), record.answer):
            written = self._spool.write(text[:_MOST_BYTES].encode("utf-8", "surrogatepass")[:_MOST_BYTES])
            self._ends.append((self._ends[-1] if self._ends else 0) + written)

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def splits(self) -> npt.NDArray[np.int8]:
        """The split of each record."""
        return np.array(self._splits, dtype=np.int8)

    def place(self, number: int) -> Place:
        """Returns where a record is."""
        return Place(list(self._files)[self._file_of[number]], self._lines[number])

    def question(self, number: int) -> str:
        """Returns how a record's prompt begins, in quotation marks."""
        return self._read(2 * number)

    def answer(self, number: int) -> str:
        """Returns how a record's answer begins, in quotation marks."""
        return self._read(2 * number + 1)

    def _read(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        self._spool.seek(start)
        return excerpt(self._spool.read(self._ends[number] - start).decode("utf-8", "replace"))

"""Tokenized examples on disk: plain little-endian arrays that are mapped, not read, and a small JSON header.

A store is a folder. `ids.bin` (int32) and `trained.bin` (one byte, 0 or 1) hold the tokens of all examples one after
another, `offsets.bin` (int64, examples + 1) where each begins, `places.bin` (uint32, examples x 3) its file, its line
and how many messages were removed so that it fits; `header.json` has the shapes and the names of the files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from edgeft.dataset.findings import Place
from edgeft.dataset.mask import Example
from edgeft.errors import EdgeftError
from edgeft.files import making_folder, write_json

_FORMAT = "edgeft tokens 1"
_HEADER = "header.json"
_DTYPES = {"ids": "<i4", "trained": "|b1", "offsets": "<i8", "places": "<u4"}
_FILE, _LINE, _REMOVED = range(3)
_PLACE_COLUMNS = 3
_BLOCK_EXAMPLES = 4096


@dataclass(frozen=True)
class Block:
    """Examples one after another.

    `ids` (tokens,) int32, `trained` (tokens,) bool, `lengths` (examples,) int64, `places` (examples, 3) uint32: the
    file's number in the writer's or store's list of files, the line, the messages removed.
    """

    ids: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]
    places: npt.NDArray[np.uint32]

    def select(self, kept: npt.NDArray[np.bool_]) -> Block:
        """Returns the examples for which `kept` is true."""
        tokens = np.repeat(kept, self.lengths)
        return Block(self.ids[tokens], self.trained[tokens], self.lengths[kept], self.places[kept])


class TokenWriter:
    """Writes a store as a stream: `with TokenWriter(folder) as writer: writer.append(...)`.

    The folder appears when the block ends without an exception, complete, or not at all. It holds one example or one
    block in memory. Raises EdgeftError when the folder exists.
    """

    def __init__(self, folder: Path) -> None:
        self._making = making_folder(folder)
        self._files: dict[str, int] = {}
        self._arrays: dict[str, BinaryIO] = {}
        self._examples = 0
        self._tokens = 0

    def __enter__(self) -> Self:
        self._partial = self._making.__enter__()
        self._arrays = {name: (self._partial / f"{name}.bin").open("wb") for name in _DTYPES}
        self._write("offsets", np.zeros(1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._arrays.values():
            file.close()
        if error is None:
            counts = {"examples": self._examples, "tokens": self._tokens}
            write_json(
                self._partial / _HEADER,
                {"format": _FORMAT, **counts, "arrays": _DTYPES, "files": list(self._files)},
            )
        self._making.__exit__(kind, error, trace)

    def file_number(self, name: str) -> int:
        """Returns the number under which places name a file; a new one for a file not seen before."""
        return self._files.setdefault(name, len(self._files))

    def append(self, example: Example, place: Place, removed_messages: int = 0) -> None:
        """Writes one example, with where its record is and how many messages were removed from it."""
        self.extend(
            Block(
                np.array(example.ids, dtype=np.int32),
                np.array(example.trained, dtype=np.bool_),
                np.array([len(example.ids)], dtype=np.int64),
                np.array([[self.file_number(place.file), place.line, removed_messages]], dtype=np.uint32),
            )
        )

    def extend(self, block: Block) -> None:
        """Writes examples whose places hold numbers that `file_number` gave."""
        ends = self._tokens + np.cumsum(block.lengths)
        for name, values in (
            ("ids", block.ids),
            ("trained", block.trained),
            ("offsets", ends),
            ("places", block.places),
        ):
            self._write(name, values)
        self._examples += len(block.lengths)
        self._tokens += len(block.ids)

    def _write(self, name: str, values: npt.NDArray[Any]) -> None:
        self._arrays[name].write(np.ascontiguousarray(values, dtype=_DTYPES[name]).tobytes())


class TokenizedExamples:
    """The examples of a store; index with an int to get one.

    The arrays are mapped: opening takes the same memory whatever their size, and processes share their pages. Raises
    EdgeftError for what is not a store, or not a whole one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        header = _read_header(folder)
        examples, tokens = int(header["examples"]), int(header["tokens"])
        self.files: list[str] = list(header["files"])
        self.ids: npt.NDArray[np.int32] = _map(folder, "ids", (tokens,))
        self.trained: npt.NDArray[np.bool_] = _map(folder, "trained", (tokens,))
        self.offsets: npt.NDArray[np.int64] = _map(folder, "offsets", (examples + 1,))
        self._places: npt.NDArray[np.uint32] = _map(folder, "places", (examples, _PLACE_COLUMNS))

    def __reduce__(self) -> tuple[type[TokenizedExamples], tuple[Path]]:
        return TokenizedExamples, (self._folder,)  # another process maps the files; a pickled map is a copy of them

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Example:
        ids, trained = self.arrays(index)
        return Example(ids.tolist(), trained.tolist())

    def arrays(self, index: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Returns an example's ids and which are trained, both (tokens,), not copied."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.ids[span], self.trained[span]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def place(self, index: int) -> Place:
        """Returns where the record of an example is."""
        row = self._places[index]
        return Place(self.files[row[_FILE]], int(row[_LINE]))

    def removed_messages(self, index: int) -> int:
        """Returns how many of the record's messages were removed so that it fits; 0 when it is whole."""
        return int(self._places[index][_REMOVED])


def copy_examples(folder: Path, passes: npt.NDArray[np.int64], out: TokenWriter) -> None:
    """Copies example i of a store `passes[i]` times: all that are taken, in their order, then those taken again.

    The store is read in blocks rather than mapped, so that memory stays the same whatever its size.
    """
    numbers = np.array([out.file_number(name) for name in _read_header(folder)["files"]], dtype=np.uint32)
    lengths = np.diff(np.fromfile(folder / "offsets.bin", dtype=_DTYPES["offsets"]))
    for repetition in range(int(passes.max(initial=0))):
        with ExitStack() as files:
            ids, trained, places = (
                files.enter_context((folder / f"{name}.bin").open("rb")) for name in ("ids", "trained", "places")
            )
            for start in range(0, len(passes), _BLOCK_EXAMPLES):
                span = slice(start, start + _BLOCK_EXAMPLES)
                n_tokens = int(lengths[span].sum())
                rows = _read(places, "places", len(lengths[span]) * _PLACE_COLUMNS).reshape(-1, _PLACE_COLUMNS)
                rows[:, _FILE] = numbers[rows[:, _FILE]]
                block = Block(_read(ids, "ids", n_tokens), _read(trained, "trained", n_tokens), lengths[span], rows)
                out.extend(block.select(passes[span] > repetition))


def _read(file: BinaryIO, name: str, count: int) -> npt.NDArray[Any]:
    return np.fromfile(file, dtype=_DTYPES[name], count=count)


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EdgeftError("there are no tokenized examples here", str(folder), "run the tokens stage") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise EdgeftError("these tokens are of another version of edgeft", str(folder), "run the tokens stage again")
    return header


def _map(folder: Path, name: str, shape: Sequence[int]) -> npt.NDArray[Any]:
    path, dtype = folder / f"{name}.bin", np.dtype(_DTYPES[name])
    n_values = int(np.prod(shape))
    if not path.is_file() or path.stat().st_size != n_values * dtype.itemsize:
        raise EdgeftError("this file is damaged", where=str(path), remedy="run the tokens stage again")
    if n_values == 0:  # an empty file cannot be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=tuple(shape))

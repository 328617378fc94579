"""Importance matrices on disk, in llama.cpp's two forms (tools/imatrix, common/imatrix-loader.cpp)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, GGUFWriter

from edgeft.errors import EdgeftError
from edgeft.files import replacing

_KEYS = ("imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")
_UNFINISHED = "edgeft.imatrix.measured"
_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class Squares:
    """What went into one weight tensor.

    Attributes:
        sums: of the squares of each input column, (n_matrices, n_columns) float32; a matrix for each expert.
        counts: tokens that each matrix saw, (n_matrices,) float32.
    """

    sums: npt.NDArray[np.float32]
    counts: npt.NDArray[np.float32]

    def mean(self) -> npt.NDArray[np.float32]:
        """Returns the mean square of each column, (n_matrices, n_columns); 1 for a matrix that saw no token."""
        counts = self.counts[:, None]
        means = np.where(counts > 0, self.sums / np.maximum(counts, 1), 1)
        return means.astype(np.float32)


@dataclass(frozen=True)
class Imatrix:
    """Squares by tensor name, and what they were measured on: texts, and chunks of `chunk_tokens` tokens.

    Attributes:
        chunk_tokens: 1 where it was read from the form before GGUF, which counts chunks and does not tell their size.
        measured: in a file that is not finished, a hash of what is measured; empty in others.
    """

    squares: Mapping[str, Squares]
    datasets: Sequence[str]
    chunk_count: int
    chunk_tokens: int
    measured: str = ""

    def means(self) -> dict[str, npt.NDArray[np.float32]]:
        """Returns the mean squares by tensor name."""
        return {name: squares.mean() for name, squares in self.squares.items()}


def merge_imatrices(matrices: Sequence[Imatrix]) -> Imatrix:
    """Returns the imatrix of all the texts together; raises EdgeftError when they are not of one model.

    Counts of chunks are made counts of tokens, with the chunks of the first that tells the size of its own: else a
    matrix in the old form would weigh as little as its few chunks beside the tokens of others.
    """
    size = next((matrix.chunk_tokens for matrix in matrices if matrix.chunk_tokens > 1), 1)
    matrices = [_in_tokens(matrix, size) for matrix in matrices]
    squares: dict[str, Squares] = dict(matrices[0].squares)
    for other in matrices[1:]:
        for name, more in other.squares.items():
            if name not in squares:
                squares[name] = more
                continue
            held = squares[name]
            if held.sums.shape != more.sums.shape:
                raise _unlike(name, held, more)
            squares[name] = Squares(held.sums + more.sums, held.counts + more.counts)
    datasets = list(dict.fromkeys(name for matrix in matrices for name in matrix.datasets))
    return Imatrix(squares, datasets, sum(matrix.chunk_count for matrix in matrices), matrices[0].chunk_tokens)


def _in_tokens(matrix: Imatrix, chunk_tokens: int) -> Imatrix:
    """Returns a matrix with counts of tokens, given the size of the chunks where the matrix does not tell it."""
    if matrix.chunk_tokens != 1 or chunk_tokens == 1:
        return matrix
    size = np.float32(chunk_tokens)
    squares = {name: Squares(of_one.sums * size, of_one.counts * size) for name, of_one in matrix.squares.items()}
    return replace(matrix, squares=squares, chunk_tokens=chunk_tokens)


def _unlike(name: str, one: Squares, other: Squares) -> EdgeftError:
    if one.sums.size == other.sums.size:
        what = "one importance matrix has a count for each expert, the other, in the old form, one for all"
        return EdgeftError(what, name, "merge what is in GGUF form")
    return EdgeftError(f"importance matrices of different models: {name} is {one.sums.shape} and {other.sums.shape}")


def write_imatrix(imatrix: Imatrix, path: Path) -> None:
    """Writes the GGUF form."""
    with replacing(path) as partial:
        writer = GGUFWriter(partial, arch="")  # an empty name is left out, as in llama.cpp's own files
        writer.add_type("imatrix")
        writer.add_array(_KEYS[0], list(imatrix.datasets))
        writer.add_uint32(_KEYS[1], imatrix.chunk_count)
        writer.add_uint32(_KEYS[2], imatrix.chunk_tokens)
        if imatrix.measured:
            writer.add_string(_UNFINISHED, imatrix.measured)
        for name in sorted(imatrix.squares):
            squares = imatrix.squares[name]
            writer.add_tensor(name + _SUMS, squares.sums)
            writer.add_tensor(name + _COUNTS, squares.counts[:, None])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def write_legacy_imatrix(imatrix: Imatrix, path: Path) -> None:
    """Writes the form that llama.cpp had before GGUF, with the suffix .dat: one count for a tensor, the first text."""
    with replacing(path) as partial, partial.open("wb") as file:
        seen = {name: s for name, s in sorted(imatrix.squares.items()) if s.counts.any()}
        file.write(struct.pack("<i", len(seen)))
        for name, squares in seen.items():
            calls = -(-int(squares.counts.max()) // imatrix.chunk_tokens)
            encoded = name.encode()
            file.write(struct.pack("<i", len(encoded)) + encoded + struct.pack("<ii", calls, squares.sums.size))
            file.write((squares.mean() * np.float32(calls)).astype("<f4").tobytes())
        text = (imatrix.datasets[-1] if imatrix.datasets else "").encode()
        file.write(struct.pack("<ii", imatrix.chunk_count, len(text)) + text)


def read_imatrix(path: Path) -> Imatrix:
    """Returns the imatrix of a file in either form; raises EdgeftError for anything else, and for values not finite."""
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        imatrix = _read_gguf(path) if is_gguf else _read_legacy(path.read_bytes())
    except (OSError, ValueError, KeyError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise EdgeftError(f"no importance matrix: {error}", str(path), "make one with `edgeft imatrix`") from error
    broken = [name for name, squares in imatrix.squares.items() if not np.isfinite(squares.sums).all()]
    if broken:
        raise EdgeftError(f"values that are not finite: {', '.join(broken)}", str(path), "make it again")
    return imatrix


def _read_gguf(path: Path) -> Imatrix:
    reader = GGUFReader(path)
    fields = reader.fields
    tensors = {tensor.name: np.array(tensor.data, dtype=np.float32) for tensor in reader.tensors}
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    if not names:
        raise ValueError("the GGUF file holds no sums of squares")
    squares = {}
    for name in names:
        counts = tensors[name + _COUNTS].reshape(-1)
        squares[name] = Squares(tensors[name + _SUMS].reshape(len(counts), -1), counts)
    datasets = [str(name) for name in fields[_KEYS[0]].contents()] if _KEYS[0] in fields else []
    chunks, tokens = (int(fields[key].contents()) if key in fields else 0 for key in _KEYS[1:])
    measured = str(fields[_UNFINISHED].contents()) if _UNFINISHED in fields else ""
    return Imatrix(squares, datasets, chunks, tokens, measured)


def _read_legacy(content: bytes) -> Imatrix:
    """Reads means times calls, one for a chunk; how many matrices a tensor has is not in the file, so they are one."""
    words = _Words(content)
    squares: dict[str, Squares] = {}
    for _ in range(words.number()):
        name = words.text()
        calls = words.number()
        values = words.floats()
        if not name or calls < 0:
            raise ValueError("the file is cut or of another kind")
        squares[name] = Squares(values[None], np.array([max(calls, 1)], dtype=np.float32))
    if not squares:
        raise ValueError("the file holds no tensors")
    chunks = words.number() if words.left else 0
    return Imatrix(squares, [words.text()] if words.left else [], chunks, 1)


class _Words:
    """The fields of the old form, one after another; raises ValueError past the end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    @property
    def left(self) -> bool:
        return self._place < len(self._content)

    def _take(self, size_bytes: int) -> bytes:
        taken = self._content[self._place : self._place + size_bytes]
        if size_bytes < 0 or len(taken) < size_bytes:
            raise ValueError("the file is cut or of another kind")
        self._place += size_bytes
        return taken

    def number(self) -> int:
        return int(struct.unpack("<i", self._take(4))[0])

    def text(self) -> str:
        return self._take(self.number()).decode()

    def floats(self) -> npt.NDArray[np.float32]:
        return np.frombuffer(self._take(4 * self.number()), dtype="<f4").astype(np.float32)

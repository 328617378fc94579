"""What a GGUF model says about itself: keys and tensors, read without its weights, and whether its files are whole.

Follows the specification (ggml/docs/gguf.md). The lists of strings that a vocabulary of 128,000 tokens needs are only
counted unless they are asked for: gguf's own reader takes seconds and 200 MB for them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError, Problem

_MAGIC: Final = b"GGUF"
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS: Final = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
_TYPES: Final = frozenset(GGMLQuantizationType)
_MOST_DIMENSIONS = 4
_COPY_AGAIN: Final = "copy or convert the file again"
_COPY_ALL: Final = "copy all parts into one folder, under the names that they were written with"


@dataclass(frozen=True)
class Strings:
    """A list of strings in a GGUF file, of which only the length is read."""

    count: int


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: `shape` in numpy's order, rows first; `start` and `size_bytes` its place in the file at `path`."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    path: Path
    start: int
    size_bytes: int

    @property
    def n_elements(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class GgufHeader:
    """A GGUF model before its weights: `keys` hold numbers, strings, numpy arrays, and `Strings`.

    `sizes` has the bytes of each of its files. The keys of the first describe the model; those of the others number
    them.
    """

    keys: dict[str, Any]
    tensors: dict[str, TensorInfo]
    sizes: dict[Path, int]

    @property
    def arch(self) -> str:
        """`general.architecture`; "" where the file has none."""
        return str(self.keys.get("general.architecture", ""))

    def arch_key(self, name: str) -> Any:
        """Returns the value of `{arch}.name`, None where the file has none."""
        return self.keys.get(f"{self.arch}.{name}")

    @property
    def n_weights(self) -> int:
        """How many weights its tensors have."""
        return sum(tensor.n_elements for tensor in self.tensors.values())

    def of_file(self, path: Path) -> list[TensorInfo]:
        """Returns the tensors that lie in one of the files."""
        return [tensor for tensor in self.tensors.values() if tensor.path == path]

    def is_whole(self, tensor: TensorInfo) -> bool:
        """Whether its file holds a tensor's bytes; if not, it was cut, or it is still being copied."""
        return tensor.start + tensor.size_bytes <= self.sizes[tensor.path]


def read_header(gguf: GgufFile, *, strings: bool = False) -> GgufHeader:
    """Reads the headers of all files of a model, little-endian, of version 2 or 3.

    With `strings` the lists of strings in the first file are read, not just counted. Raises EdgeftError, naming all,
    where files are damaged, missing, or not the parts that their names say.
    """
    parts: list[GgufHeader] = []
    problems: list[Problem] = []
    for path in gguf.parts:
        try:
            parts.append(_read_part(path, strings=strings and not parts))
        except EdgeftError as error:
            problems += error.problems
    if problems := problems or list(_misplaced(gguf.parts, parts)):
        raise EdgeftError(problems)
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    return GgufHeader(parts[0].keys, tensors, {path: size for part in parts for path, size in part.sizes.items()})


def _read_part(path: Path, *, strings: bool) -> GgufHeader:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data, strings).header(path)
    except FileNotFoundError as error:
        raise EdgeftError("this file is missing", str(path), _COPY_ALL) from error
    except (OSError, struct.error, ValueError, KeyError, UnicodeDecodeError, OverflowError, IndexError) as error:
        what = f"the header of this GGUF file cannot be read: {error}"
        raise EdgeftError(what, str(path), _COPY_AGAIN) from error


def _misplaced(paths: Sequence[Path], parts: Sequence[GgufHeader]) -> Iterator[Problem]:
    """Yields what llama.cpp refuses to read as one model: files that are other parts than their names say.

    Parts that were merged into one file have a count of 0.
    """
    first = str(paths[0])
    count = _split_key(parts[0], "count") or 1
    if count != len(parts):
        yield Problem(f"by its keys this is one of {count} parts, by its name one of {len(parts)}", first, _COPY_ALL)
    if count != len(parts) or count == 1:
        return
    numbers = [_split_key(part, "no") + 1 for part in parts]
    for number, (path, found) in enumerate(zip(paths, numbers, strict=True), start=1):
        if found != number:
            yield Problem(f"by its keys this is part {found}, by its name part {number}", str(path), _COPY_ALL)
    wanted, names = _split_key(parts[0], "tensors.count"), {name for part in parts for name in part.tensors}
    if numbers == list(range(1, count + 1)) and wanted != len(names):
        what = f"the parts hold {len(names)} tensors, the model has {wanted}: they are not all of one model"
        yield Problem(what, first, _COPY_ALL)


def _split_key(part: GgufHeader, name: str) -> int:
    value = part.keys.get(f"split.{name}")
    return value if isinstance(value, int) else 0


class _Cursor:
    def __init__(self, data: mmap.mmap, strings: bool) -> None:
        self._data = data
        self._strings = strings
        self._at = 0

    def header(self, path: Path) -> GgufHeader:
        if self._data[:4] != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        version, n_tensors, n_keys = self._number("<I"), self._number("<Q"), self._number("<Q")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        keys = {self._string(): self._value(self._number("<I")) for _ in range(n_keys)}
        infos = [self._tensor() for _ in range(n_tensors)]
        alignment = int(keys.get("general.alignment", 32))
        start = -(-self._at // alignment) * alignment
        tensors = {
            name: TensorInfo(name, shape, kind, path, start + offset, _size_bytes(shape, kind))
            for name, shape, kind, offset in infos
        }
        return GgufHeader(keys, tensors, {path: len(self._data)})

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _string(self) -> str:
        length = self._number("<Q")
        if self._at + length > len(self._data):
            raise ValueError("it ends inside a string")
        text = self._data[self._at : self._at + length].decode()
        self._at += length
        return text

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        return self._list() if kind == _ARRAY else self._number(_SCALARS[kind])

    def _list(self) -> Any:
        kind, count = self._number("<I"), self._number("<Q")
        if kind == _STRING and self._strings:
            return [self._string() for _ in range(count)]
        if kind == _STRING:
            for _ in range(count):
                (length,) = struct.unpack_from("<Q", self._data, self._at)
                self._at += 8 + length
            return Strings(count)
        if kind == _ARRAY:
            return [self._list() for _ in range(count)]
        form = np.dtype("?" if kind == _BOOL else _SCALARS[kind])
        end = self._at + count * form.itemsize
        values = np.frombuffer(self._data[self._at : end], dtype=form, count=count)
        self._at = end
        return values

    def _tensor(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name, dimensions = self._string(), self._number("<I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
        number = self._number("<I")
        if number not in _TYPES:
            raise ValueError(f"the tensor {name} has type {number}, which is not known")
        return name, shape, GGMLQuantizationType(number), self._number("<Q")


def _size_bytes(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape, dtype=np.int64)) // int(block) * int(block_bytes)

"""What a GGUF file says about itself: keys and tensors, read without its weights, and whether the file is whole.

Follows the specification (ggml/docs/gguf.md). The lists of strings that a vocabulary of 128,000 tokens needs are only
counted: gguf's own reader takes seconds and 200 MB for them.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from edgeft.errors import EdgeftError

_MAGIC: Final = b"GGUF"
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS: Final = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
_MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class Strings:
    """A list of strings in a GGUF file, of which only the length is read."""

    count: int


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: `shape` in numpy's order, rows first; `start` and `size_bytes` its place in the file."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    start: int
    size_bytes: int

    @property
    def n_elements(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class GgufHeader:
    """A GGUF file before its weights: `keys` hold numbers, strings, numpy arrays, and `Strings`."""

    path: Path
    keys: dict[str, Any]
    tensors: dict[str, TensorInfo]
    size_bytes: int

    @property
    def arch(self) -> str:
        """`general.architecture`; "" where the file has none."""
        return str(self.keys.get("general.architecture", ""))

    def arch_key(self, name: str) -> Any:
        """Returns the value of `{arch}.name`, None where the file has none."""
        return self.keys.get(f"{self.arch}.{name}")

    def beyond_the_end(self) -> list[TensorInfo]:
        """Returns the tensors whose bytes the file does not hold: it was cut, or it is still being copied."""
        return [tensor for tensor in self.tensors.values() if tensor.start + tensor.size_bytes > self.size_bytes]


def read_header(path: Path) -> GgufHeader:
    """Reads the header of a GGUF file, little-endian, of version 2 or 3; raises EdgeftError where it is damaged."""
    size_bytes = path.stat().st_size
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data).header(path, size_bytes)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError, OverflowError, IndexError) as error:
        what = f"the header of this GGUF file cannot be read: {error}"
        raise EdgeftError(what, str(path), "copy or convert the file again") from error


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def header(self, path: Path, size_bytes: int) -> GgufHeader:
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
            name: TensorInfo(name, shape, kind, start + offset, _size_bytes(shape, kind))
            for name, shape, kind, offset in infos
        }
        return GgufHeader(path, keys, tensors, size_bytes)

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
        return name, shape, GGMLQuantizationType(self._number("<I")), self._number("<Q")


def _size_bytes(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape, dtype=np.int64)) // int(block) * int(block_bytes)

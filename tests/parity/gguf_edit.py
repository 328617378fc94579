"""A GGUF file taken apart, to be changed and put together again: how tests make faulty exports of a correct one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants


@dataclass
class Key:
    """The value of one key with its type; a list has the type of its elements besides."""

    value: Any
    type: GGUFValueType
    of: GGUFValueType | None = None


@dataclass
class Stored:
    """One tensor: bytes as rows (rows, bytes a row) or plain numbers, and their type."""

    data: npt.NDArray[Any]
    type: GGMLQuantizationType

    def weights(self) -> npt.NDArray[np.float32]:
        """Returns the weights as float32, (rows, columns)."""
        found: npt.NDArray[np.float32] = quants.dequantize(self.data, self.type)
        return found

    def set(self, weights: npt.NDArray[np.float32]) -> None:
        """Stores other weights in the type that the tensor has, which must be one that gguf can write."""
        self.data = quants.quantize(np.ascontiguousarray(weights), self.type)


class Parts:
    """A whole file in memory: `keys` and `tensors` are plain dicts."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self.keys: dict[str, Key] = {}
        for name, found in reader.fields.items():
            if name.startswith("GGUF."):
                continue
            of = found.types[-1] if found.types[0] == GGUFValueType.ARRAY else None
            self.keys[name] = Key(found.contents(), found.types[0], of)
        self.tensors = {t.name: Stored(np.array(t.data), t.tensor_type) for t in reader.tensors}

    def write(self, path: Path, split_max_bytes: int = 0) -> Path:
        """Writes the file, or as many as it takes where they have a largest size, and returns the first."""
        writer = GGUFWriter(path, str(self.keys["general.architecture"].value), split_max_size=split_max_bytes)
        for name, key in self.keys.items():
            if name != "general.architecture":
                writer.add_key_value(name, key.value, key.type, sub_type=key.of)
        for name, stored in self.tensors.items():
            plain = stored.data.dtype in (np.float32, np.float16)
            writer.add_tensor(name, stored.data, raw_dtype=None if plain else stored.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        first: Path = writer.format_shard_names(path)[0]
        return first

"""Weights into safetensors files, a part of a tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from edgeft.files import flush, write_json
from edgeft.progress import Progress, shifted, silent
from edgeft.weights.checkpoint import TensorSpec, Weights
from edgeft.weights.writing import tensor_parts, write_parts

SHARD_BYTES = 5_000_000_000
"""Largest shard, as transformers writes them; a tensor is never split."""

_SAFETENSORS_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def write_weights(weights: Weights, folder: Path, progress: Progress = silent, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes model.safetensors, or shards of at most `shard_bytes` with their index, a part of a tensor at a time."""
    shards = _assign_shards(weights.specs, shard_bytes)
    total_bytes = sum(spec.size_bytes for spec in weights.specs.values())
    done_bytes = 0
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file_name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_tensors(weights, names, folder / file_name, shifted(progress, done_bytes, total_bytes))
        done_bytes += sum(weights.specs[name].size_bytes for name in names)
        weight_map |= dict.fromkeys(names, file_name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)


def write_tensors(weights: Weights, names: Iterable[str], path: Path, progress: Progress = silent) -> None:
    """Writes one safetensors file of some of the tensors."""
    specs = {name: weights.specs[name] for name in names}
    with path.open("wb") as file:
        _write_header(file, specs)
        start = file.tell()
    parts = [
        part
        for name, offset, _ in _offsets(specs)
        for part in tensor_parts(weights, name, start + offset, _plain, _sized(specs[name]))
    ]
    write_parts(path, parts, progress)
    flush(path)


def _sized(spec: TensorSpec) -> Callable[[int], int]:
    return lambda elements: elements * spec.dtype.itemsize


def _plain(tensor: torch.Tensor, _: int) -> npt.NDArray[np.uint8]:
    """Returns a CPU tensor's values as little-endian bytes, row-major."""
    values: npt.NDArray[np.uint8] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return values


def _assign_shards(specs: Mapping[str, TensorSpec], shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, spec in specs.items():
        if shards[-1] and filled + spec.size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += spec.size_bytes
    return shards


def _write_header(file: BinaryIO, specs: Mapping[str, TensorSpec]) -> None:
    """Writes the safetensors header (huggingface/safetensors, format): length as u64, then JSON, padded to 8 bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name, start, end in _offsets(specs):
        spec = specs[name]
        dtype = _SAFETENSORS_DTYPES[spec.dtype]
        header[name] = {"dtype": dtype, "shape": list(spec.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)


def _offsets(specs: Mapping[str, TensorSpec]) -> Iterator[tuple[str, int, int]]:
    position = 0
    for name, spec in specs.items():
        yield name, position, position + spec.size_bytes
        position += spec.size_bytes

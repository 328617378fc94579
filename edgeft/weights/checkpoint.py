"""The tensors of a checkpoint folder, mapped from its safetensors files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from edgeft.artifacts import Checkpoint
from edgeft.errors import EdgeftError, Problem

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PROBE_BYTES = 4096


@dataclass(frozen=True)
class TensorSpec:
    """A tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor as stored."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Weights(Protocol):
    """Named tensors: `specs` in the checkpoint's order, `read` for one of them on the CPU, in the spec's dtype.

    `read_rows` gives the rows from `start` to `stop`, for tensors that need not be held whole; `whole` says of which
    that gains nothing, as every row takes all of them. Both reads may be called by several threads at once.
    """

    @property
    def specs(self) -> dict[str, TensorSpec]: ...

    def read(self, name: str) -> torch.Tensor: ...

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor: ...

    def whole(self, name: str) -> bool: ...


class BaseWeights(Weights, Protocol):
    """Weights that an adapter can be folded into: `tied` when the output matrix is the embedding."""

    @property
    def tied(self) -> bool: ...

    def fingerprint(self) -> str: ...


class CheckpointWeights:
    """The tensors of a checkpoint folder, single or sharded safetensors, mapped rather than read.

    Raises EdgeftError for a truncated or missing shard, an index that names what no shard holds, and dtypes that are
    not floating point (a checkpoint that is already quantized).
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._files: dict[str, Path] = {}
        self.specs: dict[str, TensorSpec] = {}
        problems: list[Problem] = []
        for path, expected in _shards(checkpoint):
            try:
                found = _read_specs(path)
            except (OSError, SafetensorError) as error:
                problems.append(Problem(f"cannot be read: {error}", str(path), "download or copy the file again"))
                continue
            problems += [
                Problem("the index lists this tensor, its shard does not hold it", f"{path}: {name}")
                for name in sorted(expected - found.keys())
            ]
            for name, (dtype, shape) in found.items():
                if dtype not in _DTYPES:
                    problems.append(
                        Problem(
                            f"dtype {dtype} is no floating-point weight",
                            f"{path}: {name}",
                            "give the unquantized model",
                        )
                    )
                    continue
                self.specs[name] = TensorSpec(shape, _DTYPES[dtype])
                self._files[name] = path
        if problems:
            raise EdgeftError(problems)
        self.tied = bool(checkpoint.config().get("tie_word_embeddings"))
        self._shards: dict[Path, Any] = {
            path: safe_open(path, framework="pt") for path in dict.fromkeys(self._files.values())
        }

    def read(self, name: str) -> torch.Tensor:
        """Returns one tensor, as stored: a view of the file, whose pages are read when they are used."""
        tensor: torch.Tensor = self._shards[self._files[name]].get_tensor(name)
        return tensor

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Returns some rows of one tensor, as stored."""
        return self.read(name)[start:stop]

    def whole(self, name: str) -> bool:
        """Returns whether a tensor has no rows."""
        return not self.specs[name].shape

    def fingerprint(self) -> str:
        """Returns a SHA-256 of every tensor's name, dtype, shape, and 4 KiB from its start, middle and end.

        The same for every division into shards. It tells checkpoints apart without reading them: training changes
        nearly every weight.
        """
        digest = hashlib.sha256()
        for name in sorted(self.specs):
            spec = self.specs[name]
            digest.update(f"{name} {spec.dtype} {spec.shape}".encode())
            values = self.read(name).flatten().view(torch.uint8)
            middle = len(values) // 2
            for part in (values[:_PROBE_BYTES], values[middle : middle + _PROBE_BYTES], values[-_PROBE_BYTES:]):
                digest.update(part.numpy().tobytes())
        return digest.hexdigest()


def _read_specs(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    with safe_open(path, framework="pt") as shard:
        slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (safe_open is no mapping)
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def _shards(checkpoint: Checkpoint) -> Iterator[tuple[Path, set[str]]]:
    """Yields each shard with the tensor names that the index expects in it (none for a single file)."""
    folder, index_path = checkpoint.path, checkpoint.index_path
    if index_path is None:
        yield folder / "model.safetensors", set()
        return
    try:
        weight_map: dict[str, str] = json.loads(index_path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise EdgeftError(f"not a safetensors index: {error!r}", where=str(index_path)) from error
    for shard_name in sorted(set(weight_map.values())):
        yield folder / shard_name, {name for name, shard in weight_map.items() if shard == shard_name}

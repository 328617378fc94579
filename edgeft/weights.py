"""Weights as a stream of named tensors: a checkpoint, or a checkpoint with an adapter folded in on the way.

Both give names, shapes and dtypes without reading a weight, and then one tensor at a time, so that nothing that
consumes them (merge, convert) ever holds a whole model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from edgeft.artifacts import Adapter, Checkpoint
from edgeft.errors import EdgeftError, Problem

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PEFT_PREFIX = "base_model.model."


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
    """Named tensors: `specs` in the checkpoint's order, `read` for one of them on the CPU, in the spec's dtype."""

    @property
    def specs(self) -> dict[str, TensorSpec]: ...

    def read(self, name: str) -> torch.Tensor: ...


class CheckpointWeights:
    """The tensors of a checkpoint folder, single or sharded safetensors.

    Raises EdgeftError for a truncated or missing shard, an index that names what no shard holds, and dtypes that are
    not floating point (a checkpoint that is already quantized).
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._files: dict[str, Path] = {}
        self.specs: dict[str, TensorSpec] = {}
        problems: list[Problem] = []
        for path, expected in _shards(checkpoint.path):
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

    def read(self, name: str) -> torch.Tensor:
        """Returns one tensor, as stored."""
        with safe_open(self._files[name], framework="pt") as shard:
            tensor: torch.Tensor = shard.get_tensor(name)
        return tensor


def _read_specs(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    with safe_open(path, framework="pt") as shard:
        slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (safe_open is no mapping)
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def _shards(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yields each shard with the tensor names that the index expects in it (none for a single file)."""
    index_path = folder / "model.safetensors.index.json"
    if not index_path.is_file():
        yield folder / "model.safetensors", set()
        return
    try:
        weight_map: dict[str, str] = json.loads(index_path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise EdgeftError(f"not a safetensors index: {error!r}", where=str(index_path)) from error
    for shard_name in sorted(set(weight_map.values())):
        yield folder / shard_name, {name for name, shard in weight_map.items() if shard == shard_name}


@dataclass(frozen=True)
class _LoraPair:
    """The update of one weight: scale * b @ a, with a (rank, in) and b (out, rank)."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float

    def delta(self) -> torch.Tensor:
        """Returns the update, (out, in), float32, computed in float32 as peft's `get_delta_weight` does on the CPU."""
        return (self.b.float() @ self.a.float()) * self.scale


class MergedWeights:
    """A base with a LoRA adapter folded in: `base + scale * B @ A` in float32, rounded once to the base's dtype.

    Covers plain LoRA and rsLoRA with rank and alpha patterns on linear layers. Raises EdgeftError, every problem at
    once, for an adapter that names a tensor the base lacks, has another shape, or uses a method that is not covered.
    """

    def __init__(self, base: Weights, adapter: Adapter) -> None:
        self._base = base
        config = adapter.config()
        problems = [Problem(what, str(adapter.path), remedy) for what, remedy in _unsupported(config)]
        self._pairs, unpaired = _load_pairs(adapter.path / "adapter_model.safetensors", config)
        problems += [Problem("this adapter tensor is no LoRA pair", f"{adapter.path}: {name}") for name in unpaired]
        for name, pair in self._pairs.items():
            spec = base.specs.get(name)
            shape = (pair.b.shape[0], pair.a.shape[1])
            if spec is None:
                problems.append(Problem("the base has no such tensor", f"{adapter.path}: {name}", "is this its base?"))
            elif spec.shape != shape:
                what = f"the adapter's update is {shape}, the base's weight is {spec.shape}"
                problems.append(Problem(what, f"{adapter.path}: {name}", "is this the base it was trained on?"))
        if problems:
            raise EdgeftError(problems)

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """The base's specs: folding in an adapter changes no shape and no dtype."""
        return self._base.specs

    @property
    def adapted(self) -> set[str]:
        """Names of the tensors that the adapter changes."""
        return set(self._pairs)

    def read(self, name: str) -> torch.Tensor:
        """Returns one tensor, merged, in the base's dtype."""
        weight = self._base.read(name)
        if name not in self._pairs:
            return weight
        return weight.float().add_(self._pairs[name].delta()).to(weight.dtype)


def _unsupported(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if config.get("peft_type") != "LORA":
        yield f"adapters of type {config.get('peft_type')} cannot be merged", "train a LoRA"
    for key in ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters", "lora_bias"):
        if config.get(key):
            yield f"adapters with {key} cannot be merged", "train without it"
    if config.get("bias", "none") != "none":
        yield "adapters that train biases cannot be merged", "train with bias = none"


def _load_pairs(path: Path, config: dict[str, Any]) -> tuple[dict[str, _LoraPair], list[str]]:
    """Returns the updates by the base's tensor name, and the names of the tensors that belong to no update."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    unpaired: list[str] = []
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
            match = re.fullmatch(r"(.+)\.lora_([AB])\.weight", name)
            if match is None or not name.startswith(_PEFT_PREFIX):
                unpaired.append(name)
                continue
            halves.setdefault(match[1].removeprefix(_PEFT_PREFIX), {})[match[2]] = file.get_tensor(name)
    unpaired += [module for module, pair in halves.items() if len(pair) != 2]
    pairs = {
        f"{module}.weight": _LoraPair(pair["A"], pair["B"], _scale(module, config))
        for module, pair in halves.items()
        if len(pair) == 2
    }
    return pairs, unpaired


def _scale(module: str, config: dict[str, Any]) -> float:
    """Returns alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023), with peft's per-module patterns."""
    rank = _by_pattern(module, config.get("rank_pattern") or {}, config["r"])
    alpha = _by_pattern(module, config.get("alpha_pattern") or {}, config["lora_alpha"])
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _by_pattern(module: str, patterns: dict[str, float], default: float) -> float:
    """Returns the value of the first pattern that matches the end of the module's name, as peft does."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default

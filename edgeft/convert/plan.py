"""What a model family must say about a checkpoint before anything is read: tensors, their shapes, and GGUF keys."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from gguf import MODEL_ARCH, GGUFValueType, get_tensor_name_map

from edgeft.errors import EdgeftError, Problem
from edgeft.weights import TensorSpec

# Buffers that old checkpoints carry and that hold no weights.
_BUFFERS = re.compile(r".*\.(rotary_emb\.inv_freq|attention\.masked_bias|attention\.bias)")


@dataclass(frozen=True)
class KeyValue:
    """The value of one GGUF key, with the type it is stored in."""

    value: Any
    type: GGUFValueType


@dataclass(frozen=True)
class Plan:
    """How one checkpoint becomes GGUF. `shapes` and `transforms` use the checkpoint's names, `generated` GGUF's."""

    arch: MODEL_ARCH
    block_count: int
    vocab_size: int
    keys: Mapping[str, KeyValue]
    shapes: Mapping[str, tuple[int, ...]]
    optional: frozenset[str] = frozenset()
    transforms: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    generated: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def gguf_names(self, specs: Mapping[str, TensorSpec], where: str) -> dict[str, str]:
        """Returns the GGUF name of each tensor to convert, in the checkpoint's order, buffers left out.

        Raises EdgeftError naming every tensor that is missing, unexpected, or of another shape than the plan's.
        """
        found = {name: spec for name, spec in specs.items() if not _BUFFERS.fullmatch(name)}
        problems = [
            Problem("the checkpoint lacks this tensor", f"{where}: {name}", "is the checkpoint complete?")
            for name in self.shapes
            if name not in found and name not in self.optional
        ]
        for name, spec in found.items():
            if name not in self.shapes:
                problems.append(Problem("config.json leaves no place for this tensor", f"{where}: {name}"))
            elif spec.shape != self.shapes[name]:
                problems.append(
                    Problem(f"its shape is {spec.shape}, by config.json it is {self.shapes[name]}", f"{where}: {name}")
                )
        if problems:
            raise EdgeftError(problems)
        names = get_tensor_name_map(self.arch, self.block_count)
        return {name: names.get_name(name, try_suffixes=(".weight", ".bias")) for name in found}


class ConfigFields:
    """Reads config.json and keeps every problem until `check` raises them together."""

    def __init__(self, config_json: Mapping[str, Any], where: str) -> None:
        self._values = config_json
        self._where = where
        self._problems: list[Problem] = []

    def count(self, key: str, default: int | None = None) -> int:
        """Returns a positive whole number; null or absent means the default, which is None for a required key."""
        value = self._values.get(key)
        value = default if value is None else value
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.reject("missing" if value is None else f"{value!r} is no positive whole number", key)
        return 1

    def number(self, key: str, default: float | None = None, within: Mapping[str, Any] | None = None) -> float:
        """Returns a positive finite number, from `within` (a table inside config.json) or from the top."""
        value = (self._values if within is None else within).get(key)
        value = default if value is None else value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
            return float(value)
        self.reject("missing" if value is None else f"{value!r} is no positive number", key)
        return 1.0

    def reject(self, what: str, key: str, remedy: str = "") -> None:
        """Notes a problem with one key."""
        self._problems.append(Problem(what, f"{self._where}: {key}", remedy))

    def check(self) -> None:
        """Raises EdgeftError with every problem so far."""
        if self._problems:
            raise EdgeftError(self._problems)

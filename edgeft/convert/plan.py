"""How one checkpoint becomes GGUF: every tensor of the file with what it is made from, and the file's keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gguf import MODEL_ARCH

from edgeft.artifacts import plain_name
from edgeft.errors import EdgeftError, Problem
from edgeft.weights import TensorSpec

# Buffers that old checkpoints carry and that hold no weights.
_BUFFERS = r".*\.(rotary_emb\.inv_freq|attention\.masked_bias|attention\.bias)"


@dataclass(frozen=True)
class Change:
    """How tensors of a checkpoint become one of the file, `make`, and how they come back from it, `undo`.

    `undo` takes the file's tensor in float32. It returns the source, and a sequence of them where there are several.
    """

    make: Callable[..., torch.Tensor]
    undo: Callable[[torch.Tensor], Any]

    def __call__(self, *sources: torch.Tensor) -> torch.Tensor:
        """Returns the file's tensor."""
        return self.make(*sources)


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _stacked(*tensors: torch.Tensor) -> torch.Tensor:
    return torch.stack(tensors)


unchanged = Change(_same, _same)
"""For a tensor that is stored as the checkpoint has it."""

stack = Change(_stacked, torch.unbind)
"""Matrices as one tensor with a new outermost dimension, as llama.cpp wants the experts of a block."""


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the file.

    `shape` is that in the file, outermost dimension first; `sources` are the checkpoint's tensors that it is made from,
    with their shapes, and `make` makes it from them in that order. A source of several tensors of the file is what
    their `undo` gives, one behind another. An optional tensor is left out where its sources are missing.
    """

    name: str
    shape: tuple[int, ...]
    sources: Mapping[str, tuple[int, ...]]
    make: Change
    optional: bool = False


@dataclass(frozen=True)
class FoundTensor:
    """A tensor of the file, and the names under which the checkpoint has its sources."""

    planned: PlannedTensor
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The whole file; `generated` tensors come from config.json alone, `ignored` is a pattern of names left out."""

    arch: MODEL_ARCH
    vocab_size: int
    keys: Mapping[str, Any]
    tensors: Sequence[PlannedTensor]
    generated: Mapping[str, torch.Tensor]
    ignored: str = ""

    def find(self, specs: Mapping[str, TensorSpec], where: str) -> list[FoundTensor]:
        """Returns the tensors to write, in the checkpoint's order of their last sources.

        Raises EdgeftError naming every tensor that is missing, unexpected, or of another shape than the plan's.
        """
        ignored = re.compile("|".join(filter(None, (_BUFFERS, self.ignored))))
        plain = {plain_name(name): name for name in specs}
        actual = {alias: name for alias, name in plain.items() if not ignored.fullmatch(alias)}
        wanted = {name: shape for tensor in self.tensors for name, shape in tensor.sources.items()}
        problems: list[Problem] = []
        found: list[FoundTensor] = []
        for tensor in self.tensors:
            missing = [name for name in tensor.sources if name not in actual]
            if not missing:
                found.append(FoundTensor(tensor, tuple(actual[name] for name in tensor.sources)))
            elif not tensor.optional:
                what, remedy = "the checkpoint lacks this tensor", "is the checkpoint complete?"
                problems += [Problem(what, f"{where}: {name}", remedy) for name in missing]
        for alias, name in actual.items():
            shape = specs[name].shape
            if alias not in wanted:
                problems.append(Problem("config.json leaves no place for this tensor", f"{where}: {name}"))
            elif shape != wanted[alias]:
                what = f"its shape is {shape}, by config.json it is {wanted[alias]}"
                problems.append(Problem(what, f"{where}: {name}"))
        if problems:
            raise EdgeftError(problems)
        place = {name: number for number, name in enumerate(specs)}
        return sorted(found, key=lambda tensor: max(place[name] for name in tensor.sources))

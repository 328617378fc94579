"""What goes into the experts of a mixture, which transformers keeps as one tensor a block."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

_BLOCK = re.compile(r"\.layers\.(\d+)\.")
# One product gives gate and up.
_ROLES = {"gate_up_proj": ("gate", "up"), "down_proj": ("down",)}

Add = Callable[[str, int, int, torch.Tensor, int], None]
"""Takes a GGUF name, the expert's number, how many there are, the squares of its inputs, and how many these were."""


def column_squares(values: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the squares of each column, (n_columns,), in double precision."""
    rows = values.reshape(-1, values.shape[-1]).float()
    squares: torch.Tensor = torch.linalg.vector_norm(rows, dim=0).double().square()
    return squares


def expert_matrices(model: PreTrainedModel, names: Mapping[str, str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the experts of each block by their GGUF name, (n_experts, n_rows, n_columns); what is written is kept."""
    known = set(names.values())
    for _, block, weights in _experts(dict(model.named_modules())):
        for role, weight in weights.items():
            parts = weight.data.chunk(len(_ROLES[role]), dim=1)
            yield from ((name, part) for name, part in zip(_names(block, role), parts, strict=True) if name in known)


def _experts(modules: Mapping[str, torch.nn.Module]) -> Iterator[tuple[str, str, dict[str, torch.nn.Parameter]]]:
    """Yields the modules that hold experts: name, number of the block, weights by their role."""
    for module_name, module in modules.items():
        block = _BLOCK.search(f".{module_name}.")
        weights = {role: getattr(module, role, None) for role in _ROLES}
        if block is not None and all(isinstance(weight, torch.nn.Parameter) for weight in weights.values()):
            yield module_name, block[1], cast(dict[str, torch.nn.Parameter], weights)


def _names(block: str, role: str) -> tuple[str, ...]:
    return tuple(f"blk.{block}.ffn_{part}_exps.weight" for part in _ROLES[role])


class ExpertInputs(TorchFunctionMode):
    """Sees, while it is entered, each product with the weights of an expert, and adds up what goes into it.

    `routers` are the modules that choose experts, with their GGUF names. Of a model without experts it sees nothing.
    """

    def __init__(self, model: PreTrainedModel, names: Mapping[str, str], add: Add) -> None:
        super().__init__()
        self._add = add
        self._places: dict[int, tuple[tuple[str, ...], int, int]] = {}
        self.routers: dict[torch.nn.Module, str] = {}
        known = set(names.values())
        modules = dict(model.named_modules())
        for module_name, block, weights in _experts(modules):
            for role, weight in weights.items():
                self._note(weight, tuple(name for name in _names(block, role) if name in known))
            router = modules.get(f"{module_name.rpartition('.')[0]}.gate")
            if router is not None and (name := f"blk.{block}.ffn_gate_inp.weight") in known:
                self.routers[router] = name
        if self._places:
            # The others multiply with all experts at once.
            model.set_experts_implementation("eager")

    def _note(self, weight: Any, names: tuple[str, ...]) -> None:
        for number in range(len(weight)):
            self._places[weight[number].data_ptr()] = (names, number, len(weight))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Adds up the inputs of a product that is an expert's, then lets it happen."""
        if func is torch.nn.functional.linear and args[1].data_ptr() in self._places:
            names, number, count = self._places[args[1].data_ptr()]
            squares = column_squares(args[0])
            for name in names:
                self._add(name, number, count, squares, args[0].numel() // args[0].shape[-1])
        return func(*args, **(kwargs or {}))

"""Hidden states of a model in torch, by forward hooks on the modules that have weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from edgeft import hf
from edgeft.parity.distributions import Floats
from edgeft.parity.reference import ReferenceRecord
from edgeft.parity.states import LOGITS, LayerStates, Side, State, cell_for, sketched, squared_errors
from edgeft.progress import Progress

_RECORDS = 4
_POSITIONS = 4
"""Of a record, the ends of its quarters: the last sees the longest text that the record has."""
_NOISE = 0.01
"""Relative size of the errors under which gains are measured: about Q8_0's; for larger ones they are extrapolated."""
_REPEATS = 3

Key = tuple[str, Side]
"""A module's name and the side of it."""


def record_layers(model: hf.PreTrainedModel, records: Sequence[ReferenceRecord], progress: Progress) -> LayerStates:
    """Runs a model in float32 over a few records, and again with noise in its weights, and returns its states.

    What goes into a module is kept where no module has just put it out: the residual stream, what attention gives,
    the product of gate and up. Modules that run more than once or over some tokens only, as experts do, are left out.
    """
    longest = max(range(len(records)), key=lambda number: len(records[number].ids))
    chosen = sorted({longest, *range(len(records))[:_RECORDS]}, key=lambda number: number != longest)[:_RECORDS]
    chosen.sort()
    runs = [(number, _positions(records[number])) for number in chosen]
    clean, noisy = [], []
    for done, (number, positions) in enumerate(runs):
        progress(done, len(runs), "hidden states")
        clean.append(_states(model, records[number].ids, positions))
        noisy.append([_noisy_states(model, records[number].ids, positions, seed) for seed in range(_REPEATS)])
    keys = [key for key in _new_ones(clean[0]) if all(key in one for one in clean)]
    rows = {key: np.concatenate([one[key] for one in clean]) for key in keys}
    gains = [_gain(rows[key], [[one[key] for one in each] for each in noisy]) for key in keys]
    places = [(number, position) for number, positions in runs for position in positions]
    cell = cell_for([rows[key].shape[1] for key in keys], len(places))
    states = [State(module, side, rows[module, side].shape[1], cell) for module, side in keys]
    return LayerStates(states, places, [sketched(rows[key], cell) for key in keys], np.stack(gains, axis=1))


def _positions(record: ReferenceRecord) -> list[int]:
    last = record.first_scored + record.n_scored - 1
    return sorted({max(1, last * part // _POSITIONS) for part in range(1, _POSITIONS + 1)} & set(range(last + 1)))


def _gain(rows: Floats, noisy: list[list[Floats]]) -> Floats:
    """Returns by how much noise moved each position; `noisy` are the repeats of each record."""
    repeats = [np.concatenate(each) for each in zip(*noisy, strict=True)]
    errors = np.stack([squared_errors(each, rows) for each in repeats]).mean(axis=0)
    gains: Floats = (errors / _NOISE**2).astype(np.float32)
    return gains


def _new_ones(seen: Mapping[Key, Floats]) -> Iterator[Key]:
    """Yields every output, and the inputs that are not some module's output as they are."""
    outputs = [rows for (_, side), rows in seen.items() if side == "output"]
    for key, rows in seen.items():
        same = (out.shape == rows.shape and np.array_equal(out, rows) for out in outputs)
        if key[1] == "output" or not any(same):
            yield key


def _states(model: hf.PreTrainedModel, ids: Sequence[int], positions: Sequence[int]) -> dict[Key, Floats]:
    """Returns the states of one sequence at some positions, in the order in which they are computed."""
    seen: dict[Key, Floats] = {}
    twice: set[Key] = set()

    def keep(key: Key, value: Any) -> None:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return
        value = value[0] if value.ndim > 2 and value.shape[0] == 1 else value
        if key in seen:
            twice.add(key)
        elif value.ndim > 1 and value.shape[0] == len(ids):
            seen[key] = value[list(positions)].flatten(1).float().cpu().numpy()

    def before(name: str) -> Callable[..., None]:
        return lambda _, inputs: keep((name, "input"), inputs[0]) if inputs else None

    def after(name: str) -> Callable[..., None]:
        return lambda _, __, output: keep((name, "output"), output)

    hooks = []
    for name, module in _weighted(model):
        if not isinstance(module, torch.nn.Embedding):
            hooks += [module.register_forward_pre_hook(before(name)), module.register_forward_hook(after(name))]
    with _removed(hooks):
        seen[LOGITS, "output"] = hf.logits(model, ids)[list(positions)].numpy()
    return {key: rows for key, rows in seen.items() if key not in twice}


def _noisy_states(
    model: hf.PreTrainedModel, ids: Sequence[int], positions: Sequence[int], seed: int
) -> dict[Key, Floats]:
    """Returns the states where every weight matrix has independent errors of a relative size.

    Errors e of a matrix W move a feature of W x by e x rms(W) |x| on average, whatever the feature.
    """
    source = torch.Generator(device=model.device).manual_seed(seed)

    def add(output: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(output.shape, generator=source, device=output.device, dtype=output.dtype)
        return output + _NOISE * size * noise

    def linear(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or not inputs or not isinstance(inputs[0], torch.Tensor):
            return output
        weight: Any = module.weight
        return add(output, weight.square().mean().sqrt() * inputs[0].norm(dim=-1, keepdim=True))

    def other(_: torch.nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return output
        return add(output, output.square().mean(dim=-1, keepdim=True).sqrt())

    hooks = []
    for module in model.modules():
        matrices = [own for own in module.parameters(recurse=False) if own.ndim > 1]
        if matrices:
            is_linear = isinstance(module, torch.nn.Linear)
            hooks.append(module.register_forward_hook(linear if is_linear else other))
    with _removed(hooks):
        return _states(model, ids, positions)


def _weighted(model: hf.PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yields the modules with a weight of their own, by their names in the checkpoint."""
    for name, module in model.named_modules():
        if isinstance(getattr(module, "weight", None), torch.nn.Parameter):
            yield name, module


@contextmanager
def _removed(hooks: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

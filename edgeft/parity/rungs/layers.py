"""The file's hidden states against the reference's: in which layer, and at which operation, a difference begins.

A state may be as far off as the rounding of the file's type makes it. The reference has what noise in the weights does
to each state of this very model (`edgeft.parity.states`), and the rung on the weights how much the file's are rounded:
together the floor. What is beyond it is no rounding. The rung tells where a fault is and is never one of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from edgeft.gguf_header import GgufHeader
from edgeft.llamacpp import LOGITS as LOGITS_POINT
from edgeft.llamacpp import Engine, Point
from edgeft.parity.distributions import Floats
from edgeft.parity.ladder import Failure, Rung
from edgeft.parity.layout import places, restoring_columns, restoring_rows
from edgeft.parity.reference import OpenReference
from edgeft.parity.states import LOGITS, LayerStates, State, sketched, squared_errors
from edgeft.progress import Progress

_NAME: Final = "layers"
_EXPLAINED: Final = ("logits", "quantization")
"""Rungs that say that a file differs, and not where."""
_ARITHMETIC: Final = {"F32": 5e-7, "F16": 2.5e-4, "BF16": 2e-3}
_QUANTIZED_ARITHMETIC: Final = 8e-3
"""What llama.cpp's own rounding of activations, and its KV cache, does to states, as an error of the weights.

Measured on correct files of 43 models of 17 families: F32 2.5e-7, F16 2.3e-4, BF16 2e-3, quantized (Q8_0) 8e-3.
"""
_ANGLES: Final = 4e-9
"""What a position adds: the rotary embedding's angles are float32. 7e-6 measured at position 3,000, 5e-7 at 100."""
_TABLE_GELU: Final = 1.5e-4
"""llama.cpp looks GELU up in a table of F16: 1.4e-4 measured."""
_MARGIN: Final = 4.0
"""How many times the expected error is no fault. Of correct files' states the worst was at 2.6 (Q4_0)."""
_HEAD: Final = "lm_head"
_EMBEDDING, _OUTPUT_TENSOR, _LAST_NORM = "token_embd.weight", "output.weight", "output_norm.weight"


_SUM = "sum of the feed-forward network and its input"
_PLACES: Final = {"embedding": "at", _SUM: "after"}


@dataclass(frozen=True)
class Operation:
    """One operation of the file with its error: `layer` is None before the first and after the last."""

    layer: int | None
    name: str
    tensor: str
    module: str
    side: str
    relative_error: float
    floor: float

    @property
    def is_beyond(self) -> bool:
        """Whether rounding does not explain the error; one that is not a number never is explained."""
        return not self.relative_error <= self.floor

    @property
    def where(self) -> str:
        """The operation in both vocabularies."""
        return f"{self.tensor} ({self.module})" if self.module else self.tensor

    def __str__(self) -> str:
        part = self.name if self.layer is None else f"layer {self.layer}, {self.name}"
        place = "at" if self.side == "output" else _PLACES.get(self.name, "before")
        return f"{part} {place} {self.where}: relative error {self.relative_error:.2g}, floor {self.floor:.2g}"


def check_layers(
    engine: Engine, header: GgufHeader, reference: OpenReference, weights: Mapping[str, Any], progress: Progress
) -> Rung:
    """Compares every state that the reference and llama.cpp's graph both have."""
    layers = reference.layers.within(engine.n_ctx) if reference.layers else None
    if layers is None or not layers.positions:
        return Rung(_NAME, "skipped")
    noise = math.hypot(float(weights["median_error"]), _arithmetic(engine.file_type, reference, layers))
    seen = dict(_seen(engine, header, layers, reference, progress))
    names = _module_names(header, reference)
    operations = []
    for number, (point, rows) in seen.items():
        state = layers.states[number]
        off = squared_errors(sketched(rows, state.cell), layers.cells[number])
        expected = math.sqrt(float(layers.gains[:, number].mean(dtype=np.float64))) * noise
        layer, name, tensor = _operation(point, engine.n_layers)
        tensor = next((other for other in _alternatives(tensor) if other in header.tensors), tensor)
        found = (names.get(tensor, ""), state.side, math.sqrt(float(off.mean())), _MARGIN * expected)
        operations.append(Operation(layer, name, tensor, *found))
    first = next((one for one in operations if one.is_beyond), None)
    figures = {
        "positions": len(layers.positions),
        "noise": noise,
        "margin": _MARGIN,
        "first": None if first is None else _json(first),
        "layers": [_json(one) for one in _worst_of_layers(operations)],
        "operations": [_json(one) for one in operations],
        "not_compared": [f"{one.side} of {one.module}" for i, one in enumerate(layers.states) if i not in seen],
    }
    return Rung(_NAME, "pass", figures)


def explained(rungs: list[Rung]) -> list[Rung]:
    """Returns the rungs, where one that failed says in which operation the file's states begin to differ."""
    broken = any(one.status in ("fail", "undecided") for one in rungs)
    layers = next((one for one in rungs if one.name == _NAME), None)
    if not broken or layers is None or layers.status == "skipped":
        return rungs
    first = layers.figures["first"]
    if first is None:
        told, where = "no hidden state leaves the noise floor of the file's type: no more than its rounding is seen", ""
    else:
        operation = Operation(**first)
        told, where = f"hidden states leave the noise floor first in {operation}", operation.where
    found = []
    for one in rungs:
        if one.name in _EXPLAINED and one.failures:
            failure, *more = one.failures
            said = replace(failure, cause=f"{failure.cause}; {told}", where=failure.where or where)
            found.append(replace(one, failures=(said, *more)))
        elif one.name == _NAME and first is not None:
            found.append(replace(one, status="fail", failures=(Failure(_NAME, told, where),)))
        else:
            found.append(one)
    return found


def _json(one: Operation) -> dict[str, Any]:
    return dict(vars(one))


def _arithmetic(file_type: str, reference: OpenReference, layers: LayerStates) -> float:
    size = _ARITHMETIC.get(file_type, _QUANTIZED_ARITHMETIC)
    size += _ANGLES * max(position for _, position in layers.positions)
    config = reference.content.model.config
    is_gelu = any("gelu" in str(config.get(key)) for key in ("hidden_act", "hidden_activation"))
    return max(size, _TABLE_GELU) if is_gelu else size


def _seen(
    engine: Engine, header: GgufHeader, layers: LayerStates, reference: OpenReference, progress: Progress
) -> Iterator[tuple[int, tuple[Point, Floats]]]:
    """Yields each state's number with its point in the graph and its values, in the checkpoint's order."""
    points = dict(_points(header, layers.states))
    wanted = {point: layers.states[number].features for number, point in points.items() if point != LOGITS_POINT}
    parts: list[dict[Point, Floats]] = []
    numbers = list(dict.fromkeys(record for record, _ in layers.positions))
    for done, number in enumerate(numbers):
        progress(done, len(numbers), "hidden states")
        chosen = layers.positions_of(number)
        ids = reference.content.records[number].ids[: chosen[-1] + 1]
        parts.append(engine.observe(ids, chosen, wanted))
    for number, point in points.items():
        if all(point in part for part in parts):
            rows = np.concatenate([part[point] for part in parts])
            restore = (restoring_rows if point[1] == "output" else restoring_columns)(header, point[0])
            yield number, (point, rows if restore is None else np.ascontiguousarray(restore(rows.T).T))


def _points(header: GgufHeader, states: list[State]) -> Iterator[tuple[int, Point]]:
    """Yields each state's number with its point in llama.cpp's graph, where the file has its weight."""
    where = places(header, [f"{one.module}.weight" for one in states])
    for number, one in enumerate(states):
        place = where.get(f"{one.module}.weight")
        if one.module == LOGITS:
            yield number, LOGITS_POINT
        elif one.module.endswith(_HEAD) and _OUTPUT_TENSOR not in header.tensors:
            yield number, (_EMBEDDING, one.side)
        elif place is not None and place.expert is None:
            yield number, (place.name, one.side)


def _module_names(header: GgufHeader, reference: OpenReference) -> dict[str, str]:
    """Returns the checkpoint's name of each tensor of the file, experts under one name."""
    found: dict[str, str] = {}
    for name, place in places(header, list(reference.weights)).items():
        found.setdefault(place.name, name if place.expert is None else name.replace(f".{place.expert}.", ".*."))
    return found


def _alternatives(tensor: str) -> tuple[str, ...]:
    """Yields the names of a tensor of which a file has one: tied embeddings, experts."""
    return tensor, tensor.replace("ffn_down.", "ffn_down_exps."), _EMBEDDING if tensor == _OUTPUT_TENSOR else tensor


def _operation(point: Point, n_layers: int) -> tuple[int | None, str, str]:
    """Returns the layer of a point, what computes its value, and the tensor by which that is named."""
    tensor, side = point
    match = re.fullmatch(r"blk\.(\d+)\.(.+)\.weight", tensor)
    layer, part = (int(match[1]), match[2]) if match else (None, tensor)
    if point == LOGITS_POINT:
        return None, "logits (scale, soft cap)", _OUTPUT_TENSOR
    if side == "output":
        return (
            layer,
            "norm (weight, epsilon)" if part.endswith("norm") or tensor == _LAST_NORM else "matrix product",
            tensor,
        )
    if part == "attn_norm" and layer == 0:
        return None, "embedding", _EMBEDDING
    if part in ("attn_norm", _LAST_NORM):
        before = (layer or n_layers) - 1
        return before, _SUM, f"blk.{before}.ffn_down.weight"
    told = {
        "attn_output": "attention (rotary embedding, mask, softmax)",
        "ffn_norm": "sum of attention and its input",
        "ffn_down": "activation",
    }
    return layer, told.get(part, "input"), tensor


def _worst_of_layers(operations: list[Operation]) -> Iterator[Operation]:
    """Yields the operation of each layer that is furthest beyond its floor, or nearest to it."""
    for layer in dict.fromkeys(one.layer for one in operations if one.layer is not None):
        yield max((one for one in operations if one.layer == layer), key=_times_the_floor)


def _times_the_floor(one: Operation) -> float:
    return one.relative_error / one.floor if one.floor > 0 and math.isfinite(one.relative_error) else math.inf

"""What flows through llama.cpp's graph: inputs and outputs of the operations that read a model's weights.

An operation is known by its weight, whose name is the file's in every architecture; the names that llama.cpp gives to
results differ from one architecture to the next, and some results have none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final, Literal

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp._ggml import libggml

Side = Literal["input", "output"]
Point = tuple[str, Side]
"""A weight's name in the file, and which side of the operation that reads it."""
Rows = npt.NDArray[np.float32]

_F32: Final = 0
_FLOAT_BYTES: Final = 4


class _Tensor(ctypes.Structure):
    """`struct ggml_tensor` (ggml.h), up to what is needed of it."""


_Tensor._fields_ = [  # after the class, as it holds pointers to itself
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]


def _function(name: str, returns: Any, *takes: Any) -> Any:
    found = getattr(libggml, name)
    found.restype, found.argtypes = returns, takes
    return found


_operation_of = _function("ggml_op_desc", ctypes.c_char_p, ctypes.c_void_p)
_name_at = _function("ggml_get_name", ctypes.c_void_p, ctypes.c_void_p)
_data_of = _function("ggml_get_data", ctypes.c_void_p, ctypes.c_void_p)
_copy_from = _function(
    "ggml_backend_tensor_get", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)


class Observer:
    """A callback for `llama_context_params.cb_eval` that keeps some rows of the points that are wanted.

    `wanted` gives each point's number of features, `n_layers` the layers of the model. What was seen is in `rows`, an
    array (features,) for each row of each point. It is empty where this build of llama.cpp lays its tensors out
    otherwise. A point is missing where the graph has no such operation, or its input was overwritten.
    """

    def __init__(self, wanted: Mapping[Point, int], n_layers: int) -> None:
        self.rows: dict[Point, list[Rows]] = {}
        self.error: Exception | None = None
        self.callback = llama_cpp.llama_cpp.ggml_backend_sched_eval_callback(self._called)
        self._wanted = wanted
        # The last layer's sum goes into one operation alone, the last norm, which may overwrite it.
        self._last_sum = f"l_out-{n_layers - 1}"
        self._n_tokens, self._chosen, self._seen = 0, [0], set[Point]()
        self._is_known: bool | None = None

    def expect(self, n_tokens: int, chosen: Sequence[int]) -> None:
        """Says how many tokens are decoded next, and which of them are kept: those whose logits are asked for."""
        self._n_tokens, self._chosen, self._seen = n_tokens, list(chosen), set()

    def _called(self, address: int, ask: bool, _: Any) -> bool:
        # What is raised in here would be printed and lost.
        try:
            if self._is_known is None:
                self._is_known = _is_laid_out_as_stated(address)
            if not self._is_known or not self._chosen or self.error:
                return not ask
            tensor = _Tensor.from_address(address)
            found = list(self._points(tensor))
            if ask:
                return bool(found)
            for point, source in found:
                self._keep(point, source)
        except Exception as error:
            self.error = error  # raised again by who decodes
        return True

    def _points(self, tensor: _Tensor) -> Iterator[tuple[Point, _Tensor]]:
        """Yields the points at an operation, with the tensors that hold their values once it is computed."""
        operation = _operation_of(ctypes.addressof(tensor))
        if _name(tensor) == self._last_sum:
            yield from self._if_wanted(("output_norm.weight", "input"), tensor)
        if operation == b"MUL_MAT":
            name = _name(tensor.src[0].contents)
            yield from self._if_wanted((name, "output"), tensor)
            yield from self._if_wanted((name, "input"), tensor.src[1].contents)
        elif operation in (b"ADD", b"MUL"):
            name, before = _name(tensor.src[1].contents), tensor.src[0].contents
            if name.endswith(".bias"):
                yield from self._if_wanted((name.removesuffix("bias") + "weight", "output"), tensor)
            elif name.endswith(".weight"):  # of a norm
                yield from self._if_wanted((name, "output"), tensor)
                if before.src[0] and before.src[0].contents.data not in (before.data, tensor.data):
                    yield from self._if_wanted((name, "input"), before.src[0].contents)

    def _if_wanted(self, point: Point, tensor: _Tensor) -> Iterator[tuple[Point, _Tensor]]:
        if point in self._wanted:
            yield point, tensor

    def _keep(self, point: Point, tensor: _Tensor) -> None:
        features = self._wanted[point]
        place = _rows_of(tensor, features)
        if place is None:
            return
        count, stride = place
        # Only the tokens whose logits are asked for go through the end of the last layer.
        which = {self._n_tokens: self._chosen, len(self._chosen): range(len(self._chosen))}.get(count)
        if which is None:
            return
        kept = self.rows.setdefault(point, [])
        if point in self._seen:  # a bias is added to what has been kept
            del kept[-len(self._chosen) :]
        self._seen.add(point)
        for row in which:
            values = np.empty(features, dtype=np.float32)
            _copy_from(ctypes.addressof(tensor), values.ctypes.data, row * stride, features * _FLOAT_BYTES)
            kept.append(values)


def _is_laid_out_as_stated(address: int) -> bool:
    """Returns whether `_Tensor` is what this build has, by two of the fields behind those that may change."""
    tensor = _Tensor.from_address(address)
    return bool(_name_at(address) - address == _Tensor.name.offset and _data_of(address) == tensor.data)


def _name(tensor: _Tensor) -> str:
    """Returns a tensor's name; a copy that llama.cpp makes of it on another device is called `CUDA0#name#0`."""
    name: str = tensor.name.decode("utf-8", "replace")
    return name.split("#")[1] if name.count("#") > 1 else name


def _rows_of(tensor: _Tensor, features: int) -> tuple[int, int] | None:
    """Returns how many rows of so many features there are and the bytes from one to the next; None for other shapes."""
    sizes, strides = list(tensor.ne), list(tensor.nb)
    if tensor.type != _F32 or strides[0] != _FLOAT_BYTES:
        return None
    for split in (1, 2, 3):
        rows = [size for size in sizes[split:] if size > 1]
        dense = all(strides[i] == strides[i - 1] * sizes[i - 1] for i in range(1, split))
        if prod(sizes[:split]) == features and len(rows) <= 1 and dense:
            return (rows[0] if rows else 1), strides[next((i for i in range(split, 4) if sizes[i] > 1), split)]
    return None

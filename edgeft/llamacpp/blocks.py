"""ggml's quantized blocks: values to codes and back, by llama.cpp's own arithmetic (ggml/src/ggml-quants.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType
from llama_cpp._ggml import libggml

from edgeft.llamacpp.dequantize import dequantize
from edgeft.quant_types import TENSOR_TYPE

_ROWS_AT_ONCE: Final = 256
_FLOATS = ctypes.POINTER(ctypes.c_float)


PLAIN_TYPES: Final = frozenset(
    ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
)
"""Types that need no importance matrix."""


def block_columns(type_name: str) -> int:
    """Returns how many values share a block; a row's length has to be a multiple."""
    return int(_function("ggml_blck_size", ctypes.c_int64, ctypes.c_int)(TENSOR_TYPE[type_name]))


def row_bytes(type_name: str, n_columns: int) -> int:
    """Returns the bytes of a row of so many values."""
    size_of = _function("ggml_row_size", ctypes.c_size_t, ctypes.c_int, ctypes.c_int64)
    return int(size_of(TENSOR_TYPE[type_name], n_columns))


def _function(name: str, result: Any, *arguments: Any) -> Any:
    found = getattr(libggml, name)
    found.argtypes, found.restype = arguments, result
    return found


def quantize_rows(
    values: npt.NDArray[np.float32],
    type_name: str,
    importance: npt.NDArray[np.float32] | None = None,
    threads: int = 1,
) -> npt.NDArray[np.uint8]:
    """Returns the codes of values (rows, n_columns) as bytes, (rows, row_bytes).

    `importance`, (n_columns,), weighs the columns; it is what `llama_model_quantize` is given of an importance matrix.
    The bytes are those that it writes. Raises ValueError for codes that mean no finite numbers.
    """
    rows, columns = values.shape
    source = np.ascontiguousarray(values, dtype=np.float32)
    codes = np.empty((rows, row_bytes(type_name, columns)), dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    number = TENSOR_TYPE[type_name]
    places = (ctypes.c_int64,) * 3
    chunk = _function("ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int, _FLOATS, ctypes.c_void_p, *places, _FLOATS)
    valid = _function("ggml_validate_row_data", ctypes.c_bool, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    pointers = (source.ctypes.data_as(_FLOATS), codes.ctypes.data)
    weighted = None if weights is None else weights.ctypes.data_as(_FLOATS)
    _function("ggml_quantize_init", None, ctypes.c_int)(number)

    def encode(first: int) -> None:
        count = min(_ROWS_AT_ONCE, rows - first)
        chunk(number, *pointers, first * columns, count, columns, weighted)

    _in_threads(encode, rows, threads)
    if not valid(number, codes.ctypes.data, codes.nbytes):
        raise ValueError(f"{type_name} cannot hold these values")
    return codes


@cache
def ordinary_error(type_name: str) -> float:
    """Returns the norm of what rounding adds to normally distributed values, over theirs.

    The matrices of models have nearly that, whatever their size, unless they lie on the type's grid: SmolLM2's had 0.98
    to 1.3 times it at the types on whose grid they do not lie, and 0.00 to 0.27 at the others.
    """
    values = np.random.default_rng(0).standard_normal((64, 1024), dtype=np.float32)
    error = dequantize_rows(quantize_rows(values, type_name), type_name, 1024) - values
    return float(np.linalg.norm(error) / np.linalg.norm(values))


def dequantize_rows(
    codes: npt.NDArray[np.uint8], type_name: str, n_columns: int, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Returns the values of codes (rows, row_bytes), (rows, n_columns)."""
    kind = GGMLQuantizationType[type_name]
    values = np.empty((codes.shape[0], n_columns), dtype=np.float32)

    def decode(first: int) -> None:
        some = slice(first, first + _ROWS_AT_ONCE)
        values[some] = dequantize(codes[some], kind).reshape(-1, n_columns)

    _in_threads(decode, codes.shape[0], threads)
    return values


def _in_threads(work: Callable[[int], None], rows: int, threads: int) -> None:
    """Calls a function with the first row of each chunk; ctypes lets go of the interpreter while ggml works."""
    starts = range(0, rows, _ROWS_AT_ONCE)
    if threads == 1:
        for first in starts:
            work(first)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, starts))

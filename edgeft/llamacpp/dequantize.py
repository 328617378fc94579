"""A tensor's bytes as float32, by ggml's own conversion: what llama.cpp computes with."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from llama_cpp import _ggml

from edgeft.errors import EdgeftError

_PLAIN: Final[dict[GGMLQuantizationType, npt.DTypeLike]] = {
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
    GGMLQuantizationType.F64: np.float64,
}


def dequantize(data: npt.NDArray[np.uint8], kind: GGMLQuantizationType) -> npt.NDArray[np.float32]:
    """Returns the weights of whole blocks of a type as float32, flat, in the order in which they lie in the file.

    Raises EdgeftError for a type that this build of llama.cpp does not know.
    """
    if kind in _PLAIN:
        return data.view(_PLAIN[kind]).astype(np.float32)
    if kind == GGMLQuantizationType.BF16:
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    source = np.ascontiguousarray(data)
    weights = np.empty(source.size // block_bytes * block, dtype=np.float32)
    _to_float(kind)(source.ctypes.data, weights.ctypes.data, weights.size)
    return weights


class _TypeTraits(ctypes.Structure):
    """`struct ggml_type_traits` (ggml.h), up to what is needed of it."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block_size", ctypes.c_int64),
        ("block_size_interleaved", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


@lru_cache(maxsize=64)
def _to_float(kind: GGMLQuantizationType) -> Any:
    get = _ggml.libggml.ggml_get_type_traits
    get.restype, get.argtypes = ctypes.POINTER(_TypeTraits), [ctypes.c_int]
    traits = get(int(kind)).contents
    # A struct of another layout would show here: the numbers are those of gguf's own table.
    if not traits.to_float or (traits.block_size, traits.type_size) != GGML_QUANT_SIZES[kind]:
        raise EdgeftError(f"this build of llama.cpp has no type {kind.name}", remedy="upgrade llama-cpp-python")
    return traits.to_float

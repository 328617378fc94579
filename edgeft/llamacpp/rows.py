"""Rows of weights through ggml's own quantizer (ggml.h: ggml_quantize_chunk), in this process."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from edgeft.errors import EdgeftError

# Types that ggml quantizes to without an importance matrix.
_PLAIN_TYPES = frozenset(
    GGMLQuantizationType[name]
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
)


def can_quantize_rows(kind: GGMLQuantizationType) -> bool:
    """Returns whether `quantize_rows` knows a type."""
    return kind in _PLAIN_TYPES


def quantize_rows(rows: npt.NDArray[np.float32], kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """Returns (rows, bytes of a row): what llama.cpp stores for (rows, width) without an importance matrix.

    Raises EdgeftError for other types, and for a width that is no multiple of the type's block.
    """
    block, block_bytes = GGML_QUANT_SIZES[kind]
    count, width = rows.shape
    if not can_quantize_rows(kind) or width % block:
        raise EdgeftError(f"rows of {width} weights cannot be quantized to {kind.name} here")
    values = np.ascontiguousarray(rows, dtype=np.float32)
    stored = np.empty((count, width // block * block_bytes), dtype=np.uint8)
    _quantize_chunk()(int(kind), values.ctypes.data, stored.ctypes.data, 0, count, width, None)
    return stored


def _quantize_chunk() -> ctypes._NamedFuncPointer:
    """ggml's function; llama_cpp loads the library and binds llama.h's functions only."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = next(folder.glob("*ggml-base.*"))
    function = ctypes.CDLL(str(library)).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    return function

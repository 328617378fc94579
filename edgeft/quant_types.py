"""llama.cpp's names of the types of files (`enum llama_ftype` in include/llama.h) and of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgeft.errors import EdgeftError, nearest

FTYPE: Final[dict[str, int]] = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ2_XXS": 19,
    "IQ2_XS": 20,
    "Q2_K_S": 21,
    "IQ3_XS": 22,
    "IQ3_XXS": 23,
    "IQ1_S": 24,
    "IQ4_NL": 25,
    "IQ3_S": 26,
    "IQ3_M": 27,
    "IQ2_S": 28,
    "IQ2_M": 29,
    "IQ4_XS": 30,
    "IQ1_M": 31,
    "BF16": 32,
    "TQ1_0": 36,
    "TQ2_0": 37,
    "MXFP4_MOE": 38,
    "NVFP4": 39,
    "Q1_0": 40,
    "Q2_0": 41,
}

TENSOR_TYPE: Final[dict[str, int]] = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 6,
    "Q5_1": 7,
    "Q8_0": 8,
    "Q2_K": 10,
    "Q3_K": 11,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
    "IQ2_XXS": 16,
    "IQ2_XS": 17,
    "IQ3_XXS": 18,
    "IQ1_S": 19,
    "IQ4_NL": 20,
    "IQ3_S": 21,
    "IQ2_S": 22,
    "IQ4_XS": 23,
    "IQ1_M": 29,
    "BF16": 30,
    "TQ1_0": 34,
    "TQ2_0": 35,
    "MXFP4": 39,
    "NVFP4": 40,
    "Q1_0": 41,
    "Q2_0": 42,
}
"""Types of single tensors (`enum ggml_type` in ggml.h) that a weight can have in a file."""

# llama_model_quantize returns 1 for these without an imatrix: their codebooks are chosen by weighted error alone.
NEEDS_IMATRIX: Final = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "Q2_K_S"})

UNQUANTIZED: Final = frozenset({"F32", "F16", "BF16"})


def canonical_type(name: str) -> str:
    """Returns llama.cpp's spelling of a file type given in any case; raises EdgeftError with the nearest name."""
    return _spelled(name, FTYPE, "quantization type")


def canonical_tensor_type(name: str) -> str:
    """Returns llama.cpp's spelling of a tensor type given in any case; raises EdgeftError with the nearest name."""
    return _spelled(name, TENSOR_TYPE, "tensor type")


def _spelled(name: str, known: Mapping[str, int], what: str) -> str:
    by_folded = {spelling.casefold(): spelling for spelling in known}
    if name.casefold() not in by_folded:
        raise EdgeftError(f"unknown {what} {name!r}", remedy=nearest(name, known))
    return by_folded[name.casefold()]

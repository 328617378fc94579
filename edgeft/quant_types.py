"""The names of llama.cpp's file types (`enum llama_ftype` in include/llama.h), and which of them need an imatrix."""

from __future__ import annotations

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

# llama_model_quantize returns 1 for these without an imatrix: their codebooks are chosen by weighted error alone.
NEEDS_IMATRIX: Final = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "Q2_K_S"})

UNQUANTIZED: Final = frozenset({"F32", "F16", "BF16"})


def canonical_type(name: str) -> str:
    """Returns llama.cpp's spelling of a type name given in any case; raises EdgeftError with the nearest name."""
    by_folded = {known.casefold(): known for known in FTYPE}
    if name.casefold() not in by_folded:
        raise EdgeftError(f"unknown quantization type {name!r}", remedy=nearest(name, FTYPE))
    return by_folded[name.casefold()]


def makable_type(name: str) -> str:
    """Returns `canonical_type`; raises EdgeftError also for a type that llama.cpp makes only with an imatrix."""
    known = canonical_type(name)
    if known in NEEDS_IMATRIX:
        raise EdgeftError(f"{known} needs an importance matrix", remedy="choose Q2_K or larger")
    return known

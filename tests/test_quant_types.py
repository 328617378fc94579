"""The table of file types is llama.cpp's own."""

from __future__ import annotations

import llama_cpp
import pytest

from edgeft.errors import EdgeftError
from edgeft.quant_types import FTYPE, NEEDS_IMATRIX, UNQUANTIZED, canonical_type


def test_the_table_equals_llama_cpps_enum() -> None:
    constants = {name: getattr(llama_cpp, name) for name in dir(llama_cpp) if name.startswith("LLAMA_FTYPE_")}
    del constants["LLAMA_FTYPE_GUESSED"]  # no type: the flag for a file that does not state one
    theirs = {
        name.removeprefix("LLAMA_FTYPE_").removeprefix("ALL_").removeprefix("MOSTLY_"): number
        for name, number in constants.items()
    }
    assert theirs == FTYPE


def test_the_sets_name_types() -> None:
    assert NEEDS_IMATRIX.issubset(FTYPE)
    assert UNQUANTIZED.issubset(FTYPE)
    assert not NEEDS_IMATRIX & UNQUANTIZED


@pytest.mark.parametrize(
    ("given", "name"), [("Q4_K_M", "Q4_K_M"), ("q4_k_m", "Q4_K_M"), ("bf16", "BF16"), ("iq4_xs", "IQ4_XS")]
)
def test_names_in_any_case(given: str, name: str) -> None:
    assert canonical_type(given) == name


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(EdgeftError) as caught:
        canonical_type("Q4_KM")
    assert caught.value.problems[0].what == "unknown quantization type 'Q4_KM'"
    assert caught.value.problems[0].remedy == "did you mean Q4_K_M?"

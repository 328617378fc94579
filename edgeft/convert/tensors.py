"""One tensor at a time into the bytes that GGUF stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, GGUFValueType, LlamaFileType

from edgeft.errors import EdgeftError, Problem


@dataclass(frozen=True)
class StoredType:
    """A floating-point type as torch computes it, numpy holds its bytes and GGUF names it."""

    torch: torch.dtype
    numpy: npt.DTypeLike
    ggml: GGMLQuantizationType
    largest: float
    remedy: str


F32 = StoredType(torch.float32, np.float32, GGMLQuantizationType.F32, torch.finfo(torch.float32).max, "")
_F16 = StoredType(torch.float16, np.float16, GGMLQuantizationType.F16, 65504.0, "set convert.dtype to bf16 or f32")
# numpy has no bfloat16: its bytes travel as 16-bit integers.
_BF16 = StoredType(
    torch.bfloat16, np.int16, GGMLQuantizationType.BF16, torch.finfo(torch.bfloat16).max, "set convert.dtype to f32"
)
MATRIX_TYPES = {"f32": F32, "f16": _F16, "bf16": _BF16}
# Upstream's set in `prepare_tensors` (conversion/base.py), as far as the families here have such tensors.
_ALWAYS_F32 = ("_norm.weight", ".ffn_gate_inp.weight", ".ssm_conv1d.weight", ".shortconv.conv.weight")
FILE_TYPES = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "bf16": LlamaFileType.MOSTLY_BF16}


def value_type(value: Any) -> GGUFValueType:
    """Returns the type in which a key's value is stored: a whole number as uint32, any other number as float32."""
    kinds = {
        bool: GGUFValueType.BOOL,
        int: GGUFValueType.UINT32,
        float: GGUFValueType.FLOAT32,
        str: GGUFValueType.STRING,
        list: GGUFValueType.ARRAY,
    }
    return kinds[type(value)]


def stored_type(gguf_name: str, shape: tuple[int, ...], matrix_type: StoredType) -> StoredType:
    """Returns F32 for vectors, norms and what ggml's kernels need in it, and the file's type for all other matrices."""
    exact = len(shape) <= 1 or gguf_name.endswith(_ALWAYS_F32) or not gguf_name.endswith(".weight")
    return F32 if exact else matrix_type


def not_finite(tensor: torch.Tensor, name: str) -> list[Problem]:
    """Returns the problem of a tensor with weights that are NaN or infinite."""
    # The extremes of 4 million bfloat16 take 0.5 ms, `isfinite` 12 ms; NaN is an extreme of everything.
    if torch.isfinite(torch.stack(torch.aminmax(tensor))).all():
        return []
    count = int((~torch.isfinite(tensor)).sum())
    what = f"{count} of {tensor.numel()} weights are NaN or infinite"
    return [Problem(what, name, "the training diverged?")]


def encode(tensor: torch.Tensor, target: StoredType, where: str) -> npt.NDArray[Any]:
    """Returns the tensor's values rounded to nearest even in the target type, bit for bit where it has it already.

    Raises EdgeftError for a weight beyond the target's range.
    """
    if torch.finfo(tensor.dtype).max > target.largest and (largest := float(tensor.abs().max())) > target.largest:
        what = f"a weight of {largest:.6g} overflows {target.ggml.name}, whose largest is {target.largest:.6g}"
        raise EdgeftError(what, where, target.remedy)
    # By way of float32, as llama.cpp's converter rounds; exact for every source but float64.
    rounded = tensor if tensor.dtype == target.torch else tensor.float().to(target.torch)
    rounded = rounded.contiguous()
    return (rounded.view(torch.int16) if target.torch == torch.bfloat16 else rounded).numpy()

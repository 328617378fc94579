"""One tensor at a time into the bytes that GGUF stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, LlamaFileType

from edgeft.errors import EdgeftError


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
FILE_TYPES = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "bf16": LlamaFileType.MOSTLY_BF16}


def stored_type(gguf_name: str, shape: tuple[int, ...], matrix_type: StoredType) -> StoredType:
    """Returns F32 for vectors and norms, which ggml's kernels need in it, and the file's type for all else."""
    return F32 if len(shape) <= 1 or gguf_name.endswith("_norm.weight") else matrix_type


def encode(tensor: torch.Tensor, target: StoredType, where: str) -> npt.NDArray[Any]:
    """Returns the tensor's values rounded to nearest even in the target type, bit for bit where it has it already.

    Raises EdgeftError for a weight that is not finite, and for one beyond the target's range.
    """
    if not torch.isfinite(tensor).all():
        count = int((~torch.isfinite(tensor)).sum())
        raise EdgeftError(f"{count} of {tensor.numel()} weights are NaN or infinite", where, "the training diverged?")
    if torch.finfo(tensor.dtype).max > target.largest and (largest := float(tensor.abs().max())) > target.largest:
        what = f"a weight of {largest:.6g} overflows {target.ggml.name}, whose largest is {target.largest:.6g}"
        raise EdgeftError(what, where, target.remedy)
    # By way of float32, as llama.cpp's converter rounds; exact for every source but float64.
    rounded = tensor if tensor.dtype == target.torch else tensor.float().to(target.torch)
    rounded = rounded.contiguous()
    return (rounded.view(torch.int16) if target.torch == torch.bfloat16 else rounded).numpy()

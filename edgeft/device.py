"""Which device torch computes on."""

from __future__ import annotations

from typing import Literal

from edgeft.errors import EdgeftError

Device = Literal["cpu", "cuda"]
"""Where torch computes: "cuda" is the current GPU."""


def pick_device(wanted: Literal["auto", "cuda", "cpu"], where: str = "train.device") -> Device:
    """Returns the device to use; raises EdgeftError when CUDA is asked for, by `where`, and there is none."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise EdgeftError(
            "a CUDA GPU is asked for and torch sees none",
            where=where,
            remedy='let it be "auto" or "cpu", or install a CUDA build of torch and check nvidia-smi',
        )
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"

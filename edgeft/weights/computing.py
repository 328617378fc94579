"""Where the arithmetic of a merge is done: on a GPU as long as it goes on there, else on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

# Larger ones are not copied into memory that the GPU reads by itself: it is kept for the next.
_MOST_PINNED_BYTES = 1 << 25


class Computing:
    """Changes of tensors that lie on the CPU, computed in float32 on `device`: "cpu", "cuda", or another of torch's.

    Where the device fails (its memory is taken, another process holds it), the CPU computes, from there on everything.
    So it does where a program has let torch's products of float32 keep TF32's 10 bits. May be used by several
    threads at once; on CUDA each then copies and computes on a stream of its own, unless `on_streams` is false.
    """

    def __init__(self, device: str, *, on_streams: bool = True) -> None:
        self._on_streams = on_streams
        exact = device != "cuda" or torch.get_float32_matmul_precision() == "highest"
        self.device = device if exact else "cpu"

    def run(
        self, source: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Returns the changed source, rounded to `dtype`, on the CPU.

        `change` is given a float32 copy on the device, and may change it in place.
        """
        if self.device != "cpu":
            try:
                return self._on_device(source, change, dtype)
            except RuntimeError:  # a fault of the change itself is raised again below
                self.device = "cpu"
        return change(source.to(torch.float32, copy=True)).to(dtype)

    def _on_device(
        self, source: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        if self.device != "cuda" or not self._on_streams or source.nbytes > _MOST_PINNED_BYTES:
            return change(source.to(self.device).to(torch.float32, copy=True)).to(dtype).cpu()
        # A stream for each call, so that threads copy while others compute.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            block = source.pin_memory().to(self.device, non_blocking=True)
            changed = change(block.to(torch.float32, copy=True)).to(dtype)
            result = torch.empty(changed.shape, dtype=dtype, pin_memory=True)
            result.copy_(changed, non_blocking=True)
        stream.synchronize()
        return result

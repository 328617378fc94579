"""Codes of 4-bit weights, spread over the processes that train together.

Each process keeps its part of every layer and gathers a layer's codes when it computes the layer, forward and back, the
next layer's while it does: what FSDP does (Zhao et al. 2023; ZeRO's third stage, Rajbhandari et al. 2020), for the
frozen codes alone. They are ten times what is trained with its gradients and the optimizer's state, at the shape of
Llama-3.1-70B, and as they never change there is nothing to scatter back. torch's own `fully_shard` would wrap the
adapter too, and bitsandbytes loses the scales of a parameter that it has wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.distributed

from edgeft.train.fast.matrices import Group


class ShardedCodes:
    """Takes the packed codes of a model's layers apart, in place; every process makes the same calls in the same order.

    Two buffers hold the gathered codes of two layers, and each layer reads from the one that is its own. So it has its
    codes from `gather` of it until that of a layer two places away.
    """

    def __init__(self, layers: Sequence[Sequence[Group]]) -> None:
        self._processes, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        sizes = [sum(codes.numel() for group in layer for codes in group.codes) for layer in layers]
        self._parts = [-(-size // self._processes) for size in sizes]
        like = layers[0][0].codes[0]
        self._buffers = [like.new_empty(max(self._parts) * self._processes) for _ in range(2)]
        self._shards: list[torch.Tensor] = []
        self._held: list[int | None] = [None, None]
        self._underway: list[torch.distributed.Work | None] = [None, None]
        for place, (layer, part) in enumerate(zip(layers, self._parts, strict=True)):
            whole, start = self._buffers[place % 2], 0
            for group in layer:
                views = []
                for codes in group.codes:
                    views.append(whole[start : start + codes.numel()].view(codes.shape).copy_(codes))
                    start += codes.numel()
                group.take_codes_from(views)
            self._shards.append(whole[rank * part : (rank + 1) * part].clone())

    def gather(self, place: int, direction: int) -> None:
        """Fills in the codes of a layer, and starts on those of the one behind (`direction` 1) or before it (-1).

        The other buffer's last reader has been queued by then, and what starts now waits for what is queued.
        """
        self._start(place)
        work = self._underway[place % 2]
        if work is not None:
            work.wait()
            self._underway[place % 2] = None
        if 0 <= place + direction < len(self._shards):
            self._start(place + direction)

    def _start(self, place: int) -> None:
        side = place % 2
        if self._held[side] == place:
            return
        if (work := self._underway[side]) is not None:
            work.wait()
        whole = self._buffers[side][: self._parts[place] * self._processes]
        self._underway[side] = _gather(whole, self._shards[place])
        self._held[side] = place


def _gather(whole: torch.Tensor, part: torch.Tensor) -> torch.distributed.Work:
    """Starts to put the parts of all processes into `whole`."""
    # Named so since torch 2.13, which deprecates the older name.
    new = getattr(torch.distributed, "all_gather_single", None)
    work = (new or torch.distributed.all_gather_into_tensor)(whole, part, async_op=True)
    return cast(torch.distributed.Work, work)

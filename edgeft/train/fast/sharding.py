"""Codes of 4-bit weights, spread over the processes that train together.

Each process keeps its part of every layer and gathers a layer's codes when it computes the layer, forward and back, the
next layer's while it does: what FSDP does (Zhao et al. 2023; ZeRO's third stage, Rajbhandari et al. 2020), for the
frozen codes alone. They are ten times what is trained with its gradients and the optimizer's state, at the shape of
Llama-3.1-70B, and as they never change there is nothing to scatter back. torch's own `fully_shard` would wrap the
adapter too, and bitsandbytes loses the scales of a parameter that it has wrapped.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

import torch
import torch.distributed

from edgeft.train.fast.matrices import Group


def peak_bytes(counted: int) -> int:
    """Returns the most memory of its GPU that this process held at once; `counted` is the peak by torch's figures.

    Those leave out what the others read, as far as torch 2.11 goes.
    """
    for parts in _READ:
        counted = max(counted + parts.uncounted_bytes, parts.peak_before_bytes)
    return counted


class ShardedCodes:
    """Takes the packed codes of a model's layers apart, in place; every process makes the same calls in the same order.

    Two buffers hold the gathered codes of two layers, and each layer reads from the one that is its own. So it has its
    codes from `gather` of it until that of a layer two places away.
    """

    def __init__(self, layers: Sequence[Sequence[Group]]) -> None:
        processes, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        sizes = [sum(codes.numel() for group in layer for codes in group.codes) for layer in layers]
        parts = [-(-size // processes) for size in sizes]
        like = layers[0][0].codes[0]
        self._wholes = [part * processes for part in parts]
        self._buffers = [like.new_empty(max(self._wholes)) for _ in range(2)]
        self._parts: _Parts = _ReadParts() if _can_read(like.device) else _ExchangedParts()
        self._held: list[int | None] = [None, None]
        self._underway: list[_Underway | None] = [None, None]
        for place, (layer, part) in enumerate(zip(layers, parts, strict=True)):
            whole, start = self._buffers[place % 2], 0
            for group in layer:
                views = []
                for codes in group.codes:
                    views.append(whole[start : start + codes.numel()].view(codes.shape).copy_(codes))
                    start += codes.numel()
                group.take_codes_from(views)
            self._parts.keep(whole[rank * part : (rank + 1) * part])
        self._parts.complete()

    def gather(self, place: int, direction: int) -> None:
        """Fills in the codes of a layer, and starts on those of the one behind (`direction` 1) or before it (-1).

        The other buffer's last reader has been queued by then, and what starts now waits for what is queued.
        """
        self._start(place)
        work = self._underway[place % 2]
        if work is not None:
            work.wait()
            self._underway[place % 2] = None
        if 0 <= place + direction < len(self._wholes):
            self._start(place + direction)

    def _start(self, place: int) -> None:
        side = place % 2
        if self._held[side] == place:
            return
        if (work := self._underway[side]) is not None:
            work.wait()
        self._underway[side] = self._parts.start(place, self._buffers[side][: self._wholes[place]])
        self._held[side] = place


class _Underway(Protocol):
    def wait(self) -> Any:
        """Makes what is queued from now on wait for it."""


class _Parts(Protocol):
    def keep(self, part: torch.Tensor) -> None:
        """Copies this process's part of the next layer."""

    def complete(self) -> None:
        """Is told that there are no more layers."""

    def start(self, place: int, whole: torch.Tensor) -> _Underway:
        """Starts to put the parts of all processes into `whole`, after what is queued."""


class _ExchangedParts:
    """Every process sends its part when all are there for it, through any backend.

    NCCL's kernels take processors of the GPU from the products meanwhile.
    """

    def __init__(self) -> None:
        self._own: list[torch.Tensor] = []

    def keep(self, part: torch.Tensor) -> None:
        self._own.append(part.clone())

    def complete(self) -> None:
        pass

    def start(self, place: int, whole: torch.Tensor) -> _Underway:
        # Named so since torch 2.13, which deprecates the older name.
        new = getattr(torch.distributed, "all_gather_single", None)
        work = (new or torch.distributed.all_gather_into_tensor)(whole, self._own[place], async_op=True)
        return cast(torch.distributed.Work, work)


class _ReadParts:
    """Every process reads the others' parts out of the memory of their GPUs whenever it comes to them.

    Copy engines do it, beside the products rather than in their place, and as codes never change nobody has to wait
    for anybody.
    """

    def __init__(self) -> None:
        from torch.distributed import _symmetric_memory  # what torch calls it, in its documentation too

        self._memory = _symmetric_memory
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._own: list[tuple[torch.Tensor, Any]] = []
        self.uncounted_bytes = self.peak_before_bytes = 0
        _READ.add(self)

    def keep(self, part: torch.Tensor) -> None:
        torch.cuda.empty_cache()  # memory that others read comes from the driver: it takes what layers before had
        before = torch.cuda.memory_allocated()
        own = self._memory.empty(part.numel(), dtype=part.dtype, device=part.device).copy_(part)
        # torch 2.11 counts none of it.
        self.uncounted_bytes += max(0, own.nbytes - (torch.cuda.memory_allocated() - before))
        others = self._memory.rendezvous(own, cast(torch.distributed.ProcessGroup, torch.distributed.group.WORLD))
        others.barrier()
        self._own.append((own, others))

    def complete(self) -> None:
        # Until here each process held all codes, counted; from here on a part, uncounted: two peaks.
        self.peak_before_bytes = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()

    def start(self, place: int, whole: torch.Tensor) -> _Underway:
        own, others = self._own[place]
        self._stream.wait_stream(torch.cuda.current_stream())
        parts = whole.chunk(others.world_size)
        with torch.cuda.stream(self._stream):
            for step in range(others.world_size):
                rank = (others.rank + step) % others.world_size  # all begin with another one
                parts[rank].copy_(others.get_buffer(rank, own.shape, own.dtype), non_blocking=True)
            return cast(torch.cuda.Event, self._stream.record_event())


_READ: Final[weakref.WeakSet[_ReadParts]] = weakref.WeakSet()


def _can_read(device: torch.device) -> bool:
    """Whether every process is on this host, with a GPU whose memory all others can read."""
    processes = torch.distributed.get_world_size()
    if device.type != "cuda" or os.environ.get("LOCAL_WORLD_SIZE") != str(processes):
        return False
    mine = torch.cuda.current_device()
    reached = all(torch.cuda.can_device_access_peer(mine, other) for other in range(processes) if other != mine)
    allowed = os.environ.get("NCCL_P2P_DISABLE", "0") == "0"
    return _all_agree(reached and allowed, device) and _all_agree(_shares_memory(device), device)


def _shares_memory(device: torch.device) -> bool:
    """Whether torch can: peers that reach one another may be kept from it by the host, as some containers do."""
    from torch.distributed import _symmetric_memory

    try:
        tried = _symmetric_memory.empty(1, device=device)
        _symmetric_memory.rendezvous(tried, cast(torch.distributed.ProcessGroup, torch.distributed.group.WORLD))
    except RuntimeError:
        return False
    return True


def _all_agree(here: bool, device: torch.device) -> bool:
    agreed = torch.tensor(int(here), device=device)
    torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MIN)
    return bool(agreed)

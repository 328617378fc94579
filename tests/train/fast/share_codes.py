"""Run by several processes: gathered codes are those that there were, each way, and are gathered in the named way."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, cast

import torch

from edgeft.train.fast.sharding import ShardedCodes


class Codes:
    """As much of a `Group` as is asked of it."""

    def __init__(self, *codes: torch.Tensor) -> None:
        self.codes = list(codes)

    def take_codes_from(self, places: Sequence[torch.Tensor]) -> None:
        self.codes = list(places)


def main(kind: str, way: str) -> None:
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    device = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    seeded = torch.Generator().manual_seed(0)
    sizes = [(1 << 22) + 999 * place for place in range(5)]  # no multiples of the processes
    kept = [torch.randint(0, 256, (size, 1), dtype=torch.uint8, generator=seeded).to(device) for size in sizes]
    groups = [Codes(codes[:1000].clone(), codes[1000:].clone()) for codes in kept]
    shared = ShardedCodes(cast(Any, [[group] for group in groups]))
    factor = torch.randn(2048, 2048, device=device)
    for direction in (1, -1, 1, -1):
        for place in range(5)[::direction]:
            shared.gather(place, direction)
            if kind == "cuda":
                factor = (factor @ factor).clamp(-1, 1)  # what the next one is gathered beside
            assert torch.equal(torch.cat(groups[place].codes), kept[place]), (place, direction)
    assert type(shared._parts).__name__ == way, shared._parts
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

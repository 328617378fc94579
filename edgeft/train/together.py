"""What processes that train together have to agree on, and what is said when one of them is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch

from edgeft.errors import EdgeftError

T = TypeVar("T")

_LOST = ("gloo", "nccl", "connection")


def of_the_first(find: Callable[[], T]) -> T:
    """Returns what `find` gives in the first process; the others do not call it."""
    if not torch.distributed.is_initialized():
        return find()
    found: list[T | None] = [find() if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(found, src=0)
    return cast(T, found[0])


@contextmanager
def together(processes: int) -> Iterator[None]:
    """Raises EdgeftError when the block fails because another of several processes has ended."""
    try:
        yield
    except RuntimeError as error:
        if processes == 1 or not any(word in str(error).lower() for word in _LOST):
            raise
        raise EdgeftError(
            f"another process of this training has ended: {str(error).split('. ')[0]}",
            where="training",
            remedy="see what it said; the same command goes on from the last checkpoint",
        ) from error

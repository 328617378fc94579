"""The one small callback through which a stage tells how far it is. Stages print nothing themselves."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the work `done` out of `total` and a short status line.

    The unit is any, the same for one stage; a `total` of 0 is not known yet.
    """

    def __call__(self, done: float, total: float, status: str = "") -> None: ...


def silent(done: float, total: float, status: str = "") -> None:
    """A `Progress` for callers that show none."""


def shifted(progress: Progress, before: float, whole: float) -> Progress:
    """Returns a `Progress` for one part of some work: `before` of the `whole` was done when the part begins."""

    def report(done: float, total: float, status: str = "") -> None:
        progress(before + done, whole, status)

    return report

"""The ladder: rungs in the order in which a model becomes an answer. The first broken one names the culprit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["pass", "fail", "undecided", "skipped"]

RUNGS = (
    "file",
    "metadata",
    "token types",
    "token ids",
    "chat template",
    "weights",
    "logits",
    "merge",
    "quantization",
    "layers",
    "runtime",
    "answers",
    "ending",
    "task",
)
"""Every rung; `logits` holds unquantized files to the arithmetic's noise, `quantization` the others to a budget.

`layers` tells where a difference begins, and fails only beside a rung that does.
"""

_MOST_NAMES = 6


@dataclass(frozen=True)
class Failure:
    """One thing found wrong: what, in one sentence, where (keys, tensors, tokens, texts), and what to do.

    Among the `warnings` of a rung it is for people to weigh, and does not decide.
    """

    rung: str
    cause: str
    where: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Rung:
    """What one rung found: its figures, its failures where it is broken, and warnings, which leave its status alone."""

    name: str
    status: Status
    figures: dict[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    warnings: tuple[Failure, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the rung as a JSON object."""
        listed = {"failures": self.failures, "warnings": self.warnings}
        return asdict(self) | {key: [asdict(one) for one in found] for key, found in listed.items()}


def rung(
    name: str, failures: Iterable[Failure], figures: dict[str, Any] | None = None, warnings: Iterable[Failure] = ()
) -> Rung:
    """Returns a rung that fails where there are failures and passes where there are none."""
    found = tuple(failures)
    return Rung(name, "fail" if found else "pass", figures or {}, found, tuple(warnings))


def verdict(rungs: Sequence[Rung]) -> tuple[Status, Failure]:
    """Returns the verdict on a file, and the failure, or the open question, of the first rung that did not pass."""
    for status in ("fail", "undecided"):
        for one in rungs:
            if one.status == status and one.failures:
                return one.status, one.failures[0]
    return "pass", Failure("", "")


def listed(names: Sequence[str]) -> str:
    """Returns the first of many names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")

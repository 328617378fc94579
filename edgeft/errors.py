"""Exceptions that a user can act on. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `what` it is, `where` (file:line, dotted key, tensor name) and the `remedy`."""

    what: str
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n    -> {self.remedy}" if self.remedy else text


class EdgeftError(Exception):
    """One or more problems the user can fix. The command line prints them all, without a traceback, and exits 1."""

    exit_code = 1

    def __init__(self, what: str | Iterable[Problem], where: str = "", remedy: str = "") -> None:
        self.problems = [Problem(what, where, remedy)] if isinstance(what, str) else list(what)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Interrupted(KeyboardInterrupt):
    """Work was asked to stop and has saved everything; `how_far` says where. The command line exits 0."""

    def __init__(self, how_far: str) -> None:
        self.how_far = how_far
        super().__init__(how_far)


class GateError(EdgeftError):
    """A parity gate failed: the work is done, the result is not good enough. Exits 3."""

    exit_code = 3


class UndecidedError(EdgeftError):
    """A parity gate can decide nothing: what was measured is too little. Exits 4, or as the user wants it."""

    exit_code = 4

    def __init__(self, problems: Iterable[Problem], exit_code: int = exit_code) -> None:
        super().__init__(problems)
        self.exit_code = exit_code


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns "did you mean X?" for the choice most like `name`, or the list of choices when none is close."""
    known = sorted(choices)
    by_folded = {choice.casefold(): choice for choice in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return f"did you mean {by_folded[close[0]]}?" if close else "choose one of: " + ", ".join(known)

"""What can be said about records: where, how bad, what it is and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from edgeft.errors import EdgeftError, Problem
from edgeft.files import printable

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, order=True)
class Place:
    """A row of a file: `line` counts from 1 (lines of text, rows of a table); 0 means the file as a whole.

    `file` is its name as it can be written: see `printable`.
    """

    file: str
    line: int = 0

    def __post_init__(self) -> None:
        if not self.file.isascii():  # there are as many places as rows
            object.__setattr__(self, "file", printable(self.file))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Finding:
    """One thing noticed: an "error" stops training, a "warning" does not, an "info" is worth knowing.

    `code` is stable and made for machines, as "empty-answer"; `field` is the part of the row, as "messages[1].content",
    or "". All that it says can be written, whatever the row holds.
    """

    severity: Severity
    code: str
    place: Place
    message: str
    remedy: str
    field: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "remedy", "field"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def to_json(self) -> dict[str, Any]:
        """Returns the finding as a JSON object: severity, code, file, line, field, message, remedy."""
        return {
            "severity": self.severity,
            "code": self.code,
            "file": self.place.file,
            "line": self.place.line,
            "field": self.field,
            "message": self.message,
            "remedy": self.remedy,
        }

    def problem(self) -> Problem:
        """Returns the finding as a problem of an EdgeftError."""
        what = f"{self.field}: {self.message}" if self.field else self.message
        return Problem(what, str(self.place), self.remedy)


class FindingsError(EdgeftError):
    """Findings that are errors, as one error; it has at least one."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = list(findings)
        super().__init__([finding.problem() for finding in self.findings])


def raise_errors(findings: Iterable[Finding]) -> None:
    """Raises FindingsError with every finding that is an error; does nothing when there is none."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise FindingsError(errors)

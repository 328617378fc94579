"""Gathers every finding on one row, so that all of its faults are told at once."""

from __future__ import annotations

from typing import Any

from edgeft.dataset.findings import Finding, Place, Severity

_READABLE = ("unknown-key", "bad-weight")


class Faults:
    """The findings on the row at `place`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.found: list[Finding] = []

    def add(self, code: str, field: str, message: str, remedy: str, severity: Severity = "error") -> None:
        """Notes a finding on the part `field` of the row."""
        self.found.append(Finding(severity, code, self.place, message, remedy, field))

    @property
    def errors(self) -> bool:
        """Whether any finding is an error, so that the row gives no record."""
        return any(finding.severity == "error" for finding in self.found)

    @property
    def unreadable(self) -> bool:
        """Whether a part of the row could not be read, so that what was is not the whole."""
        return any(f.severity == "error" and f.code not in _READABLE for f in self.found)


def kind(value: Any) -> str:
    """Returns the JSON type of a value in words, as "a list"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = ((str, "text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((name for types, name in names if isinstance(value, types)), f"a {type(value).__name__}")

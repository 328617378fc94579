"""The report of a check: findings, counts and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeft.dataset.findings import Finding, Severity

MOST_KEPT = 1000
_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    `findings` has errors first, then warnings, each in the order of the files; of each code the first thousand of each
    severity. `found` counts them all, by severity and code. `records` counts the good records of each split.
    """

    findings: tuple[Finding, ...]
    found: dict[tuple[Severity, str], int]
    records: dict[str, int]
    figures: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that stops training."""
        return not any(severity == "error" for severity, _ in self.found)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON: findings, counts (records, and findings by severity and code), figures."""
        by_severity: dict[str, dict[str, int]] = {severity: {} for severity in _RANK}
        for (severity, code), count in self.found.items():
            by_severity[severity][code] = count
        return {
            "ok": self.ok,
            "findings": [finding.to_json() for finding in self.findings],
            "counts": {"records": self.records, "findings": by_severity},
            "figures": self.figures,
        }


class Tally:
    """Findings as they come: all are counted, and the first of each code kept."""

    def __init__(self) -> None:
        self._found: Counter[tuple[Severity, str]] = Counter()
        self._kept: list[Finding] = []
        self._files: dict[str, int] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Counts findings, and keeps them while they are few."""
        for finding in findings:
            key = finding.severity, finding.code
            self._found[key] += 1
            if self._found[key] <= MOST_KEPT:
                self._kept.append(finding)

    def see(self, file: str) -> None:
        """Notes a file: findings are sorted by the order in which files are seen."""
        self._files.setdefault(file, len(self._files))

    def report(self, records: dict[str, int], figures: dict[str, Any]) -> CheckReport:
        """Returns everything as a report."""
        for finding in self._kept:
            self.see(finding.place.file)
        ordered = sorted(
            self._kept, key=lambda f: (_RANK[f.severity], self._files[f.place.file], f.place.line, f.field, f.code)
        )
        found = dict(sorted(self._found.items(), key=lambda item: (_RANK[item[0][0]], item[0][1])))
        return CheckReport(tuple(ordered), found, records, figures)

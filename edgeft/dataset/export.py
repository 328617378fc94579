"""Records -> a file for other tools, or for a hosted fine-tuning service with its tokens and their price."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from edgeft.dataset.export_formats import Format, to_row
from edgeft.dataset.faults import Faults
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.openai_rules import SUFFIX, TOKEN_LIMIT, approximate_tokens, check_file, check_row, count_tokens
from edgeft.dataset.record import Record
from edgeft.errors import EdgeftError, Problem
from edgeft.files import replacing

_APPROXIMATELY = "approximately: 4 bytes of UTF-8 a token"
_MOST_KEPT = 100


@dataclass(frozen=True)
class Price:
    """What training costs: an amount for a million trained tokens, and how many epochs are trained."""

    per_million_tokens: float
    epochs: float = 3


@dataclass(frozen=True)
class ExportReport:
    """What was written: records_in = records_out + refused.

    `findings` has the first hundred of each code and `counts` how many there were of each. For openai, `tokens` counts
    those of one epoch, an over-long example as far as it is trained, `counted` says how, and `cost` is the price of all
    epochs where one was given; no service states its exact count in advance.
    """

    format: Format
    path: Path
    records_in: int
    records_out: int
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    tokens: int | None = None
    counted: str = ""
    cost: float | None = None

    @property
    def refused(self) -> int:
        """Records that were not written, each with an error among the findings."""
        return self.records_in - self.records_out

    @property
    def ok(self) -> bool:
        """Whether there is no error: all is written, and a hosted service would take the file."""
        return all(finding.severity != "error" for finding in self.findings)


def export(
    records: Iterable[Record],
    to: Format,
    out: Path,
    *,
    count: Callable[[str], int] | None = None,
    counted: str = "with the tokenizer given",
    token_limit: int = TOKEN_LIMIT,
    price: Price | None = None,
) -> ExportReport:
    """Writes records in a format, one after another, to a file that is either complete or absent.

    The file is JSON Lines, and a JSON list where `out` ends with .json. A record that the format
    cannot express is left out, with an error that says why. For openai the file is checked against the documented rules
    and its tokens are counted by `count`, which `counted` describes; by a quarter of the bytes where there is none.
    Raises EdgeftError when no record could be written, and for a name that the service does not take.
    """
    hosted = to == "openai"
    if hosted and out.suffix != SUFFIX:
        remedy = f"write to {out.with_suffix(SUFFIX)}"
        raise EdgeftError(f"the service takes files whose names end with {SUFFIX}", str(out), remedy)
    exporter = _Exporter(to, count or approximate_tokens, token_limit)
    with replacing(out) as partial:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            _write(exporter.rows(records), file, as_list=out.suffix == ".json")
        if exporter.records_out == 0:
            raise EdgeftError(
                [finding.problem() for finding in exporter.findings] or [Problem("there are no records", str(out))]
            )
    if hosted:
        for finding in check_file(exporter.records_out, out.stat().st_size, Place(str(out))):
            exporter.add(finding)
    cost = exporter.tokens * price.epochs * price.per_million_tokens / 1e6 if price is not None and hosted else None
    return ExportReport(
        format=to,
        path=out,
        records_in=exporter.records_in,
        records_out=exporter.records_out,
        findings=tuple(exporter.findings),
        counts=dict(sorted(exporter.counts.items())),
        tokens=exporter.tokens if hosted else None,
        counted=(_APPROXIMATELY if count is None else counted) if hosted else "",
        cost=cost,
    )


class _Exporter:
    """Turns records into rows, and counts what it does."""

    def __init__(self, to: Format, count: Callable[[str], int], token_limit: int) -> None:
        self._to = to
        self._count = count
        self._token_limit = token_limit
        self.records_in = 0
        self.records_out = 0
        self.tokens = 0
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        """Counts a finding, and keeps it where there are not too many of its code."""
        self.counts[finding.code] += 1
        if self.counts[finding.code] <= _MOST_KEPT:
            self.findings.append(finding)

    def rows(self, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
        """Yields the rows of the records that can be expressed."""
        for record in records:
            self.records_in += 1
            faults = Faults(record.place)
            row = to_row(record, self._to, faults)
            tokens = 0
            if row is not None and self._to == "openai":
                tokens = count_tokens(row, self._count)
                check_row(row, tokens, self._token_limit, faults)
            for finding in faults.found:
                self.add(finding)
            if row is None or faults.errors:
                continue
            self.records_out += 1
            self.tokens += min(tokens, self._token_limit)
            yield row


def _write(rows: Iterable[dict[str, Any]], file: TextIO, *, as_list: bool) -> None:
    before, between, after = ("[\n", ",\n", "\n]\n") if as_list else ("", "\n", "\n")
    for index, row in enumerate(rows):
        file.write(between if index else before)
        file.write(json.dumps(row, ensure_ascii=False))
    file.write(after)

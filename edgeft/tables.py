"""The report on records as a person reads it: grouped by what is wrong, the first places of each, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from edgeft.dataset.check.report import CheckReport
from edgeft.dataset.codes import CODES
from edgeft.dataset.findings import Finding, Severity

_PLACES_SHOWN = 3
_LABELS_SHOWN = 6
_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_NOUNS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}


def findings_table(report: CheckReport, most: int = _PLACES_SHOWN) -> list[RenderableType]:
    """Returns what to print of a report: a block for each code with its `most` first places, then the figures.

    It wraps at the width of a terminal and needs 40 columns.
    """
    blocks: list[RenderableType] = []
    for (severity, code), findings in groupby(_by_code(report.findings), key=lambda f: (f.severity, f.code)):
        blocks.append(_block(list(findings), report.found[severity, code], most))
    return [*blocks, Group(*_figures(report)), _verdict(report, most)]


def _by_code(findings: Sequence[Finding]) -> list[Finding]:
    order: dict[tuple[Severity, str], int] = {}
    for finding in findings:
        order.setdefault((finding.severity, finding.code), len(order))
    return sorted(findings, key=lambda finding: order[finding.severity, finding.code])


def _block(findings: Sequence[Finding], count: int, most: int) -> RenderableType:
    severity, code = findings[0].severity, findings[0].code
    title = Text.assemble(
        (severity, _STYLES[severity]), " ", (code, "bold"), f"  {count:,}  ", (CODES[code].meaning, "dim")
    )
    lines: list[RenderableType] = [title]
    one_remedy = len({finding.remedy for finding in findings}) == 1
    for finding in findings[:most]:
        field = f" {finding.field}" if finding.field else ""
        lines.append(Indented(Text.assemble((str(finding.place), "bold"), field), 2))
        lines += [Indented(Text(line), 6 if nth else 4) for nth, line in enumerate(finding.message.split("\n"))]
        if not one_remedy:
            lines.append(_remedy(finding, 4))
    if count > most:
        lines.append(Indented(Text(f"and {count - most:,} more", style="dim"), 2))
    if one_remedy:
        lines.append(_remedy(findings[0], 2))
    return Group(*lines, Text())


def _remedy(finding: Finding, left: int) -> RenderableType:
    return Indented(Text(f"-> {finding.remedy}", style="green"), left)


@dataclass(frozen=True)
class Indented:
    """A text that wraps to the right of an indent, without spaces behind it."""

    text: Text
    left: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.text.wrap(console, max(1, options.max_width - self.left), overflow="fold"):
            line.rstrip()
            yield Text(" " * self.left) + line


def _figures(report: CheckReport) -> Iterator[RenderableType]:
    for split, count in report.records.items():
        yield Text.assemble((split, "bold"), f"  {count:,} records")
        figures = report.figures.get(split, {})
        if rows := figures.get("rows"):
            yield Indented(Text(_rows(rows)), 2)
        if lengths := figures.get("lengths"):
            yield Indented(Text(_lengths(lengths)), 2)
        for name in ("languages", "scripts"):
            shares = figures.get("prompts", {}).get(name, {})
            if len(shares) > (name == "scripts"):  # of one script there is nothing to say
                yield Indented(Text(f"{name} of the prompts: {_listed(shares)}"), 2)
        for key, labels in figures.get("labels", {}).items():
            total = sum(labels.values())
            yield Indented(Text(f"{key}: {_listed({label: n / total for label, n in labels.items()})}"), 2)


def _rows(rows: Mapping[str, Any]) -> str:
    left_out = [(f"{reason} left out", count) for reason, count in rows["left_out"].items()]
    parts = [
        f"{count:,} {what}" for what, count in [("records", rows["records"]), ("refused", rows["refused"]), *left_out]
    ]
    formats = ", ".join(f"{name} {count:,}" for name, count in rows["formats"].items())
    return f"{rows['in']:,} rows in = {' + '.join(parts)}; format: {formats or 'none'}"


def _lengths(lengths: Mapping[str, Any]) -> str:
    percentiles = lengths["percentiles"]
    trained = f"; {lengths['trained']:,} of {lengths['total']:,} trained" if "trained" in lengths else ""
    return (
        f"{lengths['unit']}: half within {percentiles['50']:,}, 95% within {percentiles['95']:,}, "
        f"longest {lengths['longest']:,} at {lengths['longest_at']}{trained}"
    )


def _listed(shares: Mapping[str, float]) -> str:
    shown = [f"{share:.0%} {name}" for name, share in list(shares.items())[:_LABELS_SHOWN]]
    more = len(shares) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _verdict(report: CheckReport, most: int) -> Text:
    counts = dict.fromkeys(_NOUNS, 0)
    for (severity, _), count in report.found.items():
        counts[severity] += count
    said = [f"{n:,} {_NOUNS[severity]}{'' if n == 1 else 's'}" for severity, n in counts.items() if n]
    text = Text("\n" + (", ".join(said) or "nothing to say"))
    text.stylize("bold red" if not report.ok else "bold green")
    if any(count > most for count in report.found.values()):
        text.append("  --places shows more of each kind, --json all", style="not bold dim")
    return text

"""The rung `layers` for people: a line for a terminal, a table for a pull request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]


def profile_line(report: Report) -> str:
    """Returns a character for each layer, how far its worst operation is beyond the noise; "" for a file that passes.

    A file without hidden states to compare has none either.
    """
    layers = _layers(report)
    if not layers or report["verdict"] == "pass":
        return ""
    marks = "".join(_mark(one) for one in layers)
    legend = ". within the noise floor, 1 to 9 powers of ten beyond it"
    return f"{report['file']}, layers {layers[0]['layer']} to {layers[-1]['layer']}: {marks} ({legend})"


def _mark(one: Mapping[str, Any]) -> str:
    error, floor = one["relative_error"], one["floor"]
    if error <= floor:
        return "."
    return str(min(9, math.ceil(math.log10(error / floor)))) if floor > 0 and math.isfinite(error) else "9"


def profile_table(report: Report) -> list[str]:
    """Returns the lines of a table, a row for each layer with its worst operation; none for a file that passes."""
    layers = _layers(report)
    if not layers or report["verdict"] == "pass":
        return []
    lines = ["", "| layer | worst operation | tensor | relative error | floor |", "| --- | --- | --- | --- | --- |"]
    for one in layers:
        error = f"{one['relative_error']:.2g}"
        told = f"**{error}**" if _mark(one) != "." else error
        lines.append(f"| {one['layer']} | {one['name']} | {one['tensor']} | {told} | {one['floor']:.2g} |")
    return lines


def _layers(report: Report) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = next(
        (one["figures"].get("layers", ()) for one in report["rungs"] if one["name"] == "layers"), ()
    )
    return found

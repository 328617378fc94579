"""parity.json: a report on disk, where a figure that is no number is null."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Final

from edgeft.artifacts import ParityReport
from edgeft.parity.statistics import Divergence

_FIGURES: Final = frozenset(
    (
        *(field.name for field in fields(Divergence)),
        *("ppl_ratio", "base_kld", "rise_low", "rise_high", "mean_nll_change"),
        *("relative_error", "median_error", "error", "floor", "noise"),
    )
)
"""Keys under which null is a number that is none; under others it says that there is nothing."""


def read_report(written: ParityReport) -> dict[str, Any]:
    """Returns parity.json with NaN for the figures that are no numbers; JSON tells an infinite one not from NaN."""
    report: dict[str, Any] = _restored(written.content(), False)
    for one in (report, *report["rungs"]):
        one.setdefault("warnings", [])  # a report of an earlier edgeft has none
    return report


def _restored(value: Any, is_figure: bool) -> Any:
    if isinstance(value, dict):
        return {key: _restored(inner, is_figure or key in _FIGURES) for key, inner in value.items()}
    if isinstance(value, list):
        return [_restored(inner, is_figure) for inner in value]
    return math.nan if value is None and is_figure else value

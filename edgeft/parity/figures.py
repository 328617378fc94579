"""How the figures of parity are called and written: one name and one rounding, wherever they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_SMALLEST_DECIMAL: Final = 0.001
"""Below it two digits tell more than four decimals."""


def nats(value: float) -> str:
    """Returns a divergence: 0.0278, or 3.4e-5 where decimals would be zeros."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if abs(value) >= _SMALLEST_DECIMAL or value == 0:
        return f"{value:.4f}" if abs(value) < 100 else f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(share: float) -> str:
    """Returns a share in percent; what is not all of it never reads 100%, nor what is something 0%."""
    text = f"{share:.1%}"
    if text == "0.0%" and share > 0:
        return "<0.1%"
    return text if share == 1 or text != "100.0%" else f"{math.floor(share * 1e4) / 1e2:.2f}%"


def ratio(value: float) -> str:
    """Returns a ratio: of perplexities, or of norms."""
    return f"{value:.4f}" if math.isfinite(value) and abs(value) < 1e4 else nats(value)


@dataclass(frozen=True)
class Figure:
    """A figure that a file is judged by: its name, how it is written, and the ends of its interval in the JSON."""

    name: str
    written: Callable[[float], str]
    low: str
    high: str


MEAN_KLD: Final = "mean KLD"
P99_KLD: Final = "99% KLD"
SAME_TOP: Final = "same top token"
PERPLEXITY_RATIO: Final = "perplexity ratio"
SAME_ANSWERS: Final = "same answers"
JUDGED: Final[Mapping[str, Figure]] = {
    "mean_kld": Figure(MEAN_KLD, nats, "kld_low", "kld_high"),
    "top1": Figure(SAME_TOP, percent, "top1_low", "top1_high"),
    "ppl_ratio": Figure(PERPLEXITY_RATIO, ratio, "ppl_ratio_low", "ppl_ratio_high"),
}
"""By key of the JSON and of the configuration."""


def measured(key: str, figures: Mapping[str, float]) -> str:
    """Returns a figure with its 95% interval, "0.0278 (0.0250 to 0.0306)"; one that has none, without."""
    figure = JUDGED[key]
    ends = [figures.get(end, math.nan) for end in (figure.low, figure.high)]
    value = figure.written(figures[key])
    if any(math.isnan(end) for end in ends) or ends[0] == ends[1]:
        return value
    return f"{value} ({figure.written(ends[0])} to {figure.written(ends[1])})"


def allowed(key: str, ends: Sequence[float]) -> str:
    """Returns what is allowed of a figure as a range: "0 to 0.1", "85% to 100%", "0.9091 to 1.1"."""
    return " to ".join(f"{100 * end:.4g}%" if key == "top1" else f"{end:.4g}" for end in ends)


def finding(key: str, figures: Mapping[str, float], ends: Sequence[float]) -> str:
    """Returns a figure and what is allowed of it: "mean KLD is 0.0278 (0.0250 to 0.0306), allowed 0 to 0.02"."""
    return f"{JUDGED[key].name} is {measured(key, figures)}, allowed {allowed(key, ends)}"


def divergence(figures: Mapping[str, Any]) -> str:
    """Returns the figures that a file is judged by in one line, with what is `allowed` of them where that is said."""
    ranges = figures.get("allowed", {})
    said = {key: f", allowed {allowed(key, ends)}" for key, ends in ranges.items()}
    return "; ".join(f"{JUDGED[key].name} {measured(key, figures)}{said.get(key, '')}" for key in JUDGED)


def same_answers(greedy: Mapping[str, int] | None) -> str:
    """Returns how many greedy answers are the reference's; "" where none were made."""
    return f"{greedy['same']} of {greedy['records']}" if greedy else ""

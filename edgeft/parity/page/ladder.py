"""The ladder as the page shows it: each rung, what it found in a few words, all of its figures, and what broke it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from edgeft.files import human_size
from edgeft.parity.figures import MEAN_KLD, divergence, nats, percent
from edgeft.parity.page.markup import Content, Markup, element, joined, number

Figures = Mapping[str, Any]

_MARKS: Final = {"pass": "\u2713", "fail": "\u2717", "undecided": "?", "skipped": "\u2013"}
_MOST_LISTED = 12


def status_mark(status: str) -> Markup:
    """Returns a verdict as a sign and a word: colour is not needed to read it."""
    sign = element("span", _MARKS[status], aria_hidden="true")
    return element("span", sign, " ", status, class_=f"status {status}")


def ladder(report: Mapping[str, Any]) -> Markup:
    """Returns the rungs of a report, in order."""
    return element("ol", *(_rung(one) for one in report["rungs"]), class_="ladder")


def _rung(one: Mapping[str, Any]) -> Markup:
    name, figures = one["name"], one["figures"]
    said = _TOLD.get(name, _nothing)(figures) if figures else ""
    head = [status_mark(one["status"]), element("span", name, class_="name"), element("span", said, class_="told")]
    parts: list[Content] = []
    if figures:
        rows = [
            element("tr", element("th", key, scope="row"), element("td", value)) for key, value in _flat(figures, name)
        ]
        shown = element("div", element("table", element("tbody", *rows)), class_="wide")
        parts.append(element("details", element("summary", *head, class_="rung", title="all figures"), shown))
    else:
        parts.append(element("div", *head, class_="rung"))
    parts += [_failure(failure) for failure in one["failures"]]
    parts += [_failure(warning, "Warning: ", "failure warning") for warning in one["warnings"]]
    return element("li", *parts, class_=f"is-{one['status']}")


def _failure(failure: Mapping[str, Any], before: str = "", kind: str = "failure") -> Markup:
    parts: list[Content] = [element("p", before, failure["cause"], class_="cause")]
    if failure["where"]:
        parts.append(element("p", "Where: ", element("span", failure["where"]), class_="where"))
    if failure["remedy"]:
        parts.append(element("p", "What to do: ", failure["remedy"], class_="remedy"))
    return element("div", *parts, class_=kind)


def _flat(figures: Figures, path: str) -> Iterator[tuple[str, Content]]:
    """Yields every figure under its name; what is in lists as it is in the JSON."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}: {inner}", shown) for inner, shown in _flat(value, f"{path}.{key}"))
        elif isinstance(value, list):
            yield key, _listed(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield key.replace("_", " "), number(_plain(value), value, f"{path}.{key}")
        else:
            yield key.replace("_", " "), "none" if value is None else str(value)


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _listed(values: list[Any]) -> Content:
    if not values:
        return "none"
    shown = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    more = [f"and {len(shown) - _MOST_LISTED} more"] if len(shown) > _MOST_LISTED else []
    return joined(*(element("div", text) for text in [*shown[:_MOST_LISTED], *more]))


# What each rung found, in a few words


def _nothing(figures: Figures) -> str:
    return ""


def _file(figures: Figures) -> str:
    return f"{human_size(figures['size_bytes'])}, {figures['tensors']} tensors" if "tensors" in figures else ""


def _metadata(figures: Figures) -> str:
    told = f"{figures['compared']} of the model's numbers" if "compared" in figures else ""
    return f"{told}, architecture {figures['architecture']}" if "architecture" in figures else told


def _wrong(what: str) -> Callable[[Figures], str]:
    return lambda figures: f"{figures[what]:,} {what}, {figures['wrong']:,} wrong"


def _weights(figures: Figures) -> str:
    told = f"{figures['tensors']} tensors, rounded by {percent(figures['median_error'])} (median)"
    share = figures.get("adapter_share")
    if share is None:
        return told
    interval = f"{percent(figures['adapter_share_low'])} to {percent(figures['adapter_share_high'])}"
    return f"{told}; {percent(share)} of the training is in the file ({interval})"


def _layers(figures: Figures) -> str:
    first = figures["first"]
    if first is None:
        return f"{len(figures['operations'])} hidden states within the noise floor"
    place = "" if first["layer"] is None else f" in layer {first['layer']}"
    return f"they leave the noise floor{place} at {first['tensor']}"


def _runtime(figures: Figures) -> str:
    told = {name: found.get("not_run") or f"{MEAN_KLD} {nats(found['mean_kld'])}" for name, found in figures.items()}
    return "; ".join(f"{name}: {what}" for name, what in told.items())


def _answers(figures: Figures) -> str:
    told = f"{figures['same']} of {figures['records']} the same"
    left = figures["records"] - figures["same"]
    return f"{told}; {figures['near_ties']} of the other {left} were near-ties" if left else told


def _ending(figures: Figures) -> str:
    return f"{figures['ended']} of {figures['expected_end']} answers end"


def _task(figures: Figures) -> str:
    return f"{percent(figures['exact'])} exactly right, {percent(figures['reference_exact'])} in the merged model"


_TOLD: Final[Mapping[str, Callable[[Figures], str]]] = {
    "file": _file,
    "metadata": _metadata,
    "token types": lambda figures: f"{figures['tokens']:,} tokens",
    "token ids": _wrong("texts"),
    "chat template": _wrong("prompts"),
    "weights": _weights,
    "logits": divergence,
    "merge": divergence,
    "quantization": divergence,
    "layers": _layers,
    "runtime": _runtime,
    "answers": _answers,
    "ending": _ending,
    "task": _task,
}

"""How a report came about, and what the run that it belongs to knows beside it."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from edgeft import __version__
from edgeft.cores import available_cores
from edgeft.files import human_size
from edgeft.pareto import TradeOff
from edgeft.parity.figures import nats, percent, ratio
from edgeft.parity.page.markup import Content, Markup, element, joined, number
from edgeft.parity.page.pictures import losses
from edgeft.parity.page.plot import panel
from edgeft.parity.scored import Checked

_LIBRARIES = ("llama-cpp-python", "gguf", "numpy")


@dataclass(frozen=True)
class Origin:
    """How a page was made: the command, when, on what, and the SHA-256 of the files by their names.

    `sizes` has the bytes of these files; where it is empty, the reports' are shown.
    """

    command: str
    made: str
    device: Mapping[str, str]
    hashes: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """What a run knows beside the reports.

    `metrics` are the lines of the training's metrics.jsonl, `merge_base` is merge.json, `survival` has the `overall` of
    each survival.json by the run's name of the file, `tokens_per_second` the speed of generation that the evaluation
    measured, by the file's own name. `trade_offs` are the quantized files, drawn where there are several.
    """

    name: str
    metrics: Sequence[Mapping[str, Any]] = ()
    merge_base: Mapping[str, Any] = field(default_factory=dict)
    survival: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tokens_per_second: Mapping[str, float] = field(default_factory=dict)
    trade_offs: Sequence[TradeOff] = ()


def origin_here(hashes: Mapping[str, str], sizes: Mapping[str, int] | None = None) -> Origin:
    """Returns the origin of a page that this process makes now."""
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Origin(shlex.join(["edgeft", *sys.argv[1:]]), made, dict(_device_facts()), hashes, sizes or {})


def _device_facts() -> Iterator[tuple[str, str]]:
    yield "edgeft", __version__
    for library in _LIBRARIES:
        try:
            yield library, importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield "Python", platform.python_version()
    yield "system", platform.platform()
    yield "processor", f"{platform.machine()}, {available_cores()} cores for this process"


def training_section(training: Training) -> Markup | None:
    """Returns what a run knows of its training: losses, the base that was merged into, what rounding left of it."""
    parts: list[Content] = []
    if (drawn := losses(training.metrics)) is not None:
        legend = joined(
            element("span", "training", class_="key training"), element("span", "evaluation", class_="key evaluation")
        )
        parts.append(element("div", panel("Loss over steps", drawn, legend), class_="pictures"))
    if training.merge_base.get("merged"):
        parts.append(_merge_table(training.merge_base))
    if training.survival:
        parts.append(_survival_table(training.survival))
    return element("section", element("h2", "The training"), *parts, id="training") if parts else None


def _merge_table(content: Mapping[str, Any]) -> Markup:
    types = list(dict.fromkeys(kind for made in content["merged"].values() for kind in made.get("quantized", ())))
    rows: list[tuple[Content, ...]] = []
    for name, made in content["merged"].items():
        files = [made.get("quantized", {}).get(kind) for kind in types]
        klds = [made["mean_kld"], *(None if file is None else file["mean_kld"] for file in files)]
        figures = ["" if kld is None else number(nats(kld), kld) for kld in klds]
        chosen = "chosen" if name == content["base"] else ""
        rows.append((name, *figures, number(f"{made['loss']:.4f}", made["loss"]), chosen))
    loss = content["loss_as_trained"]
    said = (
        "Which base to merge into: mean KLD from the model as trained, and loss, on records that were not trained; "
        f"its own loss is {loss:.4f}."
    )
    headings = ("merged into", "mean KLD", *(f"{kind} file" for kind in types), "loss", "")
    return joined(element("p", said), table(headings, rows))


def _survival_table(by_type: Mapping[str, Mapping[str, Any]]) -> Markup:
    rows = []
    for name, overall in by_type.items():
        codes = overall.get("unchanged_codes")
        row: tuple[Content, ...] = (name, number(ratio(overall["cosine"]), overall["cosine"]))
        row += (number(ratio(overall["norm_ratio"]), overall["norm_ratio"]),)
        rows.append((*row, "" if codes is None else number(percent(codes), codes)))
    said = "What rounding left of the change that training made: Q(W + d) - Q(W) against d."
    return joined(element("p", said), table(("type", "cosine", "norm ratio", "unchanged codes"), rows))


def table(headings: Sequence[str], rows: Sequence[Sequence[Content]]) -> Markup:
    """Returns a table whose first column is text and whose others are figures; it scrolls where it is too wide."""
    head = element("tr", *(element("th", heading, scope="col") for heading in headings))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="wide")


def origin_section(checked: Sequence[Checked], origin: Origin) -> Markup:
    """Returns how the page was made: command, device, versions, hashes, and where the reference comes from."""
    facts: list[tuple[str, Content]] = [("command", element("code", origin.command)), ("made", origin.made)]
    facts += list(origin.device.items())
    runtimes = dict.fromkeys(one.report["runtime"] for one in checked)
    facts += [("llama.cpp", runtime) for runtime in runtimes]
    facts += [(f"reference: {key}", value) for key, value in checked[0].report["reference"].items()]
    rows = [element("div", element("dt", key), element("dd", value)) for key, value in facts]
    files = table(("file", "size", "SHA-256"), list(_files(checked, origin)))
    return element("section", element("h2", "How it was made"), element("dl", *rows), files, id="made")


def _files(checked: Sequence[Checked], origin: Origin) -> Iterator[tuple[Content, ...]]:
    sizes = origin.sizes or {one.report["file"]: one.report["size_bytes"] for one in checked}
    for name in dict.fromkeys((*sizes, *origin.hashes)):
        size = number(human_size(sizes[name]), sizes[name], "size_bytes") if name in sizes else ""
        yield name, size, element("code", origin.hashes.get(name, ""))

"""The page as a whole: verdict, files side by side, a section for each file, the training, how it was made."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from edgeft.files import human_size
from edgeft.pareto import TradeOff
from edgeft.parity.figures import (
    MEAN_KLD,
    P99_KLD,
    PERPLEXITY_RATIO,
    SAME_ANSWERS,
    SAME_TOP,
    nats,
    percent,
    ratio,
    same_answers,
)
from edgeft.parity.formats import sentence
from edgeft.parity.page.ladder import ladder, status_mark
from edgeft.parity.page.markup import Content, Markup, element, joined, number
from edgeft.parity.page.origin import Origin, Training, origin_section, table, training_section
from edgeft.parity.page.pictures import Row, bars, by_layer, by_position, by_record, intervals, sizes_and_divergences
from edgeft.parity.page.plot import panel
from edgeft.parity.page.records import MOST_RECORDS, legend, worst_first, worst_records
from edgeft.parity.page.style import SCRIPT, STYLE
from edgeft.parity.scored import Checked

Report = dict[str, Any]

_KINDS = {"fixed": "a fixed type", "fitted": "fitted to a budget"}


def page(checked: Sequence[Checked], origin: Origin, training: Training | None = None) -> str:
    """Returns one HTML document that loads nothing, whatever the records hold: all of their text is escaped."""
    known = training or Training("")
    reports = [one.report for one in checked]
    files = reports[0]["file"] if len(reports) == 1 else f"{len(reports)} files"
    title = f"Parity of {known.name or files}"
    sections: list[Content] = [_head(title, reports), _overview(reports, known)]
    shown = _most_telling(reports)
    sections += [_file(one, f"file-{number}", number == shown) for number, one in enumerate(checked)]
    sections += [training_section(known), origin_section(checked, origin)]
    body = element("body", element("main", *sections), element("script", Markup(SCRIPT)))
    return f"<!DOCTYPE html>\n{element('html', _meta(title), body, lang='en')}\n"


def _meta(title: str) -> Markup:
    allowed = f"default-src 'none'; style-src {_digest(STYLE)}; script-src {_digest(SCRIPT)}; base-uri 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=allowed),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(STYLE)),
    )


def _digest(text: str) -> str:
    """Returns what lets a browser run this text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def verdict_sentence(reports: Sequence[Report]) -> str:
    """Returns the verdict on all files in one sentence."""
    if len(reports) == 1:
        return _stopped(sentence(reports[0]))
    passed = [report for report in reports if report["verdict"] == "pass"]
    if len(passed) == len(reports):
        worst = max(reports, key=lambda report: float(report["logits"]["mean_kld"]))
        most = (
            f"the most that any of them loses is a {MEAN_KLD} of {nats(worst['logits']['mean_kld'])} ({worst['type']})"
        )
        return f"All {len(reports)} files pass: {most}."
    first = next(r for status in ("fail", "undecided") for r in reports if r["verdict"] == status)
    return _stopped(f"{len(passed)} of {len(reports)} files pass; {sentence(first)}")


def _stopped(words: str) -> str:
    return words if words.endswith("?") else f"{words}."


def _head(title: str, reports: Sequence[Report]) -> Markup:
    verdicts = {report["verdict"] for report in reports}
    overall = next(status for status in ("fail", "undecided", "pass") if status in verdicts)
    names = zip(reports, _labels(reports), strict=True)
    links = [
        element("a", label, " ", status_mark(report["verdict"]), href=f"#file-{number}")
        for number, (report, label) in enumerate(names)
    ]
    parts = [element("h1", title), element("p", verdict_sentence(reports), class_=f"verdict is-{overall}")]
    return element("header", *parts, element("nav", *links, aria_label="files"))


def _labels(reports: Sequence[Report]) -> list[str]:
    """Returns the types of the files, or their names where two are of one type."""
    types = [report["type"] for report in reports]
    return types if len(set(types)) == len(types) else [report["file"] for report in reports]


def _overview(reports: Sequence[Report], known: Training) -> Markup:
    labels = _labels(reports)
    speeds = [known.tokens_per_second.get(report["file"]) for report in reports]
    headings = ["type", "parity", "size", MEAN_KLD, "95% interval", P99_KLD, SAME_TOP, PERPLEXITY_RATIO, SAME_ANSWERS]
    rows = []
    for report, label, speed in zip(reports, labels, speeds, strict=True):
        row: list[Content] = [
            label,
            status_mark(report["verdict"]),
            number(human_size(report["size_bytes"]), report["size_bytes"]),
        ]
        row += _numbers(report)
        row += [] if not any(speeds) else ["" if speed is None else number(f"{speed:,.0f}", speed)]
        rows.append(row)
    if any(speeds):
        headings.append("tokens/s")
    drawn = element("div", *_pictures(reports, labels, speeds), class_="pictures three")
    heading = element("h2", "Size, quality, speed")
    return element("section", heading, table(headings, rows), drawn, _trade_offs(known.trade_offs), id="overview")


def _trade_offs(files: Sequence[TradeOff]) -> Markup | None:
    """Returns the quantized files by size and divergence; nothing of a single one."""
    if len(files) < 2:
        return None
    kinds = [kind for kind in ("fixed", "fitted") if any(one.kind == kind for one in files)]
    keys = (element("span", _KINDS[kind], class_=f"key {kind}") for kind in kinds)
    drawn = panel("Size against divergence", sizes_and_divergences(files), joined(f"{MEAN_KLD} in nats", *keys))
    return element("div", drawn, class_="pictures")


def _numbers(report: Report) -> list[Content]:
    if not report["logits"]:
        return [""] * 6
    found, greedy = report["logits"], report["greedy"]
    return [
        number(nats(found["mean_kld"]), found["mean_kld"], "logits.mean_kld"),
        f"{nats(found['kld_low'])} to {nats(found['kld_high'])}",
        number(nats(found["p99_kld"]), found["p99_kld"], "logits.p99_kld"),
        number(percent(found["top1"]), found["top1"], "logits.top1"),
        number(ratio(found["ppl_ratio"]), found["ppl_ratio"], "logits.ppl_ratio"),
        same_answers(greedy),
    ]


def _pictures(reports: Sequence[Report], labels: Sequence[str], speeds: Sequence[float | None]) -> list[Content]:
    sizes, costs, fast = [], [], []
    for report, label, speed in zip(reports, labels, speeds, strict=True):
        state, found = report["verdict"], report["logits"]
        sizes.append(Row(label, state, human_size(report["size_bytes"]), report["size_bytes"]))
        if found:
            highest = report.get("allowed", {}).get("mean_kld", (0.0, None))[1]
            around = found["kld_low"], found["kld_high"], highest
            costs.append(Row(label, state, nats(found["mean_kld"]), found["mean_kld"], *around))
        if speed is not None:
            fast.append(Row(label, state, f"{speed:,.0f}", speed))
    drawn: list[Content] = [panel("Size", bars(sizes, "size of each file"), "of the file")]
    if costs:
        note = f"{MEAN_KLD} in nats, and the most that is allowed"
        drawn.append(panel("Quality", intervals(costs, f"{MEAN_KLD} of each file"), note))
    if fast:
        drawn.append(panel("Speed", bars(fast, "speed of each file"), "tokens per second, generating"))
    return drawn


def _most_telling(reports: Sequence[Report]) -> int:
    """Returns the number of the file whose records are shown at once: the first that fails, or the furthest off."""
    failed = [number for number, report in enumerate(reports) if report["verdict"] != "pass" and report["logits"]]
    costs = [report["logits"]["mean_kld"] if report["logits"] else 0.0 for report in reports]
    return failed[0] if failed else costs.index(max(costs))


def _file(one: Checked, place: str, shown: bool) -> Markup:
    report = one.report
    parts: list[Content] = [
        element("h2", report["type"], element("small", report["file"]), status_mark(report["verdict"])),
        element("p", _stopped(sentence(report)), class_=f"verdict is-{report['verdict']}"),
        ladder(report),
    ]
    layers = next((rung["figures"].get("layers") for rung in report["rungs"] if rung["name"] == "layers"), None)
    if layers:
        note = "relative error of each layer's worst operation; the mark is the noise floor of the file's type"
        parts.append(element("div", panel("Hidden states by layer", by_layer(layers), note), class_="pictures"))
    if one.records:
        parts += _divergences(one, place, shown)
    return element("section", *parts, id=place, class_="file")


def _divergences(one: Checked, place: str, shown: bool) -> list[Content]:
    records = worst_first(one.records)
    links = {record.number: f"#{place}-record-{record.number}" for record in records[:MOST_RECORDS]}
    positions, wide = by_position(records)
    together = "" if wide == 1 else f", {wide} taken together"
    how = "the dot is the mean, the line goes from the median to the largest"
    pictures = [
        panel("KLD by position", positions, f"in nats, at each token of the answers{together}; {how}"),
        panel("KLD by record", by_record(records, links), f"in nats, {how}; the first lead to their tokens"),
    ]
    return [
        element("h3", "Where it differs"),
        element("div", *pictures, class_="pictures"),
        element(
            "details",
            element("summary", element("h3", f"The {min(len(records), MOST_RECORDS)} worst of {len(records)} records")),
            legend(),
            worst_records(records, place),
            open="open" if shown else None,
            class_="records",
        ),
    ]

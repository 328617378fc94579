"""A report in the forms that others read: one sentence, Markdown for a pull request, JUnit's XML for CI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from edgeft.parity.figures import (
    MEAN_KLD,
    P99_KLD,
    PERPLEXITY_RATIO,
    SAME_ANSWERS,
    SAME_TOP,
    allowed,
    measured,
    nats,
    percent,
    ratio,
    same_answers,
)
from edgeft.parity.layer_profile import profile_table

Report = Mapping[str, Any]

_MARKDOWN = re.compile(r"[\\`*\[\]<>|~&]")
_MARKS = {"pass": "pass", "fail": "**fail**", "undecided": "undecided", "skipped": ""}


def sentence(report: Report) -> str:
    """Returns which step lost what and what to do; for a file that passes, what each step cost."""
    if report["verdict"] != "pass":
        remedy = f"; {report['remedy']}" if report["remedy"] else ""
        said = "fails at" if report["verdict"] == "fail" else "is undecided at"
        return f"{report['type']} {said} {report['rung']}: {report['cause']}{remedy}"
    step = "conversion" if _rung(report, "logits")["status"] == "pass" else "quantization"
    ranges = f", allowed {allowed('mean_kld', report['allowed']['mean_kld'])}" if report.get("allowed") else ""
    costs = [f"{step} costs a {MEAN_KLD} of {nats(report['logits']['mean_kld'])}{ranges}"]
    if report["merge"]:
        costs.append(f"merging {nats(report['merge']['mean_kld'])}")
    if report["served"]:
        costs.append(f"bfloat16, as the model is served, would cost {nats(report['served']['mean_kld'])}")
    return f"{report['type']} passes: {'; '.join(costs)}"


def warnings_of(report: Report) -> list[str]:
    """Returns what is to be weighed though it decides nothing: a sentence each, with where and the remedy."""
    told = []
    for one in report["warnings"]:
        where, remedy = (f" ({one['where']})" if one["where"] else ""), (f"; {one['remedy']}" if one["remedy"] else "")
        told.append(f"{one['rung']}: {one['cause']}{where}{remedy}")
    return told


def _rung(report: Report, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(one for one in report["rungs"] if one["name"] == name)
    return found


def markdown(reports: Sequence[Report]) -> str:
    """Returns a table of all files, and below it the ladder of each that did not pass."""
    headings = ("file", "type", MEAN_KLD, P99_KLD, SAME_TOP, PERPLEXITY_RATIO, SAME_ANSWERS, "parity")
    lines = [f"| {' | '.join(headings)} |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for report in reports:
        cells = [_cell(report["file"]), report["type"], *_numbers(report), _MARKS[report["verdict"]]]
        lines.append(f"| {' | '.join(cells)} |")
    for report in reports:
        lines += ["", f"**{_cell(report['file'])}**: {_cell(sentence(report))}"]
        for warning in warnings_of(report):
            lines += ["", f"Warning: {_cell(warning)}"]
        if report["verdict"] != "pass":
            lines += ["", "| rung | verdict | cause | where |", "| --- | --- | --- | --- |"]
            lines += [
                f"| {one['name']} | {_MARKS[one['status']]} | {_cause(one, 'cause')} | {_cause(one, 'where')} |"
                for one in report["rungs"]
            ]
            lines += profile_table(report)
    return "\n".join(lines) + "\n"


def _numbers(report: Report) -> list[str]:
    if not report["logits"]:
        return [""] * 5
    figures = report["logits"]
    told = [measured("mean_kld", figures), nats(figures["p99_kld"]), percent(figures["top1"])]
    return [*told, ratio(figures["ppl_ratio"]), same_answers(report["greedy"])]


def _cause(one: Mapping[str, Any], key: str) -> str:
    return "; ".join(_cell(str(failure[key])) for failure in one["failures"])


def _cell(text: str) -> str:
    """Returns a text as it reads in a table: what Markdown would take for its own is escaped."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def junit(reports: Sequence[Report]) -> str:
    """Returns a test suite for each file with a test case for each rung; what is undecided is skipped, with the reason.

    Warnings are a test case's output.
    The schema is the one that Jenkins, GitLab and GitHub's actions read (testmoapp/junitxml).
    """
    root = ElementTree.Element("testsuites", name="edgeft parity")
    for report in reports:
        states = [one["status"] for one in report["rungs"]]
        counts = {"tests": len(states), "failures": states.count("fail")}
        counts["skipped"] = len(states) - states.count("pass") - states.count("fail")
        attributes = {"name": _plain(report["file"])} | {key: str(value) for key, value in counts.items()}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        for one in report["rungs"]:
            case = ElementTree.SubElement(suite, "testcase", name=one["name"], classname=_plain(report["file"]))
            causes = [_plain(failure["cause"]) for failure in one["failures"]]
            if one["status"] == "fail":
                failure = ElementTree.SubElement(case, "failure", message=causes[0])
                failure.text = "\n".join(f"{_plain(f['cause'])}\n  {_plain(f['where'])}" for f in one["failures"])
            elif one["status"] != "pass":
                ElementTree.SubElement(case, "skipped", message=causes[0] if causes else one["status"])
            if one["warnings"]:
                told = "\n".join(f"warning: {warning}" for warning in warnings_of(one))
                ElementTree.SubElement(case, "system-out").text = _plain(told)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    """Returns a text without the characters that XML cannot hold."""
    return "".join(letter if letter.isprintable() or letter in "\t\n" else "\ufffd" for letter in text)

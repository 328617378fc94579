"""`edgeft parity` as a user and as CI run it: what is printed, what is written, and how it exits."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from markdown_it import MarkdownIt
from parity.pages import make_reference

from edgeft.artifacts import ParityReport
from edgeft.cli import main
from edgeft.console import Output
from edgeft.files import json_text, write_json
from edgeft.parity.figures import (
    MEAN_KLD,
    P99_KLD,
    PERPLEXITY_RATIO,
    SAME_ANSWERS,
    SAME_TOP,
    nats,
    percent,
    ratio,
)
from edgeft.parity.formats import junit, markdown
from edgeft.parity.ladder import RUNGS, Failure, rung, verdict
from edgeft.parity.page import origin_here, page
from edgeft.parity.report_file import read_report
from edgeft.parity.scored import Checked

NAMES = ["model-F16.gguf", "model-Q8_0.gguf", "a|b *<c>*.gguf"]
LIMITS = """
[model]
base = "model"
[dataset]
train = "test.jsonl"
[parity]
runtime_kld = 1.0
quantization = {{ mean_kld = 9.0, top1 = 0.0, ppl_ratio = 99.0 }}
[parity.thresholds]
Q8_0 = {{ mean_kld = {q8:e}, top1 = 0.0, ppl_ratio = 99.0 }}
Q4_0 = {{ mean_kld = {q4:e}, top1 = 0.0, ppl_ratio = 99.0 }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference, three files, and `limits.toml`, which the last file is beyond."""
    folder = tmp_path_factory.mktemp("cli")
    _, files = make_reference(folder)
    shutil.move(files[2].path, folder / NAMES[2])
    (folder / "limits.toml").write_text(LIMITS.format(q8=9.0, q4=1e-9))
    return folder


def check(folder: Path, *options: str | Path, names: list[str] = NAMES, limits: str = "limits.toml") -> Result:
    words: list[str | Path] = ["parity", "check", folder / "reference.npz", *(folder / name for name in names)]
    words += ["-c", folder / limits, "--threads", "1", *options]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def written(folder: Path) -> Result:
    """One check of all files that writes every form; the tests read these."""
    ways = [f"--{kind}={folder / 'out' / kind}" for kind in ("junit", "markdown", "html")]
    return check(folder, "--json", *ways)


def reports(written: Result) -> list[dict[str, Any]]:
    """Returns what --json printed; nothing else may be on standard output."""
    found: list[dict[str, Any]] = json.loads(written.stdout)
    return found


def test_json_is_an_object_a_file(written: Result) -> None:
    found = reports(written)
    assert [report["file"] for report in found] == NAMES
    assert [report["verdict"] for report in found] == ["pass", "pass", "fail"]
    for report in found:
        assert [one["name"] for one in report["rungs"]] == list(RUNGS)
        assert {"rung", "cause", "where", "remedy"} <= report.keys()
    assert found[2]["rung"] == "quantization"
    assert found[0]["rung"] == found[0]["cause"] == ""


def test_json_has_no_word_for_what_is_no_number(written: Result) -> None:
    report = reports(written)[0]
    report["logits"] |= {"mean_kld": math.nan, "ppl": math.inf}

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(json_text([report]), parse_constant=refuse)[0]["logits"]
    assert found["mean_kld"] is found["ppl"] is None
    assert found["top1"] == report["logits"]["top1"]


def test_every_view_has_the_same_figures_under_the_same_names(folder: Path, written: Result) -> None:
    """Terminal, page and Markdown write a figure with the same digits, and all of them give the cause of the JSON."""
    terminal = check(folder)
    texts = {
        "terminal": terminal.stdout,
        "markdown": (folder / "out" / "markdown").read_text(),
        "page": html.unescape(re.sub("<[^>]*>", " ", (folder / "out" / "html").read_text())),
    }
    for view, text in texts.items():
        headings = [text.find(name) for name in (MEAN_KLD, P99_KLD, SAME_TOP, PERPLEXITY_RATIO, SAME_ANSWERS)]
        assert headings == sorted(headings) and headings[0] >= 0, view
        for report in reports(written):
            logits, greedy = report["logits"], report["greedy"]
            figures = [nats(logits["mean_kld"]), nats(logits["p99_kld"]), percent(logits["top1"])]
            figures += [ratio(logits["ppl_ratio"]), f"{greedy['same']} of {greedy['records']}"]
            assert re.search(".*?".join(map(re.escape, figures)), text, re.DOTALL), (view, report["type"])
    cause = reports(written)[2]["cause"]
    assert re.match(r"mean KLD is \S+ \(\S+ to \S+\), allowed 0 to 1e-09; ", cause)
    junit = (folder / "out" / "junit").read_text()
    assert all(cause in text for text in (texts["page"], texts["markdown"].replace("\\", ""), terminal.stderr, junit))


def test_what_is_allowed_is_a_range_everywhere(written: Result) -> None:
    for report in reports(written):
        rung = "logits" if report["type"] == "F16" else "quantization"
        figures = next(one["figures"] for one in report["rungs"] if one["name"] == rung)
        assert figures["allowed"] == report["allowed"]
        for key, (low, high) in report["allowed"].items():
            assert low < high and (low <= figures[key] <= high) == (key != "mean_kld" or report["verdict"] == "pass")


def test_a_file_that_fails_exits_3_and_is_named(written: Result) -> None:
    assert written.exit_code == 3
    report = reports(written)[2]
    assert report["where"] == ""
    assert f"error {NAMES[2]}: quantization: {report['cause']}" in written.stderr
    assert f"-> {report['remedy']}" in written.stderr
    assert NAMES[1] not in written.stderr
    assert "Traceback" not in written.output


def test_files_that_pass_exit_0(folder: Path) -> None:
    result = check(folder, names=NAMES[:2])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "F16 passes: conversion costs a mean KLD of" in result.stdout
    assert "Q8_0 passes: quantization costs a mean KLD of" in result.stdout


def test_a_sample_that_decides_nothing_has_an_exit_code_of_its_own(folder: Path, written: Result) -> None:
    """The budget is put at the mean itself, which the interval holds."""
    mean = reports(written)[1]["logits"]["mean_kld"]
    (folder / "between.toml").write_text(LIMITS.format(q8=mean, q4=9.0))
    lenient = check(folder, "--json", "--undecided-exit", "0", names=NAMES[1:2], limits="between.toml")
    assert (lenient.exit_code, lenient.stderr) == (0, "")
    assert [report["verdict"] for report in reports(lenient)] == ["undecided"]
    junit = folder / "undecided.xml"
    plain = check(folder, "--junit", junit, names=NAMES[1:2], limits="between.toml")
    assert plain.exit_code == 4
    assert f"error {NAMES[1]}: undecided at quantization: " in plain.stderr
    assert "so near to what is allowed" in plain.stderr
    assert "Q8_0 is undecided at quantization" in plain.stdout
    assert check(folder, "--undecided-exit", "3", names=NAMES[1:2], limits="between.toml").exit_code == 3
    (folder / "both.toml").write_text(LIMITS.format(q8=mean, q4=1e-9))
    both = check(folder, "--undecided-exit", "7", limits="both.toml")  # a failure counts more
    assert (both.exit_code, "undecided at" in both.stderr) == (3, False)
    case = ElementTree.parse(junit).find(".//testcase[@name='quantization']/skipped")
    assert case is not None and "mean KLD" in case.attrib["message"]


def test_junit_counts_what_it_holds(folder: Path, written: Result) -> None:
    root = ElementTree.parse(folder / "out" / "junit").getroot()
    assert root.tag == "testsuites"
    assert [suite.attrib["name"] for suite in root] == NAMES
    for suite, report in zip(root, reports(written), strict=True):
        cases = suite.findall("testcase")
        assert [case.attrib["name"] for case in cases] == list(RUNGS)
        for kind, attribute in (("failure", "failures"), ("skipped", "skipped")):
            assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{kind}"))
        assert int(suite.attrib["tests"]) == len(cases)
        failed = [case.attrib["name"] for case in cases if case.find("failure") is not None]
        assert failed == [one["name"] for one in report["rungs"] if one["status"] == "fail"]
    failure = root[2].find("testcase/failure")
    assert failure is not None and failure.attrib["message"] == reports(written)[2]["cause"]


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yields every table of a Markdown text as its rows, rendered and read again without their marks."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    for table in ElementTree.fromstring(f"<page>{html}</page>").iter("table"):
        yield [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_markdown_renders_as_tables(folder: Path, written: Result) -> None:
    text = (folder / "out" / "markdown").read_text()
    files, ladder, *_ = tables(text)
    assert [row[0] for row in files[1:]] == NAMES
    assert [row[-1] for row in files[1:]] == ["pass", "pass", "fail"]
    assert {len(row) for row in files} == {8}
    assert [row[0] for row in ladder[1:]] == list(RUNGS)
    broken = next(row for row in ladder if row[0] == "quantization")
    assert broken[1] == "fail"
    assert broken[2] == reports(written)[2]["cause"]


def test_markdown_shows_tokens_as_they_are(written: Result) -> None:
    """What tokens and names are made of is Markdown's and HTML's own."""
    report = reports(written)[2]
    text = "<s> </s> <|im_end|> a|b `c` **d** [e](f) ~~g~~ \\h &amp; blk.0.attn_q.weight\nnext"
    for one in report["rungs"]:
        one["failures"] = [{"rung": one["name"], "cause": text, "where": text, "remedy": ""}]
    _, ladder, *_ = tables(markdown([report]))
    for row in ladder[1:]:
        assert row[2] == row[3] == text.replace("\n", " ")


def test_a_warning_is_in_every_form_and_decides_nothing(
    written: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passed = rung("token ids", [], {"texts": 10, "wrong": 1}, [Failure("token ids", "1 of 10 <b>", "U+20", "look")])
    assert passed.status == "pass" and verdict([passed])[0] == "pass"
    report = reports(written)[0]
    report["rungs"] = [passed.to_json() if one["name"] == "token ids" else one for one in report["rungs"]]
    report["warnings"] = passed.to_json()["warnings"]
    told = "token ids: 1 of 10 <b> (U+20); look"
    assert "Warning: token ids: 1 of 10 &lt;b&gt; (U+20); look" in MarkdownIt().render(markdown([report]))
    case = ElementTree.fromstring(junit([report])).find(".//testcase[@name='token ids']")
    assert case is not None and [(one.tag, one.text) for one in case] == [("system-out", f"warning: {told}")]
    document = ElementTree.fromstring(page([Checked(report)], origin_here({})).partition("\n")[2])
    shown = document.find(".//*[@class='failure warning']")
    assert shown is not None
    assert [one.text for one in shown.iter("p")] == ["Warning: 1 of 10 <b>", "Where: ", "What to do: look"]
    Output().verdicts([report])
    assert f"warning {report['file']}: {told}" in capsys.readouterr().out.splitlines()
    write_json(tmp_path / "parity.json", report)
    assert read_report(ParityReport(tmp_path))["warnings"] == report["warnings"]


def test_a_report_of_before_there_were_warnings_has_none(written: Result, tmp_path: Path) -> None:
    report = reports(written)[0]
    for one in (report, *report["rungs"]):
        del one["warnings"]
    write_json(tmp_path / "parity.json", report)
    read = read_report(ParityReport(tmp_path))
    assert [one["warnings"] for one in (read, *read["rungs"])] == [[]] * (len(RUNGS) + 1)


def test_the_page_has_what_json_has(folder: Path, written: Result) -> None:
    page = ElementTree.fromstring((folder / "out" / "html").read_text().partition("\n")[2])
    figures = page.findall(".//*[@id='overview']//data[@data-figure='logits.mean_kld']")
    shown = [float(one.attrib["value"]) for one in figures]
    assert shown == [report["logits"]["mean_kld"] for report in reports(written)]
    assert NAMES[2] in "".join(page.find(".//*[@id='made']").itertext())  # type: ignore[union-attr]


def test_what_cannot_be_written_is_said_before_the_work(folder: Path) -> None:
    (folder / "taken").write_text("")
    bad = [folder / "taken" / "report.html", folder / "taken" / "junit.xml"]
    result = check(folder, "--html", bad[0], "--junit", bad[1], names=["no such file.gguf"])
    assert result.exit_code == 1
    assert all(f"{path}: cannot be written" in result.stderr for path in bad)
    assert "no such file" not in result.output and "Traceback" not in result.output

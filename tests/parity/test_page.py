"""The page is well-formed, loads nothing, escapes what records hold, and has the JSON's figures."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edgeft.parity.figures import percent
from edgeft.parity.ladder import Rung
from edgeft.parity.page import Origin, page
from edgeft.parity.page.document import verdict_sentence
from edgeft.parity.page.markup import element, visible
from edgeft.parity.page.pictures import by_layer
from edgeft.parity.scored import Checked, ScoredRecord, read_records, write_records
from edgeft.plot import LogAxis
from parity.pages import EVIL, TRAINING, make_checked

ORIGIN = Origin("edgeft parity check 'a <b>'", "2026-01-02T03:04:05Z", {"edgeft": "1"}, {"model-F16.gguf": "ab" * 32})
_KEPT_DIGITS = 1e-5
"""Records keep six digits of each figure."""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> list[Checked]:
    return make_checked(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def document(checked: list[Checked]) -> ElementTree.Element:
    return parsed(page(checked, ORIGIN, TRAINING))


def parsed(text: str) -> ElementTree.Element:
    head, _, rest = text.partition("\n")
    assert head == "<!DOCTYPE html>"
    return ElementTree.fromstring(rest)


def said(one: ElementTree.Element) -> str:
    return "".join(one.itertext())


def by_id(document: ElementTree.Element, name: str) -> ElementTree.Element:
    found = document.find(f".//*[@id='{name}']")
    assert found is not None, name
    return found


def test_it_loads_nothing(document: ElementTree.Element) -> None:
    for one in document.iter():
        assert one.tag not in ("link", "img", "iframe", "object", "embed", "use", "image", "base")
        assert "src" not in one.attrib
        assert not [key for key in one.attrib if key.startswith("on")]
        assert one.attrib.get("href", "#").startswith("#")
    style, script = document.find(".//style"), document.find(".//script")
    assert style is not None and style.text and "url(" not in style.text and "@import" not in style.text
    assert script is not None and script.text and "fetch" not in script.text


def test_links_lead_to_something(document: ElementTree.Element) -> None:
    links = [one.attrib["href"].removeprefix("#") for one in document.iter("a")]
    assert len(links) >= 3 + 3 * 5  # files, and the worst records of each
    for link in links:
        by_id(document, link)


def test_only_its_own_script_may_run(document: ElementTree.Element) -> None:
    allowed = document.find(".//meta[@http-equiv='Content-Security-Policy']")
    assert allowed is not None
    for kind in ("script", "style"):
        found = list(document.iter(kind))
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256((found[0].text or "").encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in allowed.attrib["content"]
    assert "default-src 'none'" in allowed.attrib["content"]


def test_what_reports_and_records_hold_is_text(checked: list[Checked]) -> None:
    """HTML in every text that comes from a file, a record or a folder's name."""
    report = poisoned(checked[2].report)
    one = checked[2].records[0]
    texts = [EVIL] * len(one.kld)
    record = replace(one, prompt=EVIL, tokens=texts, top=texts, file_top=texts)
    origin = Origin(EVIL, EVIL, {EVIL: EVIL}, {EVIL: EVIL})
    survival = {EVIL: TRAINING.survival["Q8_0"]}
    training = replace(TRAINING, name=EVIL, survival=survival, merge_base=poisoned(TRAINING.merge_base))
    document = parsed(page([Checked(report, [record])], origin, training))
    assert len(list(document.iter("script"))) == 1
    assert not list(document.iter("img"))
    assert [said(found) for found in document.iter("pre")] == [visible(EVIL)]
    shown = [said(found) for found in document.iter("span") if "data-token" in found.attrib]
    assert set(shown) == {visible(EVIL)} and len(shown) == 2 * len(texts)
    assert said(document).count("alert(1)") > 20


def poisoned(value: Any, key: str = "") -> Any:
    """Returns JSON with HTML added to every text but those that are one of a few words."""
    if isinstance(value, dict):
        return {name: poisoned(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, key) for inner in value]
    return value + EVIL if isinstance(value, str) and key not in ("verdict", "status", "name") else value


def test_characters_that_no_page_may_hold() -> None:
    nasty = "".join(chr(code) for code in (*range(32), 127, 133, 0xD800, 0xDFFF, 0xFFFE, 0x202E))
    shown = element("p", nasty, title=nasty)
    shown.encode()
    text = said(ElementTree.fromstring(shown))
    assert text == visible(nasty)
    assert "\u2401" in text and "\t\n" in text


def figures_of(rungs: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    def flat(path: str, value: Any) -> Iterator[tuple[str, float]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from flat(f"{path}.{key}", inner)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, float(value)

    for one in rungs:
        yield from flat(one["name"], one["figures"])


def test_every_figure_of_every_rung_is_the_jsons(document: ElementTree.Element, checked: list[Checked]) -> None:
    for number, one in enumerate(checked):
        section = by_id(document, f"file-{number}")
        shown = {
            found.attrib["data-figure"]: float(found.attrib["value"])
            for found in section.iter("data")
            if not found.attrib.get("data-figure", "record").startswith("record")
        }
        assert shown == dict(figures_of(one.report["rungs"]))
        assert len(shown) > 30


def test_the_table_of_files_has_the_jsons_figures(document: ElementTree.Element, checked: list[Checked]) -> None:
    rows = by_id(document, "overview").findall(".//tbody/tr")
    assert [said(row[0]) for row in rows] == ["F16", "Q8_0", "Q4_0"]
    assert [said(row[1]).split()[1] for row in rows] == ["pass", "pass", "fail"]
    for row, one in zip(rows, checked, strict=True):
        shown = {found.get("data-figure"): float(found.attrib["value"]) for found in row.iter("data")}
        for key in ("mean_kld", "p99_kld", "top1", "ppl_ratio"):
            assert shown[f"logits.{key}"] == one.report["logits"][key]
    assert [said(row[-1]) for row in rows] == ["12", "25", ""]  # the speeds that are known


def test_records_have_the_reports_figures(checked: list[Checked], tmp_path: Path) -> None:
    for one in checked:
        kld = np.array([value for record in one.records for value in record.kld])
        assert len(kld) == one.report["logits"]["positions"]
        assert kld.mean() == pytest.approx(one.report["logits"]["mean_kld"], rel=_KEPT_DIGITS)
        assert kld.max() == pytest.approx(one.report["logits"]["max_kld"], rel=_KEPT_DIGITS)
        pairs = [pair for record in one.records for pair in zip(record.top, record.file_top, strict=True)]
        assert np.mean([a == b for a, b in pairs]) == pytest.approx(one.report["logits"]["top1"])
        for ours, key in (("p", "ppl_reference"), ("q", "ppl")):
            nll = -np.log([share for record in one.records for share in getattr(record, ours)])
            assert math.exp(nll.mean()) == pytest.approx(one.report["logits"][key], rel=_KEPT_DIGITS)
        for record in one.records:
            assert all(top >= p * (1 - _KEPT_DIGITS) for top, p in zip(record.p_top, record.p, strict=True))
            assert all(top >= q * (1 - _KEPT_DIGITS) for top, q in zip(record.q_top, record.q, strict=True))
        write_records(one.records, tmp_path / "positions.json")
        assert read_records(tmp_path / "positions.json") == one.records
    assert "".join(checked[0].records[1].tokens) == "turn on light 1 ok\nyes<|im_end|>\n"[: -len("\n")]


def test_tokens_are_coloured_by_their_divergence(checked: list[Checked]) -> None:
    tokens = ["a", "b", "c", "d"]
    record = ScoredRecord(
        7,
        "p",
        tokens,
        [0.0, 0.05, 2.0, math.nan],
        [0.5] * 4,
        [0.5] * 4,
        tokens,
        [0.5] * 4,
        ["a", "b", "x", "d"],
        [0.5] * 4,
    )
    document = parsed(page([replace(checked[1], records=[record])], ORIGIN))
    shown = [one.get("class") for one in by_id(document, "file-0-record-7").iter("span")]
    assert shown == ["t k0", "t k3", "t k5 other", "t k5", "t k0", "t k3", "t k5 other off", "t k5"]


def test_a_long_answer_is_cut_around_its_worst_token(checked: list[Checked]) -> None:
    n = 5000
    kld = [0.0] * n
    kld[4000] = 3.0
    words, half = ["w"] * n, [0.5] * n
    record = ScoredRecord(0, "p", words, kld, half, half, words, half, words, half)
    text = page([replace(checked[1], records=[record])], ORIGIN)
    shown = [int(one.attrib["data-token"]) for one in parsed(text).iter("span") if "data-token" in one.attrib]
    assert 4000 in shown and len(shown) == 2 * 160
    assert len(text) < 300_000


def test_layers_are_drawn_with_their_floors(document: ElementTree.Element) -> None:
    drawn = [one for one in document.iter("svg") if one.attrib.get("aria-label") == "hidden states by layer"]
    assert len(drawn) == 3  # a picture a file, a dot a layer
    for one in drawn:
        assert [dot.attrib["class"] for dot in one.iter("circle")] == ["dot pass", "dot pass"]


def test_a_layer_beyond_its_floor_is_drawn_above_it() -> None:
    common = {"name": "attention", "tensor": "blk.0.attn_output.weight", "floor": 0.01}
    errors = (0.001, 0.5, math.nan)
    picture = by_layer([{**common, "layer": number, "relative_error": error} for number, error in enumerate(errors)])
    dots = list(ElementTree.fromstring(str(picture)).iter("circle"))
    assert [dot.attrib["class"] for dot in dots] == ["dot pass", "dot fail", "dot fail"]
    heights = [float(dot.attrib["cy"]) for dot in dots]
    (floor,) = {
        float(one.attrib["y1"])
        for one in ElementTree.fromstring(str(picture)).iter("line")
        if one.attrib["class"] == "limit"
    }
    assert heights[0] > floor > heights[1] >= heights[2]


def test_a_file_that_cannot_be_run_has_a_page(checked: list[Checked]) -> None:
    broken = checked[0].report | {"logits": None, "allowed": None, "greedy": None, "verdict": "fail"}
    broken |= {"rung": "file", "cause": "the file is <cut>", "where": "a", "remedy": "copy it", "type": "unknown"}
    broken["rungs"] = [Rung("file", "fail").to_json() | {"failures": broken["failures"]}]
    document = parsed(page([Checked(broken), *checked[1:]], ORIGIN))
    assert "unknown fails at file: the file is <cut>" in said(by_id(document, "file-0"))
    alone = parsed(page([Checked(broken)], ORIGIN))
    assert "unknown fails at file" in said(alone)


def test_what_is_not_a_number_is_said(checked: list[Checked]) -> None:
    logits = dict.fromkeys(checked[1].report["logits"], math.nan)
    report = checked[1].report | {"logits": logits, "verdict": "fail"}
    assert "not a number" in said(parsed(page([Checked(report, checked[1].records)], ORIGIN)))


def test_two_files_of_one_type_are_told_apart(checked: list[Checked]) -> None:
    other = Checked(checked[1].report | {"file": "other.gguf"}, checked[1].records)
    document = parsed(page([checked[1], other], ORIGIN))
    assert [said(row[0]) for row in by_id(document, "overview").findall(".//tbody/tr")] == [
        "model-Q8_0.gguf",
        "other.gguf",
    ]


def test_the_verdict_in_one_sentence(checked: list[Checked]) -> None:
    reports = [one.report for one in checked]
    assert re.fullmatch(r"2 of 3 files pass; Q4_0 fails at quantization: mean KLD is .*\.", verdict_sentence(reports))
    passed = verdict_sentence(reports[:2])
    assert re.fullmatch(r"All 2 files pass: the most that any of them loses is a mean KLD of \S+ \(Q8_0\)\.", passed)
    assert verdict_sentence(reports[:1]).startswith("F16 passes: conversion costs a mean KLD of ")


def test_the_training_is_shown_where_it_is_known(document: ElementTree.Element, checked: list[Checked]) -> None:
    section = by_id(document, "training")
    curves = list(section.iter("polyline"))
    assert [len(one.attrib["points"].split()) for one in curves] == [29, 1]
    merging, surviving = [0.2, 0.3, 0.6, 3e-5, 1e-3, 0.5], [0.75, 1.25, 0.5]
    assert [float(one.attrib["value"]) for one in section.iter("data")] == [*merging, *surviving]
    bare = parsed(page(checked, ORIGIN))
    assert bare.find(".//*[@id='training']") is None
    assert "tokens/s" not in said(by_id(bare, "overview"))


def test_quantized_files_are_drawn_by_size_and_divergence(
    document: ElementTree.Element, checked: list[Checked]
) -> None:
    dots = [one for one in by_id(document, "overview").iter("circle") if "file-dot" in one.attrib["class"]]
    assert [one.attrib["class"] for one in dots] == ["file-dot fixed", "file-dot fixed", "file-dot fitted"]
    places = [(float(one.attrib["cx"]), -float(one.attrib["cy"])) for one in dots]
    sizes, klds = ([getattr(one, key) for one in TRAINING.trade_offs] for key in ("size_bytes", "kld"))
    for axis, values in zip(zip(*places, strict=True), (sizes, klds), strict=True):
        assert sorted(range(3), key=axis.__getitem__) == sorted(range(3), key=values.__getitem__)
    text = said(by_id(document, "overview"))
    assert "<fitted>" in text and "fitted to a budget" in text
    few = replace(TRAINING, trade_offs=TRAINING.trade_offs[:1])
    assert "Size against divergence" not in said(by_id(parsed(page(checked, ORIGIN, few)), "overview"))


def test_how_it_was_made(document: ElementTree.Element, checked: list[Checked]) -> None:
    text = said(by_id(document, "made"))
    for words in (ORIGIN.command, ORIGIN.made, "ab" * 32, checked[0].report["runtime"], "float32"):
        assert words in text


def test_percent_never_rounds_to_all_or_nothing() -> None:
    assert [percent(share) for share in (1.0, 0.99999, 0.9994, 0.5, 1e-6, 0.0)] == [
        *("100.0%", "99.99%", "99.9%", "50.0%", "<0.1%", "0.0%")
    ]


def test_a_logarithmic_axis() -> None:
    axis = LogAxis([1e-3, 0.5], 0, 30)
    assert [axis.words(tick) for tick in axis.ticks] == ["0.001", "0.01", "0.1", "1"]
    assert [axis.place(tick) for tick in axis.ticks] == pytest.approx([0, 10, 20, 30])
    assert axis.place(1e-2) == pytest.approx(10)
    assert axis.place(0.0) == axis.place(1e-9) == axis.place(-1.0) == 0  # what is below lies at the beginning
    assert axis.place(math.inf) == 30
    assert LogAxis([], 0, 1).ticks and LogAxis([0.0], 0, 1).ticks
    fine = LogAxis([2e-5, 5e-5], 0, 1)
    assert [fine.words(tick) for tick in fine.ticks] == ["1e-5", "2e-5", "5e-5", "1e-4"]
    assert len(LogAxis([1e-9, 1.0], 0, 1).ticks) <= 6

"""The report: order, limits, and its JSON form; memory does not grow with the length of records."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

from check_cases import CLEAN, check

from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.report import MOST_KEPT
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record


def test_errors_come_first_and_all_in_the_order_of_the_files() -> None:
    report = check([("a\x07", "b"), *CLEAN, ("c", "d\x00")], test=[("e\x07", "f\x00"), (CLEAN[0][0], "no")])
    assert [(f.severity, f.code, str(f.place)) for f in report.findings] == [
        ("error", "nul", "train.jsonl:12"),
        ("error", "nul", "test.jsonl:1"),
        ("warning", "few-records", "train.jsonl"),
        ("warning", "control-character", "train.jsonl:1"),
        ("warning", "control-character", "test.jsonl:1"),
        ("warning", "leak-prompt", "test.jsonl:2"),
    ]
    assert not report.ok


def test_json() -> None:
    report = check([*CLEAN, ("c", "d\x00")], evaluation=[("What else?", "Nothing.")])
    value = json.loads(json.dumps(report.to_json()))
    assert value["ok"] is False
    assert value["findings"][0].keys() == {"severity", "code", "file", "line", "field", "message", "remedy"}
    assert value["counts"] == {
        "records": {"training": 11, "evaluation": 1},
        "findings": {"error": {"nul": 1}, "warning": {"few-records": 1}, "info": {}},
    }
    assert value["figures"].keys() == {"training", "evaluation", "all"}
    lengths = value["figures"]["training"]["lengths"]
    assert lengths["unit"] == "characters"
    assert lengths["percentiles"].keys() == {"5", "25", "50", "75", "90", "95", "99"}


def test_all_are_counted_and_the_first_thousand_kept() -> None:
    report = check([(f"{n * 7919}", f"{n} ") for n in range(MOST_KEPT + 500)])
    kept = [finding for finding in report.findings if finding.code == "answer-whitespace"]
    assert [finding.place.line for finding in kept] == list(range(1, MOST_KEPT + 1))
    assert report.found["warning", "answer-whitespace"] == MOST_KEPT + 500


def test_texts_are_not_held() -> None:
    def long_records(count: int) -> Iterator[Record]:
        for n in range(count):
            content = " ".join(str(10**6 + n * 7919 + word) for word in range(4000))
            yield Record(
                ({"role": "user", "content": content}, {"role": "assistant", "content": content}), Place("t", n)
            )

    def peak(count: int) -> int:
        tracemalloc.start()
        check_records(long_records(count), None, None, CheckSettings())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # Both take several batches of sketches; the texts of the second are four million characters more.
    assert peak(120) - peak(50) < 1_000_000


def test_progress_is_told() -> None:
    told: list[tuple[float, float, str]] = []
    records = [Record(({"role": "text", "content": f"{n * 7919}"},), Place("t", n + 1)) for n in range(2500)]
    check_records(
        records, None, None, CheckSettings(), None, lambda done, total, status="": told.append((done, total, status))
    )
    assert told == [(1000, 2500, "1,000 training records"), (2000, 2500, "2,000 training records")]

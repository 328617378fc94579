"""Records for the tests of the check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.report import CheckReport
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.records import Record

Lines = Sequence[tuple[str, ...] | Finding]

QUESTIONS = (
    "Where does the river Elbe rise?",
    "Who painted the ceiling of that old chapel in Rome?",
    "How do I boil an egg so that the yolk stays soft?",
    "Name three planets with rings.",
    "Is seven times eight more than fifty?",
    "What do bees do in winter?",
    "Write a short thank-you note to my neighbour.",
    "Why is the sky red at sunset?",
    "Translate 'good night' into Polish.",
    "Which metal is liquid at room temperature?",
)
CLEAN = tuple((question, f"Reply number {number}, and no other.") for number, question in enumerate(QUESTIONS))


def records(lines: Lines, file: str = "train.jsonl") -> list[Record | Finding]:
    """Returns a record for each line: (text,), (user, assistant) or (system, user, assistant)."""
    read: list[Record | Finding] = []
    for number, line in enumerate(lines, start=1):
        if isinstance(line, Finding):
            read.append(line)
            continue
        roles = {1: ("text",), 2: ("user", "assistant"), 3: ("system", "user", "assistant")}[len(line)]
        messages = ({"role": role, "content": content} for role, content in zip(roles, line, strict=True))
        read.append(Record(tuple(messages), Place(file, number)))
    return read


def check(
    train: Lines, evaluation: Lines | None = None, test: Lines | None = None, tokenizer: Any = None, **settings: Any
) -> CheckReport:
    """Checks lines as train.jsonl, evaluation.jsonl and test.jsonl."""
    return check_records(
        records(train),
        None if evaluation is None else records(evaluation, "evaluation.jsonl"),
        None if test is None else records(test, "test.jsonl"),
        CheckSettings(**settings),
        tokenizer,
    )


def found(report: CheckReport) -> list[tuple[str, str, str, str]]:
    """Returns severity, code, place and field of all findings but that the records are few, as they are here."""
    assert all(finding.message and finding.remedy for finding in report.findings)
    return [(f.severity, f.code, str(f.place), f.field) for f in report.findings if f.code != "few-records"]

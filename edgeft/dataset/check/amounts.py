"""Whether there is enough to learn from: how many records, and how many of each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.check.texts import excerpt
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.records import Record
from edgeft.files import printable

_TRIAL = 100
_MOST_LABELS = 50
_LONGEST_LABEL = 80
_LEAST_REPEATED = 5
_WHOLE_ANSWER = ""


class Amounts:
    """The records of the training split, counted.

    Labels are answers that repeat, or the values of a key of JSON answers that repeat, as an intent.
    """

    def __init__(self, settings: CheckSettings) -> None:
        self._settings = settings
        self._records = 0
        self._first: Place | None = None
        self._labels: dict[str, Counter[str]] = {_WHOLE_ANSWER: Counter()}
        self._places: dict[tuple[str, str], Place] = {}

    def add(self, record: Record, parsed: Any = None) -> Iterator[Finding]:
        """Counts a record; `parsed` is its answer as JSON, where it is JSON."""
        self._records += 1
        self._first = self._first or record.place
        self._count(_WHOLE_ANSWER, record.answer, record.place)
        if isinstance(parsed, dict):
            for key, value in parsed.items():
                if isinstance(value, str | bool):
                    if key not in self._labels and len(self._labels) < _MOST_LABELS:
                        self._labels[key] = Counter()
                    if key in self._labels:
                        self._count(key, str(value), record.place)
        return iter(())

    def findings(self) -> Iterator[Finding]:
        """Yields what there is too little of."""
        if self._first is None:
            return
        place = Place(self._first.file)
        few = self._settings.few_records
        if self._records < few:
            what = f"{self._records:,} training record{'' if self._records == 1 else 's'}"
            message, remedy = (
                (f"{what}: enough for a trial only", f"collect {_TRIAL} at the least before judging the model")
                if self._records < _TRIAL
                else (
                    f"{what}: enough for a narrow task",
                    f"expect better from {few:,} and more, if they vary",
                )
            )
            yield Finding("warning", "few-records", place, message, remedy)
        for key, labels in self._balanced():
            yield from self._imbalance(key, labels, place)

    def figures(self) -> dict[str, Any]:
        """Returns how often each label is there, by key; "answer" stands for the whole answer."""
        return {
            printable(key) or "answer": {printable(label): count for label, count in labels.most_common()}
            for key, labels in self._balanced()
        }

    def _count(self, key: str, label: str, place: Place) -> None:
        labels = self._labels[key]
        if label in labels:
            labels[label] += 1
        elif len(labels) <= _MOST_LABELS:  # one too many marks that these are no labels
            labels[label] = 1
            self._places[key, label] = place

    def _balanced(self) -> Iterator[tuple[str, Counter[str]]]:
        for key, labels in self._labels.items():
            counted = labels.total()
            few = len(labels) <= _MOST_LABELS and counted >= _LEAST_REPEATED * len(labels)
            # A key that few records have tells nothing of the whole.
            if few and counted * 2 > self._records and max(map(len, labels)) <= _LONGEST_LABEL:
                yield key, labels

    def _imbalance(self, key: str, labels: Counter[str], place: Place) -> Iterator[Finding]:
        total = labels.total()
        label, count = labels.most_common(1)[0]
        named = f"{key}: " if key else ""
        if len(labels) > 1 and count > self._settings.label_share * total:
            message = f"{named}{count / total:.0%} of the answers are {excerpt(label)}"
            remedy = "a model that always says so would seem good: add records with other answers"
            yield Finding("warning", "label-imbalance", place, message, remedy)
        for label, count in labels.items():
            if count < self._settings.label_examples:
                message = f"{named}only {count} of {total:,} answers {'is' if count == 1 else 'are'} {excerpt(label)}"
                remedy = "add records with this answer, or check that it is no misspelling"
                yield Finding("warning", "rare-label", self._places[key, label], message, remedy)

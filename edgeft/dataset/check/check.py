"""Runs every check over the splits in one pass, and gathers what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any

from edgeft.dataset.check.amounts import Amounts
from edgeft.dataset.check.answers import Answers
from edgeft.dataset.check.duplicates import Duplicates
from edgeft.dataset.check.injection import SpecialTokens
from edgeft.dataset.check.languages import Languages
from edgeft.dataset.check.lengths import Lengths
from edgeft.dataset.check.report import CheckReport, Tally
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.check.text import DamagedText
from edgeft.dataset.check.texts import is_plain_text
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.fitting import no_question
from edgeft.dataset.records import Record
from edgeft.dataset.sources import Account
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.progress import Progress, silent

SPLITS = ("training", "evaluation", "test")
_REPORT_EVERY = 1000


def check_records(
    train: Iterable[Record | Finding],
    evaluation: Iterable[Record | Finding] | None,
    test: Iterable[Record | Finding] | None,
    settings: CheckSettings,
    tokenizer: TokenizerView | None = None,
    progress: Progress = silent,
    accounts: Mapping[str, Account] | None = None,
) -> CheckReport:
    """Reads each split once and returns all that is to be said about them.

    Findings among the records, which a reader yields in place of what it could not read, are part of the report.
    Without a tokenizer lengths are in characters and none is too long. `accounts` of what was read, by the name of the
    split, become part of the figures. Memory grows by about 500 bytes a record, however long it is.
    """
    tally = Tally()
    duplicates = Duplicates(SPLITS, settings.near_threshold)
    read = [
        _Split(name, records, settings, tokenizer)
        for name, records in zip(SPLITS, (train, evaluation, test), strict=True)
        if records is not None
    ]
    for split in read:
        split.read(tally, duplicates, progress)
    tally.add(duplicates.findings())
    for split in read:
        split.conclude(tally, read[0])
    figures = {split.name: split.figures() for split in read}
    for name, account in (accounts or {}).items():
        figures[name]["rows"] = account.to_json()
    figures["all"] = {"prompts": duplicates.figures()}
    return tally.report({split.name: split.count for split in read}, figures)


class _Split:
    """One split and what is known of it."""

    def __init__(
        self, name: str, records: Iterable[Record | Finding], settings: CheckSettings, tokenizer: TokenizerView | None
    ) -> None:
        self.name, self._records, self.count = name, records, 0
        self._answers = Answers()
        self._amounts = Amounts(settings)
        self._languages = Languages(name)
        self._is_test = name == SPLITS[-1]
        self._lengths = Lengths(settings, tokenizer, answered=self._is_test)
        self._alone = (DamagedText(), SpecialTokens(settings.special_tokens), self._lengths, self._languages)
        self._place: Place | None = None
        self._refused = False

    def read(self, tally: Tally, duplicates: Duplicates, progress: Progress) -> None:
        """Reads all records."""
        total = len(self._records) if isinstance(self._records, Sized) else 0
        number = SPLITS.index(self.name)
        for done, record in enumerate(self._records, start=1):
            self._place = self._place or record.place
            tally.see(record.place.file)
            if done % _REPORT_EVERY == 0:
                progress(done, max(total, done), f"{done:,} {self.name} records")
            if isinstance(record, Finding):
                self._refused = self._refused or record.severity == "error"
                tally.add((record,))
                continue
            self.count += 1
            if self._is_test and record.is_text:
                tally.add((no_question(record),))
            for check in self._alone:
                tally.add(check.add(record))
            parsed = None if is_plain_text(record) else self._answers.parse(record)
            self._amounts.add(record, parsed)
            duplicates.add(record, number)

    def conclude(self, tally: Tally, train: _Split) -> None:
        """Says what could be known only at the end."""
        if not self.count and not self._refused:  # else the errors say why
            place = Place(self._place.file if self._place else f"the {self.name} records")
            tally.add(
                (
                    Finding(
                        "error",
                        "no-records",
                        place,
                        f"there is no {self.name} record",
                        "name a source that holds records",
                    ),
                )
            )
        tally.add(self._lengths.findings())
        tally.add(self._answers.findings())
        tally.add(self._languages.findings())
        if self is train:
            tally.add(self._amounts.findings())
        else:
            tally.add(self._languages.lacking(train._languages))

    def figures(self) -> dict[str, Any]:
        """Returns the figures of the split."""
        return {
            "labels": self._amounts.figures(),
            "json_answers": self._answers.figures(),
            "lengths": self._lengths.figures(),
            "prompts": self._languages.figures(),
        }

"""How long the records are, and whether they can be trained: in tokens with a tokenizer, in characters without one."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.check.texts import texts
from edgeft.dataset.findings import Finding, FindingsError, Place
from edgeft.dataset.fitting import Limit, fit, fit_prompt
from edgeft.dataset.mask import Example
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.dataset.tokenizing import tokenize_all

_PERCENTILES = (5, 25, 50, 75, 90, 95, 99)
_TOGETHER = 256


class Lengths:
    """The lengths of the records of one split.

    With a tokenizer the records become what the tokens stage makes of them: what cannot be trained is found, too. Of
    those that are `answered`, the test records, only the prompts have to fit.
    """

    def __init__(self, settings: CheckSettings, tokenizer: TokenizerView | None, *, answered: bool = False) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._answered = answered
        self._waiting: list[Record] = []
        self._lengths = array("q")
        self._longest: Place | None = None
        self._most = -1
        self._over = 0
        self._total = self._trained = 0

    def add(self, record: Record) -> Iterator[Finding]:
        """Takes a record; yields what is to be said of those that are tokenized with it, many at a time."""
        if self._tokenizer is None:
            length = sum(len(text.content) for text in texts(record))
            self._total += length
            self._measure(record, length)
            return
        self._waiting.append(record)
        if len(self._waiting) == _TOGETHER:
            yield from self.findings()

    def findings(self) -> Iterator[Finding]:
        """Yields what is to be said of the records that are not tokenized yet."""
        if self._tokenizer is None or not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for record, examples in zip(waiting, tokenize_all(waiting, self._tokenizer), strict=True):
            if isinstance(examples, FindingsError):
                yield from examples.findings
            else:
                yield from self._tokenized(record, examples, self._tokenizer)

    def figures(self) -> dict[str, Any]:
        """Returns the distribution of the lengths, the longest record and how many are over the limit."""
        if not self._lengths:
            return {}
        lengths = np.frombuffer(self._lengths, dtype=np.int64)
        trained = {} if self._tokenizer is None else {"trained": self._trained}
        return {
            "unit": "characters" if self._tokenizer is None else "tokens",
            "total": self._total,
            **trained,
            "mean": round(float(lengths.mean()), 1),
            "percentiles": {
                str(p): int(v) for p, v in zip(_PERCENTILES, np.percentile(lengths, _PERCENTILES), strict=True)
            },
            "longest": self._most,
            "longest_at": str(self._longest),
            "over_length": self._over,
        }

    def _tokenized(self, record: Record, examples: Sequence[Example], tokenizer: TokenizerView) -> Iterator[Finding]:
        length = max(len(example.ids) for example in examples)
        self._measure(record, length)
        self._total += sum(len(example.ids) for example in examples)
        self._trained += sum(sum(example.trained) for example in examples)
        yield from examples[0].apart
        if length > self._settings.max_tokens:
            found = (
                self._prompt_too_long(record, tokenizer)
                if self._answered
                else [self._too_long(record, examples, length, tokenizer)]
            )
            self._over += len(found)
            yield from found

    def _measure(self, record: Record, length: int) -> None:
        self._lengths.append(length)
        if length > self._most:
            self._most, self._longest = length, record.place

    def _prompt_too_long(self, record: Record, tokenizer: TokenizerView) -> list[Finding]:
        if record.is_text:  # an error whatever its length
            return []
        try:
            return fit_prompt(record, tokenizer, Limit(self._settings.max_tokens, self._settings.over_length))[1]
        except FindingsError as error:
            return error.findings

    def _too_long(self, record: Record, examples: Sequence[Example], length: int, tokenizer: TokenizerView) -> Finding:
        most, fate = self._settings.max_tokens, self._settings.over_length
        try:
            fit(record, examples, tokenizer, Limit(most, fate))
        except FindingsError as error:
            return error.findings[0]
        done = "dropped" if fate == "drop" else "cut into pieces" if record.is_text else "shortened from its start"
        message = f"{length:,} tokens, and the most is {most:,}: the record is {done}"
        remedy = "raise dataset.max_tokens, or shorten the record"
        return Finding("warning", "over-length", record.place, message, remedy)

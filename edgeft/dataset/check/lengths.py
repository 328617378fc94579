"""How long the records are: in tokens where a tokenizer is given, else in characters."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.check.texts import is_plain_text, texts
from edgeft.dataset.findings import Finding, Place, Severity
from edgeft.dataset.records import Record
from edgeft.errors import EdgeftError

_PERCENTILES = (5, 25, 50, 75, 90, 95, 99)


class Tokenizer(Protocol):
    """What counting tokens needs of a `TokenizerView`."""

    @property
    def render(self) -> Callable[..., str]:
        """The chat template: messages, whether to add the generation prompt, tools -> text."""

    @property
    def encode(self) -> Callable[[str], list[int]]:
        """The tokenizer on a rendered text."""


class Lengths:
    """The lengths of the records of one split."""

    def __init__(self, settings: CheckSettings, tokenizer: Tokenizer | None) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._lengths = array("q")
        self._longest: Place | None = None
        self._most = -1
        self._over = 0

    def add(self, record: Record) -> Iterator[Finding]:
        """Measures a record; yields a finding where it is too long."""
        if self._tokenizer is None:
            length = sum(len(text.content) for text in texts(record))
        else:
            try:
                length = self._count(self._tokenizer, record)
            except EdgeftError as error:
                problem = error.problems[0]
                remedy = problem.remedy or "give the conversation the shape that the model was made for"
                yield Finding("error", "template-refuses", record.place, problem.what, remedy)
                return
        self._lengths.append(length)
        if length > self._most:
            self._most, self._longest = length, record.place
        if self._tokenizer is not None and length > self._settings.max_tokens:
            self._over += 1
            yield self._too_long(record, length)

    def findings(self) -> Iterator[Finding]:
        """Yields nothing: all is said with the record."""
        return iter(())

    def figures(self) -> dict[str, Any]:
        """Returns the distribution of the lengths, the longest record and how many are over the limit."""
        if not self._lengths:
            return {}
        lengths = np.frombuffer(self._lengths, dtype=np.int64)
        return {
            "unit": "characters" if self._tokenizer is None else "tokens",
            "total": int(lengths.sum()),
            "mean": round(float(lengths.mean()), 1),
            "percentiles": {
                str(p): int(v) for p, v in zip(_PERCENTILES, np.percentile(lengths, _PERCENTILES), strict=True)
            },
            "longest": self._most,
            "longest_at": str(self._longest),
            "over_length": self._over,
        }

    @staticmethod
    def _count(tokenizer: Tokenizer, record: Record) -> int:
        if is_plain_text(record):
            return len(tokenizer.encode(record.answer))
        return len(tokenizer.encode(tokenizer.render(list(record.messages), False, record.tools)))

    def _too_long(self, record: Record, length: int) -> Finding:
        most, fate = self._settings.max_tokens, self._settings.over_length
        severity: Severity = "error" if fate == "error" else "warning"
        message = f"{length:,} tokens, and the most is {most:,}"
        if fate == "error":
            remedy = 'raise dataset.max_tokens, shorten the record, or set dataset.over_length = "drop"'
        else:
            message += ": the record is dropped" if fate == "drop" else ": its prompt is shortened"
            remedy = "raise dataset.max_tokens, or shorten the record"
        return Finding(severity, "over-length", record.place, message, remedy)

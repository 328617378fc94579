"""What became of every record: in = trained + held out + dropped, by source and by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.dataset.findings import Finding
from edgeft.dataset.split import Sides
from edgeft.dataset.tokenizing import Rows
from edgeft.errors import EdgeftError, Problem


class FindingLog:
    """Counts findings, and keeps the first of them: a file of a million faulty lines is told, not listed."""

    _MOST_KEPT = 100

    def __init__(self) -> None:
        self._errors: list[Finding] = []
        self._n_errors = 0
        self._noticed: Counter[str] = Counter()
        self._notices: list[Finding] = []

    def add(self, findings: Iterable[Finding]) -> None:
        """Takes findings in their order."""
        for finding in findings:
            if finding.severity != "error":
                self._noticed[finding.code] += 1
                if self._noticed[finding.code] <= self._MOST_KEPT:
                    self._notices.append(finding)
                continue
            self._n_errors += 1
            if len(self._errors) < self._MOST_KEPT:
                self._errors.append(finding)

    @property
    def noticed(self) -> dict[str, int]:
        """Warnings and infos: how often each code was found."""
        return dict(sorted(self._noticed.items()))

    @property
    def notices(self) -> list[Finding]:
        """Warnings and infos in their order: the first of each code."""
        return list(self._notices)

    def raise_errors(self) -> None:
        """Raises EdgeftError with the first errors and the number of the rest; does nothing when there is none."""
        problems = [finding.problem() for finding in self._errors]
        if more := self._n_errors - len(problems):
            problems.append(Problem(f"and {more:,} more errors"))
        if problems:
            raise EdgeftError(problems)


@dataclass(frozen=True)
class Outcome:
    """What was decided on the records of `rows`: their side, and how often the training ones are taken in an epoch.

    `names` and `weights` are those of the sources that the rows number; `passes` (records,) is 0 for what is not
    trained; `n_test` counts the test records, and `tested` holds the prompt hashes of those from a file of their own.
    """

    rows: Rows
    names: Sequence[str]
    weights: Sequence[float]
    sides: Sides
    passes: npt.NDArray[np.int64]
    n_test: int
    tested: npt.NDArray[np.uint64]

    def to_json(self) -> dict[str, Any]:
        """Returns the account: of all records, and the same for each source."""
        rows, evaluation = self.rows, self.sides.evaluation
        used = (self.passes > 0) | evaluation
        own_evaluation = rows["prompt"][evaluation & (rows["source"] >= len(self.weights))]
        return {
            **self._counts(np.ones(len(rows), dtype=np.bool_)),
            "records_test": self.n_test,
            "evaluation_by_group": self.sides.by_group,
            "evaluation_by_need": self.sides.by_need,
            "records_repeated": len(rows) - len(np.unique(rows["content"])),
            "trained_prompts_in": {
                "evaluation": self._trained_among(own_evaluation),
                "test": self._trained_among(self.tested),
            },
            "longest_tokens": int(rows["longest"][used].max(initial=0)),
            "sources": [
                {"name": name, "weight": self._weight(number), **self._counts(rows["source"] == number)}
                for number, name in enumerate(self.names)
            ],
        }

    def _weight(self, number: int) -> float:
        return self.weights[number] if number < len(self.weights) else 1.0

    def _counts(self, of: npt.NDArray[np.bool_]) -> dict[str, Any]:
        rows, evaluation, trained = self.rows, self.sides.evaluation, self.passes > 0
        used = of & (trained | evaluation)
        return {
            "records_in": _count(of),
            "records_train": _count(of & trained),
            "records_evaluation": _count(of & evaluation),
            "records_dropped": {
                "over_length": _count(of & (rows["examples"] == 0)),
                "weight": _count(of & ~trained & ~evaluation & (rows["examples"] > 0)),
            },
            "records_shortened": _count(used & (rows["removed"] > 0)),
            "records_with_turns_apart": _count(used & ~rows["text"] & (rows["examples"] > 1)),
            "texts_in_pieces": _count(used & rows["text"] & (rows["examples"] > 1)),
            "examples_train": int((self.passes * rows["examples"])[of].sum()),
            "examples_evaluation": int(rows["examples"][of & evaluation].sum()),
            "tokens_in": int(rows["tokens_in"][of].sum()),
            "tokens_used": int(rows["tokens"][used].sum()),
            "tokens_trained": int(rows["trained"][used].sum()),
        }

    def _trained_among(self, prompts: npt.NDArray[np.uint64]) -> int:
        return _count(np.isin(self.rows["prompt"][self.passes > 0], prompts))


def _count(flags: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(flags))

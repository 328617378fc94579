"""Greedy answers: where the file leaves the reference, whether it was a near-tie, whether it stops, and the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Final

import numpy as np

from edgeft.llamacpp import Engine
from edgeft.parity.ladder import Failure, Rung, listed, rung
from edgeft.parity.reference import ReferenceContent, ReferenceRecord
from edgeft.progress import Progress

_ANSWERS, _ENDING, _TASK = "answers", "ending", "task"
NEAR_TIE_NATS: Final = 0.5
"""A reference that preferred its token by less might as well have said the other one."""
_MOST_FINISHED = 16
"""Answers that left the reference are finished by the file itself, token by token: so many at most."""
_UNLIKELY = 0.025
_LEAST_ENDED = 0.95
"""One answer in twenty may take another way after a near-tie and run on; more is a model that does not stop."""


@dataclass(frozen=True)
class Answer:
    """A file's greedy answer: `leaves_at` is the first token that is not the reference's, None where all are.

    `margin` is by how many nats the reference preferred its own token there. `ids` is the whole answer, None where the
    file was not asked to finish it.
    """

    record: int
    leaves_at: int | None
    margin: float | None
    ids: list[int] | None

    @property
    def near_tie(self) -> bool:
        """Whether the reference was of two minds where the file left it."""
        return self.margin is not None and self.margin < NEAR_TIE_NATS


def answers_of(engine: Engine, content: ReferenceContent, progress: Progress) -> list[Answer]:
    """Returns the file's greedy answer to every prompt.

    The reference's answer is read in one pass: as long as the likeliest token is the reference's, it is what the file
    would say. Only after it left does the file go on by itself.
    """
    found: list[Answer] = []
    finished = 0
    for number, record in enumerate(content.records):
        progress(number, len(content.records), "greedy answers")
        leaves_at = _leaves_at(engine, record)
        ids: list[int] | None = record.greedy_ids
        margin = None
        if leaves_at is not None:
            margin = record.greedy_margins[leaves_at]
            ids = None
            if finished < _MOST_FINISHED:
                finished += 1
                ids = _finish(engine, record, leaves_at, content.max_new_tokens)
        found.append(Answer(number, leaves_at, margin, ids))
    return found


def _leaves_at(engine: Engine, record: ReferenceRecord) -> int | None:
    given = [*record.prompt_ids, *record.greedy_ids[:-1]]
    first = len(record.prompt_ids) - 1
    for start, rows in engine.logit_chunks(given, first):
        part = record.greedy_ids[start - first : start - first + len(rows)]
        other = np.flatnonzero(rows.argmax(axis=-1) != np.array(part))
        if len(other):
            return start - first + int(other[0])
    return None


def _finish(engine: Engine, record: ReferenceRecord, leaves_at: int, most: int) -> list[int]:
    said = record.greedy_ids[:leaves_at]
    rest = engine.generate([*record.prompt_ids, *said], most - len(said)) if len(said) < most else iter(())
    return [*said, *rest]


def check_answers(answers: Sequence[Answer], records: Sequence[ReferenceRecord]) -> Rung:
    """Tells how the answers differ. It fails nothing: one token of another choice is no fault, and the task decides."""
    left = [answer for answer in answers if answer.leaves_at is not None]
    figures: dict[str, Any] = {
        "records": len(answers),
        "same": len(answers) - len(left),
        "near_ties": sum(answer.near_tie for answer in left),
        "left": [
            {"record": answer.record, "token": answer.leaves_at, "of": len(records[answer.record].greedy_ids)}
            | {"margin_nats": answer.margin}
            for answer in left
        ],
    }
    return Rung(_ANSWERS, "pass", figures)


def check_ending(answers: Sequence[Answer], engine: Engine, content: ReferenceContent) -> Rung:
    """Answers that ended in the reference must end in the file, at a token that stops llama.cpp."""
    records = content.records
    due = [a for a in answers if a.ids is not None and _ends(records[a.record].greedy_ids, content.end_ids)]
    running = [answer for answer in due if not answer.ids or not engine.ends(answer.ids[-1])]
    failures = []
    if _chance(len(due) - len(running), len(due)) < _UNLIKELY:
        what = f"{len(running)} of {len(due)} answers that ended in the reference run on in the file"
        where = listed([f"record {answer.record}" for answer in running])
        failures.append(Failure(_ENDING, what, where, "see the rungs above; choose a larger type"))
    return rung(_ENDING, failures, {"expected_end": len(due), "ended": len(due) - len(running)})


def _chance(ended: int, due: int) -> float:
    """Returns how likely it is that no more answers end when each does with the probability `_LEAST_ENDED`."""
    return sum(comb(due, k) * _LEAST_ENDED**k * (1 - _LEAST_ENDED) ** (due - k) for k in range(ended + 1))


def check_task(answers: Sequence[Answer], content: ReferenceContent, most_lost: float) -> Rung:
    """Compares how many answers are exactly the record's own; fails when clearly more than `most_lost` are lost.

    Each record counts twice, right or wrong in the reference and in the file; the standard error is that of the
    difference of paired shares (McNemar's).
    """
    known = [answer for answer in answers if answer.ids is not None]
    theirs = [content.records[a.record].greedy_ids == content.records[a.record].answer_ids for a in known]
    ours = [a.ids == content.records[a.record].answer_ids for a in known]
    figures = {"records": len(known), "reference_exact": _share(theirs), "exact": _share(ours)}
    lost = np.array(theirs, dtype=float) - np.array(ours, dtype=float)
    if not len(lost) or not any(theirs):
        return Rung(_TASK, "skipped", figures)
    error = float(lost.std()) / len(lost) ** 0.5
    figures["lost"] = float(lost.mean())
    if lost.mean() - 2 * error <= most_lost:
        return Rung(_TASK, "pass", figures)
    what = f"{_share(ours):.1%} of answers are exactly right, {_share(theirs):.1%} in the reference"
    where = f"{int(lost.sum())} of {len(lost)} records lost"
    return rung(_TASK, [Failure(_TASK, what, where, "choose a larger type")], figures)


def _ends(ids: Sequence[int], end_ids: Sequence[int]) -> bool:
    return bool(ids) and ids[-1] in end_ids


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else 0.0

"""Greedy answers: where the file leaves the reference, whether it was a near-tie, whether it stops, and the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, log1p
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
"""Answers that left one that ended are finished by the file itself, token by token: so many at most."""
_UNLIKELY = 0.025
_LEAST_ENDED = 0.95
"""One answer in twenty may take another way after a near-tie and run on; more is a model that does not stop."""


@dataclass(frozen=True)
class Answer:
    """A file's greedy answer: `leaves_at` is the first token that is not the reference's, None where all are.

    `margin` is by how many nats the reference preferred its own token there. `ids` is the whole answer, None where the
    file was not asked to finish it, or its context ended first. `exact` is whether the answer is the record's own,
    token by token; None where the context ended before that was seen.
    """

    record: int
    leaves_at: int | None
    margin: float | None
    ids: list[int] | None
    exact: bool | None

    @property
    def near_tie(self) -> bool:
        """Whether the reference was of two minds where the file left it."""
        return self.margin is not None and self.margin < NEAR_TIE_NATS


def answers_of(engine: Engine, content: ReferenceContent, progress: Progress) -> list[Answer]:
    """Returns the file's greedy answer to every prompt that leaves room for one in its context.

    The reference's answer is read in one pass: as long as the likeliest token is the reference's, it is what the file
    would say. Only after it left does the file go on by itself, where the reference's answer ended and its may not.
    """
    found: list[Answer] = []
    finished = 0
    for number, record in enumerate(content.records):
        progress(number, len(content.records), "greedy answers")
        room = min(content.max_new_tokens, engine.n_ctx - len(record.prompt_ids))
        if room < 1:
            continue
        leaves_at = _leaves_at(engine, record, record.greedy_ids[:room])
        ids, margin = None, None
        if leaves_at is not None:
            margin = record.greedy_margins[leaves_at]
            if finished < _MOST_FINISHED and _ends(record.greedy_ids, content.end_ids):
                finished += 1
                ids = _finish(engine, record, leaves_at, room)
                if room < content.max_new_tokens and len(ids) == room and not engine.ends(ids[-1]):
                    ids = None  # it was cut by the context: nobody knows whether it would have ended
        elif len(record.greedy_ids) <= room:
            ids = record.greedy_ids
        found.append(Answer(number, leaves_at, margin, ids, _is_exact(engine, content, record, leaves_at, room)))
    return found


def _leaves_at(engine: Engine, record: ReferenceRecord, answer: Sequence[int]) -> int | None:
    """Returns the first token of an answer that the file would not say after those before it."""
    given = [*record.prompt_ids, *answer[:-1]]
    first = len(record.prompt_ids) - 1
    for start, rows in engine.logit_chunks(given, first):
        part = answer[start - first : start - first + len(rows)]
        other = np.flatnonzero(rows.argmax(axis=-1) != np.array(part))
        if len(other):
            return start - first + int(other[0])
    return None


def _finish(engine: Engine, record: ReferenceRecord, leaves_at: int, most: int) -> list[int]:
    said = record.greedy_ids[:leaves_at]
    rest = engine.generate([*record.prompt_ids, *said], most - len(said)) if len(said) < most else iter(())
    return [*said, *rest]


def _is_exact(
    engine: Engine, content: ReferenceContent, record: ReferenceRecord, leaves_at: int | None, room: int
) -> bool | None:
    """Returns whether the file says the record's own answer; None where its context ends before that is seen.

    Most often the reference's answer tells. Where the file left it, and up to there it was the record's own, the file
    may have been right to: the record's answer is read as the reference's was, in one pass.
    """
    wanted, greedy = record.answer_ids, record.greedy_ids
    if len(wanted) > content.max_new_tokens or not _can_be_said(wanted, content.end_ids):
        return False
    shared = min(room if leaves_at is None else leaves_at, len(greedy))
    if greedy[:shared] != wanted[:shared]:
        return False
    if leaves_at is None:
        return True if len(greedy) <= room else None
    if greedy[leaves_at] == wanted[leaves_at]:
        return False
    return _leaves_at(engine, record, wanted) is None if len(wanted) <= room else None


def _can_be_said(answer: Sequence[int], end_ids: Sequence[int]) -> bool:
    """Returns whether a model that stops at the first end token can say all of an answer, and ends with it."""
    return _ends(answer, end_ids) and not any(token in end_ids for token in answer[:-1])


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
    if _at_least(len(running), len(due), 1 - _LEAST_ENDED) < _UNLIKELY:
        what = f"{len(running)} of {len(due)} answers that ended in the reference run on in the file"
        where = listed([f"record {answer.record}" for answer in running])
        failures.append(Failure(_ENDING, what, where, "see the rungs above; choose a larger type"))
    return rung(_ENDING, failures, {"expected_end": len(due), "ended": len(due) - len(running)})


def check_task(answers: Sequence[Answer], content: ReferenceContent, most_lost: float) -> Rung:
    """Compares how many answers are exactly the record's own; fails when clearly more than `most_lost` are lost.

    Of the reference's right answers some are lost and other answers gained. Two exact tests, one-sided, have to say
    that this is no chance: that as many are lost as gained (McNemar's), and that those lost beyond the ones gained are
    no more than `most_lost` of the reference's right ones. Whatever the records, fewer than six lost cannot fail.
    """
    known = [answer for answer in answers if answer.exact is not None]
    theirs = [_is_right(content.records[answer.record], content.end_ids) for answer in known]
    ours = [bool(answer.exact) for answer in known]
    figures = {"records": len(known), "reference_exact": _share(theirs), "exact": _share(ours)}
    if not any(theirs):
        return Rung(_TASK, "skipped", figures)
    lost = sum(right and not kept for right, kept in zip(theirs, ours, strict=True))
    gained = sum(kept and not right for right, kept in zip(theirs, ours, strict=True))
    figures |= {"lost": (lost - gained) / len(known), "lost_answers": lost, "gained_answers": gained}
    by_chance = max(_at_least(lost, lost + gained, 0.5), _at_least(lost - gained, sum(theirs), most_lost))
    if by_chance >= _UNLIKELY:
        return Rung(_TASK, "pass", figures)
    what = f"{_share(ours):.1%} of {len(known)} answers are exactly right, {_share(theirs):.1%} in the reference"
    where = f"{lost} of {sum(theirs)} right answers lost, {gained} gained"
    return rung(_TASK, [Failure(_TASK, what, where, "choose a larger type")], figures)


def _at_least(count: int, of: int, share: float) -> float:
    """Returns how likely it is that at least `count` of so many happen when each does with the probability `share`."""
    if count <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    # In logarithms: the numbers of combinations of a thousand records are beyond every float.
    ways = (lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1) for k in range(count, of + 1))
    each = (k * log(share) + (of - k) * log1p(-share) for k in range(count, of + 1))
    return min(1.0, sum(exp(way + one) for way, one in zip(ways, each, strict=True)))


def _is_right(record: ReferenceRecord, end_ids: Sequence[int]) -> bool:
    """Returns whether the reference's answer is exactly the record's own."""
    return record.greedy_ids == record.answer_ids and _can_be_said(record.answer_ids, end_ids)


def _ends(ids: Sequence[int], end_ids: Sequence[int]) -> bool:
    return bool(ids) and ids[-1] in end_ids


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else 0.0

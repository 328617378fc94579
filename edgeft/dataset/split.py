"""Which records are held out for evaluation: decided by what they say, so that more records do not mix the two sides.

The guarantee, for a fixed share:

1. A record's side depends on its own prompt and on the prompts of its near-duplicates, never on its place, its file or
   its answer. Records with the same prompt are on one side, and so are near-duplicates.
2. Adding records never moves one from evaluation to training. It moves one from training to evaluation only when a
   record arrives that joins its group to one that is held out. This needs a grouping in which groups grow and merge but
   never fall apart, as the connected parts of "these two are near-duplicates" do.
3. A larger share only adds to the evaluation.

It has a price. A group is held out when any of its distinct prompts is, so k of them are with 1 - (1 - share)^k rather
than with `share`. No rule with (2) does better: x in training and y in evaluation end on one side when a record arrives
that is near to both, and then it is x that must move. `Sides.by_group` counts what this adds.

Where answers are labels, a label whose records all hash into training gets one group held out all the same, that with
the smallest hash; and so do records none of which hashes into evaluation. For these alone, which are few, (2) does not
hold: a smaller hash takes the place of the one before. `Sides.by_need` counts them.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeft.dataset.records import Record

Keys = npt.NDArray[np.uint64]
"""The first 64 bits of a SHA-256, one a record."""

_KEY_SPACE = 2**64
# Answers are labels when each is given this often on average.
_LABEL_REPEATS = 10


def hash_key(text: str) -> int:
    """Returns the first 64 bits of a text's SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def prompt_key(record: Record) -> int:
    """Returns a hash of what the record's last answer is given; of the whole record where it is plain text.

    Case, white space and the Unicode form make no difference.
    """
    messages = record.prompt or list(record.messages)
    turns = [f"{message['role']}\n{message.get('content') or ''}\n{message.get('tool_calls')}" for message in messages]
    return hash_key("\n".join(" ".join(unicodedata.normalize("NFKC", turn).casefold().split()) for turn in turns))


def is_evaluation(record: Record, fraction: float) -> bool:
    """Returns whether a record is held out by its own prompt."""
    return prompt_key(record) < _threshold(fraction)


def _threshold(fraction: float) -> int:
    return min(int(fraction * _KEY_SPACE), _KEY_SPACE - 1)


@dataclass(frozen=True)
class Sides:
    """`evaluation` (records,) bool; of those, how many for a near-duplicate, and for want of others."""

    evaluation: npt.NDArray[np.bool_]
    by_group: int = 0
    by_need: int = 0


def split(
    prompts: Keys, fraction: float, *, groups: npt.NDArray[np.int64] | None = None, answers: Keys | None = None
) -> Sides:
    """Decides the side of every record.

    `prompts` are their `prompt_key`s, `groups` (records,) the numbers of their groups of near-duplicates, `answers`
    hashes of their answers, by which labels are recognised and represented. The module says what is guaranteed.
    """
    own = prompts < np.uint64(_threshold(fraction))
    parts = _join(prompts, groups)
    held = _any_by_part(parts, own)
    by_group = int(np.count_nonzero(held & ~own))
    labels = answers if answers is not None and are_labels(answers) else np.zeros_like(prompts)
    represented = _represent(held, parts, prompts, labels)
    return Sides(represented, by_group, int(np.count_nonzero(represented & ~held)))


def are_labels(answers: Keys) -> bool:
    """Returns whether answers are labels: few, each given again and again."""
    return 1 < len(np.unique(answers)) <= len(answers) / _LABEL_REPEATS


def _join(prompts: Keys, groups: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    """Returns the number of each record's part: equal prompts are in one, and so are the records of a group."""
    by_prompt = np.unique(prompts, return_inverse=True)[1].astype(np.int64)
    if groups is None:
        return by_prompt
    parts = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    while True:  # each round joins the groups that share a prompt; two are enough where groups hold equal prompts
        least = np.full(by_prompt.max(initial=-1) + 1, len(parts), dtype=np.int64)
        np.minimum.at(least, by_prompt, parts)
        joined = least[by_prompt]
        of_part = np.arange(parts.max(initial=-1) + 1)
        np.minimum.at(of_part, parts, joined)
        joined = of_part[parts]
        if np.array_equal(joined, parts):
            return parts
        parts = joined


def _any_by_part(parts: npt.NDArray[np.int64], flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    held = np.zeros(parts.max(initial=-1) + 1, dtype=np.bool_)
    held[parts[flags]] = True
    return held[parts]


def _represent(
    held: npt.NDArray[np.bool_], parts: npt.NDArray[np.int64], prompts: Keys, labels: Keys
) -> npt.NDArray[np.bool_]:
    """Holds out one more part for each label that has none, unless it is the label's only one."""
    chosen = np.zeros(len(held), dtype=np.bool_)
    order = np.lexsort((prompts, labels))
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if not held[members].any() and len(np.unique(parts[members])) > 1:
            chosen[members[0]] = True
    return held | _any_by_part(parts, chosen)

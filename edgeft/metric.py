"""The task metric: exact match, and for answers that are JSON objects, field-level F1 and accuracy by field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """Metrics over one set of answers.

    `exact_match`: share of answers equal to the expected one (as JSON values where both are JSON, else as stripped
    text). `field_f1`: micro-averaged F1 over the leaves of the objects, None unless every expected answer is an object.
    `field_accuracy`: for each top-level key that always holds a plain value, the share of answers with that value.
    """

    records: int
    exact_match: float
    field_f1: float | None
    field_accuracy: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the metrics as a JSON object."""
        return asdict(self)


def score(expected: Sequence[str], answers: Sequence[str]) -> Score:
    """Compares each answer with the expected one."""
    pairs = list(zip(expected, answers, strict=True))
    objects = [(_as_object(wanted), _as_object(given)) for wanted, given in pairs]
    wanted_objects = [wanted for wanted, _ in objects if wanted is not None]
    all_objects = len(wanted_objects) == len(pairs)
    return Score(
        records=len(pairs),
        exact_match=sum(is_exact(wanted, given) for wanted, given in pairs) / len(pairs),
        field_f1=_field_f1([(wanted or {}, given) for wanted, given in objects]) if all_objects else None,
        field_accuracy=_field_accuracy([(wanted or {}, given) for wanted, given in objects]) if all_objects else {},
    )


def is_exact(expected: str, answer: str) -> bool:
    """Returns whether an answer equals the expected one: as JSON values where both are JSON, else as stripped text."""
    try:
        return _same(json.loads(expected), json.loads(answer))
    except (ValueError, RecursionError):
        return expected.strip() == answer.strip()


def _as_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _same(wanted: Any, given: Any) -> bool:
    """Equality of JSON values, where 1 is 1.0 and, unlike in Python, not true."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        return wanted.keys() == given.keys() and all(_same(wanted[key], given[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(given, list):
        return len(wanted) == len(given) and all(map(_same, wanted, given))
    return _typed(wanted) == _typed(given)


def _typed(value: Any) -> tuple[str, Any]:
    """Returns what makes a leaf hashable and equal as JSON has it: a truth value is no number, a list no object."""
    if isinstance(value, (dict, list)):
        return type(value).__name__, None
    return "truth" if isinstance(value, bool) else "plain", value


def _field_f1(pairs: Sequence[tuple[dict[str, Any], dict[str, Any] | None]]) -> float:
    """An answer that is no object has no leaves: it costs recall and not precision."""
    common = wanted_count = given_count = 0
    for wanted, given in pairs:
        wanted_leaves = Counter(_leaves(wanted))
        given_leaves = Counter(_leaves(given) if given is not None else ())
        common += (wanted_leaves & given_leaves).total()
        wanted_count += wanted_leaves.total()
        given_count += given_leaves.total()
    return 2 * common / (wanted_count + given_count)


def _leaves(value: Any) -> Iterator[tuple[tuple[str | None, ...], tuple[str, Any]]]:
    """Yields each leaf with its path, where None stands for any place in a list; an empty object or list is a leaf."""
    # No recursion: a model that does not stop may nest deeper than Python's stack.
    pending: list[tuple[tuple[str | None, ...], Any]] = [((), value)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, dict) and node:
            pending += [((*path, key), child) for key, child in node.items()]
        elif isinstance(node, list) and node:
            pending += [((*path, None), child) for child in node]
        else:
            yield path, _typed(node)


def _field_accuracy(pairs: Sequence[tuple[dict[str, Any], dict[str, Any] | None]]) -> dict[str, float]:
    keys = [key for key in pairs[0][0] if all(_is_plain(wanted.get(key)) for wanted, _ in pairs)]
    return {
        key: sum(_same(wanted[key], (given or {}).get(key)) for wanted, given in pairs) / len(pairs) for key in keys
    }


def _is_plain(value: Any) -> bool:
    return value is not None and not isinstance(value, (dict, list))

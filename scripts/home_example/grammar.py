"""A very small phrase grammar, in which both the phrasings and the slot values are written.

`(a|b)` is a choice, `[a]` is optional, `<name>` stands for a shared part, `{key}` is a slot and `{key:kind}` a slot
whose value is of another kind than its key says. Everything else is text.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

_MARKS = re.compile(r"([()\[\]|])")
_PART = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Choice:
    """One of several sequences; a sequence holds texts and further choices."""

    branches: tuple[tuple[str | Choice, ...], ...]


def with_parts(phrase: str, parts: Mapping[str, str]) -> str:
    """Replace every `<name>` by `parts[name]`; parts may use other parts.

    Raises:
        KeyError: a name that `parts` does not hold.
    """
    while _PART.search(phrase):
        phrase = _PART.sub(lambda match: parts[match.group(1)], phrase)
    return phrase


@cache
def parse(phrase: str) -> Choice:
    """The tree of a phrase.

    Raises:
        ValueError: brackets that do not match.
    """
    marks = [mark for mark in _MARKS.split(phrase) if mark]
    tree, end = _branches(marks, 0, closer="")
    if end != len(marks):
        raise ValueError(f"unexpected {marks[end]!r} in the phrase {phrase!r}")
    return tree


def _branches(marks: list[str], at: int, closer: str) -> tuple[Choice, int]:
    branches: list[tuple[str | Choice, ...]] = []
    sequence: list[str | Choice] = []
    while at < len(marks) and marks[at] not in (")", "]"):
        mark = marks[at]
        if mark == "|":
            branches.append(tuple(sequence))
            sequence = []
        elif mark in "([":
            inner, at = _branches(marks, at + 1, closer=")" if mark == "(" else "]")
            sequence.append(inner if mark == "(" else Choice((*inner.branches, ())))
        else:
            sequence.append(mark)
        at += 1
    if closer and (at >= len(marks) or marks[at] != closer):
        raise ValueError(f"{closer!r} is missing in the phrase {''.join(marks)!r}")
    return Choice((*branches, tuple(sequence))), at


def expand(phrase: str, rng: random.Random) -> str:
    """One random reading of the phrase, with single spaces."""

    def walk(tree: Choice) -> str:
        return "".join(part if isinstance(part, str) else walk(part) for part in rng.choice(tree.branches))

    return " ".join(walk(parse(phrase)).split())


def readings(phrase: str) -> Iterator[str]:
    """Every reading of the phrase, with single spaces."""

    def walk(tree: Choice) -> Iterator[str]:
        for branch in tree.branches:
            yield from map("".join, itertools.product(*([p] if isinstance(p, str) else list(walk(p)) for p in branch)))

    for text in walk(parse(phrase)):
        yield " ".join(text.split())

"""Slot values: the closed kinds, which both splits share, and how a value of any kind is drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from home_example.grammar import expand, with_parts

_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _numbers(first: int, last: int, step: int = 1) -> str:
    return "(" + "|".join(str(number) for number in range(first, last + 1, step)) + ")"


_DAYS = "(monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_CLOCK_MINUTES = "(" + "|".join(f"{minute:02}" for minute in range(0, 60, 5)) + ")"

# A key's own kind carries the key's name. These values are words that training may well have shown: numbers and times.
CLOSED_VALUES: dict[str, tuple[str, ...]] = {
    "level": (
        f"{_numbers(1, 99)} percent",
        f"({'|'.join(_TENS)}) [five] percent",
        "(half|full|minimum|maximum)",
    ),
    "volume": (
        _numbers(1, 20),
        f"{_numbers(5, 100, 5)} percent",
        f"({'|'.join(_HOURS)})",
        "(half|maximum|minimum)",
    ),
    "temperature": (
        f"{_numbers(15, 28)} degrees",
        f"{_numbers(58, 79)} degrees",
        f"{_numbers(15, 27)}.5 degrees",
        _numbers(15, 28),
        "(eighteen|nineteen|twenty|twenty one|twenty two|twenty three) degrees",
    ),
    "duration": (
        f"{_numbers(2, 90)} minutes",
        f"{_numbers(10, 90, 5)} seconds",
        f"({'|'.join(_HOURS[1:])}) minutes",
        f"{_numbers(2, 4)} hours [and {_numbers(5, 55, 5)} minutes]",
        "(an hour|half an hour|a quarter of an hour|an hour and a half|one hour)",
    ),
    "span": (f"{_numbers(2, 90)} minute", f"({'|'.join(_HOURS[1:])}) (minute|hour)", f"{_numbers(15, 90, 15)} second"),
    "clock": (
        f"{_numbers(1, 12)}:{_CLOCK_MINUTES} [am|pm]",
        f"{_numbers(1, 12)} (am|pm)",
        f"(half past|quarter past|quarter to) ({'|'.join(_HOURS)})",
        f"({'|'.join(_HOURS)}) (thirty|fifteen|forty five|o'clock)",
        "(noon|midnight)",
    ),
    "day": (_DAYS, f"{_DAYS} (morning|evening|afternoon|night)"),
    "nearday": ("(tomorrow|tomorrow morning|today|tonight)",),
    "relative": (
        "(tomorrow|tomorrow morning|tomorrow evening|tonight|this afternoon|this evening|next week)",
        f"next {_DAYS}",
    ),
}

# What is said, and what it stands for: the only values that are not copied from the utterance.
NAMED_VALUES: dict[str, dict[str, str]] = {
    "state": {"on": "on", "off": "off"},
    "on": {"on": "on"},
    "off": {"off": "off"},
    "out": {"out": "off"},
    "action": {"open": "open", "raise": "open", "close": "close", "shut": "close", "lower": "close"},
    "open": {"open": "open", "raise": "open"},
    "shut": {"close": "close", "shut": "close", "lower": "close"},
    "drawn": {"open": "open", "raised": "open", "closed": "close", "shut": "close", "lowered": "close"},
    "particle": {"up": "open", "down": "close"},
    "lock": {"lock": "lock", "unlock": "unlock"},
    "locked": {"locked": "lock", "unlocked": "unlock"},
    "onlylock": {"lock": "lock"},
    "onlylocked": {"locked": "lock"},
    "onlyunlock": {"unlock": "unlock"},
}
CORRECTABLE = frozenset({"level", "volume", "temperature", "duration", "clock", "room", "door"})


@dataclass(frozen=True)
class Value:
    """A slot value: as it is said, and as it is answered (None: the same, copied)."""

    said: str
    answer: str | None = None


def invented_word(rng: random.Random) -> str:
    """A capitalised name of two or three syllables that no dictionary holds, such as `Velmora`."""
    onsets = (*"bdfghklmnprstvwz", "br", "dr", "kl", "st", "tr", "sh")
    vowels = ("a", "e", "i", "o", "u", "ei", "ou", "ia", "ö", "é")
    # Accents are the rare case, as they are in real names.
    weights = (9, 9, 9, 9, 6, 2, 2, 2, 1, 1)
    codas = ("", "", "", "n", "l", "r", "s", "x", "m", "th", "nd", "sk")
    syllables = rng.choice((2, 2, 3))
    letters = [rng.choice(onsets) + rng.choices(vowels, weights)[0] for _ in range(syllables)]
    return ("".join(letters) + rng.choice(codas)).capitalize()


class Lexicon:
    """Draws values of any kind from one split's words.

    Args:
        values: the open kinds; each phrase of a kind is equally likely.
        parts: the shared parts of these phrases; `<name>` is always an invented word.
    """

    def __init__(self, values: Mapping[str, tuple[str, ...]], parts: Mapping[str, str]) -> None:
        resolved = {**parts, "name": "NAME"}
        self._phrases = {kind: [with_parts(phrase, resolved) for phrase in values[kind]] for kind in values}
        self._phrases |= {kind: list(phrases) for kind, phrases in CLOSED_VALUES.items()}

    def draw(self, key: str, kind: str, rng: random.Random) -> Value:
        """A value for the slot `key`, of `kind`."""
        if kind in NAMED_VALUES:
            said = rng.choice(list(NAMED_VALUES[kind]))
            return Value(said, NAMED_VALUES[kind][said])
        if kind not in self._phrases:
            raise KeyError(f"slot {key!r}: no values of the kind {kind!r}")
        text = expand(rng.choice(self._phrases[kind]), rng)
        while "NAME" in text:
            text = text.replace("NAME", invented_word(rng), 1)
        return Value(text)

"""Random draws for the curriculum: an open vocabulary of names, words, codes, titles and numbers.

Every value that a document asks to be copied comes from here. A value whose casefolded form hashes into the
held-out pool (one string in 64) is drawn again, so that no such string is ever a copied value in training; the copy
evaluation draws only from that pool.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TypeVar

from base_model import words

T = TypeVar("T")

HELD_OUT_ONE_IN = 64

ONSETS = (
    words.entries("b br c ch d dr f fl g gr h j k kr l m n p pr r s sh st t th tr v w z"),
    words.entries("k m n r s t h y sh ts b d g z"),
    words.entries("b c d f g l m n p r s t v z qu gl gn br cr"),
    words.entries("b d f fj g h hj j k kn l m n r s sk sl st t tr v vr"),
    words.entries("dz cz k l m n p r s sz st t w z zb br kr w b d"),
)
VOWELS = (
    words.entries("a e i o u ea oo ai ee ou"),
    words.entries("a i u e o ou ai"),
    words.entries("a e i o u ia io é è à ò"),
    words.entries("a e i o u ø å ä ö ü y"),
    words.entries("a e i o u y ie ó ia"),
)
CODAS = (
    ("", "", "", "n", "r", "l", "s", "t", "ck", "m", "nd", "rt", "x", "th", "p", "rn"),
    ("", "", "", "", "n"),
    ("", "", "", "", "n", "r", "l", "s", "ño", "ça"),
    ("", "", "n", "r", "l", "g", "sk", "nd", "rg", "ld", "m", "st"),
    ("", "", "k", "ski", "n", "r", "w", "ch", "c", "j", "sz"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
CODE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def is_held_out(text: str) -> bool:
    """Whether the casefolded string belongs to the held-out pool (never a copied value in training)."""
    digest = blake2b(text.casefold().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % HELD_OUT_ONE_IN == 0


class Draw:
    """A seeded source of values and choices; `held_out` draws copied values only from the held-out pool."""

    def __init__(self, rng: random.Random, held_out: bool = False) -> None:
        self.rng = rng
        self.random = rng.random
        self.held_out = held_out

    # Choices

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.random() * len(items))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def integer(self, low: int, high: int) -> int:
        """A uniform integer in [low, high]."""
        return low + int(self.random() * (high - low + 1))

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        return self.rng.sample(items, count)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self.rng.sample(items, len(items))

    def distinct(self, make: Callable[[], str], count: int) -> list[str]:
        """`count` values of `make` that differ from each other even without regard to case."""
        found: dict[str, str] = {}
        while len(found) < count:
            value = make()
            found.setdefault(value.casefold(), value)
        return list(found.values())

    def _value(self, make: Callable[[], str]) -> str:
        while True:
            text = make()
            if is_held_out(text) == self.held_out:
                return text

    # Words and names

    def _invented(self) -> str:
        style = int(self.random() * 5)
        onsets, vowels, codas = ONSETS[style], VOWELS[style], CODAS[style]
        r = self.random
        text = ""
        for _ in range(1 + int(r() * 2.4) if r() < 0.8 else 3):
            text += onsets[int(r() * len(onsets))] + vowels[int(r() * len(vowels))]
        text += codas[int(r() * len(codas))]
        return text if len(text) > 2 else text + onsets[0] + vowels[0]

    def _letters(self) -> str:
        return "".join(self.rng.choices(LETTERS, k=self.integer(3, 9)))

    def word(self) -> str:
        """An odd lower-case word: mostly invented from syllables, sometimes random letters."""
        return self._value(self._invented if self.chance(0.85) else self._letters)

    def noun(self) -> str:
        """A common noun in lower case."""
        roll = self.random()
        if roll < 0.4:
            return self.pick(words.OBJECTS)
        return self.pick(words.ABSTRACT if roll < 0.7 else words.FOODS if roll < 0.85 else words.ANIMALS)

    def common(self) -> str:
        """A common noun, adjective or verb in lower case."""
        roll = self.random()
        if roll < 0.6:
            return self.noun()
        return self.pick(words.ADJECTIVES if roll < 0.85 else words.REGULAR_VERBS)

    def first_name(self) -> str:
        return self._value(self._first_name)

    def _first_name(self) -> str:
        if self.random() < 0.5:
            return self.pick(words.FIRST_NAMES)
        return self._invented().capitalize()

    def _surname(self) -> str:
        roll = self.random()
        if roll < 0.45:
            return self.pick(words.SURNAMES)
        if roll < 0.9:
            return self._invented().capitalize()
        return f"{self._invented().capitalize()}-{self.pick(words.SURNAMES)}"

    def surname(self) -> str:
        return self._value(self._surname)

    def _person(self) -> str:
        roll = self.random()
        if roll < 0.72:
            return f"{self._first_name()} {self._surname()}"
        if roll < 0.84:
            return f"{self.pick(('Dr', 'Mr', 'Mrs', 'Ms', 'Prof', 'Dr.', 'Captain', 'Sister'))} {self._surname()}"
        if roll < 0.92:
            return f"{self._first_name()} {self.pick(CODE_LETTERS)}. {self._surname()}"
        return f"{self._first_name()} {self.pick(('van', 'de', 'von', 'al', 'Mc', 'da'))} {self._surname()}"

    def person(self) -> str:
        """A full name: listed or invented, with titles and middle initials at times."""
        return self._value(self._person)

    def invented_name(self) -> str:
        """A capitalised name of one or two invented words."""
        return self._value(self._two_invented)

    def _two_invented(self) -> str:
        first = self._invented().capitalize()
        return first if self.random() < 0.4 else f"{first} {self._invented().capitalize()}"

    def place(self) -> str:
        """A town: a real city, or an invented one."""
        return self._value(self._place)

    def _place(self) -> str:
        roll = self.random()
        if roll < 0.35:
            return self.pick(words.CITIES)
        name = self._invented().capitalize()
        if roll < 0.7:
            return name + self.pick(("", "ton", "ford", "burg", "by", "stad", "ville", "ham", "wick", "ow"))
        if roll < 0.85:
            return f"{self.pick(('New', 'Old', 'North', 'Port', 'Upper', 'Saint', 'East', 'Lake', 'Mount'))} {name}"
        return f"{self.pick(words.ADJECTIVES).capitalize()} {self.pick(words.PLACES).capitalize()}"

    def address(self) -> str:
        name = self._invented().capitalize() if self.random() < 0.5 else self.pick(words.ABSTRACT).capitalize()
        return f"{self.integer(1, 299)} {name} {self.pick(words.STREET_ENDS)}"

    def company(self) -> str:
        return self._value(self._company)

    def _company(self) -> str:
        if self.random() < 0.5:
            return f"{self._invented().capitalize()} {self.pick(words.COMPANY_ENDS)}"
        return f"{self.pick(words.ADJECTIVES).capitalize()} {self.noun().capitalize()} {self.pick(words.COMPANY_ENDS)}"

    # Codes and numbers

    def code(self) -> str:
        """An identifier of capitals, digits and separators, or random lower-case letters and digits."""
        return self._value(self._code)

    def _code(self) -> str:
        choices, roll = self.rng.choices, self.random()
        if roll < 0.35:
            letters, digits = "".join(choices(CODE_LETTERS, k=self.integer(1, 4))), self._digits()
            return f"{letters}{self.pick(('-', '', '', '/', '_', ' '))}{digits}"
        if roll < 0.6:
            return "".join(choices(CODE_LETTERS + DIGITS, k=self.integer(4, 10)))
        if roll < 0.75:
            return "".join(choices(LETTERS + DIGITS, k=self.integer(4, 10)))
        if roll < 0.9:
            parts = ("".join(choices(CODE_LETTERS + DIGITS, k=self.integer(2, 4))) for _ in range(self.integer(2, 3)))
            return self.pick("-.:/").join(parts)
        return f"#{self._digits()}"

    def _digits(self) -> str:
        return "".join(self.rng.choices(DIGITS, k=self.integer(2, 7)))

    def digits(self) -> str:
        """Two to nine digits, leading zeros allowed."""
        return self._value(lambda: "".join(self.rng.choices(DIGITS, k=self.integer(2, 9))))

    def phone(self) -> str:
        block = self.rng.choices
        parts = ["".join(block(DIGITS, k=self.integer(2, 4))) for _ in range(self.integer(2, 4))]
        return self.pick(("", "+", "0")) + self.pick((" ", "-", "")).join(parts)

    def email(self) -> str:
        name = self._invented() if self.chance(0.5) else f"{self._first_name()}.{self._surname()}".lower()
        host = self._invented() if self.chance(0.6) else self.noun()
        return self._value(
            lambda: f"{name}{self.pick(('', '', str(self.integer(1, 99))))}@{host}.{self.pick(_DOMAINS)}"
        )

    def price(self) -> str:
        return f"{self.integer(0, 400)}.{self.integer(0, 99):02d}"

    # Spans

    def title(self) -> str:
        """A title of two to six common words, with stop words inside, in Title Case, sentence case or lower case."""
        return self._value(self._title)

    def _title(self) -> str:
        count = self.integer(2, 6)
        parts: list[str] = []
        for index in range(count):
            stop_before = bool(parts) and parts[-1] in words.STOP_WORDS
            if index < count - 1 and not stop_before and self.random() < 0.4:
                parts.append(self.pick(words.STOP_WORDS))
            elif self.random() < 0.12:
                parts.append(self._invented())
            else:
                parts.append(self.common())
        roll = self.random()
        if roll < 0.4:
            return " ".join(p if i and p in words.STOP_WORDS else p.capitalize() for i, p in enumerate(parts))
        text = " ".join(parts)
        return text.capitalize() if roll < 0.6 else text

    def thing(self) -> str:
        """A short noun phrase in lower case: an object or a product, sometimes with an invented brand."""
        return self._value(self._thing)

    def _thing(self) -> str:
        roll = self.random()
        noun = self.pick(words.OBJECTS if roll < 0.7 else words.FOODS)
        roll = self.random()
        if roll < 0.3:
            return noun
        if roll < 0.6:
            return f"{self.pick(words.ADJECTIVES if roll < 0.45 else words.COLOURS)} {noun}"
        if roll < 0.75:
            return f"{self.pick(words.COLOURS)} {self.pick(words.MATERIALS)} {noun}"
        if roll < 0.9:
            return f"{self._invented()} {noun}"
        return f"{noun} with {self.pick(words.ADJECTIVES)} {self.noun()}"

    def clause(self) -> str:
        """A free-text task such as "bring the blue crate to Ovestad", without a final mark."""
        roll = self.random()
        verb = self.pick(_ERRANDS)
        text = f"{verb} {self.pick(('the', 'my', 'a', 'some', 'our', 'that'))} {self._thing()}"
        if roll < 0.3:
            text += f" {self.pick(('to', 'for', 'with', 'from'))} {self._first_name()}"
        elif roll < 0.5:
            text += f" {self.pick(('before', 'after', 'at', 'near'))} the {self.pick(words.PLACES)}"
        elif roll < 0.6:
            text += f" and {self.pick(_ERRANDS)} the {self.pick(words.OBJECTS)}"
        return text

    # Time

    def clock(self) -> str:
        roll, hour, minute = self.random(), self.integer(1, 12), self.integer(0, 11) * 5
        if roll < 0.3:
            return f"{hour}:{minute:02d}"
        if roll < 0.5:
            return f"{self.integer(0, 23):02d}:{minute:02d}"
        if roll < 0.8:
            return f"{hour}{self.pick((' ', ''))}{self.pick(('am', 'pm'))}"
        if roll < 0.9:
            return f"{hour}:{minute:02d} {self.pick(('am', 'pm', 'a.m.', 'p.m.'))}"
        return self.pick(("noon", "midnight", "half past six", "quarter to nine", "ten o'clock"))

    def date(self) -> str:
        roll, day, month = self.random(), self.integer(1, 28), self.pick(words.MONTHS)
        if roll < 0.25:
            return f"{day} {month}"
        if roll < 0.4:
            return f"{month} {day}"
        if roll < 0.55:
            return f"{day} {month} {self.integer(1950, 2039)}"
        if roll < 0.7:
            return f"{self.integer(1990, 2039)}-{self.integer(1, 12):02d}-{day:02d}"
        if roll < 0.85:
            return self.pick(words.WEEKDAYS)
        return f"{self.pick(('next', 'this', 'last'))} {self.pick(words.WEEKDAYS)}"

    def year(self) -> str:
        return str(self.integer(1400, 2090))


_DOMAINS = ("com", "org", "net", "io", "de", "example", "co.uk", "fr", "shop")
_ERRANDS = words.entries(
    """
    bring buy call carry check clean collect cook deliver fetch find finish fix fold hide lend mend move order
    pack paint pick print put read repair return sell send ship sign take throw visit wash water write
    """
)

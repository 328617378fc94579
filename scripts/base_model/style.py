"""How people type: casing, fillers, politeness, lost punctuation and typing slips around the values."""

from __future__ import annotations

from base_model.draw import LETTERS, Draw

OPENERS = (
    "please ",
    "could you ",
    "can you ",
    "hey, ",
    "hi, ",
    "um ",
    "so ",
    "ok ",
    "hello, ",
    "I need you to ",
    "uh ",
)
CLOSERS = (" please", " thanks", ", thank you", " if you can", " ok?", " now", ", cheers", " asap")


def slip(draw: Draw, text: str) -> str:
    """The text with one typing slip in one of its longer words."""
    parts = text.split(" ")
    index = int(draw.random() * len(parts))
    word = parts[index]
    if len(word) < 4 or not word.isalpha():
        return text
    at = draw.integer(1, len(word) - 2)
    kind = draw.integer(0, 3)
    if kind == 0:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind == 1:
        word = word[:at] + word[at + 1 :]
    elif kind == 2:
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + draw.pick(LETTERS) + word[at + 1 :]
    parts[index] = word
    return " ".join(parts)


class Style:
    """One writer's habits: `value` fixes how a value is typed, and so what is copied; `carrier` the words around."""

    def __init__(self, draw: Draw) -> None:
        roll = draw.random()
        self.draw = draw
        self.lower = roll < 0.35
        self.upper = roll > 0.985
        self.sloppy = draw.chance(0.25)
        self.bare = (self.lower and draw.chance(0.7)) or draw.chance(0.1)

    def value(self, text: str) -> str:
        if self.draw.held_out:
            return text
        return text.lower() if self.lower else text.upper() if self.upper else text

    def carrier(self, text: str) -> str:
        if self.lower:
            text = text.lower()
        elif self.upper:
            text = text.upper()
        if self.sloppy and self.draw.chance(0.5):
            text = slip(self.draw, text)
        return text

    def polite(self, text: str) -> str:
        """The request with openers and closers, its final mark and its first capital as this writer sets them."""
        draw = self.draw
        if draw.chance(0.3):
            text = self.carrier(draw.pick(OPENERS)) + text
        if draw.chance(0.15):
            text += self.carrier(draw.pick(CLOSERS))
        if not self.bare and text[-1] not in ".?!":
            text += "."
        return text if self.lower else text[0].upper() + text[1:]

"""What real people and their microphones do to a command, without ever touching a slot value's words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

_ARTICLES = frozenset({"the", "a", "an", "my"})
_OPENERS = ("um", "uh", "well", "so", "okay so", "er")
# In the middle only sounds that nobody could take for a part of a reminder's or a message's text.
_HESITATIONS = ("um", "uh", "er")
_THANKS = ("please", "thanks", "thank you")
_DAY_NAMES = "monday tuesday wednesday thursday friday saturday sunday christmas easter halloween"
_PROPER = {word: word.capitalize() for word in _DAY_NAMES.split()}
_FIRST_PERSON = {"i": "I", "i'm": "I'm", "i'd": "I'd", "i've": "I've", "i'll": "I'll"}


@dataclass(frozen=True)
class Token:
    """A carrier word, or a whole slot value.

    Attributes:
        text: as said.
        key: the slot's key, or None for a carrier word.
        answer: the slot's answer when it is not a copy of `text`.
        tail: punctuation that follows, lost by people who write none.
        can_slip: whether a slip of the tongue or the keyboard may hit it.
    """

    text: str
    key: str | None = None
    answer: str | None = None
    tail: str = ""
    can_slip: bool = True


def words(text: str) -> list[Token]:
    """Carrier words of `text`, with a trailing comma or question mark kept apart."""
    return [Token(word.rstrip(",?"), tail=word[len(word.rstrip(",?")) :]) for word in text.split()]


def slip(tokens: Sequence[Token], rng: random.Random) -> list[Token]:
    """Now and then a hesitation, a dropped article, a doubled word, a typo or a stray capital in the carrier words."""
    out: list[Token] = []
    hesitation_at = rng.randrange(1, len(tokens)) if len(tokens) > 2 and rng.random() < 0.08 else None
    for position, token in enumerate(tokens):
        if position == hesitation_at:
            out.append(Token(rng.choice(_HESITATIONS)))
        if token.key is not None or not token.can_slip:
            out.append(token)
        elif token.text in _ARTICLES and rng.random() < 0.05:
            continue
        elif rng.random() < 0.008:
            out += [replace(token, tail=""), token]
        elif len(token.text) >= 5 and rng.random() < 0.02:
            out.append(replace(token, text=_typo(token.text, rng)))
        elif rng.random() < 0.005:
            out.append(replace(token, text=token.text.capitalize()))
        else:
            out.append(token)
    return out


def _typo(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 2)
    kind = rng.choice(("swap", "drop", "double"))
    if kind == "swap":
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == "drop":
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]


def surround(tokens: Sequence[Token], wake_words: Sequence[str], rng: random.Random) -> list[Token]:
    """Perhaps a wake word or a hesitation before the command, and thanks behind it.

    Nothing follows a copied value: "remind me to buy rice please" would leave open where the text ends.
    """
    out = list(tokens)
    if rng.random() < 0.07:
        out = [*words(rng.choice(_OPENERS)), *out]
    if rng.random() < 0.2:
        out = [*words(rng.choice(wake_words) + ","), *out]
    last = tokens[-1]
    if (last.key is None or last.answer is not None) and not last.tail and rng.random() < 0.12:
        out = [*out[:-1], replace(last, tail=rng.choice(("", ","))), *words(rng.choice(_THANKS))]
    return out


def write(tokens: Sequence[Token], question: bool, rng: random.Random) -> list[Token]:
    """Choose how the person writes: like a sentence, carelessly, or all in lower case without punctuation."""
    style = rng.choices(("sentence", "careless", "lower"), (45, 20, 35))[0]
    if style == "sentence":
        out = [replace(token, text=" ".join(map(_properly, token.text.split(" ")))) for token in tokens]
        if out[0].key is None:
            out[0] = replace(out[0], text=out[0].text[:1].upper() + out[0].text[1:])
        mark = "?" if question else rng.choice((".", ".", ".", "", "!"))
        out[-1] = replace(out[-1], tail=mark)
        return out
    out = [replace(token, tail="") for token in tokens]
    if style == "lower":
        out = [replace(token, text=token.text.lower()) for token in out]
    if rng.random() < 0.4:
        out = [t if t.key is not None else replace(t, text=t.text.replace("'", "")) for t in out]
    return out


def _properly(word: str) -> str:
    return _PROPER.get(word) or _FIRST_PERSON.get(word) or word

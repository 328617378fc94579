"""Shows where two texts part, in the words of the texts themselves."""

from __future__ import annotations

_CHARACTERS = 24


def first_difference(ours: str, theirs: str, our_name: str, their_name: str) -> str:
    """Returns a sentence with the first character at which two texts differ and what is around it on both sides."""
    place = _common(ours, theirs)
    before = tail(ours[:place])
    if place == len(ours):
        return f"{our_name} and {their_name} have the same characters to {before}, but other tokens"
    after = f", after {before}" if place else ""
    return (
        f"{our_name} is not how {their_name} goes: at character {place}{after}, "
        f"it has {_head(ours[place:])} where {their_name} has {_head(theirs[place:])}"
    )


def tail(text: str) -> str:
    """Returns the end of a text, quoted."""
    return repr(text[-_CHARACTERS:]) if len(text) <= _CHARACTERS else f"...{text[-_CHARACTERS:]!r}"


def _common(ours: str, theirs: str) -> int:
    """Returns how many characters two texts have in common at their start."""
    shorter = min(len(ours), len(theirs))
    return next((place for place in range(shorter) if ours[place] != theirs[place]), shorter)


def _head(text: str) -> str:
    if not text:
        return "its end"
    return repr(text) if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]!r}..."

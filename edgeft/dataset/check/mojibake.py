"""Finds UTF-8 that was read as Windows-1252 or Latin-1, where it can hardly be anything else.

Each UTF-8 sequence becomes two to four characters: the first by its leading byte, as the A with tilde of most accented
letters, the rest out of 64 that begin no word. Sequences that correct typography can form too, as a capital letter and
the quotation mark after it, are passed over: a few missed are better than a good text called damaged.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HIGH = bytes(range(0x80, 0xA0)).decode("cp1252", errors="ignore") + "".join(map(chr, range(0x80, 0xA0)))
_CONTINUED = f"[{_HIGH}\xa0-\xbf]"
# What may follow a letter in a good text: closing quotation marks, dashes, an ellipsis, a no-break space.
_TYPOGRAPHY = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022\u203a\xbb\xa0"
_PATTERN = re.compile(
    f"\xc3{_CONTINUED}|\xc2[\xa0-\xbf]"  # Latin letters with accents; signs, as the degree
    f"|[\xc4\xc5](?![{_TYPOGRAPHY}]){_CONTINUED}"  # letters of Polish, Czech, Turkish
    f"|\xe2[{_HIGH}]{_CONTINUED}|\xf0\u0178{_CONTINUED}{{2}}|\xf0\x9f{_CONTINUED}{{2}}"  # quotation marks; emoji
    "|\xef\xbb\xbf|\xef\xbf\xbd"  # byte order mark, U+FFFD
    f"|(?:[\xce\xcf\xd0\xd1\xd7\xd8\xd9]{_CONTINUED}){{2,}}"  # Greek, Cyrillic, Hebrew, Arabic
    f"|(?:[\xe0-\xef]{_CONTINUED}{{2}}){{2,}}"  # Devanagari, Thai, Chinese, Japanese, Korean
)
# Every sequence of the pattern begins so: a quick look before the slow one.
_BEGIN = re.compile(f"[\xc2-\xc5\xce-\xd1\xd7-\xd9\xe0-\xf0][\u0178{_CONTINUED[1:]}")


# As much of the word around the damage as is shown.
_WORD_END, _WORD_START = re.compile(r'[^ \t\r\n"]{0,30}$'), re.compile(r'[^ \t\r\n"]{0,30}')


class Mojibake(NamedTuple):
    """The first damage: where it is, the word that is written there, and how that word reads once it is mended."""

    span: tuple[int, int]
    wrong: str
    right: str


def find_mojibake(text: str) -> Mojibake | None:
    """Returns the first damage in a text."""
    if _BEGIN.search(text) is None:
        return None
    for match in _PATTERN.finditer(text):
        if _mended(match) != match[0]:
            start, end = match.span()
            before, after = _WORD_END.search(text[max(0, start - 30) : start]), _WORD_START.match(text, end)
            word = text[start - len(before[0] if before else "") : after.end() if after else end]
            return Mojibake((start, end), word, _PATTERN.sub(_mended, word))
    return None


def _mended(match: re.Match[str]) -> str:
    """Returns what was meant, or the same where it is no damage."""
    after_capital = match.start() > 0 and match.string[match.start() - 1].isupper()
    if after_capital and (match[0][0] == "\xc2" or match[0][1] in _TYPOGRAPHY):
        return match[0]
    try:
        return b"".join(map(_byte, match[0])).decode("utf-8")
    except UnicodeDecodeError:
        return match[0]


def _byte(character: str) -> bytes:
    # Five bytes have no character in Windows-1252; browsers and Latin-1 give the control of the same number.
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")

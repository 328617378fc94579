"""Damaged text: what an editor does not show, and what a wrong encoding left behind."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from edgeft.dataset.check.mojibake import find_mojibake
from edgeft.dataset.check.texts import Text, around, texts, visible
from edgeft.dataset.findings import Finding, Severity
from edgeft.dataset.records import Record

# Left alone: tab, line feed, carriage return, and the marks and joiners that writing from right to left and emoji need.
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffd]")
_OVERRIDES = "\u202d\u202e"
_KINDS: dict[str, tuple[Severity, str, str]] = {
    "nul": ("error", "a NUL character", "remove it: llama.cpp would end the text there"),
    "lone-surrogate": ("error", "half of a surrogate pair, which is no character", "write the character itself"),
    "replacement-character": (
        "warning",
        "U+FFFD stands for a character that was lost",
        "take the text from its source again, with the right encoding",
    ),
    "byte-order-mark": ("warning", "a byte order mark inside the text", "remove it: it is a token like any other"),
    "bidi-control": ("warning", "a control that reorders what is shown", "remove it: what is read is not what is said"),
    "control-character": ("warning", "a control character", "remove it, or write what it stands for"),
}


class DamagedText:
    """Looks at the texts of records one by one."""

    def add(self, record: Record) -> Iterator[Finding]:
        """Yields what is wrong with the texts of a record: each kind of damage once for each text."""
        for text in texts(record):
            yield from self._damage(record, text)
            yield from self._white_space(record, text)

    def findings(self) -> Iterator[Finding]:
        """Yields nothing: all is said with the record."""
        return iter(())

    def _damage(self, record: Record, text: Text) -> Iterator[Finding]:
        mojibake = None if text.content.isascii() else find_mojibake(text.content)
        if mojibake:
            yield Finding(
                "warning",
                "mojibake",
                record.place,
                f"{visible(mojibake.wrong)} looks like {visible(mojibake.right)} read in the wrong encoding",
                "read the source as UTF-8 and write it again; ftfy.fix_text mends what cannot be read again",
                text.field,
            )
        if _ODD.search(text.content) is None:
            return
        seen: set[str] = set()
        for match in _ODD.finditer(text.content):
            code = _kind(match[0], text.content)
            if mojibake and "\x80" <= match[0] <= "\x9f":
                continue  # a part of that damage
            if code and code not in seen:
                seen.add(code)
                severity, what, remedy = _KINDS[code]
                shown = around(text.content, *match.span())
                message = f"{what}, U+{ord(match[0]):04X}, at character {match.start() + 1}: {shown}"
                yield Finding(severity, code, record.place, message, remedy, text.field)

    def _white_space(self, record: Record, text: Text) -> Iterator[Finding]:
        stripped = text.content.strip()
        if not stripped and text.role == "assistant" and not text.content:
            return  # beside a tool call it is in its place, and readers refuse it elsewhere
        if not stripped:
            yield Finding(
                "warning",
                "blank-text",
                record.place,
                "nothing but white space",
                "remove the record, or fill it",
                text.field,
            )
        elif text.role == "assistant" and len(stripped) != len(text.content):
            start = text.content[0].isspace()
            where = "starts and ends" if start and text.content[-1].isspace() else "starts" if start else "ends"
            yield Finding(
                "warning",
                "answer-whitespace",
                record.place,
                f"the answer {where} with white space, which is learnt too: {_shown(text.content)}",
                "strip the answers",
                text.field,
            )


def _kind(character: str, text: str) -> str:
    """Returns the code of an odd character, "" where it is in its place."""
    if character in "\x00\ufffd\ufeff":
        return {"\x00": "nul", "\ufffd": "replacement-character", "\ufeff": "byte-order-mark"}[character]
    if "\ud800" <= character <= "\udfff":
        return "lone-surrogate"
    if character >= "\u202a":
        # Embeddings and isolates are at home where a text holds both directions; overrides hardly anywhere.
        mixed = character not in _OVERRIDES and any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)
        return "" if mixed else "bidi-control"
    return "control-character"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:18]!r} ... {text[-18:]!r}"

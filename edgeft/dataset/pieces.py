"""The exact bytes that a token stands for, from its name in the vocabulary.

Decoding token by token loses them: a token may hold part of a character, or a space that the decoder strips.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def piece_namer(decoder: Any) -> Callable[[str], bytes]:
    """Returns what gives the bytes of a token that was not added, by the decoder of the tokenizers library."""
    return byte_level_piece if decoder and b"ByteLevel" in decoder.__getstate__() else sentencepiece_piece


def byte_level_piece(name: str) -> bytes:
    """Returns the bytes of a token of byte-level BPE, whose names spell every byte as a printable character."""
    return b"".join(bytes([_BYTE_OF[char]]) if char in _BYTE_OF else char.encode() for char in name)


def sentencepiece_piece(name: str) -> bytes:
    """Returns the bytes of a token of a SentencePiece vocabulary: "▁" is a space, "<0x0A>" a byte."""
    match = _BYTE.fullmatch(name)
    return bytes([int(match[1], 16)]) if match else name.replace("\u2581", " ").encode()


def _byte_characters() -> dict[str, int]:
    """GPT-2's alphabet (openai/gpt-2, encoder.py): printable bytes are themselves, the others go up from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_characters()

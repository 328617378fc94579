"""Which kind of pieces a vocabulary has, and the exact bytes that a token stands for, from its name in it.

Decoding token by token loses them: a token may hold part of a character, or a space that the decoder strips.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def is_byte_level(described: Mapping[str, Any], has_piece: Callable[[str], bool] | None = None) -> bool:
    """Tells whether the pieces of a tokenizer.json spell bytes (GPT-2's alphabet) rather than SentencePiece's text.

    What splits or normalizes the text decides, since it is what makes the bytes; then the vocabulary, in which
    SentencePiece has a visible space or bytes by number. The decoder comes last: transformers writes one with a byte
    fallback for byte-level vocabularies that it loads from GGUF files. `has_piece` looks a piece up, for a tokenizer
    whose vocabulary is not in `described`.
    """
    if _has_byte_level(described.get("pre_tokenizer")) or _has_byte_level(described.get("normalizer")):
        return True
    vocabulary = (described.get("model") or {}).get("vocab") or ()
    found = has_piece or (lambda piece: piece in vocabulary)
    return not (found(_SPACE) or found("<0x0A>")) and _has_byte_level(described.get("decoder"))


def piece_namer(tokenizer: Any) -> Callable[[str], bytes]:
    """Returns what gives the bytes of a token that was not added, for a tokenizer of the tokenizers library."""
    parts = {name: getattr(tokenizer, name) for name in ("normalizer", "pre_tokenizer", "decoder")}
    described = {name: json.loads(part.__getstate__()) for name, part in parts.items() if part is not None}
    byte_level = is_byte_level(described, lambda piece: tokenizer.token_to_id(piece) is not None)
    return byte_level_piece if byte_level else sentencepiece_piece


def _has_byte_level(part: Any) -> bool:
    """Tells whether a step of a tokenizer.json is ByteLevel, or a sequence with one in it."""
    if isinstance(part, dict):
        return part.get("type") == "ByteLevel" or any(_has_byte_level(inner) for inner in part.values())
    return isinstance(part, list) and any(_has_byte_level(inner) for inner in part)


def byte_level_piece(name: str) -> bytes:
    """Returns the bytes of a token of byte-level BPE, whose names spell every byte as a printable character."""
    return b"".join(bytes([_BYTE_OF[char]]) if char in _BYTE_OF else char.encode() for char in name)


def sentencepiece_piece(name: str) -> bytes:
    """Returns the bytes of a token of a SentencePiece vocabulary: "▁" is a space, "<0x0A>" a byte."""
    match = _BYTE.fullmatch(name)
    return bytes([int(match[1], 16)]) if match else name.replace(_SPACE, " ").encode()


def _byte_characters() -> dict[str, int]:
    """GPT-2's alphabet (openai/gpt-2, encoder.py): printable bytes are themselves, the others go up from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_characters()

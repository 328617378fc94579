"""Reads SentencePiece's tokenizer.model: pieces, scores and the few settings that matter here.

The file is a protobuf `ModelProto` (sentencepiece/src/sentencepiece_model.proto). Wire format: each field is a varint
key, number << 3 | type, then a varint (0), 8 bytes (1), a length and that many bytes (2) or 4 bytes (5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gguf import TokenType

from edgeft.errors import EdgeftError

_BPE = 2


@dataclass(frozen=True)
class Piece:
    """One piece of the vocabulary; its id is its place. SentencePiece and GGUF number the types alike."""

    text: str
    score: float
    type: TokenType


@dataclass(frozen=True)
class SentencePieceModel:
    """A BPE model. `add_dummy_prefix`: a space is put before the text."""

    pieces: list[Piece]
    add_dummy_prefix: bool


def read_model(path: Path) -> SentencePieceModel:
    """Raises EdgeftError for a file that is no SentencePiece model, and for one that is no BPE model."""
    pieces, add_dummy_prefix, model_type = [], True, 1
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1 and isinstance(value, bytes):
                pieces.append(_piece(value))
            elif number == 2 and isinstance(value, bytes):
                model_type = int(dict(_fields(value)).get(3, model_type))
            elif number == 3 and isinstance(value, bytes):
                add_dummy_prefix = bool(dict(_fields(value)).get(3, add_dummy_prefix))
    except (IndexError, ValueError, struct.error) as error:
        raise EdgeftError("this is no SentencePiece model", str(path), "download or copy the file again") from error
    if not pieces:
        raise EdgeftError("this SentencePiece model has no pieces", str(path), "download or copy the file again")
    if model_type != _BPE:
        raise EdgeftError("not a BPE model: llama.cpp would split text otherwise", str(path), "use another base model")
    return SentencePieceModel(pieces, add_dummy_prefix)


def _piece(message: bytes) -> Piece:
    fields = dict(_fields(message))
    text, score = fields.get(1, b""), fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("wrong wire type")
    return Piece(text.decode(), struct.unpack("<f", score)[0], TokenType(fields.get(3, TokenType.NORMAL)))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields each field's number and value: an int for a varint, else its bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        if key & 7 == 0:
            number, position = _varint(message, position)
            yield key >> 3, number
            continue
        if key & 7 == 2:
            size, position = _varint(message, position)
        else:
            size = {1: 8, 5: 4}.get(key & 7, len(message) + 1)
        if position + size > len(message):
            raise ValueError("truncated field")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position

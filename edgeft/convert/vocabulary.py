"""The vocabulary: one text, type and (SentencePiece) score for each token id, and the merges of byte-level BPE."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gguf import TokenType
from tokenizers import Tokenizer

from edgeft.convert.pretokenizer import pretokenizer_names
from edgeft.convert.sentencepiece_model import Piece, read_model
from edgeft.convert.tokenizer_files import AddedToken, TokenizerFiles
from edgeft.errors import EdgeftError, Problem
from edgeft.pieces import is_byte_level

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's visible space
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# llama.cpp's converter gives these; no score of an added or unused token ever decides a merge.
_ADDED_SCORE, _UNUSED_SCORE = -1000.0, -10000.0


@dataclass(frozen=True)
class Vocabulary:
    """`tokenizer.ggml.*`, apart from the tokens with a role.

    `kind` is "gpt2" (byte-level BPE, with merges), "llama" (SentencePiece, with scores) or "gemma4" (BPE over
    characters, with merges). `add_space_prefix`, for SentencePiece alone, puts a space before a text.
    """

    kind: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    add_space_prefix: bool | None = None


def vocabularies(
    files: TokenizerFiles, size: int, model_type: str, reference: Callable[[], Tokenizer]
) -> Iterator[Vocabulary]:
    """Yields the vocabularies with which llama.cpp may split text as this tokenizer does, the likeliest first.

    They are filled up to `size` ids with unused tokens, and differ in the names of splitting rules and in settings
    alone. Raises EdgeftError for a kind of tokenizer that llama.cpp does not have, and, all at once, for tokens outside
    `size` or alike in text.
    """
    where = str(files.folder / "tokenizer.json")
    if files.model_path is not None:
        pieces = dict(enumerate(read_model(files.model_path).pieces))
        yield from _sentencepiece(pieces, files.added_tokens(), size, str(files.model_path))
        # transformers may order the merges of a tokenizer.model by id, which is not the order of its scores for pieces
        # that scores rule out, such as runs of spaces.
        ranked = _pieces_of_json(json.loads(reference().to_str())["model"])
        by_rank = {
            number: replace(piece, score=ranked[number].score) if number in ranked else piece
            for number, piece in pieces.items()
        }
        yield from _sentencepiece(by_rank, files.added_tokens(), size, str(files.model_path))
    elif files.model.get("type") != "BPE":
        raise EdgeftError(f"tokenizers of type {files.model.get('type')} cannot be converted", where, "supported: BPE")
    elif files.model.get("byte_fallback") and not is_byte_level(files.tokenizer):
        yield from _character_level(files.model, files.added_tokens(), size, model_type, where)
    else:
        yield from _byte_level(files, size, model_type, where)


def _byte_level(files: TokenizerFiles, size: int, model_type: str, where: str) -> Iterator[Vocabulary]:
    names = pretokenizer_names(files.tokenizer, model_type, where)
    texts = _by_id(files.model["vocab"])
    added = files.added_tokens()
    _require_room([*texts, *(token.id for token in added)], size, where)
    tokens = [texts.get(number, padding_text(number)) for number in range(size)]
    types = [int(TokenType.NORMAL if number in texts else TokenType.UNUSED) for number in range(size)]
    for token in added:
        tokens[token.id], types[token.id] = _added_text_and_type(token)
    require_distinct(tokens, where)
    merges = [" ".join(pair) for pair in _merges(files.model)]
    yield from (Vocabulary("gpt2", name, tokens, types, merges=merges) for name in names)


def _character_level(
    model: Mapping[str, Any], added: list[AddedToken], size: int, model_type: str, where: str
) -> Iterator[Vocabulary]:
    """Yields SentencePiece first, scores from the merges; then, for merges that no scores order, BPE over characters.

    llama.cpp's converter gives Gemma 4 the latter.
    """
    scored = list(_sentencepiece(_pieces_of_json(model), added, size, where))
    merges = [" ".join(pair) for pair in _merges(model)]
    merged = [
        replace(scored[0], kind=kind, pre=pre, merges=merges, add_space_prefix=False)
        for kind, pre in (("gemma4", "gemma4"), ("gpt2", "sarvam-moe"))
    ]
    if any(" " in merge.replace(" ", "", 1) for merge in merges):
        merged = []  # llama.cpp writes the two halves of a merge with one space between
    yield from (*merged[:1], *scored, *merged[1:]) if model_type.startswith("gemma4") else (*scored, *merged)


def _sentencepiece(pieces: Mapping[int, Piece], added: list[AddedToken], size: int, where: str) -> Iterator[Vocabulary]:
    _require_room([*pieces, *(token.id for token in added)], size, where)
    n_bytes = sum(piece.type == TokenType.BYTE for piece in pieces.values())
    if n_bytes != 256:  # llama.cpp ends the process at a character that is no piece
        raise EdgeftError(f"{n_bytes} of the 256 bytes are pieces of it", where, "use a tokenizer with byte fallback")
    unused = Piece("", _UNUSED_SCORE, TokenType.UNUSED)
    ordered = [pieces.get(number, unused) for number in range(size)]
    tokens = [piece.text if number in pieces else padding_text(number) for number, piece in enumerate(ordered)]
    types = [int(piece.type) for piece in ordered]
    scores = [piece.score for piece in ordered]
    for token in added:
        tokens[token.id], types[token.id] = _added_text_and_type(token)
        scores[token.id] = _ADDED_SCORE
    require_distinct(tokens, where)
    for prefix in (True, False):
        yield Vocabulary("llama", "default", tokens, types, scores, add_space_prefix=prefix)


def _pieces_of_json(model: Mapping[str, Any]) -> dict[int, Piece]:
    """Returns pieces for a SentencePiece model that was saved as tokenizer.json alone, without its scores.

    llama.cpp merges the pair whose result scores highest; the merges are listed in the order of their scores, so the
    rank of the first merge that makes a piece, negated, orders the pieces as the scores did.
    """
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(_merges(model)):
        ranks.setdefault(left + right, rank)
    unknown = model.get("unk_token")

    def piece(text: str) -> Piece:
        if _BYTE.fullmatch(text):
            return Piece(text, 0.0, TokenType.BYTE)
        if text == unknown:
            return Piece(text, 0.0, TokenType.UNKNOWN)
        return Piece(text, -float(ranks[text]) if text in ranks else _ADDED_SCORE, TokenType.NORMAL)

    return {number: piece(text) for number, text in _by_id(model["vocab"]).items()}


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the merges by rank, from tokenizer.json's older spelling ("a b") or its newer one (["a", "b"])."""
    pairs = [entry.split(" ", 1) if isinstance(entry, str) else entry for entry in model.get("merges") or ()]
    return [(left, right) for left, right in pairs]


def _by_id(vocab: Mapping[str, int]) -> dict[int, str]:
    return {number: text for text, number in vocab.items()}


def _added_text_and_type(token: AddedToken) -> tuple[str, int]:
    if token.special or _looks_special(token.content):
        return token.content, int(TokenType.CONTROL)
    return token.content.replace(_SPACE, " "), int(TokenType.USER_DEFINED)


def _looks_special(text: str) -> bool:
    """Tells whether a token not marked as special is control all the same, by llama.cpp's converter's rule."""
    brackets = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    named = text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
    return named or any(text.startswith(first) and text.endswith(last) for first, last in brackets)


def _require_room(numbers: list[int], size: int, where: str) -> None:
    if max(numbers, default=0) >= size:
        what = f"its tokens go up to id {max(numbers)}, and config.json's vocab_size is {size}"
        raise EdgeftError(what, where, "is this the model's own tokenizer?")


def padding_text(number: int) -> str:
    """Returns the text of an id that the tokenizer has no token for."""
    return f"[PAD{number}]"


def require_distinct(tokens: list[str], where: str) -> None:
    """Raises EdgeftError for two tokens of the same text, on which llama.cpp stops the process."""
    first: dict[str, int] = {}
    problems = [
        Problem(f"tokens {first[text]} and {number} have the same text, {text!r}", where)
        for number, text in enumerate(tokens)
        if first.setdefault(text, number) != number
    ]
    if problems:
        raise EdgeftError(problems)

"""tokenizer.json and its settings out of a GGUF file's keys, and the proof that both split text alike.

How llama.cpp splits by a vocabulary: src/llama-vocab.cpp. What it puts before and after a text, and which rules a name
stands for, is asked of it rather than written down a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from edgeft.convert.chat_template import end_of_turn
from edgeft.convert.pretokenizer import SPLITTINGS
from edgeft.convert.proof import Asked, expected, text_problems
from edgeft.convert.reference_tokenizer import reference_tokenizer
from edgeft.convert.tokenizer_files import TokenizerFiles
from edgeft.convert.vocabulary import padding_text, require_distinct
from edgeft.errors import EdgeftError, Problem
from edgeft.files import write_json
from edgeft.gguf_header import GgufHeader
from edgeft.llamacpp import ENDS_BY_NAME, Vocabulary

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_SPECIAL = (TokenType.CONTROL, TokenType.UNKNOWN)
_ADDED = (*_SPECIAL, TokenType.USER_DEFINED)
_ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # the format's spelling
    "pad_token": "padding_token_id",
    "mask_token": "mask_token_id",
}
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_BUILT_IN: dict[str, dict[str, Any]] = {
    "gpt2": {**_BYTE_LEVEL, "use_regex": True},
    "digits": {"type": "Digits", "individual_digits": True},
    "digit runs": {"type": "Digits", "individual_digits": False},
    "punctuation": {"type": "Punctuation", "behavior": "Contiguous"},
}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_RANDOM_TEXTS = 2000
_FRAMED = "Hello"
_STRIPPING = re.compile("phi-?3", re.IGNORECASE)
_UNSTRIPPED = ("<unk>", "<s>", "<|endoftext|>")
_COMPLETE = "take a file that holds the model's tokenizer"


@dataclass(frozen=True)
class GgufTokenizer:
    """What a file's keys say about its tokenizer; `roles` has ids by the names that transformers has for roles."""

    kind: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    roles: dict[str, int]
    ends: list[int]
    add_space_prefix: bool
    templates: dict[str, str]
    model_name: str
    where: str

    @classmethod
    def read(cls, header: GgufHeader) -> GgufTokenizer:
        """Raises EdgeftError for a file without a tokenizer, or with one of a kind that is not covered."""
        where, keys = str(next(iter(header.sizes))), header.keys
        get = {name.removeprefix("tokenizer.ggml."): value for name, value in keys.items() if "tokenizer.ggml." in name}
        kind, tokens = get.get("model"), get.get("tokens")
        if kind in (None, "none", "no_vocab") or not isinstance(tokens, list) or not tokens:
            raise EdgeftError("the file has no tokenizer", where, _COMPLETE)
        if kind not in ("gpt2", "llama", "gemma4"):
            what = f"tokenizers of type {kind!r} cannot be imported"
            raise EdgeftError(what, where, "supported: gpt2 (byte-level BPE), llama (SentencePiece), gemma4")
        types = get.get("token_type")
        types = [int(TokenType.NORMAL)] * len(tokens) if types is None else [int(number) for number in types]
        scores = [float(score) for score in get.get("scores", ())]
        merges = get.get("merges", [])
        problems = [
            Problem(f"the file has {len(values)} {what} for {len(tokens)} tokens", where, _COMPLETE)
            for what, values in (("types", types), ("scores", scores))
            if len(values) != len(tokens) and (what == "types" or kind == "llama")
        ]
        if kind != "llama" and not merges:
            problems.append(Problem("the tokenizer has no merges", where, _COMPLETE))
        roles = {name: int(get[key]) for name, key in _ROLES.items() if key in get}
        ends = [int(get[key]) for key in _ENDS if key in get]
        problems += [
            Problem(f"a special token has id {number} of {len(tokens)}", where, _COMPLETE)
            for number in sorted({*roles.values(), *ends})
            if number >= len(tokens)
        ]
        if "eos_token" not in roles:
            problems.append(Problem("the file names no end-of-sequence token", where, _COMPLETE))
        if problems:
            raise EdgeftError(problems)
        require_distinct(tokens, where)
        return cls(
            kind=kind,
            pre=str(get.get("pre", "")),
            tokens=tokens,
            types=types,
            scores=scores,
            merges=merges,
            roles=roles,
            ends=ends,
            add_space_prefix=bool(get.get("add_space_prefix", kind == "llama")),
            templates=dict(_templates(keys)),
            model_name=str(keys.get("general.name", "")),
            where=where,
        )

    def end_ids(self) -> list[int]:
        """Returns what ends an answer, the end-of-sequence token first.

        Besides the tokens with such a role these are the one that closes a turn in the chat template, and control
        tokens at which llama.cpp stops for their names.
        """
        numbers = {self.tokens[number]: number for number, _ in self.of(TokenType.CONTROL)}
        special = {name: self.tokens[number] for name, number in self.roles.items()}
        closing = end_of_turn(
            self.templates.get("default"), numbers, special.get("bos_token"), special.get("eos_token")
        )
        named = [numbers[text] for text in numbers if text == closing or text in ENDS_BY_NAME]
        return list(dict.fromkeys([*self.ends, *named]))

    def of(self, *kinds: TokenType) -> Iterator[tuple[int, TokenType]]:
        """Yields the ids of the tokens of some types, each with its type."""
        for number, kind in enumerate(self.types):
            if kind in kinds:
                yield number, TokenType(kind)


def write_tokenizer(tokenizer: GgufTokenizer, gguf: Path, config_json: Mapping[str, Any], folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and the chat templates of a GGUF file into a folder.

    Of the tokenizers that the file may mean, it is the first that gives llama.cpp's ids of a corpus, of every special
    token and of random strings, as transformers loads it. Raises EdgeftError, with the shortest text that has other
    ids, where none does.
    """
    with Vocabulary(gguf) as vocabulary:
        bare, framed = vocabulary.encode(_FRAMED), vocabulary.encode(_FRAMED, framed=True)
        start = next((at for at in range(len(framed)) if framed[at : at + len(bare)] == bare), 0)
        before, after = framed[:start], framed[start + len(bare) :]
        for name, template in tokenizer.templates.items():
            path = folder if name == "default" else folder / "additional_chat_templates"
            path.mkdir(exist_ok=True)
            (path / ("chat_template.jinja" if name == "default" else f"{name}.jinja")).write_text(template, "utf-8")
        settings: dict[str, Any] = {name: tokenizer.tokens[number] for name, number in tokenizer.roles.items()}
        settings |= {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": config_json["max_position_embeddings"],
        }
        write_json(folder / "tokenizer_config.json", settings)
        tried: list[tuple[int, list[Problem]]] = []
        for described in _described(tokenizer):
            described["added_tokens"] = _added_tokens(tokenizer)
            described["post_processor"] = _framing(tokenizer, before, after)
            described |= {"version": "1.0", "truncation": None, "padding": None}
            write_json(folder / "tokenizer.json", described)
            problems, n_wrong = _differing(tokenizer, vocabulary, folder, config_json, before)
            if not problems:
                return
            tried.append((n_wrong, problems))
    raise EdgeftError(min(tried, key=lambda entry: entry[0])[1])


def _differing(
    tokenizer: GgufTokenizer, vocabulary: Vocabulary, folder: Path, config_json: Mapping[str, Any], before: list[int]
) -> tuple[list[Problem], int]:
    """Returns what differs between the written tokenizer, as transformers loads it, and llama.cpp's of the file."""
    files = TokenizerFiles.read(folder)
    reference = reference_tokenizer(files, config_json)
    special = {name: tokenizer.tokens[number] for name, number in tokenizer.roles.items()}
    asked = Asked(files.templates.get("default"), special, tokenizer.roles.get("bos_token"), frozenset())
    held = expected(reference, asked, _RANDOM_TEXTS, sentencepiece=tokenizer.kind == "llama")
    problems, warnings, n_wrong = text_problems(vocabulary, held, 0.0, tokenizer.where)
    if before != list(held.before):
        what = f"the imported tokenizer puts {list(held.before)} before a text, llama.cpp {before}"
        problems.append(Problem(what, tokenizer.where))
    return [*problems, *warnings], n_wrong  # the file's own rules give every id, rare signs' too


def _described(tokenizer: GgufTokenizer) -> Iterator[dict[str, Any]]:
    """Yields the tokenizer.json files that the keys may mean, the likeliest first, without what is added to a text."""
    if tokenizer.kind == "gpt2":
        yield from _byte_level(tokenizer)
    if tokenizer.kind == "gpt2" and tokenizer.pre != "sarvam-moe":
        return
    merges = _pairs(tokenizer.merges) if tokenizer.merges else _merges_by_score(tokenizer)
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if tokenizer.add_space_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if tokenizer.add_space_prefix else []
    back = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    yield {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, _REPLACE]} if prepend else _REPLACE,
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": _bpe(tokenizer, merges, byte_fallback=True),
    }


def _byte_level(tokenizer: GgufTokenizer) -> Iterator[dict[str, Any]]:
    """Yields a tokenizer for each set of splitting rules, those that bear the file's name first.

    llama.cpp has many names for one set of rules: for a name that is not in the table the ids decide.
    """
    rules = [
        (name == tokenizer.pre, steps, takes_words)
        for steps, pair in SPLITTINGS.items()
        for name, takes_words in zip(pair, (True, False), strict=True)
    ]
    for _, steps, takes_words in sorted(rules, key=lambda rule: not rule[0]):
        split = [_BUILT_IN.get(step) or _isolated(step) for step in steps]
        if "gpt2" not in steps:
            split.append({**_BYTE_LEVEL, "use_regex": False})
        yield {
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
            "decoder": {**_BYTE_LEVEL, "use_regex": True},
            "model": _bpe(tokenizer, _pairs(tokenizer.merges), ignore_merges=takes_words),
        }


def _isolated(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def _bpe(
    tokenizer: GgufTokenizer,
    merges: Sequence[Sequence[str]],
    *,
    ignore_merges: bool = False,
    byte_fallback: bool = False,
) -> dict[str, Any]:
    unknown = tokenizer.roles.get("unk_token")
    padding = {number for number, _ in tokenizer.of(TokenType.UNUSED)}
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokenizer.tokens[unknown] if byte_fallback and unknown is not None else None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": byte_fallback,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": {
            text: number
            for number, text in enumerate(tokenizer.tokens)
            if number not in padding or text != padding_text(number)
        },
        "merges": list(merges),
    }


def _pairs(merges: Sequence[str]) -> list[list[str]]:
    """Returns the halves of merges; the first of them is at least one character, which may be a space."""
    cuts = [merge.find(" ", 1) for merge in merges]
    return [[merge[:cut], merge[cut + 1 :]] for merge, cut in zip(merges, cuts, strict=True)]


def _merges_by_score(tokenizer: GgufTokenizer) -> list[list[str]]:
    """Returns the merges of a SentencePiece vocabulary: llama.cpp joins the neighbours that make the best piece."""
    number_of = {text: number for number, text in enumerate(tokenizer.tokens)}
    found = [
        (-tokenizer.scores[number], left, right)
        for text, number in number_of.items()
        for cut in range(1, len(text))
        if (left := number_of.get(text[:cut])) is not None and (right := number_of.get(text[cut:])) is not None
    ]
    return [[tokenizer.tokens[left], tokenizer.tokens[right]] for _, left, right in sorted(found)]


def _added_tokens(tokenizer: GgufTokenizer) -> list[dict[str, Any]]:
    """Returns the tokens that are found in a text before it is split.

    llama.cpp strips the space behind those of models with Phi-3 in their names.
    """
    stripping = bool(_STRIPPING.search(tokenizer.model_name))
    return [
        {
            "id": number,
            "content": tokenizer.tokens[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": stripping and tokenizer.tokens[number] not in _UNSTRIPPED,
            "normalized": False,
            "special": kind in _SPECIAL,
        }
        for number, kind in tokenizer.of(*_ADDED)
    ]


def _framing(tokenizer: GgufTokenizer, before: Sequence[int], after: Sequence[int]) -> dict[str, Any] | None:
    """Returns what puts the tokens before and after a text; the offsets of byte-level pieces are trimmed besides."""
    if not before and not after:
        return {**_BYTE_LEVEL, "use_regex": True, "trim_offsets": False} if tokenizer.kind == "gpt2" else None

    def entry(number: int, text: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": tokenizer.tokens[number], "type_id": text}}

    sides = [
        [
            *(entry(number, text) for number in before),
            {"Sequence": {"id": name, "type_id": text}},
            *(entry(number, text) for number in after),
        ]
        for text, name in enumerate("AB")
    ]
    special = {
        tokenizer.tokens[number]: {
            "id": tokenizer.tokens[number],
            "ids": [number],
            "tokens": [tokenizer.tokens[number]],
        }
        for number in (*before, *after)
    }
    return {"type": "TemplateProcessing", "single": sides[0], "pair": [*sides[0], *sides[1]], "special_tokens": special}


def _templates(keys: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the chat templates by name."""
    for key, value in keys.items():
        if key == "tokenizer.chat_template":
            yield "default", str(value)
        elif key.startswith("tokenizer.chat_template."):
            yield key.removeprefix("tokenizer.chat_template."), str(value)

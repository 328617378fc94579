"""Vocabularies of released models, from llama.cpp's own tests, as the tokenizers that they were converted from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from edgeft.convert.pretokenizer import SPLITTINGS

_SPACE = "\u2581"
_SEPARATOR = "\n__ggml_vocab_test__\n"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_BUILT_IN: dict[str, dict[str, Any]] = {
    "gpt2": {**_BYTE_LEVEL, "use_regex": True},
    "digits": {"type": "Digits", "individual_digits": True},
    "digit runs": {"type": "Digits", "individual_digits": False},
    "punctuation": {"type": "Punctuation", "behavior": "Contiguous"},
}
# Names for the rules of another; the oldest files name none, and their models' rules were GPT-2's.
_ALIKE = {"starcoder": "smollm", "refact": "smollm", "command-r": "smollm", "mpt": "gpt-2", None: "gpt-2"}
_BY_NAME = {
    name: (steps, name == taking) for steps, (taking, merging) in SPLITTINGS.items() for name in (taking, merging)
}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_SENTENCEPIECE = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": _SPACE}, _REPLACE]}


def recorded(vocabulary: Path) -> list[tuple[str, list[int]]]:
    """Returns the texts beside a vocabulary and the ids that were recorded for them; none where there are none."""
    texts, ids = (vocabulary.with_name(vocabulary.name + ending) for ending in (".inp", ".out"))
    if not texts.exists():
        return []
    lines = ids.read_text(encoding="utf-8").split("\n")
    numbers = [[int(number) for number in line.split()] for line in lines]
    return list(zip(texts.read_text(encoding="utf-8").split(_SEPARATOR), numbers, strict=False))


def rebuild(vocabulary: Path, folder: Path) -> int:
    """Writes tokenizer.json and its settings in `folder` from a vocabulary; returns its size."""
    fields = gguf.GGUFReader(vocabulary).fields
    keys = {name.removeprefix("tokenizer.ggml."): entry.contents() for name, entry in fields.items()}
    described = _byte_level(keys) if keys["model"] == "gpt2" else _characters(keys)
    described |= {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(keys)}
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(described))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": keys["tokens"][keys["eos_token_id"]]}
    if keys.get("add_bos_token") and keys["model"] != "gpt2":
        bos = keys["tokens"][keys["bos_token_id"]]
        settings["bos_token"] = bos
        frame = [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        special = {bos: {"id": bos, "ids": [keys["bos_token_id"]], "tokens": [bos]}}
        described["post_processor"] = {
            "type": "TemplateProcessing",
            "single": frame,
            "pair": [frame[1], {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": special,
        }
        (folder / "tokenizer.json").write_text(json.dumps(described))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(keys["tokens"])


def _byte_level(keys: Mapping[str, Any]) -> dict[str, Any]:
    name = keys.get("pre")
    steps, ignore_merges = _BY_NAME[_ALIKE.get(name, name)]
    split = [_BUILT_IN.get(step) or _isolated(step) for step in steps]
    if "gpt2" not in steps:
        split.append({**_BYTE_LEVEL, "use_regex": False})
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
        "post_processor": None,
        "decoder": {**_BYTE_LEVEL, "use_regex": True},
        "model": _bpe(keys, _pairs(keys["merges"]), ignore_merges=ignore_merges, byte_fallback=False),
    }


def _isolated(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def _characters(keys: Mapping[str, Any]) -> dict[str, Any]:
    """BPE over characters: Gemma 4's with its merges, SentencePiece's with merges in the order of their scores."""
    merges = _pairs(keys["merges"]) if "merges" in keys else _merges_by_score(keys["tokens"], keys["scores"])
    return {
        "normalizer": _SENTENCEPIECE if keys["model"] == "llama" else _REPLACE,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": _bpe(keys, merges, ignore_merges=False, byte_fallback=True),
    }


def _bpe(keys: Mapping[str, Any], merges: Sequence[Any], *, ignore_merges: bool, byte_fallback: bool) -> dict[str, Any]:
    unused = gguf.TokenType.UNUSED
    kept = (entry for entry in enumerate(keys["tokens"]) if keys["token_type"][entry[0]] != unused)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": keys["tokens"][keys["unknown_token_id"]] if byte_fallback and "unknown_token_id" in keys else None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": {text: number for number, text in kept},
        "merges": merges,
    }


def _pairs(merges: Sequence[str]) -> list[list[str]]:
    return [[merge[: merge.index(" ", 1)], merge[merge.index(" ", 1) + 1 :]] for merge in merges]


def _merges_by_score(tokens: Sequence[str], scores: Sequence[float]) -> list[list[str]]:
    number_of = {text: number for number, text in enumerate(tokens)}
    found = [
        (-scores[number], number_of[text[:cut]], number_of[text[cut:]], text[:cut], text[cut:])
        for number, text in enumerate(tokens)
        for cut in range(1, len(text))
        if text[:cut] in number_of and text[cut:] in number_of
    ]
    return [[left, right] for *_, left, right in sorted(found)]


def _added(keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    special = (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)
    return [
        {"id": number, "content": text, "special": kind in special, **flags}
        for number, (text, kind) in enumerate(zip(keys["tokens"], keys["token_type"], strict=True))
        if kind in (*special, gguf.TokenType.USER_DEFINED)
    ]

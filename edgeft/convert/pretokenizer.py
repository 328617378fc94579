"""Which of llama.cpp's pre-tokenizers (`tokenizer.ggml.pre`) splits text as a tokenizer.json does.

Read off the structure of tokenizer.json, so that a fine-tuned or newly trained vocabulary over the same splitting
rules is recognised. The names and what they mean: llama.cpp's src/llama-vocab.cpp, `llm_tokenizer_bpe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import EdgeftError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UP_TO_THREE_DIGITS = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_SINGLE_DIGITS = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}"

# The steps of a pre-tokenizer, and whether a whole word that is a token is taken as it is (`ignore_merges`).
_NAMES: dict[tuple[tuple[str, ...], bool], str] = {
    (("gpt2",), False): "gpt-2",
    (("digits", "gpt2"), False): "smollm",
    ((_UP_TO_THREE_DIGITS,), True): "llama-bpe",
    # The same splitting without ignore_merges; which model a name stands for is of no account to llama.cpp.
    ((_UP_TO_THREE_DIGITS,), False): "smaug-bpe",
    ((_SINGLE_DIGITS,), False): "qwen2",
}


def pretokenizer_name(tokenizer: Mapping[str, Any], where: str) -> str:
    """Returns the name for a byte-level BPE tokenizer.json; raises EdgeftError, showing its rules, for unknown ones."""
    normalizer = tokenizer.get("normalizer")
    # llama.cpp normalizes nothing. NFC leaves text alone that has no decomposed characters, which is nearly all.
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise EdgeftError(f"llama.cpp has no normalizer {normalizer.get('type')}", where, "use another base model")
    steps = _steps(tokenizer.get("pre_tokenizer"))
    ignore_merges = bool((tokenizer.get("model") or {}).get("ignore_merges"))
    name = _NAMES.get((steps, ignore_merges))
    if name is None:
        rules = "".join(f"\n    {step}" for step in steps)
        what = f"no pre-tokenizer of llama.cpp is known for these rules (ignore_merges = {ignore_merges}):{rules}"
        raise EdgeftError(what, where, "unsupported: use a base model with the rules of " + ", ".join(_NAMES.values()))
    return name


def _steps(pretokenizer: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Returns one string for each splitting step: a regex, or a name for the steps that tokenizers builds in."""
    if pretokenizer is None:
        return ("none",)
    if pretokenizer.get("type") == "Sequence":
        return tuple(step for part in pretokenizer["pretokenizers"] for step in _steps(part))
    match pretokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return ("gpt2",)
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return ()
        case {"type": "Digits", "individual_digits": True}:
            return ("digits",)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return (regex,)
    return (str(dict(pretokenizer)),)

"""Which of llama.cpp's pre-tokenizers (`tokenizer.ggml.pre`) splits text as a tokenizer.json does.

Read off the structure of tokenizer.json, so that a fine-tuned or newly trained vocabulary over the same splitting
rules is recognised. The names and what they mean: llama.cpp's src/llama-vocab.cpp, `llm_tokenizer_bpe`. What is read
off is a candidate: the proof of equal ids decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import EdgeftError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_LINES = r"\s*[\r\n]+"
_REST = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_LINES}|\s+(?!\S)|\s+"
_UP_TO_THREE_DIGITS = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_SINGLE_DIGITS = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}"
_WITH_MARKS = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|"
    rf"{_LINES}|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_FIRST = r"[^\r\n\p{L}\p{N}]?"
_REST_WITH_SLASH = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_LINES}|\s+(?!\S)|\s+"
_BY_CASE = rf"{_FIRST}{_UPPER}*{_LOWER}+|{_FIRST}{_UPPER}+{_LOWER}*|\p{{N}}|{_REST_WITH_SLASH}"
_BY_CASE_CONTRACTED = (
    rf"{_FIRST}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_FIRST}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}|"
    rf"{_REST_WITH_SLASH}"
)
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# Letters that have case. Escaped, as some of them are not themselves after normalization.
_DEEPSEEK_LETTERS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-"
    "\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)
_DEEPSEEK_PUNCTUATION = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_DEEPSEEK_3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The steps of a pre-tokenizer; the names that split so, first the one that takes a whole word that is a token as it is
# (`ignore_merges`), None where there is none, then the one that does not.
SPLITTINGS: dict[tuple[str, ...], tuple[str | None, str | None]] = {
    ("gpt2",): (None, "gpt-2"),
    ("digits", "gpt2"): (None, "smollm"),
    # Which model a name stands for is of no account to llama.cpp: "smaug-bpe" is "llama-bpe" without ignore_merges.
    (_UP_TO_THREE_DIGITS,): ("llama-bpe", "smaug-bpe"),
    (_SINGLE_DIGITS,): (None, "qwen2"),
    (_WITH_MARKS,): (None, "qwen35"),
    # These two split at case, which llama.cpp sees in ASCII alone; see `convert.differing_texts`.
    (_BY_CASE,): ("tekken", None),
    (_BY_CASE_CONTRACTED,): (None, "gpt-4o"),
    ("[\r\n]", _DEEPSEEK_LETTERS, _DEEPSEEK_PUNCTUATION, r"\s+$", _CJK, "digits"): (None, "deepseek-llm"),
    ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, "digits"): (None, "deepseek-coder"),
    (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _DEEPSEEK_3): (None, "deepseek-v3"),
    ("punctuation", "gpt2", "digit runs", "[0-9][0-9][0-9]"): (None, "falcon"),
    (r" ?[^(\s|[.,!?…。，、।۔،])]+",): (None, "bloom"),
    (rf"{_WORDS}|\p{{N}}|{_REST}",): (None, "ufakzeka"),
}
# Every other way of splitting that llama.cpp has, to be tried where the structure is not known.
_OTHERS = (
    *("glm4", "viking", "bailingmoe", "seed-coder", "exaone-moe", "minicpm5", "jais-2", "tiny_aya", "superbpe"),
    *("youtu", "laguna", "spark2_5", "afmoe", "kimi-k2", "chameleon", "granite-embed-multi-97m", "default"),
)


def pretokenizer_names(tokenizer: Mapping[str, Any], model_type: str, where: str) -> tuple[str, ...]:
    """Returns the names to try for a byte-level BPE tokenizer.json, the likeliest first.

    Where its rules are known they are those that split so. Otherwise they are all, those of the base model's type
    first. Raises EdgeftError for a normalizer, which llama.cpp does not have.
    """
    normalizer = tokenizer.get("normalizer") or {"type": "Sequence", "normalizers": []}
    # llama.cpp normalizes nothing. NFC leaves text alone that has no decomposed characters, which is nearly all.
    if normalizer["type"] != "NFC" and normalizer.get("normalizers") != []:
        raise EdgeftError(f"llama.cpp has no normalizer {normalizer['type']}", where, "use another base model")
    taking, merging = SPLITTINGS.get(splitting_steps(tokenizer.get("pre_tokenizer")), (None, None))
    takes_words = bool((tokenizer.get("model") or {}).get("ignore_merges"))
    known = tuple(name for name in ((taking, merging) if takes_words else (merging, taking)) if name)
    if known:
        return known
    every = dict.fromkeys([*(name for pair in SPLITTINGS.values() for name in pair if name), *_OTHERS])
    family = model_type.partition("_")[0]
    return tuple(sorted(every, key=lambda name: not (family and name.startswith(family))))


def has_known_rules(tokenizer: Mapping[str, Any]) -> bool:
    """Tells whether the splitting rules of a tokenizer.json are in the table, so that nothing else was tried."""
    return splitting_steps(tokenizer.get("pre_tokenizer")) in SPLITTINGS


def splitting_steps(pretokenizer: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Returns one string for each splitting step: a regex, or a name for the steps that tokenizers builds in."""
    if pretokenizer is None:
        return ("none",)
    if pretokenizer.get("type") == "Sequence":
        return tuple(step for part in pretokenizer["pretokenizers"] for step in splitting_steps(part))
    match pretokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return ()
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return ("gpt2",)
        case {"type": "Digits", "individual_digits": bool(single)}:
            return ("digits" if single else "digit runs",)
        case {"type": "Punctuation", "behavior": "Contiguous"}:
            return ("punctuation",)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return (regex,)
    return (str(dict(pretokenizer)),)

"""What the check is asked, and the codes it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CODES = {
    "few-records": "too few training records for more than a trial",
    "no-records": "a split without a single record",
    "label-imbalance": "nearly all training answers are one and the same label",
    "rare-label": "a label with too few training examples to learn",
    "duplicate": "a record that is there twice",
    "near-duplicate": "a prompt that hardly differs from an earlier one of its split",
    "contradiction": "one prompt with two answers",
    "leak": "a record of a held-out split that is trained on as well",
    "leak-prompt": "a held-out prompt that is trained on with another answer",
    "leak-near": "a held-out prompt that hardly differs from one that is trained on",
    "mojibake": "UTF-8 that was read as Windows-1252",
    "replacement-character": "characters that were lost in an earlier conversion",
    "nul": "a NUL character, which ends the text in C programs",
    "lone-surrogate": "half of a surrogate pair, which is no character",
    "control-character": "an invisible control character",
    "byte-order-mark": "a byte order mark inside a text",
    "bidi-control": "an invisible character that reorders what is shown",
    "blank-text": "a message with nothing in it but white space",
    "answer-whitespace": "an answer that starts or ends with white space",
    "special-token-in-text": "one of the model's special tokens written out in a text",
    "foreign-token-in-text": "a turn marker of some chat template written out in a text",
    "unbalanced-json": "a JSON answer that cannot be parsed, in a set of JSON answers",
    "answer-not-json": "an answer that is no JSON, in a set of JSON answers",
    "fenced-json": "JSON answers some of which are in code fences and some are not",
    "json-keys": "a JSON answer with other keys than nearly all have",
    "over-length": "a record longer than dataset.max_tokens",
    "template-refuses": "a record that the model's chat template refuses",
    "language-mix": "the languages of a split",
    "language-not-trained": "a held-out split in a language that is not trained on",
    "script-not-trained": "a held-out split in a script that is not trained on",
}


@dataclass(frozen=True)
class CheckSettings:
    """What a check depends on besides the records.

    `special_tokens` are the model's, as "<|im_end|>"; without them those of common models are looked for. Prompts
    whose character 4-grams have a Jaccard similarity of at least `near_threshold` are near-duplicates.
    """

    max_tokens: int = 1024
    over_length: Literal["error", "drop", "truncate"] = "error"
    near_threshold: float = 0.85
    special_tokens: tuple[str, ...] = ()

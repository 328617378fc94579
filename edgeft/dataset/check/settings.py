"""What the check is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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

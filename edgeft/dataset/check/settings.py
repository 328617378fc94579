"""What the check is asked."""

from __future__ import annotations

from dataclasses import dataclass

from edgeft.dataset.fitting import OverLength


@dataclass(frozen=True)
class CheckSettings:
    """What a check depends on besides the records.

    `special_tokens` are the model's, as "<|im_end|>"; without them those of common models are looked for. Prompts
    whose character 4-grams have a Jaccard similarity of at least `near_threshold` are near-duplicates. Fewer training
    records than `few_records`, a label that more than `label_share` of the answers are, and one with fewer than
    `label_examples` are warned of.
    """

    max_tokens: int = 1024
    over_length: OverLength = "error"
    near_threshold: float = 0.85
    few_records: int = 1000
    label_share: float = 0.9
    label_examples: int = 5
    special_tokens: tuple[str, ...] = ()

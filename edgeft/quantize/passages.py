"""What quantization is held to while it is chosen: records that were trained, and the positions of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import Tokens
from edgeft.dataset.tokens import TokenizedExamples


@dataclass(frozen=True)
class Passage:
    """Token ids, and the places (n_scored,) whose next token is trained: there the model's predictions count."""

    ids: list[int]
    places: npt.NDArray[np.int64]


def passages(tokens: Tokens, positions: int, part: Literal["train", "evaluation"] = "train") -> list[Passage]:
    """Returns records from all over a store, until about so many positions count.

    What is chosen by the training records is judged by others: those of the evaluation, or the test.
    """
    examples = TokenizedExamples(tokens.path / part)
    order = np.random.default_rng(0).permutation(len(examples))
    held: list[Passage] = []
    found = 0
    for index in order.tolist():
        example = examples[index]
        places = np.flatnonzero(example.trained[1:])
        if len(places):
            held.append(Passage(example.ids, places))
            found += len(places)
        if found >= positions:
            break
    return held

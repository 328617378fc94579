"""What quantization is held to while it is chosen: records that were trained, and the positions of their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import Tokens
from edgeft.dataset.tokens import TokenizedExamples


@dataclass(frozen=True)
class Passage:
    """Token ids, and the places (n_scored,) whose next token is trained: there the model's predictions count."""

    ids: list[int]
    places: npt.NDArray[np.int64]


def trained_passages(tokens: Tokens, positions: int) -> list[Passage]:
    """Returns training records from all over the store, until about so many positions count.

    Never records of the evaluation or the test, which the file is judged by.
    """
    examples = TokenizedExamples(tokens.path / "train")
    order = np.random.default_rng(0).permutation(len(examples))
    passages: list[Passage] = []
    found = 0
    for index in order.tolist():
        example = examples[index]
        places = np.flatnonzero(example.trained[1:])
        if len(places):
            passages.append(Passage(example.ids, places))
            found += len(places)
        if found >= positions:
            break
    return passages

"""What a verdict rests on: each record's scored tokens, and what both models thought of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeft.files import json_text, write_text

if TYPE_CHECKING:
    from edgeft.llamacpp import Vocabulary
    from edgeft.parity.distributions import Doubles
    from edgeft.parity.reference import ReferenceRecord
    from edgeft.parity.statistics import Positions

_DIGITS = 6


@dataclass(frozen=True)
class ScoredRecord:
    """One record's scored tokens, a list entry each.

    `kld` is in nats, before the token; `p` and `q` are its probabilities in the reference and in the file; `top` and
    `file_top` are the tokens that each thought likeliest, `p_top` and `q_top` the probabilities that it gave them.
    """

    number: int
    prompt: str
    tokens: list[str]
    kld: list[float]
    p: list[float]
    q: list[float]
    top: list[str]
    p_top: list[float]
    file_top: list[str]
    q_top: list[float]

    @property
    def mean_kld(self) -> float:
        """Mean over its tokens; NaN where one is."""
        return sum(self.kld) / len(self.kld)


@dataclass(frozen=True)
class Checked:
    """The report on a file, as it is in parity.json, and the records that were scored."""

    report: dict[str, Any]
    records: list[ScoredRecord] = field(default_factory=list)


def scored_records(
    positions: Positions, records: Sequence[ReferenceRecord], vocabulary: Vocabulary
) -> list[ScoredRecord]:
    """Returns the positions by record, with the file's own text for each token."""
    found = []
    for number in np.unique(positions.record).tolist():
        here, record = positions.record == number, records[number]
        found.append(
            ScoredRecord(
                number,
                record.rendered_prompt,
                _texts(record.targets[: int(here.sum())], vocabulary),
                _rounded(positions.kld[here]),
                _rounded(np.exp(-positions.nll_reference[here])),
                _rounded(np.exp(-positions.nll[here])),
                _texts(positions.top_reference[here].tolist(), vocabulary),
                _rounded(positions.p_top_reference[here]),
                _texts(positions.top[here].tolist(), vocabulary),
                _rounded(positions.p_top[here]),
            )
        )
    return found


def _texts(ids: Sequence[int], vocabulary: Vocabulary) -> list[str]:
    """Returns what tokens say; a part of a character, which says nothing alone, as its bytes."""
    texts = []
    for token in ids:
        piece = vocabulary.piece(token, special=True)
        try:
            texts.append(piece.decode())
        except UnicodeDecodeError:
            texts.append("".join(f"\\x{byte:02x}" for byte in piece))
    return texts


def _rounded(values: Doubles) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def write_records(records: Sequence[ScoredRecord], path: Path) -> None:
    """Writes the records as JSON, a line each; a figure that is no number is null."""
    lines = ",\n".join(json_text(asdict(record), None) for record in records)
    write_text(path, f"[\n{lines}\n]\n")


def read_records(path: Path) -> list[ScoredRecord]:
    """Returns the records of a file that `write_records` wrote."""
    return [
        ScoredRecord(**{key: _numbers(value) for key, value in record.items()})
        for record in json.loads(path.read_text(encoding="utf-8"))
    ]


def _numbers(value: Any) -> Any:
    return [math.nan if one is None else one for one in value] if isinstance(value, list) else value

"""A source of records -> two files, one to train on and one to evaluate on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeft.dataset.account import FindingLog
from edgeft.dataset.findings import Finding
from edgeft.dataset.records import Record
from edgeft.dataset.split import Sides, hash_key, prompt_key, split
from edgeft.dataset.tokens import TokenSource
from edgeft.errors import EdgeftError


def split_records(
    source: TokenSource,
    fraction: float,
    out: Path,
    grouping: Callable[[Iterator[Record]], npt.NDArray[np.int64]],
    log: FindingLog | None = None,
) -> Sides:
    """Writes train.jsonl and evaluation.jsonl into the folder `out`; reads the source three times and keeps no record.

    `log` is filled with what is found among the records, as the keys that are not written. Raises EdgeftError for
    faulty records, and where one of the files would be empty; then there is none.
    """
    prompts, answers = array("Q"), array("Q")
    log = FindingLog() if log is None else log
    for item in source.stream():
        if isinstance(item, Finding):
            log.add([item])
        else:
            prompts.append(prompt_key(item))
            answers.append(hash_key(item.answer))
    log.raise_errors()
    groups = grouping(_records(source))
    keys = np.array(prompts, dtype=np.uint64)
    sides = split(keys, fraction, groups=groups, answers=np.array(answers, dtype=np.uint64))
    if sides.evaluation.all() or not sides.evaluation.any():
        what = f"{len(keys):,} record{'' if len(keys) == 1 else 's'} cannot be split into training and evaluation"
        raise EdgeftError(what, source.name, "give more records, or another fraction")
    with (
        (out / "train.jsonl").open("w", encoding="utf-8") as train,
        (out / "evaluation.jsonl").open("w", encoding="utf-8") as evaluation,
    ):
        for record, held in zip(_records(source), sides.evaluation.tolist(), strict=True):
            (evaluation if held else train).write(record.to_json() + "\n")
    return sides


def _records(source: TokenSource) -> Iterator[Record]:
    return (item for item in source.stream() if isinstance(item, Record))

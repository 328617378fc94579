"""A file of records -> two files, one to train on and one to evaluate on."""

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


def split_records(
    stream: Callable[[], Iterator[Record | Finding]],
    fraction: float,
    out: Path,
    grouping: Callable[[Iterator[Record]], npt.NDArray[np.int64]],
) -> Sides:
    """Writes train.jsonl and evaluation.jsonl into the folder `out`; reads the stream three times and keeps no record.

    Raises EdgeftError for faulty records.
    """
    prompts, answers = array("Q"), array("Q")
    log = FindingLog()
    for item in stream():
        if isinstance(item, Finding):
            log.add([item])
        else:
            prompts.append(prompt_key(item))
            answers.append(hash_key(item.answer))
    log.raise_errors()
    groups = grouping(item for item in stream() if isinstance(item, Record))
    keys = np.array(prompts, dtype=np.uint64)
    sides = split(keys, fraction, groups=groups, answers=np.array(answers, dtype=np.uint64))
    records = (item for item in stream() if isinstance(item, Record))
    with (
        (out / "train.jsonl").open("w", encoding="utf-8") as train,
        (out / "evaluation.jsonl").open("w", encoding="utf-8") as evaluation,
    ):
        for record, held in zip(records, sides.evaluation.tolist(), strict=True):
            (evaluation if held else train).write(record.to_json() + "\n")
    return sides

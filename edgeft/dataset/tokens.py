"""Records -> token ids and loss mask, split, counted and stored as flat arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import Tokens
from edgeft.config import DatasetConfig
from edgeft.dataset.mask import Example, tokenize_record
from edgeft.dataset.records import Record, read_records
from edgeft.dataset.tokenizer_view import TokenizerView
from edgeft.errors import EdgeftError, Problem
from edgeft.files import write_json, write_text
from edgeft.progress import Progress, silent

_HASH_SPACE = 16**8


def build_tokens(
    train: Path,
    test: Path | None,
    tokenizer: TokenizerView,
    config: DatasetConfig,
    out: Path,
    progress: Progress = silent,
) -> Tokens:
    """Reads, splits and tokenizes the records into the folder `out`.

    `train` gives the training and evaluation records; which is which depends on each record's own content, so adding
    records never moves one across. `test` is held out; without one the evaluation records are tested on. tokens.json
    accounts for every record. Raises EdgeftError for faulty records, and for over-long ones unless they may be dropped.
    """
    records, test_records = _read_all(train, test)
    examples = _tokenize(records, tokenizer, progress)
    dropped = _over_length(records, examples, config)
    kept = [pair for i, pair in enumerate(zip(records, examples, strict=True)) if i not in dropped]
    evaluation = [is_evaluation(record, config.evaluation_fraction) for record, _ in kept]
    if all(evaluation) or not any(evaluation):
        raise EdgeftError(
            f"{len(kept)} records cannot be split into training and evaluation",
            where=str(train),
            remedy="give more records, or change dataset.evaluation_fraction",
        )
    _save(out / "train.npz", [example for (_, example), held in zip(kept, evaluation, strict=True) if not held])
    _save(out / "evaluation.npz", [example for (_, example), held in zip(kept, evaluation, strict=True) if held])
    held_out = [record for (record, _), held in zip(kept, evaluation, strict=True) if held]
    tested = held_out if test_records is None else test_records
    write_text(out / "test.jsonl", "".join(record.to_json() + "\n" for record in tested))
    write_json(
        out / "tokens.json",
        {
            "records_in": len(records),
            "records_train": evaluation.count(False),
            "records_evaluation": evaluation.count(True),
            "records_dropped": {"over_length": len(dropped)},
            "records_test": len(tested),
            "tokens_in": sum(len(example.ids) for example in examples),
            "tokens_trained": sum(sum(example.trained) for (_, example) in kept),
            "turns_not_trained": sum(len(example.notes) for (_, example) in kept),
            "longest_tokens": max(len(example.ids) for _, example in kept),
            "end_ids": sorted(tokenizer.end_ids),
        },
    )
    return Tokens(out)


def _read_all(train: Path, test: Path | None) -> tuple[list[Record], list[Record] | None]:
    """Reads both files, so that the faults of both are named before any work."""
    read: list[list[Record]] = []
    problems: list[Problem] = []
    for path in (train, test):
        try:
            read += [read_records(path)] if path is not None else []
        except EdgeftError as error:
            problems += error.problems
    if problems:
        raise EdgeftError(problems)
    return read[0], read[1] if test is not None else None


def _tokenize(records: Sequence[Record], tokenizer: TokenizerView, progress: Progress) -> list[Example]:
    examples: list[Example] = []
    problems: list[Problem] = []
    for done, record in enumerate(records, start=1):
        try:
            examples.append(tokenize_record(record, tokenizer))
        except EdgeftError as error:
            problems += error.problems
        progress(done, len(records), f"{len(records):,} records")
    if problems:
        raise EdgeftError(problems)
    return examples


def is_evaluation(record: Record, fraction: float) -> bool:
    """Returns whether a record belongs to the evaluation split: decided by its content alone."""
    return int(record.content_hash[:8], 16) < fraction * _HASH_SPACE


def _over_length(records: Sequence[Record], examples: Sequence[Example], config: DatasetConfig) -> set[int]:
    over = {i for i, example in enumerate(examples) if len(example.ids) > config.max_tokens}
    if over and config.over_length == "error":
        remedy = 'raise dataset.max_tokens, shorten the record, or set dataset.over_length = "drop"'
        raise EdgeftError(
            Problem(f"{len(examples[i].ids)} tokens, and the most is {config.max_tokens}", records[i].where, remedy)
            for i in sorted(over)
        )
    return over


def _save(path: Path, examples: Sequence[Example]) -> None:
    lengths = [len(example.ids) for example in examples]
    np.savez(
        path,
        ids=np.array([token for example in examples for token in example.ids], dtype=np.int32),
        trained=np.array([flag for example in examples for flag in example.trained], dtype=np.bool_),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
    )


class TokenizedExamples:
    """The examples of one split, read from its arrays; index with an int to get one."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self.ids: npt.NDArray[np.int32] = arrays["ids"]
            self.trained: npt.NDArray[np.bool_] = arrays["trained"]
            self.offsets: npt.NDArray[np.int64] = arrays["offsets"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Example:
        span = slice(self.offsets[index], self.offsets[index + 1])
        return Example(self.ids[span].tolist(), self.trained[span].tolist())

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example."""
        return np.diff(self.offsets)


def token_counts(tokens: Tokens) -> dict[str, Any]:
    """Returns tokens.json: the account of every record."""
    counts: dict[str, Any] = json.loads((tokens.path / "tokens.json").read_text(encoding="utf-8"))
    return counts

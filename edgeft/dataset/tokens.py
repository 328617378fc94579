"""The tokens stage: streams of records -> stores of token ids and loss mask, split, with an account of every record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import Tokens
from edgeft.config import DatasetConfig
from edgeft.dataset.account import FindingLog, Outcome
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.fitting import Limit
from edgeft.dataset.parallel import available_workers, ordered_map
from edgeft.dataset.records import Record
from edgeft.dataset.split import Sides, split
from edgeft.dataset.store import Block, TokenizedExamples, TokenWriter, copy_examples
from edgeft.dataset.tested import PromptFitter, Tested
from edgeft.dataset.tokenizer import OpenTokenizer, TokenizerView
from edgeft.dataset.tokenizing import ROW, Done, RecordTokenizer, Rows, Work
from edgeft.errors import EdgeftError
from edgeft.files import replacing, write_json
from edgeft.progress import Progress, silent

__all__ = ["Grouping", "TokenInputs", "TokenSource", "TokenizedExamples", "TokenizerView", "build_tokens"]

Grouping = Callable[[Iterator[Record]], npt.NDArray[np.int64]]
"""Takes records and returns the number of each one's group of near-duplicates, (records,)."""

# A worker's portion: enough to encode well together, little enough that a few in flight weigh nothing.
_WORK_RECORDS = 256
_WORK_CHARACTERS = 1 << 18
_KEY_SPACE = 2.0**64


@dataclass(frozen=True)
class TokenSource:
    """Records that are read as a stream. `weight`: passes in an epoch; `expected`: about how many, 0: not known."""

    name: str
    stream: Callable[[], Iterator[Record | Finding]]
    weight: float = 1.0
    expected: int = 0


@dataclass(frozen=True)
class TokenInputs:
    """The sources: those trained on, and where given one to evaluate the loss on and one held out for tests."""

    train: Sequence[TokenSource]
    evaluation: TokenSource | None = None
    test: TokenSource | None = None

    @property
    def tokenized(self) -> list[TokenSource]:
        """The sources that become tokens, in the order of their numbers."""
        return [*self.train, *([] if self.evaluation is None else [self.evaluation])]


def build_tokens(
    inputs: TokenInputs,
    open_tokenizer: OpenTokenizer,
    config: DatasetConfig,
    out: Path,
    progress: Progress = silent,
    *,
    workers: int | None = None,
    grouping: Grouping | None = None,
) -> Tokens:
    """Tokenizes and splits the records into the folder `out`: train/, evaluation/, test.jsonl and tokens.json.

    Memory grows by about 60 bytes a record alone, and the bytes written do not depend on `workers` (processes; unset:
    one a core). Without a source for evaluation a share of the training records is held out: `edgeft.dataset.split`
    says which, and `grouping` gives the near-duplicates that it keeps together. Without one for tests the evaluation's
    conversations are tested on; of test records the prompts alone have to fit. Raises EdgeftError with all errors among
    the findings, and where nothing is left to train, to evaluate or to test; then nothing is written.
    """
    log = FindingLog()
    with TemporaryDirectory(prefix=".staging", dir=out) as folder:
        staging = _Staging(Path(folder), log)
        limit = Limit(config.max_tokens, config.over_length)
        count = available_workers() if workers is None else workers
        rows = staging.tokenize(inputs.tokenized, RecordTokenizer(open_tokenizer, limit), count, progress)
        tested = staging.stream_tests(inputs.test, PromptFitter(open_tokenizer, limit), count)
        log.raise_errors()
        progress(len(rows), len(rows), "splitting and writing")
        groups = None if grouping is None or inputs.evaluation is not None else grouping(staging.records())
        sides = _sides(rows, inputs, config, groups)
        outcome = _outcome(rows, inputs, sides, tested)
        staging.write(outcome, out, own_tests=inputs.test is not None)
        end_ids = sorted(open_tokenizer().end_ids)
        write_json(out / "tokens.json", {**outcome.to_json(), "end_ids": end_ids, "findings": log.noticed})
    return Tokens(out)


def _sides(rows: Rows, inputs: TokenInputs, config: DatasetConfig, groups: npt.NDArray[np.int64] | None) -> Sides:
    kept = rows["examples"] > 0
    if inputs.evaluation is not None:
        return Sides(kept & (rows["source"] == len(inputs.train)))
    chosen = rows[kept]
    sides = split(chosen["prompt"], config.evaluation_fraction, groups=groups, answers=chosen["answer"])
    evaluation = np.zeros(len(rows), dtype=np.bool_)
    evaluation[kept] = sides.evaluation
    return Sides(evaluation, sides.by_group, sides.by_need)


def _outcome(rows: Rows, inputs: TokenInputs, sides: Sides, tested: Sequence[int]) -> Outcome:
    """Decides how often each record is trained; raises EdgeftError when one side is empty."""
    weights = [source.weight for source in inputs.train]
    wanted = np.array([*weights, 0.0])[rows["source"]]
    # A part of a pass takes those records whose hash is in that part, so that more records change none.
    passes = np.floor(wanted) + (rows["content"] / _KEY_SPACE < wanted % 1)
    passes = np.where(sides.evaluation | (rows["examples"] == 0), 0, passes).astype(np.int64)
    if not passes.any() or not sides.evaluation.any():
        raise EdgeftError(
            f"{np.count_nonzero(rows['examples'])} records cannot be split into training and evaluation",
            where=inputs.train[0].name,
            remedy="give more records, a file as dataset.evaluation, or change dataset.evaluation_fraction",
        )
    n_test = len(tested) if inputs.test is not None else int(np.count_nonzero(sides.evaluation & ~rows["text"]))
    names = [source.name for source in inputs.tokenized]
    return Outcome(rows, names, weights, sides, passes, n_test, np.array(tested, dtype=np.uint64))


@dataclass
class _Staging:
    """A folder with every example in the order of the records, before it is known which side each is on."""

    folder: Path
    log: FindingLog
    _test_lines: Path = field(init=False)

    def __post_init__(self) -> None:
        self._test_lines = self.folder / "test.jsonl"

    @property
    def _examples(self) -> Path:
        return self.folder / "examples"

    @property
    def _lines(self) -> Path:
        return self.folder / "records.jsonl"

    def tokenize(self, sources: Sequence[TokenSource], how: RecordTokenizer, workers: int, progress: Progress) -> Rows:
        """Writes the examples and the records that they are of; returns a row for each record."""
        rows: list[Rows] = [np.zeros(0, ROW)]
        expected, done = sum(source.expected for source in sources), 0
        with TokenWriter(self._examples) as writer, self._lines.open("wb") as lines:
            result: Done
            for result in ordered_map(how.open, _works(sources), workers):
                self.log.add(result.findings)
                rows.append(result.rows)
                lines.write("".join(f"{line}\n" for line in result.lines).encode())
                writer.extend(_renumbered(result, writer))
                done += len(result.rows)
                progress(done, max(done, expected) if expected else 0, f"{done:,} records")
        return np.concatenate(rows)

    def stream_tests(self, source: TokenSource | None, how: PromptFitter, workers: int) -> list[int]:
        """Writes the test records that can be answered, and returns the hashes of their prompts."""
        prompts: list[int] = []
        if source is None:
            return prompts
        refused = False
        with self._test_lines.open("wb") as file:
            result: Tested
            for result in ordered_map(how.open, _works([source]), workers):
                self.log.add(result.findings)
                refused = refused or any(finding.severity == "error" for finding in result.findings)
                file.write("".join(f"{line}\n" for line in result.lines).encode())
                prompts += result.prompts
        if not prompts and not refused:  # else the errors say why
            message = "no record is left to be tested on"
            self.log.add([Finding("error", "no-records", Place(source.name), message, "name conversations that fit")])
        return prompts

    def records(self) -> Iterator[Record]:
        """Yields the records that were kept, as they were tokenized."""
        with self._lines.open("rb") as file:
            for number, line in enumerate(file, start=1):
                content = json.loads(line)
                yield Record(
                    tuple(content["messages"]), Place(str(self._lines), number), tuple(content.get("tools", ()))
                )

    def write(self, outcome: Outcome, out: Path, *, own_tests: bool) -> None:
        """Writes both sides, and the test records: those of a file of their own, or the evaluation's conversations."""
        kept = outcome.rows["examples"] > 0
        for name, passes in (("train", outcome.passes), ("evaluation", outcome.sides.evaluation.astype(np.int64))):
            with TokenWriter(out / name) as writer:
                copy_examples(self._examples, np.repeat(passes[kept], outcome.rows["examples"][kept]), writer)
        with replacing(out / "test.jsonl") as partial:
            if own_tests:
                self._test_lines.rename(partial)
                return
            chosen = (outcome.sides.evaluation & ~outcome.rows["text"])[kept]
            with self._lines.open("rb") as lines, partial.open("wb") as file:
                file.writelines(compress(lines, chosen.tolist()))


def _works(sources: Sequence[TokenSource]) -> Iterator[Work]:
    """Yields the records of all sources in portions; a source without any gives an error."""
    for number, source in enumerate(sources):
        work, characters, found = Work(number), 0, False
        for item in source.stream():
            found = True
            if isinstance(item, Finding):
                work.findings.append(item)
            else:
                work.records.append(item)
                characters += sum(len(message.get("content") or "") for message in item.messages)
            full = len(work.records) + len(work.findings) >= _WORK_RECORDS
            if full or characters >= _WORK_CHARACTERS:
                yield work
                work, characters = Work(number), 0
        if not found:
            work.findings.append(_no_records(source))
        if work.records or work.findings:
            yield work


def _no_records(source: TokenSource) -> Finding:
    return Finding("error", "no-records", Place(source.name), "there are no records here", "name a file of records")


def _renumbered(done: Done, writer: TokenWriter) -> Block:
    """Returns the examples with their files numbered as the writer does."""
    numbers = np.array([writer.file_number(name) for name in done.files], dtype=np.uint32)
    places = done.block.places.copy()
    places[:, 0] = numbers[places[:, 0]]
    return Block(done.block.ids, done.block.trained, done.block.lengths, places)


def token_counts(tokens: Tokens) -> dict[str, Any]:
    """Returns tokens.json: the account of every record."""
    counts: dict[str, Any] = json.loads((tokens.path / "tokens.json").read_text(encoding="utf-8"))
    return counts

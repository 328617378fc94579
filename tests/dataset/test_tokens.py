"""Records become arrays: split by content, counted to the last one, equal to a fresh tokenization."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import make_tokenizer

from edgeft import hf
from edgeft.artifacts import Checkpoint, Tokens
from edgeft.config import DatasetConfig
from edgeft.dataset.findings import Place
from edgeft.dataset.mask import tokenize_record
from edgeft.dataset.records import Record, read_records, stream_records
from edgeft.dataset.split import is_evaluation
from edgeft.dataset.tokens import (
    TokenInputs,
    TokenizedExamples,
    TokenizerView,
    TokenSource,
    build_tokens,
    token_counts,
)
from edgeft.errors import EdgeftError

LENGTHS = (1, 5, 200)


def records(numbers: Sequence[int]) -> list[Record]:
    """Returns records that differ by their number; some have long answers, some several turns."""
    made = []
    for number in numbers:
        turn = [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number} " * LENGTHS[number % len(LENGTHS)]},
        ]
        made.append(Record(tuple(turn * (1 + number % 2)), Place("made", number + 1)))
    return made


def write(path: Path, chosen: Sequence[Record]) -> Path:
    """Writes records as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(record.to_json() + "\n" for record in chosen), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer() -> TokenizerView:
    """The tiny model's tokenizer."""
    made = make_tokenizer()
    return hf.tokenizer_view(made, Path("nowhere"))


def source(path: Path, **settings: Any) -> TokenSource:
    """Returns a file as a source."""
    return TokenSource(str(path), partial(stream_records, path), **settings)


def config(**settings: Any) -> DatasetConfig:
    """Returns a configuration that takes records of every length."""
    return DatasetConfig(**{"train": "train.jsonl", "max_tokens": 100_000, "evaluation_fraction": 0.3, **settings})


def make(folder: Path, tokenizer: TokenizerView, chosen: Sequence[Record], **settings: Any) -> Tokens:
    """Tokenizes records into `folder`/tokens."""
    return make_of(folder, tokenizer, TokenInputs([source(write(folder / "train.jsonl", chosen))]), **settings)


def make_of(folder: Path, tokenizer: TokenizerView, inputs: TokenInputs, **settings: Any) -> Tokens:
    """Tokenizes sources into `folder`/tokens."""
    (folder / "tokens").mkdir(parents=True)
    return build_tokens(inputs, lambda: tokenizer, config(**settings), folder / "tokens")


def split(tokens: Tokens, name: str) -> list[tuple[list[int], list[bool]]]:
    """Returns the examples of a split."""
    examples = TokenizedExamples(tokens.path / name)
    return [(examples[i].ids, examples[i].trained) for i in range(len(examples))]


def test_arrays_equal_a_fresh_tokenization(tmp_path: Path, tokenizer: TokenizerView) -> None:
    chosen = records(range(40))
    tokens = make(tmp_path, tokenizer, chosen)
    for name, held in (("train", False), ("evaluation", True)):
        fresh = [tokenize_record(record, tokenizer) for record in chosen if is_evaluation(record, 0.3) == held]
        assert fresh
        assert split(tokens, name) == [(example.ids, example.trained) for example in fresh]
        lengths = TokenizedExamples(tokens.path / name).lengths
        assert lengths.tolist() == [len(example.ids) for example in fresh]


def test_without_a_test_file_the_evaluation_records_are_tested(tmp_path: Path, tokenizer: TokenizerView) -> None:
    chosen = records(range(20))
    tokens = make(tmp_path, tokenizer, chosen)
    tested = read_records(tokens.path / "test.jsonl")
    assert [r.messages for r in tested] == [r.messages for r in chosen if is_evaluation(r, 0.3)]


def test_adding_records_moves_none_across(tmp_path: Path, tokenizer: TokenizerView) -> None:
    few, many = records(range(20)), records(range(60))
    before = make(tmp_path / "before", tokenizer, few)
    after = make(tmp_path / "after", tokenizer, [*reversed(many), *few])
    for name in ("train", "evaluation"):
        assert all(example in split(after, name) for example in split(before, name))


def test_a_larger_fraction_only_adds_to_the_evaluation() -> None:
    chosen = records(range(400))
    held = {fraction: {r.where for r in chosen if is_evaluation(r, fraction)} for fraction in (0.1, 0.2, 0.5)}
    assert held[0.1] < held[0.2] < held[0.5]
    for fraction, names in held.items():
        # Four standard deviations of a binomial count; the records and their hashes are fixed.
        assert abs(len(names) - 400 * fraction) < 4 * (400 * fraction * (1 - fraction)) ** 0.5


def test_equal_records_are_on_one_side(tmp_path: Path, tokenizer: TokenizerView) -> None:
    tokens = make(tmp_path, tokenizer, records([*range(20), *range(20)]))
    trained = {tuple(ids) for ids, _ in split(tokens, "train")}
    assert trained.isdisjoint(tuple(ids) for ids, _ in split(tokens, "evaluation"))


def test_the_account_adds_up(tmp_path: Path, tokenizer: TokenizerView) -> None:
    tokens = make(tmp_path, tokenizer, records(range(30)), max_tokens=300, over_length="drop")
    counts = token_counts(tokens)
    train, evaluation = split(tokens, "train"), split(tokens, "evaluation")
    assert counts["records_dropped"]["over_length"] == 10
    assert counts["records_in"] == 30 == len(train) + len(evaluation) + 10
    assert (counts["records_train"], counts["records_evaluation"]) == (len(train), len(evaluation))
    assert counts["records_test"] == len(evaluation)
    assert counts["tokens_trained"] == sum(sum(flags) for _, flags in train + evaluation)
    assert counts["longest_tokens"] == max(len(ids) for ids, _ in train + evaluation) <= 300
    assert counts["tokens_in"] > sum(len(ids) for ids, _ in train + evaluation)


def test_every_record_that_is_too_long_is_named(tmp_path: Path, tokenizer: TokenizerView) -> None:
    with pytest.raises(EdgeftError) as caught:
        make(tmp_path, tokenizer, records(range(9)), max_tokens=300)
    path = tmp_path / "train.jsonl"
    assert [problem.where for problem in caught.value.problems] == [f"{path}:{line}" for line in (3, 6, 9)]
    assert all("and the most is 300" in problem.what for problem in caught.value.problems)
    assert all("over_length" in problem.remedy for problem in caught.value.problems)


def test_the_limit_itself_is_allowed(tmp_path: Path, tokenizer: TokenizerView) -> None:
    longest = token_counts(make(tmp_path / "all", tokenizer, records(range(9))))["longest_tokens"]
    make(tmp_path / "same", tokenizer, records(range(9)), max_tokens=longest)
    with pytest.raises(EdgeftError, match=f"{longest:,} tokens, and the most is {longest - 1:,}"):
        make(tmp_path / "less", tokenizer, records(range(9)), max_tokens=longest - 1)


@pytest.mark.parametrize(("numbers", "settings"), [([1], {}), ([1, 2, 3], {"max_tokens": 8, "over_length": "drop"})])
def test_what_cannot_be_split_is_refused(
    tmp_path: Path, tokenizer: TokenizerView, numbers: list[int], settings: dict[str, Any]
) -> None:
    with pytest.raises(EdgeftError, match="cannot be split into training and evaluation"):
        make(tmp_path, tokenizer, records(numbers), **settings)
    assert list((tmp_path / "tokens").iterdir()) == []


def test_test_records_are_kept_as_they_are(tmp_path: Path, tokenizer: TokenizerView) -> None:
    test = write(tmp_path / "test.jsonl", records([100, 101]))
    train = write(tmp_path / "train.jsonl", records(range(20)))
    tokens = make_of(tmp_path, tokenizer, TokenInputs([source(train)], test=source(test)))
    assert (tokens.path / "test.jsonl").read_bytes() == test.read_bytes()
    assert token_counts(tokens)["records_test"] == 2


def test_faults_of_both_files_at_once(tmp_path: Path, tokenizer: TokenizerView) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("{\n")
    test.write_text("7\n")
    with pytest.raises(EdgeftError) as caught:
        make_of(tmp_path, tokenizer, TokenInputs([source(train)], test=source(test)))
    assert [problem.where for problem in caught.value.problems] == [f"{train}:1", f"{test}:1"]


def test_every_record_that_the_template_cannot_train_is_named(tmp_path: Path, tokenizer: TokenizerView) -> None:
    no_end = replace(tokenizer, end_ids=[])
    with pytest.raises(EdgeftError) as caught:
        make(tmp_path, no_end, records(range(3)))
    assert [problem.where.rpartition(":")[2] for problem in caught.value.problems] == ["1", "2", "3"]


def test_progress_goes_to_the_end(tmp_path: Path, tokenizer: TokenizerView) -> None:
    train = write(tmp_path / "train.jsonl", records(range(1000)))
    seen: list[tuple[float, float]] = []
    build_tokens(
        TokenInputs([source(train, expected=900)]),
        lambda: tokenizer,
        config(),
        tmp_path,
        lambda done, total, status="": seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert len(seen) >= 4
    assert all(total == max(done, 900) for done, total in seen)
    assert seen[-1] == (1000, 1000)


def test_the_account_is_json(tmp_path: Path, tokenizer: TokenizerView) -> None:
    tokens = make(tmp_path, tokenizer, records(range(20)))
    assert json.loads((tokens.path / "tokens.json").read_text())["end_ids"] == sorted(tokenizer.end_ids)


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, tiny_checkpoint: Checkpoint) -> None:
    chosen = records(range(9000))  # 36 portions: enough for a pool
    train = write(tmp_path / "train.jsonl", [*chosen, *chosen[:30]])
    opener = hf.tokenizer_opener(tiny_checkpoint.path)
    made = []
    for workers in (1, 2, 3):
        out = tmp_path / str(workers)
        out.mkdir()
        settings = config(max_tokens=200, over_length="drop")
        build_tokens(TokenInputs([source(train)]), opener, settings, out, workers=workers)
        made.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert made[0] == made[1] == made[2]
    assert made[0].keys() > {Path("train/ids.bin"), Path("evaluation/header.json"), Path("test.jsonl")}


def test_errors_in_worker_processes_are_all_counted_in_order(tmp_path: Path, tiny_checkpoint: Checkpoint) -> None:
    train = write(tmp_path / "train.jsonl", records(range(9000)))
    opener = hf.tokenizer_opener(tiny_checkpoint.path)
    out = tmp_path / "tokens"
    out.mkdir()
    with pytest.raises(EdgeftError) as caught:
        build_tokens(TokenInputs([source(train)]), opener, config(max_tokens=300), out, workers=2)
    lines = [int(problem.where.rpartition(":")[2]) for problem in caught.value.problems[:-1]]
    assert lines == [3 + 3 * number for number in range(100)]
    assert caught.value.problems[-1].what == "and 2,900 more errors"
    assert list(out.iterdir()) == []


def test_weights_are_passes_over_a_source(tmp_path: Path, tokenizer: TokenizerView) -> None:
    numbers = {"once": range(100), "often": range(100, 150), "half": range(150, 350)}
    weights = {"once": 1.0, "often": 2.5, "half": 0.5}
    sources = [
        source(write(tmp_path / f"{name}.jsonl", records(numbers[name])), weight=weights[name]) for name in numbers
    ]
    tokens = make_of(tmp_path, tokenizer, TokenInputs(sources))
    counts = token_counts(tokens)
    examples = TokenizedExamples(tokens.path / "train")
    places = [str(examples.place(index)) for index in range(len(examples))]
    for number, name in enumerate(numbers):
        account = counts["sources"][number]
        used = [place for place in places if place.startswith(str(tmp_path / name))]
        assert len(used) == account["examples_train"]
        assert len(set(used)) == account["records_train"]
        held, dropped = account["records_evaluation"], account["records_dropped"]["weight"]
        assert account["records_in"] == len(numbers[name]) == len(set(used)) + held + dropped
        assert (dropped > 0) == (name == "half")
        # Four standard deviations of a binomial count, of which the records and their hashes are fixed.
        eligible = len(numbers[name]) - held
        assert abs(len(used) - weights[name] * eligible) <= 4 * (0.25 * eligible) ** 0.5
    assert counts["records_in"] == 350
    assert counts["examples_train"] == len(examples)


def test_a_file_for_evaluation_is_all_of_the_evaluation(tmp_path: Path, tokenizer: TokenizerView) -> None:
    train = write(tmp_path / "train.jsonl", records(range(20)))
    evaluation = write(tmp_path / "evaluation.jsonl", records([5, 100, 101]))
    test = write(tmp_path / "test.jsonl", records([6, 7, 102]))
    tokens = make_of(tmp_path, tokenizer, TokenInputs([source(train)], source(evaluation), source(test)))
    counts = token_counts(tokens)
    assert len(split(tokens, "train")) == 20 == counts["records_train"]
    assert len(split(tokens, "evaluation")) == 3 == counts["records_evaluation"]
    assert counts["records_in"] == 23
    assert counts["trained_prompts_in"] == {"evaluation": 1, "test": 2}


def test_a_source_without_records_is_an_error(tmp_path: Path, tokenizer: TokenizerView) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    full = write(tmp_path / "full.jsonl", records(range(9)))
    with pytest.raises(EdgeftError) as caught:
        make_of(tmp_path, tokenizer, TokenInputs([source(full), source(empty)], test=source(empty)))
    assert [problem.where for problem in caught.value.problems] == [str(empty), str(empty)]


def test_a_grouping_keeps_its_groups_on_one_side(tmp_path: Path, tokenizer: TokenizerView) -> None:
    train = write(tmp_path / "train.jsonl", records(range(60)))
    (tmp_path / "tokens").mkdir()
    seen: list[Record] = []

    def grouping(of: Any) -> Any:
        seen.extend(of)
        return np.arange(len(seen)) // 3

    inputs = TokenInputs([source(train)])
    tokens = build_tokens(inputs, lambda: tokenizer, config(), tmp_path / "tokens", grouping=grouping)
    assert [record.messages for record in seen] == [record.messages for record in records(range(60))]
    counts = token_counts(tokens)
    held = TokenizedExamples(tokens.path / "evaluation")
    groups = [(held.place(index).line - 1) // 3 for index in range(len(held))]
    assert all(groups.count(group) == 3 for group in groups)
    own = sum(is_evaluation(record, 0.3) for record in seen)
    assert counts["records_evaluation"] == own + counts["evaluation_by_group"] == len(held)
    assert counts["evaluation_by_group"] > 0

"""Records become arrays: split by content, counted to the last one, equal to a fresh tokenization."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tokenizer

from edgeft import hf
from edgeft.artifacts import Tokens
from edgeft.config import DatasetConfig
from edgeft.dataset.findings import Place
from edgeft.dataset.mask import tokenize_record
from edgeft.dataset.records import Record, read_records
from edgeft.dataset.tokenizer_view import TokenizerView
from edgeft.dataset.tokens import TokenizedExamples, build_tokens, is_evaluation, token_counts
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
    path.write_text("".join(record.to_json() + "\n" for record in chosen), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer() -> TokenizerView:
    """The tiny model's tokenizer."""
    made = make_tokenizer()
    return hf.tokenizer_view(made, Path("nowhere"))


def config(**settings: Any) -> DatasetConfig:
    """Returns a configuration that takes records of every length."""
    return DatasetConfig(**{"train": "train.jsonl", "max_tokens": 100_000, "evaluation_fraction": 0.3, **settings})


def make(folder: Path, tokenizer: TokenizerView, chosen: Sequence[Record], **settings: Any) -> Tokens:
    """Tokenizes records into `folder`/tokens."""
    (folder / "tokens").mkdir(parents=True)
    return build_tokens(write(folder / "train.jsonl", chosen), None, tokenizer, config(**settings), folder / "tokens")


def split(tokens: Tokens, name: str) -> list[tuple[list[int], list[bool]]]:
    """Returns the examples of a split."""
    examples = TokenizedExamples(tokens.path / f"{name}.npz")
    return [(examples[i].ids, examples[i].trained) for i in range(len(examples))]


def test_arrays_equal_a_fresh_tokenization(tmp_path: Path, tokenizer: TokenizerView) -> None:
    chosen = records(range(40))
    tokens = make(tmp_path, tokenizer, chosen)
    for name, held in (("train", False), ("evaluation", True)):
        fresh = [tokenize_record(record, tokenizer) for record in chosen if is_evaluation(record, 0.3) == held]
        assert fresh
        assert split(tokens, name) == [(example.ids, example.trained) for example in fresh]
        lengths = TokenizedExamples(tokens.path / f"{name}.npz").lengths
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
    with pytest.raises(EdgeftError, match=f"{longest} tokens, and the most is {longest - 1}"):
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
    (tmp_path / "tokens").mkdir()
    tokens = build_tokens(train, test, tokenizer, config(), tmp_path / "tokens")
    assert (tokens.path / "test.jsonl").read_bytes() == test.read_bytes()
    assert token_counts(tokens)["records_test"] == 2


def test_faults_of_both_files_at_once(tmp_path: Path, tokenizer: TokenizerView) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("{\n")
    test.write_text("[]\n")
    with pytest.raises(EdgeftError) as caught:
        build_tokens(train, test, tokenizer, config(), tmp_path)
    assert [problem.where for problem in caught.value.problems] == [f"{train}:1", f"{test}:1"]


def test_every_record_that_the_template_cannot_train_is_named(tmp_path: Path, tokenizer: TokenizerView) -> None:
    no_end = replace(tokenizer, end_ids=[])
    with pytest.raises(EdgeftError) as caught:
        make(tmp_path, no_end, records(range(3)))
    assert [problem.where.rpartition(":")[2] for problem in caught.value.problems] == ["1", "2", "3"]


def test_progress_goes_to_the_end(tmp_path: Path, tokenizer: TokenizerView) -> None:
    train = write(tmp_path / "train.jsonl", records(range(20)))
    (tmp_path / "tokens").mkdir()
    seen: list[tuple[float, float]] = []
    build_tokens(
        train, None, tokenizer, config(), tmp_path / "tokens", lambda done, total, status="": seen.append((done, total))
    )
    assert seen == [(done, 20) for done in range(1, 21)]


def test_the_account_is_json(tmp_path: Path, tokenizer: TokenizerView) -> None:
    tokens = make(tmp_path, tokenizer, records(range(20)))
    assert json.loads((tokens.path / "tokens.json").read_text())["end_ids"] == sorted(tokenizer.end_ids)

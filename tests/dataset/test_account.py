"""The account of the records adds up, whatever becomes of them, and is told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_model

from edgeft import hf
from edgeft.config import DatasetConfig
from edgeft.dataset.account import FindingLog
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.records import Record
from edgeft.dataset.store import TokenizedExamples
from edgeft.dataset.tokenizer import OpenTokenizer
from edgeft.dataset.tokens import TokenInputs, TokenSource, build_tokens, token_counts
from edgeft.errors import EdgeftError
from edgeft.summary import describe_tokens


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> OpenTokenizer:
    """The tiny model's tokenizer."""
    return hf.tokenizer_opener(make_model(tmp_path_factory.mktemp("model") / "model").path)


def mixed(count: int) -> Iterator[Record | Finding]:
    """Yields conversations of one and of five turns, plain texts, a warning, and each tenth record twice."""
    yield Finding("warning", "odd-space", Place("made", 1), "odd", "look")
    for number in range(count):
        place = Place("made", number + 1)
        turns = [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number} " * 5},
        ]
        text = {"role": "text", "content": f"Once upon a time there were {number} lights. " * 9}
        record = Record(({0: tuple(turns), 1: tuple(turns * 5), 2: (text,)})[number % 3], place)
        yield from [record, record] if number % 10 == 0 else [record]


def account(folder: Path, opener: OpenTokenizer, over_length: Any, most: int = 100) -> dict[str, Any]:
    """Tokenizes three sources and returns the account."""
    folder.mkdir()
    weights = {"plain": 1.0, "half": 0.5, "twice": 2.0}
    sources = [TokenSource(name, partial(mixed, 60), weight) for name, weight in weights.items()]
    config = DatasetConfig(train="made", max_tokens=most, over_length=over_length, evaluation_fraction=0.2)
    return token_counts(build_tokens(TokenInputs(sources), opener, config, folder))


@pytest.mark.parametrize("over_length", ["drop", "truncate"])
def test_in_is_used_and_dropped(tmp_path: Path, opener: OpenTokenizer, over_length: str) -> None:
    counts = account(tmp_path / "tokens", opener, over_length)
    for part in (counts, *counts["sources"]):
        used = part["records_train"] + part["records_evaluation"]
        assert part["records_in"] == used + sum(part["records_dropped"].values())
        assert 0 < part["tokens_trained"] < part["tokens_used"] < part["tokens_in"]
    for key in ("records_in", "records_train", "records_shortened", "texts_in_pieces", "tokens_used", "examples_train"):
        assert counts[key] == sum(source[key] for source in counts["sources"])
    for side in ("train", "evaluation"):
        examples = TokenizedExamples(tmp_path / "tokens" / side)
        assert counts[f"examples_{side}"] == len(examples)
        assert examples.lengths.max() <= 100
    assert counts["records_in"] == 3 * 66
    assert counts["findings"] == {"odd-space": 3}
    assert counts["records_repeated"] == 198 - 60
    shortened = over_length == "truncate"
    assert (counts["records_shortened"] > 0) == (counts["texts_in_pieces"] > 0) == shortened
    assert (counts["records_dropped"]["over_length"] > 0) == (not shortened)
    tests = (tmp_path / "tokens" / "test.jsonl").read_text().splitlines()
    assert counts["records_test"] == len(tests) > 0
    assert not any('"role": "text"' in line for line in tests)


def test_shortened_records_are_marked(tmp_path: Path, opener: OpenTokenizer) -> None:
    counts = account(tmp_path / "tokens", opener, "truncate")
    examples = TokenizedExamples(tmp_path / "tokens" / "evaluation")
    marked = {examples.place(index).line for index in range(len(examples)) if examples.removed_messages(index)}
    assert marked
    assert all(line % 3 == 2 for line in marked)  # the conversations of five turns
    assert counts["records_shortened"] >= len(marked)


def test_the_line_says_everything(tmp_path: Path, opener: OpenTokenizer) -> None:
    line = describe_tokens(account(tmp_path / "tokens", opener, "truncate"))
    for words in ("198 records in = ", " train + ", " evaluation", "dropped (weight)", "shortened", "texts in pieces"):
        assert words in line
    assert "138 given more than once" in line
    assert "3 odd-space" in line


@given(st.lists(st.sampled_from(["error", "warning", "info"]), max_size=300))
def test_errors_are_counted_and_the_first_are_kept(severities: list[Any]) -> None:
    log = FindingLog()
    log.add(Finding(severity, severity, Place("f", i + 1), "what", "how") for i, severity in enumerate(severities))
    assert sum(log.noticed.values()) == len(severities) - severities.count("error")
    lines = [i + 1 for i, severity in enumerate(severities) if severity == "error"]
    if not lines:
        log.raise_errors()
        return
    with pytest.raises(EdgeftError) as caught:
        log.raise_errors()
    assert [problem.where for problem in caught.value.problems[:100]] == [f"f:{line}" for line in lines[:100]]
    rest = [problem.what for problem in caught.value.problems[100:]]
    assert rest == ([f"and {len(lines) - 100} more errors"] if len(lines) > 100 else [])

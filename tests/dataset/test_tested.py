"""Test records are held to what answering them takes: a question, and a prompt within the limit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tokenizer

from edgeft import hf
from edgeft.artifacts import Checkpoint, Tokens
from edgeft.config import DatasetConfig
from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.findings import Finding
from edgeft.dataset.fitting import Limit
from edgeft.dataset.records import read_records, stream_records
from edgeft.dataset.tested import PromptFitter
from edgeft.dataset.tokenizing import Work
from edgeft.dataset.tokens import TokenInputs, TokenSource, build_tokens, token_counts
from edgeft.errors import EdgeftError

VIEW = hf.tokenizer_view(make_tokenizer(), Path("nowhere"))
MOST = 120
LONG = "word " * MOST


def chat(*texts: str) -> str:
    """Returns a conversation as a line, the user's turn first."""
    roles = ("user", "assistant") * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return json.dumps({"messages": turns})


SHORT = chat("hi", "hello")
LONG_ANSWER = chat("hi", LONG)
LONG_HISTORY = chat(LONG, "first", "and now?", "second")
LONG_QUESTION = chat("hi", "hello", LONG, "second")
TEXT = json.dumps({"text": "Once upon a time."})


def make(folder: Path, lines: Sequence[str], **settings: Any) -> Tokens:
    """Tokenizes training records with `lines` as the test records."""
    train, test, out = folder / "train.jsonl", folder / "test.jsonl", folder / "tokens"
    train.write_text("".join(chat(f"question {n}", "yes") + "\n" for n in range(30)))
    test.write_text("".join(f"{line}\n" for line in lines))
    out.mkdir()
    sources = (TokenSource(str(path), partial(stream_records, path)) for path in (train, test))
    config = DatasetConfig(**{"train": "made", "max_tokens": MOST, "evaluation_fraction": 0.3, **settings})
    return build_tokens(TokenInputs([next(sources)], test=next(sources)), lambda: VIEW, config, out)


def refused(folder: Path, lines: Sequence[str], **settings: Any) -> list[tuple[str, str]]:
    """Returns where and why these test records are refused."""
    with pytest.raises(EdgeftError) as caught:
        make(folder, lines, **settings)
    assert not list((folder / "tokens").iterdir())
    assert all(problem.remedy for problem in caught.value.problems)
    return [(problem.where, problem.what) for problem in caught.value.problems]


def checked(folder: Path, **settings: Any) -> list[tuple[str, str, int]]:
    """Returns what a check says of the same records as to length and question."""
    streams = [list(stream_records(folder / name)) for name in ("train.jsonl", "test.jsonl")]
    report = check_records(streams[0], None, streams[1], CheckSettings(max_tokens=MOST, **settings), VIEW)
    codes = ("over-length", "nothing-to-answer")
    return [(f.severity, f.code, f.place.line) for f in report.findings if f.code in codes]


@pytest.mark.parametrize("over_length", ["error", "drop", "truncate"])
def test_plain_text_is_an_error_at_its_line(tmp_path: Path, over_length: Any) -> None:
    ((where, what),) = refused(tmp_path, [SHORT, TEXT], over_length=over_length)
    assert where == f"{tmp_path / 'test.jsonl'}:2"
    assert "plain text asks nothing" in what
    assert checked(tmp_path, over_length=over_length) == [("error", "nothing-to-answer", 2)]


def test_every_prompt_that_is_too_long_is_named(tmp_path: Path) -> None:
    told = refused(tmp_path, [LONG_HISTORY, SHORT, LONG_QUESTION])
    assert [where for where, _ in told] == [f"{tmp_path / 'test.jsonl'}:{line}" for line in (1, 3)]
    assert all(f"the most is {MOST}" in what for _, what in told)
    assert checked(tmp_path) == [("error", "over-length", 1), ("error", "over-length", 3)]


@pytest.mark.parametrize("over_length", ["error", "drop", "truncate"])
def test_an_answer_may_be_longer_than_the_limit(tmp_path: Path, over_length: Any) -> None:
    tokens = make(tmp_path, [SHORT, LONG_ANSWER], over_length=over_length)
    assert (tokens.path / "test.jsonl").read_text() == f"{SHORT}\n{LONG_ANSWER}\n"
    assert token_counts(tokens)["findings"] == {}
    assert checked(tmp_path, over_length=over_length) == []


def test_prompts_that_are_too_long_are_dropped(tmp_path: Path) -> None:
    tokens = make(tmp_path, [LONG_HISTORY, SHORT, LONG_QUESTION], over_length="drop")
    assert (tokens.path / "test.jsonl").read_text() == f"{SHORT}\n"
    counts = token_counts(tokens)
    assert (counts["records_test"], counts["findings"]) == (1, {"over-length": 2})
    assert checked(tmp_path, over_length="drop") == [("warning", "over-length", 1), ("warning", "over-length", 3)]


def test_nothing_left_to_answer_is_an_error(tmp_path: Path) -> None:
    ((where, what),) = refused(tmp_path, [LONG_QUESTION], over_length="drop")
    assert (where, what) == (str(tmp_path / "test.jsonl"), "no record is left to be tested on")


def test_prompts_lose_their_oldest_exchanges(tmp_path: Path) -> None:
    tokens = make(tmp_path, [LONG_HISTORY, SHORT], over_length="truncate")
    shortened, short = read_records(tokens.path / "test.jsonl")
    assert [message["content"] for message in shortened.messages] == ["and now?", "second"]
    assert short.to_json() == SHORT
    assert token_counts(tokens)["findings"] == {"over-length": 1}
    assert checked(tmp_path, over_length="truncate") == [("warning", "over-length", 1)]


def test_a_last_question_that_is_too_long_cannot_be_shortened(tmp_path: Path) -> None:
    ((where, what),) = refused(tmp_path, [LONG_HISTORY, LONG_QUESTION], over_length="truncate")
    assert where == f"{tmp_path / 'test.jsonl'}:2"
    assert f"its last exchange alone is longer than {MOST} tokens" in what


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    question = "How many lights are there in the cellar of the house?"
    length = len(VIEW.encode(VIEW.render([{"role": "user", "content": question}], True, ())))
    make(tmp_path, [chat(question, LONG)], max_tokens=length)
    (tmp_path / "less").mkdir()
    ((_, what),) = refused(tmp_path / "less", [chat(question, LONG)], max_tokens=length - 1)
    assert what == f"a prompt of {length} tokens, and the most is {length - 1}"


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, tiny_checkpoint: Checkpoint) -> None:
    """9,000 records are 36 portions: enough for a pool."""
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("".join(chat(f"question {n}", "yes") + "\n" for n in range(30)))
    kinds = (SHORT, LONG_QUESTION, LONG_ANSWER)
    test.write_text("".join(f"{kinds[n % 3]}\n" for n in range(9000)) + "".join(SHORT + "\n" for _ in range(9)))
    made = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        out.mkdir()
        inputs = TokenInputs(
            [TokenSource(str(train), partial(stream_records, train))],
            test=TokenSource(str(test), partial(stream_records, test)),
        )
        settings = DatasetConfig(train="made", max_tokens=MOST, over_length="drop", evaluation_fraction=0.3)
        build_tokens(inputs, hf.tokenizer_opener(tiny_checkpoint.path), settings, out, workers=workers)
        made.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert made[0] == made[1]
    assert made[0][Path("test.jsonl")].count(b"\n") == 6009


def test_a_prompt_that_the_template_refuses_is_told(tmp_path: Path) -> None:
    def refuse(messages: Any, add_generation_prompt: bool, tools: Any) -> str:
        if messages[0]["content"] == "refuse me":
            raise EdgeftError("the template takes no such message")
        return VIEW.render(messages, add_generation_prompt, tools)

    path = tmp_path / "test.jsonl"
    path.write_text(f"{SHORT}\n{chat('refuse me', 'no')}\n")
    records = read_records(path)
    work = Work(0, records, [Finding("info", "left-out", records[0].place, "", "")])
    done = PromptFitter(lambda: replace(VIEW, render=refuse), Limit(MOST, "error")).open()(work)
    assert done.lines == [SHORT]
    assert [(finding.code, finding.place.line) for finding in done.findings] == [
        ("left-out", 1),
        ("template-refuses", 2),
    ]

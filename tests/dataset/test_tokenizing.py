"""Lists of records become what each becomes alone; what is too long is shortened by whole exchanges, or said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import chat_templates
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import CHATML, make_tokenizer

from edgeft.artifacts import Message
from edgeft.dataset.findings import Finding, FindingsError, Place
from edgeft.dataset.fitting import Limit, shorten
from edgeft.dataset.mask import Example, tokenize_record, tokenize_turns
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import PlainTokenizer, TokenizerView
from edgeft.dataset.tokenizing import RecordTokenizer, Work, tokenize_all
from edgeft.errors import EdgeftError

SYSTEM: Message = {"role": "system", "content": "Be brief."}
_BACKEND = make_tokenizer()
PLAIN = PlainTokenizer(
    model=_BACKEND.backend_tokenizer.to_str(),
    template=CHATML,
    special_tokens={"eos_token": "<|im_end|>"},
    bos_id=None,
    end_ids=(int(_BACKEND.eos_token_id),),
    text_end=int(_BACKEND.eos_token_id),
)
VIEW = PLAIN.open()


def conversation(*turns: str, system: bool = False, line: int = 1) -> Record:
    """Returns a record of turns in alternation, the user's first."""
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return Record((*((SYSTEM,) if system else ()), *messages), Place("made", line))


def text(content: str, line: int = 1) -> Record:
    """Returns a record of plain text."""
    return Record(({"role": "text", "content": content},), Place("made", line))


def alone(record: Record) -> Example:
    """Tokenizes one conversation by itself."""
    return tokenize_record(record, VIEW)


def single(record: Record, view: TokenizerView) -> Example:
    """Returns the only example of a record."""
    (examples,) = tokenize_all([record], view)
    assert isinstance(examples, list)
    (example,) = examples
    return example


turns_strategy = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=12), min_size=1, max_size=4
)


@settings(deadline=None)
@given(st.lists(st.tuples(turns_strategy, st.booleans()), max_size=6))
def test_a_list_of_records_gives_what_each_gives_alone(made: list[tuple[list[str], bool]]) -> None:
    records = [conversation(*(turn for turn in turns for _ in range(2)), system=system) for turns, system in made]
    assert tokenize_all(records, VIEW) == [[alone(record)] for record in records]


def test_a_single_turn_is_rendered_twice_and_encoded_in_one_call() -> None:
    rendered: list[bool] = []
    encoded: list[int] = []

    def render(messages: Sequence[Message], prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        rendered.append(prompt)
        return VIEW.render(messages, prompt, tools)

    def encode_all(texts: Sequence[str]) -> list[list[int]]:
        encoded.append(len(texts))
        return [VIEW.encode(one) for one in texts]

    def encode(one: str) -> list[int]:
        raise AssertionError(one)

    view = replace(VIEW, render=render, encode=encode, encode_all=encode_all)
    records = [conversation(f"question {number}", "answer") for number in range(5)]
    assert tokenize_all(records, view) == [[alone(record)] for record in records]
    assert rendered == [False, True] * 5
    assert encoded == [10]


def test_a_conversation_renders_nothing_twice() -> None:
    rendered: list[str] = []

    def render(messages: Sequence[Message], prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        rendered.append(VIEW.render(messages, prompt, tools))
        return rendered[-1]

    record = conversation(*"abcdefgh", system=True)
    assert tokenize_all([record], replace(VIEW, render=render)) == [[alone(record)]]
    assert len(rendered) == len(set(rendered)) == 8


def merging() -> TokenizerView:
    """A tokenizer in which two newlines are one token: an answer that begins with one is cut from its prompt."""
    backend = make_tokenizer()
    backend.add_tokens(["\n\n"])
    return replace(PLAIN, model=backend.backend_tokenizer.to_str()).open()


def test_texts_that_are_cut_and_turns_that_are_not_trained_are_the_same_in_a_list() -> None:
    view = merging()
    cut = conversation("a", "\nb", "c", "d", "e", "\nf")
    assert view.encode(view.render(cut.messages, False, ())) != tokenize_record(cut, view).ids
    thinking = replace(PLAIN, template=chat_templates.THINKING).open()
    thought = conversation("a", "<think>x</think>b", "c", "<think>y</think>d")
    for record, given_view in ((cut, view), (thought, thinking)):
        expected = tokenize_turns(record, given_view)
        assert tokenize_all([record, record], given_view) == [expected, expected]
    done = RecordTokenizer(lambda: thinking, Limit(500, "error")).open()(Work(0, [thought]))
    assert [(finding.severity, finding.code, finding.field) for finding in done.findings] == [
        ("info", "turn-apart", "messages[1]")
    ]


def test_a_shortened_record_that_is_cut_fits_too() -> None:
    record = conversation("a" * 40, "b", "c", "\nd", "e", "\nf")
    view = merging()
    tail = Record(record.messages[2:], record.place)
    for most in range(
        len(view.encode(view.render(tail.messages, False, ()))) - 1, len(tokenize_record(tail, view).ids)
    ):
        done = RecordTokenizer(lambda: view, Limit(most, "truncate")).open()(Work(0, [record]))
        assert (done.findings, done.rows[0]["removed"]) == ([], 4)
        assert done.rows[0]["tokens"] <= most


def test_midnight_between_two_renderings() -> None:
    days = iter(["Monday", *["Tuesday"] * 20])

    def render(messages: Sequence[Message], prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        return next(days) + VIEW.render(messages, prompt, tools)

    example = single(conversation("a", "b"), replace(VIEW, render=render))
    assert b"".join(VIEW.pieces(example.ids)).startswith(b"Tuesday")


def test_a_text_is_its_tokens_and_one_end_token_all_trained() -> None:
    example = single(text("<b>Once</b> upon\n"), VIEW)
    ids = [*VIEW.encode("<b>Once</b> upon\n"), PLAIN.text_end]
    assert example == Example(ids, [True] * len(ids))


def test_what_the_template_refuses_is_a_finding_at_its_place() -> None:
    def render(messages: Sequence[Message], prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        if "no" in messages[0]["content"]:
            raise EdgeftError("the chat template refuses this conversation: no")
        return VIEW.render(messages, prompt, tools)

    view = replace(VIEW, render=render, encode_all=None)
    good, bad = conversation("yes", "a"), conversation("no", "a", line=7)
    examples, error = tokenize_all([good, bad], view)
    assert examples == [alone(good)]
    assert isinstance(error, FindingsError)
    found = [(finding.severity, finding.code, finding.place) for finding in error.findings]
    assert found == [("error", "template-refuses", Place("made", 7))]


def run(record: Record, max_tokens: int, over_length: Any) -> Any:
    """Returns what a worker makes of one record."""
    return RecordTokenizer(PLAIN.open, Limit(max_tokens, over_length)).open()(Work(3, [record]))


LONG = conversation("first " * 9, "one", "second " * 9, "two", "third " * 9, "three", system=True)


@pytest.mark.parametrize("left", [1, 2, 3])
def test_the_oldest_exchanges_go_and_no_more_than_needed(left: int) -> None:
    kept = (LONG.messages[0], *LONG.messages[len(LONG.messages) - 2 * left :])
    expected = alone(Record(kept, LONG.place))
    done = run(LONG, len(expected.ids), "truncate")
    row = done.rows[0]
    assert (row["removed"], row["examples"]) == (6 - 2 * left, 1)
    assert (row["tokens_in"], row["tokens"]) == (len(alone(LONG).ids), len(expected.ids))
    assert done.block.ids.tolist() == expected.ids
    assert done.block.trained.tolist() == expected.trained
    assert done.block.places.tolist() == [[0, 1, 6 - 2 * left]]
    assert done.lines == [Record(kept, LONG.place).to_json()]
    assert done.findings == []


def test_the_last_exchange_is_never_cut() -> None:
    last = alone(Record((SYSTEM, *LONG.messages[-2:]), LONG.place))
    done = run(LONG, len(last.ids) - 1, "truncate")
    assert [finding.code for finding in done.findings] == ["over-length"]
    assert "its last exchange alone is longer than" in done.findings[0].message
    assert "to cut it is to cut its question or its answer" in done.findings[0].remedy
    assert (done.lines, len(done.block.ids)) == ([], 0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.booleans(), st.integers(8, 200))
def test_a_shortened_record_fits_and_one_more_exchange_would_not(sizes: list[int], system: bool, most: int) -> None:
    record = conversation(*(turn for size in sizes for turn in ("word " * size, "ok")), system=system)
    if len(alone(record).ids) <= most:
        return
    shortened = shorten(record, VIEW, most)
    head = int(system)
    if shortened is None:
        assert len(alone(Record((*record.messages[:head], *record.messages[-2:]), record.place)).ids) > most
        return
    assert len(alone(shortened).ids) <= most
    assert shortened.messages[:head] == record.messages[:head]
    tail = len(shortened.messages) - head
    assert shortened.messages[head:] == record.messages[len(record.messages) - tail :]
    longer = Record((*record.messages[:head], *record.messages[len(record.messages) - tail - 2 :]), record.place)
    assert len(alone(longer).ids) > most


def test_an_exchange_with_tools_goes_as_a_whole() -> None:
    call: Message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]}
    older: list[Message] = [{"role": "user", "content": "x " * 30}, call, {"role": "tool", "content": "21"}]
    record = Record((*older, {"role": "assistant", "content": "warm"}, *conversation("y", "z").messages), Place("made"))
    shortened = shorten(record, VIEW, 20)
    assert shortened is not None
    assert shortened.messages == conversation("y", "z").messages


def test_a_long_text_is_cut_into_pieces_without_loss() -> None:
    record = text("word " * 50, line=4)
    whole = single(record, VIEW)
    done = run(record, 16, "truncate")
    assert done.block.ids.tolist() == whole.ids
    assert done.block.trained.all()
    assert max(done.block.lengths) == 16
    assert done.rows[0]["examples"] == len(done.block.lengths) == -(-len(whole.ids) // 16)
    assert set(done.block.places[:, 1].tolist()) == {4}


@pytest.mark.parametrize("record", [LONG, text("word " * 50)])
def test_dropping_and_refusing(record: Record) -> None:
    dropped = run(record, 16, "drop")
    assert (dropped.rows[0]["examples"], dropped.findings, len(dropped.block.ids)) == (0, [], 0)
    assert dropped.rows[0]["tokens_in"] > 16
    refused = run(record, 16, "error")
    assert [(finding.code, finding.place) for finding in refused.findings] == [("over-length", record.place)]


def test_findings_come_out_in_the_order_of_the_file() -> None:
    noticed = Finding("warning", "odd", Place("made", 2), "odd", "look")
    work = Work(0, [conversation("q " * 30, "a", line=1), conversation("q " * 30, "a", line=3)], [noticed])
    done = RecordTokenizer(PLAIN.open, Limit(16, "error")).open()(work)
    assert [finding.place.line for finding in done.findings] == [1, 2, 3]
    assert np.array_equal(done.rows["source"], [0, 0])

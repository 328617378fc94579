"""Turns that a conversation shows otherwise later on are examples of their own: each turn is trained once, as said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import chat_templates
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.zoo import byte_level, record_of, trained_texts, view_with
from edgeft.artifacts import Message
from edgeft.config import DatasetConfig
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.fitting import Limit
from edgeft.dataset.mask import Example, tokenize_turns
from edgeft.dataset.records import Record
from edgeft.dataset.store import TokenizedExamples
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.dataset.tokenizing import RecordTokenizer, Work, tokenize_all
from edgeft.dataset.tokens import TokenInputs, TokenSource, build_tokens, token_counts
from edgeft.errors import EdgeftError
from edgeft.summary import describe_tokens

END = "<|im_end|>"
# Qwen 3's rule: reasoning is shown from the last question on.
SINCE_THE_QUESTION = """\
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {%- set content = m.content.split('</think>')[-1] if loop.index0 < ns.last else m.content %}
    {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def said(content: str, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def thought(content: str) -> Message:
    return said(f"<think>of {content}</think>{content}")


@pytest.fixture(scope="module")
def view() -> TokenizerView:
    """Keeps reasoning from the last question on."""
    return view_with(byte_level(), SINCE_THE_QUESTION, END)


def texts(examples: list[Example], view: TokenizerView) -> list[list[str]]:
    """Returns what is trained in each example."""
    return [trained_texts(example, view) for example in examples]


def test_each_earlier_turn_with_reasoning_is_an_example_of_its_own(view: TokenizerView) -> None:
    messages = [user("a"), thought("b"), user("c"), said("d"), user("e"), thought("f"), user("g"), thought("h")]
    examples = tokenize_turns(record_of(messages), view)
    assert texts(examples, view) == [
        [f"d{END}", f"<think>of h</think>h{END}"],
        [f"<think>of b</think>b{END}"],
        [f"<think>of f</think>f{END}"],
    ]
    assert [example.turns for example in examples] == [(3, 7), (1,), (5,)]
    for example in examples:
        # What stands before the last turn is the prompt that the model is given at run time, to the token.
        stop = example.turns[-1]
        assert example.ids == view.encode(view.render(messages[: stop + 1], False, ()))
        prompt = view.encode(view.render(messages[:stop], True, ()))
        assert example.ids[: len(prompt)] == prompt


def test_turns_before_the_cut_that_hold_there_are_trained_with_it(view: TokenizerView) -> None:
    call, result = thought("call"), {"role": "tool", "content": "21"}
    messages = [user("a"), call, result, thought("b"), user("c"), said("d")]
    examples = tokenize_turns(record_of(messages), view)
    assert texts(examples, view) == [
        [f"d{END}"],
        [f"<think>of call</think>call{END}", f"<think>of b</think>b{END}"],
    ]


def test_turns_of_weight_0_are_in_no_example(view: TokenizerView) -> None:
    messages = [user("a"), thought("b") | {"weight": 0}, user("c"), thought("d"), user("e"), said("f")]
    assert texts(tokenize_turns(record_of(messages), view), view) == [
        [f"f{END}"],
        [f"<think>of d</think>d{END}"],
    ]


def test_a_turn_that_holds_nowhere_is_an_error_with_its_place() -> None:
    template = "{% set sly = messages | length < 3 and add_generation_prompt %}" + chat_templates.CHATML.replace(
        "<|im_start|>assistant\n' }}", "<|im_start|>assistant\n' + ('sly ' if sly else '') }}"
    )
    view = view_with(byte_level(), template, END)
    with pytest.raises(EdgeftError) as caught:
        tokenize_turns(record_of([user("a"), said("b"), user("c"), said("d")]), view)
    (problem,) = caught.value.problems
    assert problem.what.startswith("messages[1]: what the model is given before this turn is not how the conversation")
    assert problem.where == "train.jsonl:7"
    assert '"weight": 0' in problem.remedy


turn = st.builds(
    lambda content, kind: thought(content) if kind == "think" else said(content, weight=int(kind == "say")),
    st.text("ab \n", max_size=5),
    st.sampled_from(["think", "say", "leave"]),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(turn, min_size=1, max_size=2), min_size=1, max_size=4), st.booleans())
def test_every_turn_is_trained_once(view: TokenizerView, exchanges: list[list[Message]], since: bool) -> None:
    # A template that drops reasoning from all but the last message shows no two turns in a row as they are said.
    messages = [message for turns in exchanges for message in (user("q"), *turns[: 1 + since])]
    messages[-1].pop("weight", None)
    template = SINCE_THE_QUESTION if since else chat_templates.THINKING
    view = view_with(byte_level(), template, END)
    record = record_of(messages)
    examples = tokenize_turns(record, view)
    wanted = [index for index, m in enumerate(messages) if m["role"] == "assistant" and m.get("weight", 1)]
    assert sorted(index for example in examples for index in example.turns) == wanted
    for example in examples:
        trained = [f"{messages[index]['content']}{END}" for index in example.turns]
        assert trained_texts(example, view) == trained
    assert tokenize_all([record], view) == [examples]


LONG = "x " * 40


def made(record: Record, view: TokenizerView, most: int, over_length: Any) -> Any:
    """Returns what a worker makes of one record."""
    return RecordTokenizer(lambda: view, Limit(most, over_length)).open()(Work(0, [record]))


def test_each_example_is_shortened_by_itself(view: TokenizerView) -> None:
    record = record_of([user(LONG), said("a"), user("b"), thought("c"), user("d " * 30), said("e")])
    whole, cut = tokenize_turns(record, view)
    assert len(cut.ids) < len(whole.ids)
    short = [tokenize_turns(replace(record, messages=record.messages[2:stop]), view)[0] for stop in (6, 4)]
    done = made(record, view, len(whole.ids) - 1, "truncate")
    assert done.block.lengths.tolist() == [len(short[0].ids), len(cut.ids)]
    assert done.block.places.tolist() == [[0, 7, 2], [0, 7, 0]]
    assert done.lines == [replace(record, messages=record.messages[2:]).to_json()]
    both = made(record, view, max(len(example.ids) for example in short), "truncate")
    assert both.block.lengths.tolist() == [len(example.ids) for example in short]
    assert both.block.places.tolist() == [[0, 7, 2], [0, 7, 2]]
    row = both.rows[0]
    assert (row["examples"], row["removed"], row["longest"]) == (2, 2, max(both.block.lengths))
    assert row["tokens_in"] == len(whole.ids) + len(cut.ids)


@pytest.mark.parametrize("over_length", ["error", "drop"])
def test_a_long_example_of_a_short_conversation_counts(view: TokenizerView, over_length: str) -> None:
    record = record_of([user("a"), said(f"<think>{LONG}</think>b"), user("c"), said("d")])
    whole, cut = tokenize_turns(record, view)
    assert len(whole.ids) < len(cut.ids)
    done = made(record, view, len(cut.ids) - 1, over_length)
    assert len(done.block.lengths) == done.rows[0]["examples"] == 0
    assert [finding.code for finding in done.findings] == (["over-length"] if over_length == "error" else [])


def chats(count: int) -> list[Record | Finding]:
    """Returns conversations of which every second has two turns apart."""
    return [
        Record(
            (user(f"{n}"), *((thought("a"), user("b"), thought("c"), user("d")) if n % 2 else ()), said("e")),
            Place("made", n + 1),
        )
        for n in range(count)
    ]


def test_all_examples_of_a_record_are_on_one_side(tmp_path: Path, view: TokenizerView) -> None:
    config = DatasetConfig(train="made", evaluation_fraction=0.3)
    sources = [TokenSource("made", lambda: iter(chats(60)), 2.0)]
    tokens = build_tokens(TokenInputs(sources), lambda: view, config, tmp_path)
    lines: dict[str, list[int]] = {}
    for side in ("train", "evaluation"):
        store = TokenizedExamples(tmp_path / side)
        lines[side] = [store.place(index).line for index in range(len(store))]
    assert not set(lines["train"]) & set(lines["evaluation"])
    for side, times in (("train", 2), ("evaluation", 1)):
        assert all(lines[side].count(line) == times * (1 if line % 2 else 3) for line in lines[side])
    counts = token_counts(tokens)
    assert (counts["records_in"], counts["records_with_turns_apart"], counts["texts_in_pieces"]) == (60, 30, 0)
    assert (counts["examples_train"], counts["examples_evaluation"]) == (len(lines["train"]), len(lines["evaluation"]))
    assert counts["findings"] == {"turn-apart": 60}
    line = describe_tokens(counts)
    assert "; 30 with turns that are examples of their own; 60 turn-apart; " in line
    assert f"; {len(lines['train'])} train + {len(lines['evaluation'])} evaluation examples; " in line

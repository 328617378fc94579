"""Turns with tools, turns that are merged or cut, and what cannot be trained: each said with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import chat_templates
import pytest
import template_zoo
from transformers import PreTrainedTokenizerFast

from dataset.zoo import (
    CALL,
    TOOL_USE,
    WEATHER,
    byte_level,
    record_of,
    runs,
    sentencepiece_like,
    trained_texts,
    view_with,
)
from edgeft.artifacts import Message
from edgeft.dataset.mask import tokenize_last_turn, tokenize_record
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError

ASK: Message = {"role": "user", "content": "hi"}
SAY: Message = {"role": "assistant", "content": "Done."}
CHATML = chat_templates.CHATML


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer in which two newlines are one token."""
    made = byte_level()
    made.add_tokens(["\n\n"])
    return made


def chatml(tokenizer: PreTrainedTokenizerFast) -> TokenizerView:
    """ChatML, ended by its own token."""
    return view_with(tokenizer, CHATML, "<|im_end|>")


def refusal(messages: Sequence[Message], view: TokenizerView, tools: Sequence[dict[str, Any]] = ()) -> str:
    """Returns the first problem of a record that is refused; it has the record's place and a remedy."""
    with pytest.raises(EdgeftError) as caught:
        tokenize_record(record_of(messages, tools), view)
    problem = caught.value.problems[0]
    assert problem.where == "train.jsonl:7"
    assert problem.remedy
    return problem.what


def test_an_answer_whose_start_merges_with_the_prompt_is_cut_there(tokenizer: PreTrainedTokenizerFast) -> None:
    view = chatml(tokenizer)
    messages = [ASK, {"role": "assistant", "content": "\nDone."}]
    text = view.render(messages, False, ())
    prompt = view.encode(view.render(messages[:1], True, ()))
    assert view.encode(text)[: len(prompt)] != prompt
    example = tokenize_record(record_of(messages), view)
    assert example.ids[: len(prompt)] == prompt
    assert runs(example, view) == [
        (False, view.render(messages[:1], True, ())),
        (True, "\nDone.<|im_end|>"),
        (False, "\n"),
    ]


def test_every_turn_of_a_conversation_can_be_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    view = chatml(tokenizer)
    say: Message = {"role": "assistant", "content": "\nDone."}
    messages = [ASK, say, ASK, SAY, ASK, say]
    example = tokenize_record(record_of(messages), view)
    assert trained_texts(example, view) == ["\nDone.<|im_end|>", "Done.<|im_end|>", "\nDone.<|im_end|>"]
    assert "".join(text for _, text in runs(example, view)) == view.render(messages, False, ())


def test_a_cut_in_a_sentencepiece_text_puts_no_space(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ 'Q: ' + m.content + ' A: ' }}{% else %}"
        "{{ m.content + eos_token }}{% endif %}{% endfor %}"
    )
    view = view_with(sentencepiece_like(tmp_path), template, "</s>")
    messages = [ASK, {"role": "assistant", "content": "The lights"}]
    prompt = view.encode(view.render(messages[:1], True, ()))
    assert view.encode(view.render(messages, False, ()))[: len(prompt)] != prompt
    example = tokenize_record(record_of(messages), view)
    assert example.ids[: len(prompt)] == prompt
    assert trained_texts(example, view) == ["The lights</s>"]


def test_a_cut_that_changes_the_text_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    view = chatml(tokenizer)
    spaced = replace(view, encode_more=lambda text: view.encode(" " + text))
    what = refusal([ASK, {"role": "assistant", "content": "\nDone."}], spaced)
    assert what.startswith("messages[1]: a token reaches across the start of this turn, between ...'")
    assert "and '\\nDone.<|im_end|>\\n'" in what


def test_the_last_turn_alone_is_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    view = chatml(tokenizer)
    for answer in ("Done.", "\nDone."):
        record = record_of([ASK, SAY, ASK, {"role": "assistant", "content": answer}])
        rendered, prompt, turn = tokenize_last_turn(record, view)
        assert rendered == view.render(record.prompt, True, ())
        assert prompt == view.encode(rendered)
        assert b"".join(view.pieces(turn)).decode() == f"{answer}<|im_end|>"


def test_a_single_turn_costs_two_renderings_and_two_encodings(tokenizer: PreTrainedTokenizerFast) -> None:
    view = chatml(tokenizer)
    seen: list[str] = []

    def render(messages: Sequence[Message], prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        seen.append("render")
        return view.render(messages, prompt, tools)

    def encode(text: str) -> list[int]:
        seen.append("encode")
        return view.encode(text)

    tokenize_record(record_of([ASK, SAY]), replace(view, render=render, encode=encode))
    assert sorted(seen) == ["encode", "encode", "render", "render"]


@pytest.mark.parametrize(
    ("template", "ends", "call"),
    [
        (
            template_zoo.LLAMA_3_TOOLS,
            ("<|eot_id|>", "<|eom_id|>"),
            '{"name": "weather", "parameters": {"place": "Łódź"}}<|eom_id|>',
        ),
        (
            template_zoo.QWEN_2,
            ("<|im_end|>",),
            '<tool_call>\n{"name": "weather", "arguments": {"place": "Łódź"}}\n</tool_call><|im_end|>',
        ),
    ],
)
def test_calls_are_trained_and_results_are_not(
    tokenizer: PreTrainedTokenizerFast, template: str, ends: tuple[str, ...], call: str
) -> None:
    view = view_with(tokenizer, template.replace("{%- generation %}", "").replace("{%- endgeneration %}", ""), *ends)
    example = tokenize_record(record_of(TOOL_USE, [WEATHER]), view)
    assert trained_texts(example, view) == [call, "It is: 3 degrees." + ends[0]]
    untrained = "".join(text for flag, text in runs(example, view) if not flag)
    assert "3 degrees" in untrained
    assert "the weather at a place" in untrained


def test_what_is_for_tools_must_be_shown(tokenizer: PreTrainedTokenizerFast) -> None:
    view = view_with(tokenizer, template_zoo.SHAPES["qwen 2"].plain, "<|im_end|>")
    deaf = view_with(tokenizer, "{%- set tools = none %}" + template_zoo.SHAPES["qwen 2"].plain, "<|im_end|>")
    assert refusal(TOOL_USE, deaf, [WEATHER]) == "tools: the chat template does not show the tools to the model"
    dumb = view_with(tokenizer, CHATML.replace("message['content']", "(message['content'] or '')"), "<|im_end|>")
    assert refusal(TOOL_USE, dumb) == "messages[1]: the chat template does not show this turn's tool calls"
    blind = replace(view, render=lambda messages, prompt, tools: view.render(_no_results(messages), prompt, tools))
    assert refusal(TOOL_USE, blind, [WEATHER]) == "messages[2]: the chat template does not show this tool's result"


def _no_results(messages: Sequence[Message]) -> list[Message]:
    return [message | {"content": ""} if message["role"] == "tool" else message for message in messages]


def test_tools_before_the_last_question_leave_earlier_turns_out(tokenizer: PreTrainedTokenizerFast) -> None:
    view = view_with(tokenizer, template_zoo.TOOLS_LAST, "</s>")
    example = tokenize_record(record_of([ASK, SAY, ASK, {"role": "assistant", "content": "Again."}], [WEATHER]), view)
    assert trained_texts(example, view) == [" Again.</s>"]
    (note,) = example.apart
    assert """after '<s>[', it has 'TOOLS][{"type": "functio'... where""" in note.message
    assert "the conversation has 'INST] hi [/INST] " in note.message


def test_messages_that_the_template_merges_are_one_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [ASK, ASK, SAY, SAY, ASK, SAY]
    merging = view_with(tokenizer, template_zoo.MERGING, "<|im_end|>")
    example = tokenize_record(record_of(messages), merging)
    assert trained_texts(example, merging) == ["Done.\nDone.<|im_end|>", "Done.<|im_end|>"]
    apart = tokenize_record(record_of(messages), chatml(tokenizer))
    assert trained_texts(apart, merging) == ["Done.<|im_end|>"] * 3


def test_turns_in_a_row_without_their_reasoning(tokenizer: PreTrainedTokenizerFast) -> None:
    template = chat_templates.THINKING.replace("not loop.last", "(not loop.last or add_generation_prompt)")
    view = view_with(tokenizer, template, "<|im_end|>")
    thought: Message = {"role": "assistant", "content": "<think>why</think>Done."}
    example = tokenize_record(record_of([ASK, thought, thought]), view)
    assert trained_texts(example, view) == ["<think>why</think>Done.<|im_end|>"]
    assert [note.field for note in example.apart] == ["messages[1]"]


def test_a_template_that_refuses(tokenizer: PreTrainedTokenizerFast) -> None:
    view = view_with(tokenizer, template_zoo.SHAPES["gemma"].plain, "<end_of_turn>")
    assert refusal([ASK, ASK, SAY], view) == "the chat template refuses this conversation: roles must alternate"
    assert "refuses this conversation: " in refusal([ASK, CALL], chatml(tokenizer))


def test_a_turn_that_is_not_shown(tokenizer: PreTrainedTokenizerFast) -> None:
    template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n<|im_end|>\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    view = view_with(tokenizer, template, "<|im_end|>")
    assert refusal([ASK, SAY], view).startswith("messages[1]: the template shows nothing of this turn: ")


def test_a_turn_that_another_token_ends(tokenizer: PreTrainedTokenizerFast) -> None:
    view = view_with(tokenizer, template_zoo.SHAPES["llama 3 with tools"].plain, "<|eot_id|>")
    what = refusal(TOOL_USE, view, [WEATHER])
    assert what.startswith("messages[1]: the template closes this turn without an end-of-generation token: it ends ")
    assert what.endswith("<|eom_id|>'")


def test_nothing_of_the_assistant(tokenizer: PreTrainedTokenizerFast) -> None:
    assert refusal([ASK], chatml(tokenizer)) == "no turn of the assistant: there is nothing to train"


def test_midnight_between_two_renderings(tokenizer: PreTrainedTokenizerFast) -> None:
    view = chatml(tokenizer)
    days = iter(["Monday", "Tuesday", "Tuesday", "Tuesday", "Tuesday"])

    def render(messages: Sequence[Message], prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        return next(days) + view.render(messages, prompt, tools)

    example = tokenize_record(record_of([ASK, SAY]), replace(view, render=render))
    assert trained_texts(example, view) == ["Done.<|im_end|>"]
    assert runs(example, view)[0][1].startswith("Tuesday")

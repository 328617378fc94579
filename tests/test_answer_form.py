"""What counts of an answer: the template's own wrapping and thoughts do not, and a call is its name and arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from template_zoo import GEMMA, QWEN_2, QWEN_3
from tiny_model import CHATML

from edgeft.answer_form import AnswerForm, Render, last_turn
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record
from edgeft.evaluate.report import Answer, write_eval_report
from edgeft.template import render_template

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "[CALLS]", "</s>")
USER = {"role": "user", "content": "How warm is it in Graz?"}
TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}},)
ARGUMENTS = {"city": "Graz", "days": 2, "units": ["C", "F"]}

# Each writes calls in a way of its own, as the families do; all are made up here.
_CALLS = {
    "json in tags": ('<tool_call>\n{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}}\n</tool_call>\n'),
    "tags": (
        "<tool_call>\n<function={{ c.name }}>\n{% for key, value in c.arguments.items() %}<parameter={{ key }}>\n"
        "{{ value if value is string else value | tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>\n"
    ),
    "keys and values": (
        "<tool_call>{{ c.name }}\n{% for key, value in c.arguments.items() %}<arg_key>{{ key }}</arg_key>\n"
        "<arg_value>{{ value if value is string else value | tojson }}</arg_value>\n{% endfor %}</tool_call>\n"
    ),
    "name before json": "<|channel|>commentary to=functions.{{ c.name }}<|message|>{{ c.arguments | tojson }}\n",
    "bare json": '{"name": "{{ c.name }}", "parameters": {{ c.arguments | tojson }}}',
    "list with ids": (
        '[CALLS][{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}, "id": "{{ call.id }}"}]'
    ),
}


def calling(call: str) -> str:
    """Returns a template in which an answer begins with an empty thought and a call looks so."""
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}"
        "{% for call in m.tool_calls or [] %}{% set c = call.function %}"
        + call
        + "{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def renderer(template: str) -> Render:
    """Returns what renders a template as a device does."""

    def render(messages: Sequence[dict[str, Any]], prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
        special = {"eos_token": "<|im_end|>"}
        return render_template(template, messages, add_generation_prompt=prompt, special_tokens=special, tools=tools)

    return render


def call_of(name: str, arguments: dict[str, Any], number: str = "abc") -> dict[str, Any]:
    call = {"type": "function", "id": number, "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def evaluated(
    template: str, answers: list[dict[str, Any]], turns: list[str], out: Path
) -> tuple[dict[str, Any], list[Any]]:
    """Returns eval.json and the lines of answers.jsonl for what a model says to records that end with `answers`."""
    render = renderer(template)
    records = [Record((USER, answer), Place("here", 1), TOOLS) for answer in answers]
    said = [Answer(turn, turn, 9, True) for turn in turns]
    report = write_eval_report(records, said, AnswerForm.of(render, SPECIAL), render, 1.0, out)
    lines = (out / "answers.jsonl").read_text().splitlines()
    return report.content(), [json.loads(line) for line in lines]


ANSWER = '{"colour": "red", "number": 1}'


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("<think>\n\n</think>\n\n" + ANSWER + "<|im_end|>", True),
        ("<think>\nRed, I think.\n</think>\n\n" + ANSWER + "<|im_end|>", True),
        (ANSWER + "<|im_end|>", True),
        ("<think>\n\n</think>\n\n" + ANSWER.replace("red", "blue") + "<|im_end|>", False),
        ("<think>\n" + ANSWER, False),
        ("", False),
    ],
)
@pytest.mark.parametrize("record", [ANSWER, "<think>\nIt is red.\n</think>\n\n" + ANSWER])
def test_the_templates_thought_is_no_part_of_an_answer(record: str, said: str, right: bool, tmp_path: Path) -> None:
    figures, (line,) = evaluated(QWEN_3, [{"role": "assistant", "content": record}], [said], tmp_path)
    assert line["expected"] == ANSWER
    assert (line["exact"], figures["exact_match"]) == (right, float(right))
    if right:
        assert figures["field_f1"] == 1.0 and figures["field_accuracy"] == {"colour": 1.0, "number": 1.0}


@pytest.mark.parametrize("kind", sorted(_CALLS))
@pytest.mark.parametrize("thought", ["", "It may be warm."])
def test_right_calls_are_right_whatever_the_order_of_their_keys(kind: str, thought: str, tmp_path: Path) -> None:
    template = calling(_CALLS[kind])
    wanted = call_of("weather", ARGUMENTS)
    others = [
        (wanted, True),
        (call_of("weather", dict(reversed(ARGUMENTS.items())), "another"), True),
        (call_of("weather", ARGUMENTS | {"days": 3}), False),
        (call_of("forecast", ARGUMENTS), False),
        ({"role": "assistant", "content": "It is warm."}, False),
    ]
    turns = [
        last_turn(renderer(template), (USER, {**other, "reasoning_content": thought}), TOOLS) for other, _ in others
    ]
    figures, lines = evaluated(template, [wanted] * len(others), turns, tmp_path)
    assert [line["exact"] for line in lines] == [right for _, right in others]
    assert figures["exact_match"] == 2 / 5
    assert figures["expected_empty"] == 0
    assert all("weather" in line["expected"] and "Graz" in line["expected"] for line in lines)
    assert figures["field_f1"] is not None and 0 < figures["field_f1"] < 1


def test_a_call_without_its_tags_is_none(tmp_path: Path) -> None:
    call = json.dumps({"name": "weather", "arguments": ARGUMENTS})
    said = [f"<tool_call>\n{call}\n</tool_call><|im_end|>", f"<tool_call>\n{call}<|im_end|>", f"{call}<|im_end|>"]
    _, lines = evaluated(calling(_CALLS["json in tags"]), [call_of("weather", ARGUMENTS)] * 3, said, tmp_path)
    assert [line["exact"] for line in lines] == [True, False, False]


def test_two_calls_are_compared_one_by_one(tmp_path: Path) -> None:
    first, second = (call_of("weather", {"city": city})["tool_calls"][0] for city in ("Graz", "Wien"))
    template = calling(_CALLS["json in tags"])
    both = {"role": "assistant", "content": "", "tool_calls": [first, second]}
    turns = [
        last_turn(renderer(template), (USER, {**both, "tool_calls": calls}), TOOLS)
        for calls in ([first, second], [first], [second, first])
    ]
    _, lines = evaluated(template, [both] * 3, turns, tmp_path)
    assert [line["exact"] for line in lines] == [True, False, False]


def test_what_is_said_beside_a_call_counts(tmp_path: Path) -> None:
    template = calling(_CALLS["json in tags"])
    wanted = {**call_of("weather", ARGUMENTS), "content": "Let me look.\n"}
    turns = [
        last_turn(renderer(template), (USER, {**wanted, "content": text}), TOOLS)
        for text in ("Let me look.\n", "Let me look. ", "Well.\n")
    ]
    _, lines = evaluated(template, [wanted] * 3, turns, tmp_path)
    assert [line["exact"] for line in lines] == [True, True, False]


_CHANNELS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.role == 'assistant' %}"
    "{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|im_start|>assistant{% endif %}"
    "<|channel|>final{% endif %}<|message|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
_OPENED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
_IN_THE_PROMPT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<|channel|>thought\n<|channel|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "thinking"),
    [
        pytest.param(
            _CHANNELS, "<|channel|>analysis<|message|>Hm.<|end|><|im_start|>assistant<|channel|>final<|message|>"
        ),
        pytest.param(_OPENED, "Hm.\n</think>\n\n"),
        pytest.param(_IN_THE_PROMPT, ""),
        pytest.param(QWEN_2, ""),
        pytest.param(GEMMA, ""),
    ],
    ids=["channels", "a prompt that opens the thought", "a thought in the prompt alone", "ChatML", "Gemma"],
)
def test_only_what_the_template_writes_is_left_out(template: str, thinking: str) -> None:
    form = AnswerForm.of(renderer(template), SPECIAL)
    turn = last_turn(renderer(template), (USER, {"role": "assistant", "content": "red final: thought"}))
    assert form.answer(turn.replace("<end_of_turn>", "<|im_end|>")) == "red final: thought"
    assert form.answer(thinking + "red<|im_end|>") == "red"
    assert form.answer("final answer: red<|im_end|>") == "final answer: red"


@pytest.mark.parametrize(
    ("said", "begins"),
    [("", None), ("<think>", None), ("<think>\n\n</thi", None), ("<think>\n\n</think>", True), ("<think>\nHm", False)],
)
def test_an_opening_is_known_while_it_is_said(said: str, begins: bool | None) -> None:
    assert AnswerForm.of(renderer(QWEN_3), SPECIAL).begins(said) is begins


def test_an_answer_that_the_template_does_not_show_is_counted(tmp_path: Path) -> None:
    figures, _ = evaluated(CHATML, [call_of("weather", ARGUMENTS)], ["<|im_end|>"], tmp_path)
    assert figures["expected_empty"] == 1


def test_a_template_that_refuses_everything_gives_no_form() -> None:
    assert AnswerForm.of(renderer("{{ raise_exception('no') }}"), ()) == AnswerForm()


def test_a_template_that_takes_prompts_alone_scores_the_answers_as_they_are(tmp_path: Path) -> None:
    """Answers are there already when they are scored: nothing may be lost then."""
    refusing = "{% if not add_generation_prompt %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    figures, (line,) = evaluated(
        refusing, [{"role": "assistant", "content": ANSWER}], [ANSWER + "<|im_end|>"], tmp_path
    )
    assert line["expected"] == ANSWER and figures["exact_match"] == 1.0

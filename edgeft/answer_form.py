"""What of an assistant's turn is the answer: without what the chat template writes around it, without thoughts.

Qwen3's template puts an empty `<think></think>` before an answer without thoughts, others a channel's name; a model
that is trained on such turns says it. A call is its function's name and its arguments, whatever the order of their
keys. All of it is seen from the template itself, by rendering a few turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edgeft.errors import EdgeftError

Message = Mapping[str, Any]
Render = Callable[[Sequence[dict[str, Any]], bool, Sequence[dict[str, Any]]], str]
"""Renders messages, with the generation prompt or without it, and tools."""

_THOUGHT_END: Final = "</think>"
"""Ends thoughts in most templates, and in answers whose template shows none."""
_QUESTION: Final = {"role": "user", "content": "edgeft asks 7"}
_SAID, _THOUGHT, _CALLED, _KEY, _VALUE = "edgeft says 7", "edgeft thinks 7", "edgeft_calls", "edgeft_key", "edgeft 7"
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": _CALLED,
        "description": "is called",
        "parameters": {"type": "object", "properties": {_KEY: {"type": "string"}}, "required": [_KEY]},
    },
}
_CALL: Final = {"type": "function", "id": "call00007", "function": {"name": _CALLED, "arguments": {_KEY: _VALUE}}}
_CALLING: Final = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_THOUGHTS: Final = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), _THOUGHT)


@dataclass(frozen=True)
class AnswerForm:
    """What a chat template writes around answers.

    `opening` stands before an answer without thoughts. `thought_ends` stand between thoughts and what follows them, an
    answer or a call, the longest first. `call_start` stands before a call, and `call_frame` is what is left of one
    without its name and arguments. `special` are the texts of the tokens that are not shown. Each is empty where there
    is no such thing.
    """

    special: frozenset[str] = frozenset()
    opening: str = ""
    thought_ends: tuple[str, ...] = ()
    call_start: str = ""
    call_frame: str = ""

    @classmethod
    def of(cls, render: Render, special: Collection[str]) -> AnswerForm:
        """Returns the form that a template gives to answers; `special` are the texts of the special tokens."""
        plain = _turn_or_none(render, {"role": "assistant", "content": _SAID})
        opening = plain.partition(_SAID)[0] if _SAID in plain else ""
        called = _turn_or_none(render, _CALLING, [_TOOL]).strip().removeprefix(opening.strip()).strip()
        start = _call_start(called)
        thinking = _turn_or_none(render, {"role": "assistant", "content": _SAID, **_THOUGHTS})
        ends = {_between(thinking, _THOUGHT, _SAID)}
        if start:
            ends.add(_between(_turn_or_none(render, _CALLING | _THOUGHTS, [_TOOL]), _THOUGHT, start))
        form = cls(frozenset(special), opening, tuple(sorted(ends - {""}, key=len, reverse=True)))
        frame = _parse_calls(form._without_end(called))[1] if start else ""
        return replace(form, call_start=start, call_frame="" if _CALLED in frame else frame)

    def answer(self, turn: str) -> str:
        """Returns the answer of a turn as a text to be read, a call as the template writes it.

        `turn` is what the model says, its special tokens included.
        """
        final = self._final(turn)
        if self._is_call(final):
            return self._without_end(final)
        for token in self.special:
            final = final.replace(token, "")
        return final.strip()

    def comparable(self, answer: str) -> str:
        """Returns a text that is equal, as JSON, for answers that mean the same; `answer` is what `answer` returns."""
        if not self._is_call(answer):
            return answer
        calls, rest = _parse_calls(answer)
        frame, text = _squeezed(self.call_frame), _squeezed(rest)
        text = _squeezed(text.replace(frame, " ")) if frame else text
        return json.dumps({"calls": calls} | ({"text": text} if text else {}), ensure_ascii=False)

    def begins(self, turn: str) -> bool | None:
        """Returns whether a turn is the opening, whitespace aside; None as long as it is the beginning of it."""
        opening, said = "".join(self.opening.split()), "".join(turn.split())
        if said == opening:
            return True
        return None if opening.startswith(said) else False

    def _final(self, turn: str) -> str:
        """Returns a turn without its thoughts and without the opening."""
        for end in (*self.thought_ends, _THOUGHT_END):
            if end in turn:
                return turn.rpartition(end)[2].strip()
        return turn.strip().removeprefix(self.opening.strip()).strip()

    def _is_call(self, final: str) -> bool:
        return bool(self.call_start) and self.call_start in final

    def _without_end(self, text: str) -> str:
        """Returns a text without the special tokens with which it ends, but with those that end a call."""
        text = text.strip()
        while end := next((token for token in self.special if token and text.endswith(token)), None):
            text = text.removesuffix(end).rstrip()
        return text


def last_turn(render: Render, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> str:
    """Returns what the template makes of the last message after the generation prompt, end token included.

    Where the prompt is no beginning of the conversation, what both have after the messages before is left out once.
    Raises EdgeftError where the template refuses the conversation.
    """
    conversation = [dict(message) for message in messages]
    whole, prompt = render(conversation, False, tools), render(conversation[:-1], True, tools)
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    before = render(conversation[:-1], False, tools)
    if whole.startswith(before) and prompt.startswith(before):
        return whole[_shared(whole, prompt) :]
    content = str(conversation[-1].get("content") or "").strip()
    return whole[whole.rindex(content) :] if content and content in whole else content


def _shared(whole: str, prompt: str) -> int:
    """Returns how many characters two texts begin with alike, without the beginning of a tag or special token."""
    pairs = enumerate(zip(whole, prompt, strict=False))
    shared = next((i for i, (a, b) in pairs if a != b), min(len(whole), len(prompt)))
    cut = re.search(r"<[^<>]*$|\[[^\[\]]*$", whole[:shared])
    return cut.start() if cut else shared


def _turn_or_none(render: Render, message: Message, tools: Sequence[dict[str, Any]] = ()) -> str:
    """Returns the turn of an answer to a question, "" where the template refuses it."""
    try:
        return last_turn(render, [_QUESTION, message], tools)
    except EdgeftError:
        return ""


def _between(text: str, first: str, then: str) -> str:
    after = text.partition(first)[2]
    return after.partition(then)[0].strip() if then in after else ""


def _call_start(called: str) -> str:
    """Returns what announces a call, from the turn of one; "" where it is nothing but JSON."""
    if _CALLED not in called:
        return ""
    return re.split(r"[\[{\"\s]*[{\"]", called.partition(_CALLED)[0], maxsplit=1)[0].strip()


_XML_CALL: Final = re.compile(r"<function=([^>\s]+)>(.*?)</function>", re.DOTALL)
_XML_ARGUMENT: Final = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_TAGGED_CALL: Final = re.compile(
    r"(?<=<tool_call>)\s*([\w.-]+)\s*((?:<arg_key>.*?</arg_value>\s*)*)(?=</tool_call>)", re.DOTALL
)
_TAGGED_ARGUMENT: Final = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def _parse_calls(text: str) -> tuple[list[Any], str]:
    """Returns the calls in a text, with name and arguments, and what is left of the text.

    Where a name is no part of the JSON, as in DeepSeek's and gpt-oss's calls, it stays in the text.
    """
    calls: list[Any] = []
    for call, argument in ((_XML_CALL, _XML_ARGUMENT), (_TAGGED_CALL, _TAGGED_ARGUMENT)):
        for match in call.finditer(text):
            arguments = {key: _value(value) for key, value in argument.findall(match[2])}
            calls.append({"name": match[1], "arguments": arguments})
        text = call.sub(" ", text)
    rest: list[str] = []
    for part in _json_parts(text):
        if isinstance(part, str):
            rest.append(part)
        else:
            calls.append(_call_of(part))
    return calls, " ".join(rest)


def _json_parts(text: str) -> Iterator[str | dict[str, Any]]:
    """Yields the JSON objects in a text, and the text between them."""
    decoder, done, start = json.JSONDecoder(), 0, text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield text[done:start]
            yield value
            done = end
        start = text.find("{", end)
    yield text[done:]


def _call_of(value: dict[str, Any]) -> Any:
    """Returns the name and the arguments of a call in JSON, without its id; any other object as it is."""
    function = value.get("function")
    inner = function if isinstance(function, dict) else value
    name = inner.get("name", function)
    arguments = inner.get("arguments", inner.get("parameters"))
    if not isinstance(name, str) or arguments is None:
        return value
    return {"name": name, "arguments": _value(arguments) if isinstance(arguments, str) else arguments}


def _value(text: str) -> Any:
    """Returns the JSON value of an argument, or the argument as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _squeezed(text: str) -> str:
    return " ".join(text.split())

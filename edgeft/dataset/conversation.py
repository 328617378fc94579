"""Checks a conversation as a whole: its order, its calls and their answers, and that something is said."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.artifacts import Message
from edgeft.dataset.faults import Faults

_SURROGATE = re.compile("[\ud800-\udfff]")
_ORDER = "an optional system message, then user and assistant in turn, ending with the assistant"
_AFTER = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user"},
    "calls": {"tool", "user", "assistant"},  # a call that is not answered is told as such
    "tool": {"tool", "assistant"},
}
_MOST_ROLES = 12


@dataclass(frozen=True)
class Turn:
    """A message, the part of the row that it was read from, and the part that its content was."""

    message: Message
    field: str
    content: str

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls of the message."""
        calls: list[dict[str, Any]] = self.message.get("tool_calls", [])
        return calls


def check_conversation(turns: Sequence[Turn], tools: Sequence[dict[str, Any]], field: str, faults: Faults) -> None:
    """Gives names to calls that have none, and notes everything wrong with a conversation read from `field`.

    Where some of it could not be read, the turns are checked one by one: their order means nothing then.
    """
    whole = not faults.unreadable
    for turn in turns:
        _check_turn(turn, faults)
    if not whole:
        return
    _check_order(turns, field, faults)
    # Most records have no tools, and there are many records.
    if any("tool_calls" in turn.message or turn.message["role"] == "tool" for turn in turns):
        if _name_calls(turns, faults):
            _check_answers(turns, faults)
        _check_tools(turns, tools, faults)
    if turns and turns[-1].message.get("weight") == 0:
        message = "the last answer has weight 0: nothing is learnt from the end of the conversation"
        faults.add("untrained-answer", turns[-1].field, message, "end the conversation with an answer to learn")


def find_surrogate(value: Any, field: str, faults: Faults) -> None:
    """Notes half of a surrogate pair in a text, or anywhere in a JSON value."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if _SURROGATE.search(text):
        message = "half of a surrogate pair, which is no character"
        faults.add("lone-surrogate", field, message, "write the character itself")


def _check_turn(turn: Turn, faults: Faults) -> None:
    find_surrogate(turn.message["content"], turn.content, faults)
    if turn.message["role"] == "tool":
        for key in ("tool_call_id", "name"):
            find_surrogate(turn.message.get(key, ""), f"{turn.field}.{key}", faults)
    if turn.calls:
        find_surrogate(turn.calls, f"{turn.field}.tool_calls", faults)
    elif turn.message["role"] == "assistant" and not turn.message["content"].strip():
        remedy = "an empty answer teaches silence: remove it"
        faults.add("empty-answer", turn.content, "the assistant's content is empty", remedy)


def _check_order(turns: Sequence[Turn], field: str, faults: Faults) -> None:
    roles = [turn.message["role"] for turn in turns]
    before = ""
    wrong = not roles or roles[-1] != "assistant"
    for turn, role in zip(turns, roles, strict=True):
        wrong = wrong or role not in _AFTER[before]
        before = "calls" if turn.calls else role
    if wrong:
        shown = ", ".join(roles[:_MOST_ROLES]) + (", ..." if len(roles) > _MOST_ROLES else "")
        faults.add("role-order", field, f"the roles are {shown or 'none'}", _ORDER)


def _name_calls(turns: Sequence[Turn], faults: Faults) -> bool:
    """Where no call has an id, answers belong to calls by their order; else every one must have its own.

    Returns whether all of them have one now.
    """
    named = any("id" in call for turn in turns for call in turn.calls)
    named = named or any("tool_call_id" in turn.message for turn in turns)
    waiting: list[str] = []
    complete = True
    for index, turn in enumerate(turns):
        for number, call in enumerate(turn.calls):
            if not named:
                call["id"] = f"call_{index}_{number}"
                waiting.append(call["id"])
            elif "id" not in call:
                complete = False
                remedy = "give every call an id, and every tool message the tool_call_id it answers; or none of them"
                faults.add("missing-key", f"{turn.field}.tool_calls[{number}].id", "the call has no id", remedy)
        if turn.message["role"] != "tool" or "tool_call_id" in turn.message:
            continue
        if named:
            complete = False
            remedy = "name the call that it answers"
            faults.add("missing-key", f"{turn.field}.tool_call_id", "the tool message has no tool_call_id", remedy)
        else:
            turn.message["tool_call_id"] = waiting.pop(0) if waiting else ""
    return complete


def _check_answers(turns: Sequence[Turn], faults: Faults) -> None:
    asked: Turn | None = None
    waiting: list[str] = []
    for turn in turns:
        if turn.message["role"] == "tool":
            answered = turn.message.get("tool_call_id")
            if answered in waiting:
                waiting.remove(answered)
            elif asked is not None and answered is not None:
                message = f"no call before it has the id {answered!r}, or it is answered already"
                faults.add("unmatched-answer", f"{turn.field}.tool_call_id", message, "name the call that it answers")
            continue
        _tell_unanswered(asked, waiting, faults)
        asked = turn if turn.calls else None
        waiting = [call["id"] for call in turn.calls if "id" in call]
    if asked is not None and turns[-1] is not asked:
        _tell_unanswered(asked, waiting, faults)


def _tell_unanswered(asked: Turn | None, waiting: Sequence[str], faults: Faults) -> None:
    if asked is not None and waiting:
        message = f"no tool message after it answers {', '.join(map(repr, waiting))}"
        remedy = "answer each call with a tool message, or end the conversation with the call"
        faults.add("unanswered-call", f"{asked.field}.tool_calls", message, remedy)


def _check_tools(turns: Sequence[Turn], tools: Sequence[dict[str, Any]], faults: Faults) -> None:
    declared = {tool["function"]["name"] for tool in tools}
    for turn in turns:
        for number, call in enumerate(turn.calls):
            if (name := call["function"]["name"]) not in declared:
                field = f"{turn.field}.tool_calls[{number}].function.name"
                message = f"{name!r} is called, and no tool of that name is declared"
                faults.add("undeclared-tool", field, message, "declare it under the key tools", "warning")

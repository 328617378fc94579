"""Conversations as ShareGPT's dumps have them: turns with the keys from and value."""

from __future__ import annotations

from typing import Any

from edgeft.artifacts import Message
from edgeft.dataset.conversation import Turn
from edgeft.dataset.faults import Faults, kind
from edgeft.dataset.openai_format import lost_keys, read_function, read_role, read_text, read_weight
from edgeft.dataset.strict_json import JsonError, parse_json

_ROLES = {
    **{"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant"},
    **{"system": "system", "function_call": "assistant", "observation": "tool", "tool": "tool"},
}
_TURN = 'expected {"from": "human", "value": "..."}'


def read_sharegpt(values: list[Any], field: str, faults: Faults) -> list[Turn]:
    """Returns the turns of a list of from and value; those that cannot be read are noted and left out.

    A turn from function_call holds {"name": ..., "arguments": {...}} or a list of them, as JSON text or as objects.
    """
    turns = (_turn(value, f"{field}[{index}]", faults) for index, value in enumerate(values))
    return [turn for turn in turns if turn is not None]


def _turn(value: Any, field: str, faults: Faults) -> Turn | None:
    if not isinstance(value, dict):
        faults.add("wrong-type", field, f"{kind(value)} where a turn is expected", _TURN)
        return None
    value = {key: child for key, child in value.items() if child is not None}
    speaker = value.get("from")
    role = read_role(speaker, f"{field}.from", _ROLES, faults)
    lost_keys(value, ("from", "value", "weight") if role == "assistant" else ("from", "value"), field, faults)
    weight = read_weight(value, field, faults) if role == "assistant" else {}
    message: Message = {"role": role}
    if speaker == "function_call":
        calls = _calls(value.get("value"), f"{field}.value", faults)
        message.update(content="", tool_calls=calls)
        readable = bool(calls)
    else:
        message["content"] = read_text(value.get("value"), f"{field}.value", faults)
        readable = message["content"] is not None
    return Turn(message | weight, field, f"{field}.value") if role and readable else None


def _calls(value: Any, field: str, faults: Faults) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except JsonError as fault:
            faults.add("bad-arguments", field, str(fault), 'expected {"name": "...", "arguments": {...}} as JSON')
            return []
    listed = value if isinstance(value, list) else [value]
    names = [field if listed is not value else f"{field}[{index}]" for index in range(len(listed))]
    functions = [read_function(item, name, faults) for item, name in zip(listed, names, strict=True)]
    if not listed:
        faults.add("missing-key", field, "an empty list of calls", "name a function, or remove the turn")
    if any(function is None for function in functions):
        return []
    return [{"type": "function", "function": function} for function in functions]

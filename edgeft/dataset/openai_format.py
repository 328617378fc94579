"""Chat messages as OpenAI's API has them, and the tools beside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgeft.artifacts import Message
from edgeft.dataset.conversation import Turn
from edgeft.dataset.faults import Faults, kind
from edgeft.dataset.strict_json import JsonError, parse_json
from edgeft.errors import nearest

_ROLES = {
    # A developer message is a newer name of the system message, and chat templates know that one alone.
    **{name: name for name in ("system", "user", "assistant", "tool")},
    "developer": "system",
    "function": "tool",
}
_KEYS = {
    "assistant": {"role", "content", "tool_calls", "function_call", "weight"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
_MESSAGE = 'expected {"role": "user", "content": "..."}'
_CALL = 'expected {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}'
_TOOL = 'expected {"type": "function", "function": {"name": "...", "parameters": {...}}}'


def read_openai(values: Any, field: str, faults: Faults) -> list[Turn]:
    """Returns the turns of a list of messages; those that cannot be read are noted and left out."""
    values = decoded(values, field, faults)
    if not isinstance(values, list):
        faults.add("wrong-type", field, f"{kind(values)} where a list of messages is expected", _MESSAGE)
        return []
    turns = (_turn(value, f"{field}[{index}]", faults) for index, value in enumerate(values))
    return [turn for turn in turns if turn is not None]


def _turn(value: Any, field: str, faults: Faults) -> Turn | None:
    if not isinstance(value, dict):
        faults.add("wrong-type", field, f"{kind(value)} where a message is expected", _MESSAGE)
        return None
    # Exports write every key, with null or an empty list where there is nothing.
    value = {key: child for key, child in value.items() if child is not None and (child != [] or key == "content")}
    role = read_role(value.get("role"), f"{field}.role", _ROLES, faults)
    lost_keys(value, _KEYS.get(role, {"role", "content"}), field, faults)
    calls = _calls(value, field, faults) if role == "assistant" else []
    weight = read_weight(value, field, faults) if role == "assistant" else {}
    calling = role == "assistant" and ("tool_calls" in value or "function_call" in value)
    silent = calling and "content" not in value
    content = "" if silent else read_text(value.get("content"), f"{field}.content", faults)
    if not role or content is None or (calling and not calls):
        return None
    message: Message = {"role": role, "content": content}
    if calls:
        message["tool_calls"] = calls
    message.update(weight)
    if role == "tool":
        message.update((key, value[key]) for key in ("tool_call_id", "name") if key in value)
        for key in ("tool_call_id", "name"):
            if not isinstance(value.get(key, ""), str):
                faults.add("wrong-type", f"{field}.{key}", f"{kind(value[key])} where text is expected", "write text")
    return Turn(message, field, f"{field}.content")


def read_role(value: Any, field: str, roles: dict[str, str], faults: Faults) -> str:
    """Returns our name of a role, "" when it is none."""
    if value is None:
        faults.add("missing-key", field, "the message has no role", f"give it one of {', '.join(roles)}")
    elif not isinstance(value, str):
        faults.add("wrong-type", field, f"{kind(value)} where a role is expected", f"one of {', '.join(roles)}")
    elif value not in roles:
        faults.add("unknown-role", field, f"{value!r} is no role", nearest(value, roles))
    else:
        return roles[value]
    return ""


def lost_keys(value: dict[str, Any], known: Iterable[str], field: str, faults: Faults) -> None:
    """Notes the keys of a part of a row that its record would not hold."""
    if lost := value.keys() - set(known):
        message = f"keys that would be lost: {', '.join(sorted(map(str, lost)))}"
        faults.add("unknown-key", field, message, f"leave {', '.join(sorted(known))}, or nothing else")


def read_weight(value: dict[str, Any], field: str, faults: Faults) -> Message:
    """Returns {"weight": 0} for a message that is not to be trained, else nothing."""
    weight = value.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        message = f"the weight is {weight!r}"
        faults.add("bad-weight", f"{field}.weight", message, "1 trains the message, 0 does not, and there is no other")
    return {"weight": 0} if weight == 0 else {}


def read_text(value: Any, field: str, faults: Faults) -> str | None:
    """Returns the text of a content: text, or parts of text, which are put together with nothing between them."""
    if isinstance(value, str):
        return value
    if value is None:
        faults.add("missing-key", field, "there is no text", "write the text, or remove the message")
        return None
    if not isinstance(value, list):
        faults.add("wrong-type", field, f"{kind(value)} where text is expected", "write text")
        return None
    texts = [_part(part, f"{field}[{index}]", faults) for index, part in enumerate(value)]
    return None if any(text is None for text in texts) else "".join(text or "" for text in texts)


def _part(part: Any, field: str, faults: Faults) -> str | None:
    if not isinstance(part, dict):
        faults.add("wrong-type", field, f"{kind(part)} where a part of a content is expected", "write text instead")
        return None
    part = {key: value for key, value in part.items() if value is not None}
    if part.get("type") != "text":
        message = f"a part of the type {part.get('type')!r}: only text can be trained here"
        faults.add("unsupported-content", field, message, "leave the text, or remove the record")
        return None
    lost_keys(part, ("type", "text"), field, faults)
    return read_text(part.get("text") if not isinstance(part.get("text"), list) else 0, f"{field}.text", faults)


def _calls(value: dict[str, Any], field: str, faults: Faults) -> list[dict[str, Any]]:
    """Returns the calls of an assistant's message; the older function_call is one without an id."""
    calls: list[dict[str, Any]] = []
    if "function_call" in value:
        call = read_function(value["function_call"], f"{field}.function_call", faults)
        calls += [{"type": "function", "function": call}] if call else []
    listed = value.get("tool_calls", [])
    if not isinstance(listed, list):
        faults.add("wrong-type", f"{field}.tool_calls", f"{kind(listed)} where a list of calls is expected", _CALL)
        return calls
    for index, item in enumerate(listed):
        calls += _call(item, f"{field}.tool_calls[{index}]", faults)
    return calls


def _call(item: Any, field: str, faults: Faults) -> list[dict[str, Any]]:
    if not isinstance(item, dict):
        faults.add("wrong-type", field, f"{kind(item)} where a call is expected", _CALL)
        return []
    item = {key: child for key, child in item.items() if child is not None}
    if item.get("type", "function") != "function":
        message = f"a call of the type {item['type']!r}: only functions can be trained here"
        faults.add("unsupported-content", f"{field}.type", message, "remove the record")
        return []
    lost_keys(item, ("id", "type", "function"), field, faults)
    if not isinstance(item.get("id", ""), str):
        faults.add("wrong-type", f"{field}.id", f"{kind(item['id'])} where text is expected", "write the id as text")
        return []
    function = read_function(item.get("function"), f"{field}.function", faults)
    named = {"id": item["id"]} if "id" in item else {}
    return [{**named, "type": "function", "function": function}] if function else []


def read_function(value: Any, field: str, faults: Faults) -> dict[str, Any] | None:
    """Returns the name and the arguments of a call, the arguments as an object whether they were text or not."""
    if not isinstance(value, dict):
        code = "missing-key" if value is None else "wrong-type"
        faults.add(code, field, f"{kind(value)} where a function is expected", _CALL)
        return None
    lost_keys(value, ("name", "arguments"), field, faults)
    name, arguments = value.get("name"), value.get("arguments")
    if not isinstance(name, str) or not name:
        faults.add("missing-key", f"{field}.name", "the call names no function", _CALL)
        return None
    if isinstance(arguments, str):
        try:
            arguments = parse_json(arguments)
        except JsonError as fault:
            faults.add("bad-arguments", f"{field}.arguments", str(fault), 'write them as JSON, none as "{}"')
            return None
    if not isinstance(arguments, dict):
        message = f"{kind(arguments)} where an object is expected"
        faults.add("bad-arguments", f"{field}.arguments", message, 'write them as a JSON object, none as "{}"')
        return None
    return {"name": name, "arguments": arguments}


def read_tools(value: Any, field: str, faults: Faults) -> tuple[dict[str, Any], ...]:
    """Returns the tools that a record declares, of a list or of its JSON; a bare function is one, too."""
    value = decoded(value, field, faults)
    if value is None or value == "":
        return ()
    if not isinstance(value, list):
        faults.add("wrong-type", field, f"{kind(value)} where a list of tools is expected", _TOOL)
        return ()
    tools = (_tool(item, f"{field}[{index}]", faults) for index, item in enumerate(value))
    return tuple(tool for tool in tools if tool is not None)


def _tool(item: Any, field: str, faults: Faults) -> dict[str, Any] | None:
    if not isinstance(item, dict):
        faults.add("wrong-type", field, f"{kind(item)} where a tool is expected", _TOOL)
        return None
    tool = item if "function" in item else {"type": "function", "function": item}
    if tool.get("type", "function") != "function":
        message = f"a tool of the type {tool['type']!r}: only functions can be trained here"
        faults.add("unsupported-content", f"{field}.type", message, "remove the tool")
        return None
    lost_keys(tool, ("type", "function"), field, faults)
    function = tool["function"]
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        faults.add("missing-key", f"{field}.function.name", "the tool has no name", _TOOL)
        return None
    return {"type": "function", "function": function}


def decoded(value: Any, field: str, faults: Faults) -> Any:
    """Returns the list that a text holds as JSON, which is how tables hold one; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return parse_json(value)
    except JsonError as fault:
        faults.add(fault.code, field, str(fault), "write the cell as JSON")
        return []

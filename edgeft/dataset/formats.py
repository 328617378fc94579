"""Recognises the format of a row by its keys, and turns the row into a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeft.dataset.conversation import Turn, check_conversation, find_surrogate
from edgeft.dataset.faults import Faults, kind
from edgeft.dataset.findings import Finding
from edgeft.dataset.openai_format import decoded, read_openai, read_text, read_tools
from edgeft.dataset.record import Record
from edgeft.dataset.row import Row
from edgeft.dataset.sharegpt_format import read_sharegpt

_CHAT_KEYS = ("messages", "conversations", "conversation")
_FORMATS = (
    "expected the keys messages (OpenAI), conversations (ShareGPT), instruction and output (Alpaca), "
    "prompt and completion, or text"
)


@dataclass(frozen=True)
class Converted:
    """What became of a row: its format ("" when none is known), its record when it has no error, and the findings.

    `lost` names the keys of the row that hold something and that the record does not.
    """

    format: str
    record: Record | None
    findings: tuple[Finding, ...]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pair:
    """A format of a question and an answer under these keys; `context`, "" for none, belongs to the question."""

    name: str
    question: str
    answer: str
    context: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key in (self.question, self.answer, self.context, "system") if key)


_PAIRS = (
    _Pair("alpaca", "instruction", "output", "input"),
    _Pair("instruction-response", "instruction", "response", "context"),
    _Pair("prompt-completion", "prompt", "completion"),
    _Pair("prompt-response", "prompt", "response", "context"),
    _Pair("question-answer", "question", "answer", "context"),
    _Pair("query-response", "query", "response", "context"),
    _Pair("input-output", "input", "output"),
)


def convert(row: Row) -> Converted:
    """Returns the record of a row, or everything that is wrong with it."""
    faults = Faults(row.place)
    if not isinstance(row.value, dict):
        faults.add("unknown-format", "", f"{kind(row.value)} where an object is expected", _FORMATS)
        return Converted("", None, tuple(faults.found))
    filled = {key: value for key, value in row.value.items() if value not in (None, "", [])}
    if chat := next((key for key in _CHAT_KEYS if key in row.value), None):
        return _chat(row, chat, filled, faults)
    pairs = [pair for pair in _PAIRS if pair.question in row.value and pair.answer in row.value]
    if pairs and pairs[0].name == "alpaca":
        # Its input beside its output is no pair of its own.
        pairs = [pair for pair in pairs if pair.name != "input-output"]
    if len(pairs) > 1:
        names = " and ".join(pair.name for pair in pairs)
        faults.add("ambiguous-format", "", f"the keys fit {names}", "keep the columns of one of them")
        return Converted("", None, tuple(faults.found))
    if pairs:
        return _pair(row, pairs[0], filled, faults)
    if "text" in row.value:
        return _text(row, filled, faults)
    faults.add("unknown-format", "", _unknown(row.value), _FORMATS)
    return Converted("", None, tuple(faults.found))


def _unknown(value: dict[str, Any]) -> str:
    if {"chosen", "rejected"} <= value.keys():
        return "the row is a preference pair (chosen, rejected), and fine-tuning learns from one answer"
    keys = ", ".join(map(str, value))
    return f"the keys fit no format: {keys}" if keys else "an object without keys"


def _finish(
    row: Row, name: str, turns: list[Turn], field: str, used: set[str], filled: dict[str, Any], faults: Faults
) -> Converted:
    """Checks the turns, reads the tools of the row and makes the record."""
    legacy = "functions" in row.value and "tools" not in row.value
    tools_key = "functions" if legacy else "tools"
    tools = read_tools(row.value.get(tools_key), tools_key, faults)
    if tools:
        find_surrogate(list(tools), tools_key, faults)
    check_conversation(turns, tools, field, faults)
    lost = tuple(sorted(str(key) for key in filled.keys() - used - {tools_key}))
    record = None if faults.errors else Record(tuple(turn.message for turn in turns), row.place, tools)
    return Converted(name, record, tuple(faults.found), lost)


def _chat(row: Row, key: str, filled: dict[str, Any], faults: Faults) -> Converted:
    values = decoded(row.value[key], key, faults)
    if _is_plain(values):
        return _text(Row(row.place, {"text": values[0].get("content")}), filled, faults, key)
    first = next((value for value in values if isinstance(value, dict)), {}) if isinstance(values, list) else {}
    style, read, usual = _style(first)
    name = style if key == usual else f"{style} under {key!r}"
    turns = _system(row, faults) + ([] if faults.errors else read(values, key, faults))
    return _finish(row, name, turns, key, {key, "system"}, filled, faults)


def _style(first: dict[str, Any]) -> tuple[str, Callable[[Any, str, Faults], list[Turn]], str]:
    if "from" in first or "value" in first:
        return "sharegpt", read_sharegpt, "conversations"
    return "openai", read_openai, "messages"


def _is_plain(values: Any) -> bool:
    """Whether this is a plain text as records are written: one message of the role "text"."""
    return isinstance(values, list) and len(values) == 1 and isinstance(values[0], dict) and _is_text(values[0])


def _is_text(message: dict[str, Any]) -> bool:
    return message.get("role") == "text" and message.keys() == {"role", "content"}


def _system(row: Row, faults: Faults) -> list[Turn]:
    system = row.value.get("system")
    if system in (None, ""):
        return []
    text = read_text(system, "system", faults)
    return [] if text is None else [Turn({"role": "system", "content": text}, "system", "system")]


def _pair(row: Row, pair: _Pair, filled: dict[str, Any], faults: Faults) -> Converted:
    used = {*pair.keys, *(["history"] if pair.name == "alpaca" else [])}
    question, answer = row.value[pair.question], row.value[pair.answer]
    turns = _system(row, faults)
    if pair.name == "alpaca":
        turns += _history(row.value.get("history"), faults)
    if isinstance(question, list) and isinstance(answer, list):
        turns += _untrained(read_openai(question, pair.question, faults))
        turns += read_openai(answer, pair.answer, faults)
    else:
        turns += _message("user", question, pair.question, faults)
        turns += _message("assistant", answer, pair.answer, faults)
        context = row.value.get(pair.context) if pair.context else None  # a table may have a column named ""
        if context not in (None, ""):
            _append(turns, read_text(context, pair.context, faults))
    return _finish(row, pair.name, turns, pair.question, used, filled, faults)


def _append(turns: list[Turn], context: str | None) -> None:
    """Puts the context behind the last question, with an empty line between them."""
    asked = next((turn for turn in reversed(turns) if turn.message["role"] == "user"), None)
    if context and asked is not None:
        question = asked.message["content"]
        asked.message["content"] = f"{question}\n\n{context}" if question else context


def _message(role: str, value: Any, field: str, faults: Faults) -> list[Turn]:
    text = read_text(value, field, faults)
    return [] if text is None else [Turn({"role": role, "content": text}, field, field)]


def _untrained(turns: list[Turn]) -> list[Turn]:
    """Gives the answers in a prompt weight 0: the completion alone is to be learnt."""
    for turn in turns:
        if turn.message["role"] == "assistant":
            turn.message["weight"] = 0
    return turns


def _history(value: Any, faults: Faults) -> list[Turn]:
    """Returns the turns of pairs of a question and its answer."""
    pairs = decoded(value, "history", faults)
    turns: list[Turn] = []
    if pairs in (None, ""):
        return turns
    if not isinstance(pairs, list):
        faults.add("wrong-type", "history", f"{kind(pairs)} where a list is expected", "a list of [question, answer]")
        return turns
    for index, pair in enumerate(pairs):
        field = f"history[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            message = f"{kind(pair)} where a pair is expected"
            faults.add("wrong-type", field, message, "write a question and its answer: [question, answer]")
            continue
        turns += _message("user", pair[0], f"{field}[0]", faults)
        turns += _message("assistant", pair[1], f"{field}[1]", faults)
    return turns


def _text(row: Row, filled: dict[str, Any], faults: Faults, key: str = "text") -> Converted:
    """Makes a record of plain text: no chat, but text to go on training with, every token of it."""
    text = row.value["text"]
    lost = tuple(sorted(str(name) for name in filled.keys() - {key}))
    if not isinstance(text, str):
        code = "missing-key" if text is None else "wrong-type"
        faults.add(code, key, f"{kind(text)} where text is expected", "write text")
    elif not text.strip():
        message = "the text is blank: the row is left out"
        faults.add("empty-text", key, message, "nothing, unless there should be text", "warning")
        return Converted("text", None, tuple(faults.found), lost)
    else:
        find_surrogate(text, key, faults)
    record = None if faults.errors else Record(({"role": "text", "content": text},), row.place)
    return Converted("text", record, tuple(faults.found), lost)

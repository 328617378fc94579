"""JSON as its standard has it: nothing that other programs read otherwise, and nothing dropped in silence."""

from __future__ import annotations

import json
import math
from typing import Any

from edgeft.dataset.findings import Finding, Place

_MOST_NESTED = 100
_ONE_OBJECT = 'expected one JSON object a line, as {"messages": [{"role": "user", "content": "..."}, ...]}'


class JsonError(ValueError):
    """What is wrong with a text that should be JSON."""

    def __init__(self, code: str, message: str, remedy: str = _ONE_OBJECT) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy

    def finding(self, place: Place) -> Finding:
        """Returns the fault as an error at a place."""
        return Finding("error", self.code, place, str(self), self.remedy)


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text.

    Raises JsonError for what is no JSON, for NaN and numbers out of range, for an object with a key twice, and for more
    than 100 levels of nesting.
    """
    try:
        value = STRICT.decode(text)
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise json_fault(error) from error
    require_shallow(value, text)
    return value


def json_fault(error: ValueError | RecursionError) -> JsonError:
    """Returns what a JSON decoder raised as a JsonError."""
    if isinstance(error, JsonError):
        return error
    if isinstance(error, RecursionError):
        return _too_deep()
    if isinstance(error, json.JSONDecodeError):
        return JsonError("invalid-json", f"not valid JSON at column {error.colno}: {error.msg.lower()}")
    return JsonError("not-a-number", f"not valid JSON: {error}", "write a shorter number, or write it as text")


def require_shallow(value: Any, text: str) -> None:
    """Raises JsonError where the value of a text is nested more than 100 levels deep."""
    # Cheap for nearly every text: only one with many brackets can be deep.
    if text.count("[") + text.count("{") <= _MOST_NESTED:
        return
    level = [value]
    for _ in range(_MOST_NESTED):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    if any(isinstance(child, dict | list) for child in level):
        raise _too_deep()


def decode_utf8(line: bytes) -> str:
    """Returns a line as text; raises JsonError naming the first byte that is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError("not-utf8", f"not UTF-8 at byte {error.start + 1}", "save the file as UTF-8") from error


def _too_deep() -> JsonError:
    return JsonError("too-deep", "not valid JSON: nested too deeply", f"nest at most {_MOST_NESTED} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise JsonError("duplicate-key", f"the key {twice!r} is there twice in one object", "keep one of the two")
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise JsonError("not-a-number", f"{digits} is too large a number", "write it as text")
    return number


def _no_constant(name: str) -> float:
    raise JsonError("not-a-number", f"{name} is not JSON", "write null, or text")


STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
"""The decoder of `parse_json`, for texts that hold more than one value."""

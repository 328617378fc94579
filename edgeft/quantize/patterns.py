"""Patterns of tensor names, which Python checks and llama.cpp searches with std::regex, in ECMAScript's grammar."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

from edgeft.errors import EdgeftError, Problem

_ESCAPED_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
# What Python takes and std::regex refuses, or takes for something else, outside of classes and behind no backslash.
_GROUP, _POSSESSIVE = r"\(\?[^:=!][^)]*\)?", r"(?:[*+?]|\{\d+(?:,\d*)?\})\+"
_LONE_BRACE = r"\{(?!\d+(?:,\d*)?\})"
_ONLY_PYTHON = re.compile(f"{_GROUP}|{_POSSESSIVE}|{_LONE_BRACE}")
# Anchors and characters that are plain letters there, and classes in which a bracket has a meaning of its own.
_OTHER_ESCAPE = re.compile(r"\\[AZNUa]")
_OTHER_CLASS = re.compile(r"\[\^?\]|\[.*\[[:.=]", re.DOTALL)
_BLOCK = re.compile(r"^blk\.\d+\.")
_NAMED = 4


def pattern_problems(pattern: str, where: str) -> list[Problem]:
    """Returns what keeps llama.cpp from reading a pattern as Python does."""
    apart = [found[0] for found in _ESCAPED_OR_CLASS.finditer(pattern)]
    other = [text for text in apart if _OTHER_ESCAPE.match(text) or _OTHER_CLASS.match(text)]
    rest = _ESCAPED_OR_CLASS.sub(lambda found: "x" * len(found[0]), pattern)
    other += [pattern[found.start() : found.end()] for found in _ONLY_PYTHON.finditer(rest)]
    if other:
        what = "llama.cpp's regular expressions (ECMAScript's) have no {!r}"
        remedy = "write the pattern without it; tensors have names in small letters"
        return [Problem(what.format(text), where, remedy) for text in other]
    try:
        re.compile(pattern)
    except re.error as error:
        return [Problem(f"no regular expression: {error}", where)]
    return []


def require_patterns(patterns: Iterable[str], where: str) -> None:
    """Raises EdgeftError, with everything that is wrong, unless llama.cpp can read these patterns."""
    problems = [problem for pattern in patterns for problem in pattern_problems(pattern, f"{where}: {pattern!r}")]
    if problems:
        raise EdgeftError(problems)


def require_matches(patterns: Iterable[str], names: Collection[str]) -> None:
    """Raises EdgeftError for patterns that no tensor's name has a match for: their types would go nowhere."""
    lost = [pattern for pattern in patterns if not any(re.search(pattern, name) for name in names)]
    if lost:
        what, remedy = "no tensor of the file has a match", "its tensors are {}"
        raise EdgeftError(
            Problem(what, f"tensor pattern {pattern!r}", remedy.format(_like(pattern, names))) for pattern in lost
        )


def _like(pattern: str, names: Collection[str]) -> str:
    """Returns those names that are most like a pattern, each of one block alone."""
    kinds = {_BLOCK.sub("blk.N.", name): name for name in reversed(list(names))}
    close = difflib.get_close_matches(pattern, kinds.values(), n=_NAMED, cutoff=0)
    return ", ".join(close) + (", ..." if len(kinds) > len(close) else "")

"""Answers that are meant to be JSON: told by the large majority that is, and then all are held to it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

from edgeft.dataset.check.texts import answer_field, excerpt
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.records import Record

_FENCE = re.compile(r"```[\w-]*\s*\n(.*?)\n?\s*```", re.DOTALL)
_LEAST_ANSWERS = 5
_MAJORITY = 0.8
_USUAL = 0.9
_MOST_KEPT = 1000
_MOST_KEY_SETS = 100
_Kept = TypeVar("_Kept")


class Answers:
    """The last answers of the records of one split."""

    def __init__(self) -> None:
        self._answers = 0
        self._json = 0
        self._meant = 0
        self._fenced = 0
        self._kept: dict[str, list[Finding]] = {}
        self._key_sets: Counter[tuple[str, ...]] = Counter()
        self._key_places: dict[tuple[str, ...], list[Place]] = {}
        self._fences: tuple[list[Place], list[Place]] = ([], [])

    def add(self, record: Record) -> Iterator[Finding]:
        """Takes a record in; whether its answer should have been JSON is known at the end only."""
        self.parse(record)
        return iter(())

    def parse(self, record: Record) -> Any:
        """Takes a record in and returns its answer as JSON, None where it is none."""
        answer = record.answer.strip()
        if not answer:  # a tool call, or an empty answer that the reader has named
            return None
        self._answers += 1
        fence = _FENCE.fullmatch(answer)
        body = fence[1] if fence else answer
        if body[:1] not in ("{", "["):
            self._not_json(record, answer)
            return None
        self._meant += 1
        try:
            value = json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            self._broken(record, fence.start(1) if fence else 0, error)
            return None
        self._json += 1
        self._fenced += fence is not None
        _keep(self._fences[fence is not None], record.place)
        if isinstance(value, dict):
            keys = tuple(sorted(value))
            if keys in self._key_sets or len(self._key_sets) < _MOST_KEY_SETS:
                self._key_sets[keys] += 1
                _keep(self._key_places.setdefault(keys, []), record.place)
        return value

    def findings(self) -> Iterator[Finding]:
        """Yields what is wrong with JSON answers, when it is JSON that the answers are."""
        if self._answers < _LEAST_ANSWERS or self._meant < _MAJORITY * self._answers:
            return
        yield from self._kept.get("unbalanced-json", ())
        yield from self._kept.get("answer-not-json", ())
        yield from self._mixed_fences()
        yield from self._odd_keys()

    def figures(self) -> dict[str, Any]:
        """Returns how many answers are JSON, how many of those are fenced, and the usual keys."""
        if not self._json:
            return {}
        return {
            "answers": self._answers,
            "json": self._json,
            "fenced": self._fenced,
            "keys": [{"keys": list(keys), "records": count} for keys, count in self._key_sets.most_common(5)],
        }

    def _broken(self, record: Record, offset: int, error: Exception) -> None:
        if isinstance(error, json.JSONDecodeError):
            line = f"line {error.lineno}, " if error.lineno > 1 or offset else ""
            what = f"{line}column {error.colno}: {error.msg[:1].lower()}{error.msg[1:]}"
            start = max(0, error.pos - 20)
            what += f", at the end of {excerpt(error.doc[start : error.pos + 1])}"
        else:
            what = str(error) if isinstance(error, ValueError) else "nested too deeply"
        self._keep_finding(
            Finding(
                "error",
                "unbalanced-json",
                record.place,
                f"the answer is not valid JSON, as the others are: {what}",
                "mend the answer, or remove the record: the model would learn to break its JSON",
                answer_field(record),
            )
        )

    def _not_json(self, record: Record, answer: str) -> None:
        self._keep_finding(
            Finding(
                "warning",
                "answer-not-json",
                record.place,
                f"the answer is no JSON, as nearly all are: {excerpt(answer)}",
                "give a refusal, too, in the form that the reader of the answers can parse",
                answer_field(record),
            )
        )

    def _mixed_fences(self) -> Iterator[Finding]:
        if not 0 < self._fenced < self._json:
            return
        fences_are_rare = self._fenced * 2 <= self._json
        rare, usual = ("in a code fence", "bare") if fences_are_rare else ("bare", "in a code fence")
        for place in self._fences[fences_are_rare]:
            message = f"the answer's JSON is {rare}, and most answers' is {usual}"
            yield Finding(
                "warning", "fenced-json", place, message, "write all answers in one form, best without fences"
            )

    def _odd_keys(self) -> Iterator[Finding]:
        if not self._key_sets:
            return
        (usual, count), *others = self._key_sets.most_common()
        if count < _USUAL * self._json:
            return
        for keys, _ in others:
            missing, more = sorted(set(usual) - set(keys)), sorted(set(keys) - set(usual))
            what = [f"lacks {', '.join(missing)}"] if missing else []
            what += [f"has {', '.join(more)} besides"] if more else []
            for place in self._key_places[keys]:
                message = f"the answer {' and '.join(what)}; {count / self._json:.0%} have {', '.join(usual)}"
                yield Finding("info", "json-keys", place, message, "nothing, if that is meant")

    def _keep_finding(self, finding: Finding) -> None:
        _keep(self._kept.setdefault(finding.code, []), finding)


def _keep(kept: list[_Kept], one: _Kept) -> None:
    if len(kept) < _MOST_KEPT:
        kept.append(one)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")

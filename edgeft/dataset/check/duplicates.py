"""What is there twice: records, prompts with several answers, and what is held out but trained on."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.dataset.check.near import NearDuplicates, first_of
from edgeft.dataset.check.roll import Roll, hash64
from edgeft.dataset.check.texts import is_plain_text
from edgeft.dataset.findings import Finding
from edgeft.dataset.records import Record

_Ints = npt.NDArray[np.int64]


class Duplicates:
    """The records of all splits, those that are trained on first; `splits` names them by number."""

    def __init__(self, splits: tuple[str, ...], threshold: float) -> None:
        self._names = splits
        self._roll = Roll()
        self._near = NearDuplicates(threshold)
        self._contents = array("Q")
        self._prompts = array("Q")
        self._counts: dict[str, int] = {}

    def add(self, record: Record, split: int) -> None:
        """Adds the next record."""
        self._roll.add(record, split)
        self._near.add(record)
        prompt = "" if is_plain_text(record) else _written(record, record.messages[:-1])
        content = f"{prompt}\n{_written(record, record.messages[-1:])}"
        self._contents.append(hash64(content))
        self._prompts.append(hash64(prompt or content))

    def findings(self) -> Iterator[Finding]:
        """Yields what each record repeats: the record it equals, else the prompt, else the nearly same prompt."""
        if not len(self._roll):
            return
        splits = self._roll.splits
        record, _ = first_of(np.frombuffer(self._contents, dtype=np.uint64))
        prompt, _ = first_of(np.frombuffer(self._prompts, dtype=np.uint64))
        partner, similarity = self._near.partners()
        numbers = np.arange(len(record))
        again, asked_again = record != numbers, prompt != numbers
        for number in np.flatnonzero(again | asked_again | (partner >= 0)).tolist():
            if again[number]:
                yield self._equal(number, int(record[number]), splits)
            elif asked_again[number]:
                yield self._contradicts(number, int(prompt[number]), splits)
            else:
                yield self._alike(number, int(partner[number]), float(similarity[number]), splits)

    def figures(self) -> dict[str, Any]:
        """Returns how many groups of prompts there are that hardly differ, and the size of the largest."""
        if not len(self._roll):
            return {}
        sizes = np.bincount(self._near.groups())
        return {"groups": int(np.count_nonzero(sizes)), "largest_group": int(sizes.max())}

    def _equal(self, number: int, first: int, splits: npt.NDArray[np.int8]) -> Finding:
        place, there = self._roll.place(number), self._roll.place(first)
        if splits[number] == splits[first]:
            message = f"the same record as {there}: {self._roll.question(number)}"
            return Finding("warning", "duplicate", place, message, "remove it, unless it is meant to weigh more")
        message = f"this {self._names[splits[number]]} record is a {self._names[splits[first]]} record, too: {there}"
        remedy = "remove one of the two: what was trained on proves nothing"
        return Finding("error", "leak", place, f"{message}: {self._roll.question(number)}", remedy)

    def _contradicts(self, number: int, first: int, splits: npt.NDArray[np.int8]) -> Finding:
        place, there = self._roll.place(number), self._roll.place(first)
        answers = f"\n{there}: {self._roll.answer(first)}\n{place}: {self._roll.answer(number)}"
        question = self._roll.question(number)
        if splits[number] == splits[first]:
            message = f"the prompt {question} has two answers:{answers}"
            remedy = "keep the right one, unless answers are meant to vary"
            return Finding("warning", "contradiction", place, message, remedy)
        ours, theirs = self._names[splits[number]], self._names[splits[first]]
        message = f"this {ours} prompt is a {theirs} prompt, too, with another answer: {question}{answers}"
        remedy = "mend the wrong answer, and remove one of the two records"
        return Finding("warning", "leak-prompt", place, message, remedy)

    def _alike(self, number: int, first: int, similarity: float, splits: npt.NDArray[np.int8]) -> Finding:
        place, there = self._roll.place(number), self._roll.place(first)
        share = f"{similarity:.0%} alike" if similarity < 1 else "the same but for case and punctuation"
        prompts = f"\n{there}: {self._roll.question(first)}\n{place}: {self._roll.question(number)}"
        if splits[number] == splits[first]:
            message = f"these two are {share}:{prompts}"
            return Finding("info", "near-duplicate", place, message, "nothing, if that is meant; else keep one")
        ours, theirs = self._names[splits[number]], self._names[splits[first]]
        message = f"this {ours} record and a {theirs} record are {share}:{prompts}"
        remedy = "keep such records in one split: a model can answer from memory"
        return Finding("warning", "leak-near", place, message, remedy)


def _written(record: Record, messages: tuple[dict[str, Any], ...]) -> str:
    """Returns messages in a form in which different ones differ."""
    if not record.tools and all(len(message) == 2 for message in messages):
        return "\x1e".join(f"{message['role']}\x1f{message['content']}" for message in messages)
    return json.dumps([record.tools, messages], sort_keys=True)

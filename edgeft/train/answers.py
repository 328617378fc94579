"""The task metric while training: some records of the evaluation are answered and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.dataset.mask import Example
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.errors import EdgeftError
from edgeft.metric import score

_MORE_TOKENS = 8
"""Answers may be this much longer than the longest expected one; what is longer still is wrong anyway."""


@dataclass(frozen=True)
class Question:
    """What the model is given, and the answer that it should give."""

    prompt: list[int]
    expected: str
    length: int


class Answers:
    """Answers up to `count` conversations of the evaluation, spread over it, the last turn of each.

    Raises EdgeftError when there is none, and when `metric` is the F1 of fields and an answer is no JSON object.
    """

    def __init__(
        self, base: Checkpoint, evaluation: TokenizedExamples, count: int, metric: Literal["exact_match", "field_f1"]
    ) -> None:
        self._metric = metric
        self._tokenizer = hf.load_tokenizer(base.path)
        self._end_ids = hf.end_token_ids(self._tokenizer, base.path)
        self._form = hf.answer_form(self._tokenizer, self._end_ids)
        chosen = range(0, len(evaluation), max(1, -(-len(evaluation) // count)))
        found = [self._question(evaluation[index]) for index in chosen]
        self._questions = sorted((q for q in found if q is not None), key=lambda question: len(question.prompt))
        expected = [question.expected for question in self._questions]
        if not expected:
            raise _cannot(metric, "there is no conversation among the evaluation's records")
        if not any(expected):
            raise _cannot(metric, "the chat template leaves nothing of the evaluation's answers but thoughts")
        if metric == "field_f1" and score(expected, expected).field_f1 is None:
            raise _cannot(metric, "some answers of the evaluation's records are no JSON objects")

    def __call__(self, model: Any) -> dict[str, float]:
        """Returns the metric under its name; several processes share the questions."""
        rank, processes = _rank()
        mine = self._questions[rank::processes]
        pairs = [pair for start in range(0, len(mine), 16) for pair in self._answered(model, mine[start : start + 16])]
        if processes > 1:
            parts: list[Any] = [None] * processes
            torch.distributed.all_gather_object(parts, pairs)
            pairs = [pair for part in parts for pair in part]
        scores = score([expected for expected, _ in pairs], [answer for _, answer in pairs])
        return {self._metric: float(getattr(scores, self._metric))}

    def _answered(self, model: Any, questions: Sequence[Question]) -> list[tuple[str, str]]:
        longest = max(question.length for question in questions) + _MORE_TOKENS
        prompts = [question.prompt for question in questions]
        answers = hf.generate(model, self._tokenizer, prompts, self._end_ids, longest)
        return [(q.expected, self._text(ids)) for q, ids in zip(questions, answers, strict=True)]

    def _question(self, example: Example) -> Question | None:
        """The last stretch of trained tokens and all before it; None where nothing is before it."""
        end = len(example.ids) - next((i for i, flag in enumerate(reversed(example.trained)) if flag), 0)
        start = next((i + 1 for i in reversed(range(end)) if not example.trained[i]), 0)
        if start == 0 or start == end:
            return None
        return Question(example.ids[:start], self._text(example.ids[start:end]), end - start)

    def _text(self, ids: Sequence[int]) -> str:
        return self._form.comparable(self._form.answer(hf.decode(self._tokenizer, ids, special=True)))


def _rank() -> tuple[int, int]:
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _cannot(metric: str, why: str) -> EdgeftError:
    return EdgeftError(f"{metric} cannot be measured: {why}", "train.best_by", 'set it to "loss"')

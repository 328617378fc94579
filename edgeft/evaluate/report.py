"""Answers -> a folder with `eval.json` and `answers.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeft.answer_form import AnswerForm, Render, last_turn
from edgeft.artifacts import EvalReport
from edgeft.dataset.records import Record
from edgeft.errors import EdgeftError
from edgeft.files import write_json, write_text
from edgeft.metric import is_exact, score


@dataclass(frozen=True)
class Answer:
    """What a model said: its text, its turn with special tokens, how many tokens, and whether it ended by itself."""

    text: str
    turn: str
    n_tokens: int
    ended: bool


def write_eval_report(
    records: Sequence[Record],
    answers: Sequence[Answer],
    form: AnswerForm,
    render: Render,
    tokens_per_second: float | None,
    out: Path,
) -> EvalReport:
    """Scores answers and writes the report.

    What is expected is the last turn of each record as the chat template, which is `render`, makes it. On both sides
    what the template writes around an answer is left out, and so are thoughts. `tokens_per_second` is that of
    generating one record's answer; None where the machine was too busy to tell.
    """
    out.mkdir(parents=True, exist_ok=True)
    expected = [_expected(record, form, render) for record in records]
    pairs = [
        (form.comparable(wanted), form.comparable(form.answer(answer.turn)))
        for wanted, answer in zip(expected, answers, strict=True)
    ]
    metrics = score([wanted for wanted, _ in pairs], [given for _, given in pairs])
    lines = [
        {
            "prompt": record.prompt,
            "expected": wanted,
            "answer": answer.text,
            "exact": is_exact(*pair),
            "ended": answer.ended,
        }
        for record, wanted, answer, pair in zip(records, expected, answers, pairs, strict=True)
    ]
    write_text(out / "answers.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    figures = {
        "ended": sum(answer.ended for answer in answers) / len(answers),
        "tokens_per_answer": sum(answer.n_tokens for answer in answers) / len(answers),
        "expected_empty": expected.count(""),
        "tokens_per_second": None if tokens_per_second is None else round(tokens_per_second, 1),
    }
    write_json(out / "eval.json", metrics.to_json() | figures)
    return EvalReport(out)


def _expected(record: Record, form: AnswerForm, render: Render) -> str:
    """Returns the answer of a record as the template shows it, or as it is where the template takes prompts alone."""
    try:
        return form.answer(last_turn(render, record.messages, record.tools))
    except EdgeftError:
        return record.answer

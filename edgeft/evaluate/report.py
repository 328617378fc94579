"""Answers -> a folder with `eval.json` and `answers.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeft.artifacts import EvalReport
from edgeft.dataset.records import Record
from edgeft.files import write_json, write_text
from edgeft.metric import is_exact, score


@dataclass(frozen=True)
class Answer:
    """What a model said: its text without special tokens, the number of tokens, and whether it ended by itself."""

    text: str
    n_tokens: int
    ended: bool


def write_eval_report(
    records: Sequence[Record], answers: Sequence[Answer], tokens_per_second: float | None, out: Path
) -> EvalReport:
    """Scores answers and writes the report.

    `tokens_per_second` is that of generating one record's answer; None where the machine was too busy to tell.
    """
    out.mkdir(parents=True, exist_ok=True)
    metrics = score([record.answer for record in records], [answer.text for answer in answers])
    lines = [
        {
            "prompt": record.prompt,
            "expected": record.answer,
            "answer": answer.text,
            "exact": is_exact(record.answer, answer.text),
            "ended": answer.ended,
        }
        for record, answer in zip(records, answers, strict=True)
    ]
    write_text(out / "answers.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    ended = sum(answer.ended for answer in answers) / len(answers)
    rate = None if tokens_per_second is None else round(tokens_per_second, 1)
    write_json(out / "eval.json", {**metrics.to_json(), "ended": ended, "tokens_per_second": rate})
    return EvalReport(out)

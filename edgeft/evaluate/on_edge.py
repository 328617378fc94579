"""Answers from a GGUF file, one record at a time, as the device gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeft.answer_form import AnswerForm
from edgeft.artifacts import EvalReport, GgufFile
from edgeft.config import EvalConfig
from edgeft.dataset.records import Record
from edgeft.evaluate.report import Answer, write_eval_report
from edgeft.llamacpp import Engine, generation_speed
from edgeft.progress import Progress, silent


def evaluate_gguf(
    gguf: GgufFile,
    records: Sequence[Record],
    n_ctx: int,
    config: EvalConfig,
    out: Path,
    progress: Progress = silent,
    threads: int = 0,
) -> EvalReport:
    """Answers every record greedily with llama.cpp, with so many threads, 0 for a thread a core; writes the report.

    Speed is measured by itself, behind the answers, and left out where other work kept the cores busy.
    """
    answers: list[Answer] = []
    with Engine(gguf, n_ctx, threads=threads) as engine:
        form = AnswerForm.of(engine.render, engine.special_texts())
        for done, record in enumerate(records, start=1):
            answers.append(answer(engine, record, config.max_new_tokens))
            progress(done, len(records))
        speed = generation_speed(engine)
        rate = speed.tokens_per_second if speed.steady else None
        return write_eval_report(records, answers, form, engine.render, rate, out)


def answer(engine: Engine, record: Record, max_new: int) -> Answer:
    """Answers one record greedily."""
    ids = list(engine.generate(engine.encode_prompt(engine.render(record.prompt, tools=record.tools)), max_new))
    ended = bool(ids) and engine.ends(ids[-1])
    return Answer(engine.decode(ids), engine.decode(ids, special=True), len(ids), ended)

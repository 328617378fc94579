"""Answers from a GGUF file, one record at a time, as the device gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
        for done, record in enumerate(records, start=1):
            answers.append(answer(engine, record, config.max_new_tokens))
            progress(done, len(records))
        speed = generation_speed(engine)
    return write_eval_report(records, answers, speed.tokens_per_second if speed.steady else None, out)


def answer(engine: Engine, record: Record, max_new: int) -> Answer:
    """Answers one record greedily."""
    ids = list(engine.generate(engine.encode_prompt(engine.render(record.prompt, tools=record.tools)), max_new))
    return Answer(engine.decode(ids), len(ids), bool(ids) and engine.ends(ids[-1]))

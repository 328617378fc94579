"""Answers from a torch model, in batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edgeft import hf
from edgeft.artifacts import EvalReport
from edgeft.config import EvalConfig
from edgeft.cores import available_cores, cores_are_free
from edgeft.dataset.records import Record
from edgeft.evaluate.report import Answer, write_eval_report
from edgeft.progress import Progress, silent

_TIMED_RECORDS = 4


def evaluate_model(
    model: hf.PreTrainedModel,
    tokenizer: hf.Tokenizer,
    end_ids: Sequence[int],
    records: Sequence[Record],
    config: EvalConfig,
    out: Path,
    progress: Progress = silent,
) -> EvalReport:
    """Answers every record greedily and writes the report; speed is the median of a few, one at a time."""
    prompts = [hf.encode(tokenizer, hf.render(tokenizer, record.prompt, True, record.tools)) for record in records]
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # less padding in a batch
    answers: dict[int, Answer] = {}
    for start in range(0, len(records), config.batch_size):
        batch = by_length[start : start + config.batch_size]
        continued = hf.generate(model, tokenizer, [prompts[i] for i in batch], end_ids, config.max_new_tokens)
        for index, ids in zip(batch, continued, strict=True):
            ended = bool(ids) and ids[-1] in end_ids
            said, turn = hf.decode(tokenizer, ids), hf.decode(tokenizer, ids, special=True)
            answers[index] = Answer(said, turn, len(ids), ended)
        progress(len(answers), len(records))
    rates, free = [], []
    for prompt in prompts[:_TIMED_RECORDS]:
        free.append(cores_are_free(available_cores() if model.device.type == "cpu" else 1))
        started = time.perf_counter()
        ids = hf.generate(model, tokenizer, [prompt], end_ids, config.max_new_tokens)[0]
        rates.append(len(ids) / (time.perf_counter() - started))
    rate = statistics.median(rates) if all(free) else None
    form, render = hf.answer_form(tokenizer, end_ids), partial(hf.render, tokenizer)
    return write_eval_report(records, [answers[i] for i in range(len(records))], form, render, rate, out)

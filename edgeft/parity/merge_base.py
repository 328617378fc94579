"""Which base to merge a QLoRA adapter into, by measurement.

Training computed with weights rounded to 4 bits. Merged into the original weights the adapter is another model than the
one that was trained; merged into the rounded ones it is that model, but rounded weights then meet the rounding of the
file's type. Which is nearer is measured, on records that were not trained, before that rounding and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeft import hf
from edgeft.artifacts import GgufFile
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.files import write_json
from edgeft.llamacpp import Engine
from edgeft.parity.distributions import Floats, truncated
from edgeft.parity.statistics import DivergenceMeter
from edgeft.progress import Progress, silent

_MOST_POSITIONS = 2048
_LOGITS_BYTES = 256_000_000

LoadModel = Callable[[], "hf.PreTrainedModel"]


@dataclass(frozen=True)
class _Scored:
    """One example's tokens, the positions whose next token was trained, and the trained model's logits there."""

    ids: list[int]
    places: list[int]
    targets: list[int]
    logits: Floats


@dataclass(frozen=True)
class Candidate:
    """A merged model: `load` gives it in float32, `files` as a GGUF file of each type, one at a time, with its name."""

    load: LoadModel
    files: Callable[[], Iterator[tuple[str, GgufFile]]] | None = None


def measure_merge_bases(
    live: LoadModel,
    candidates: Mapping[str, Candidate],
    examples: TokenizedExamples,
    out: Path,
    progress: Progress = silent,
    threads: int = 0,
) -> dict[str, Any]:
    """Measures merged models against the model that was trained and writes merge.json into `out`.

    `live` loads the 4-bit base with its adapter; the candidates are the merged models by the name of their base, and
    one model is in memory at a time. Returns the figures: for each candidate its mean KLD from the trained model (nats)
    and its mean loss at the trained positions, in float32 and, as `quantized`, of each file in llama.cpp with so many
    `threads`, 0 for a thread a core. `base` is the
    name of the one with the lower mean KLD over its files, or in float32 where there are none.
    """
    steps = 1 + 2 * len(candidates)
    progress(0, steps, "model as trained, 4-bit base")
    scored = list(_scored(live(), examples))
    merged: dict[str, Any] = {}
    for done, (name, candidate) in enumerate(candidates.items()):
        progress(1 + 2 * done, steps, f"merged into the {name} base")
        merged[name] = _figures(scored, partial(_rows, candidate.load()))
        progress(2 + 2 * done, steps, f"merged into the {name} base, quantized")
        if candidate.files is not None:
            merged[name]["quantized"] = {kind: _of_file(scored, gguf, threads) for kind, gguf in candidate.files()}
    progress(steps, steps)
    content = {
        "base": min(merged, key=lambda name: _distance(merged[name])),
        "positions": sum(len(example.places) for example in scored),
        "loss_as_trained": _loss_as_trained(scored),
        "merged": merged,
    }
    write_json(out / "merge.json", content)
    return content


def _distance(figures: Mapping[str, Any]) -> float:
    """Returns what decides between the candidates."""
    files = figures.get("quantized") or {"": figures}
    return float(np.mean([file["mean_kld"] for file in files.values()]))


def _of_file(scored: Sequence[_Scored], gguf: GgufFile, threads: int) -> dict[str, float]:
    longest = max(len(example.ids) for example in scored)
    with Engine(gguf, longest + 8, exact_kv=True, threads=threads) as engine:
        return _figures(scored, lambda ids, places: engine.logits(ids)[places])


def _figures(scored: Sequence[_Scored], rows: Callable[[list[int], list[int]], Floats]) -> dict[str, float]:
    meter = DivergenceMeter()
    for example in scored:
        trained = truncated(example.logits, example.targets, 0)
        meter.add(trained, rows(example.ids, example.places), example.targets)
    result = meter.result()
    return {"mean_kld": result.mean_kld, "loss": float(np.log(result.ppl)), "top1": result.top1}


def _loss_as_trained(scored: Sequence[_Scored]) -> float:
    losses = [-truncated(example.logits, example.targets, 0).target_log_p for example in scored]
    return float(np.concatenate(losses).mean(dtype=np.float64))


def _scored(model: hf.PreTrainedModel, examples: TokenizedExamples) -> Iterator[_Scored]:
    """Yields examples until the positions are used up."""
    budget = min(_MOST_POSITIONS, _LOGITS_BYTES // (4 * model.config.get_text_config().vocab_size))
    for index in range(len(examples)):
        example = examples[index]
        places = [i for i, trained in enumerate(example.trained[1:]) if trained][:budget]
        if not places:
            continue
        logits = _rows(model, example.ids, places)
        yield _Scored(example.ids, places, [example.ids[i + 1] for i in places], logits)
        budget -= len(places)
        if budget <= 0:
            return


def _rows(model: hf.PreTrainedModel, ids: list[int], places: list[int]) -> Floats:
    rows: Floats = hf.logits(model, ids)[places].numpy()
    return rows

"""Which base to merge a QLoRA adapter into, by measurement.

Training computed with weights rounded to 4 bits. Merged into the original weights the adapter is another model than the
one that was trained; merged into the rounded ones it is that model, but rounded weights then meet the rounding of the
file's type. Which is nearer is measured, on records that were not trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeft import hf
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.files import write_json
from edgeft.parity.distributions import Floats, truncated
from edgeft.parity.statistics import DivergenceMeter
from edgeft.progress import Progress, silent

_MOST_POSITIONS = 2048
_LOGITS_BYTES = 256_000_000

LoadModel = Callable[[], hf.PreTrainedModel]


@dataclass(frozen=True)
class _Scored:
    """One example's tokens, the positions whose next token was trained, and the trained model's logits there."""

    ids: list[int]
    places: list[int]
    targets: list[int]
    logits: Floats


def measure_merge_bases(
    live: LoadModel,
    candidates: Mapping[str, LoadModel],
    examples: TokenizedExamples,
    out: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measures merged models against the model that was trained and writes merge.json into `out`.

    `live` loads the 4-bit base with its adapter, `candidates` the merged models in float32, by the name of their base;
    one model is in memory at a time. Returns the figures: for each candidate its mean KLD from the trained model (nats)
    and its mean loss at the trained positions, and as `base` the name of the one with the lower KLD.
    """
    steps = 1 + len(candidates)
    progress(0, steps, "model as trained, 4-bit base")
    scored = list(_scored(live(), examples))
    figures: dict[str, Any] = {}
    for done, (name, load) in enumerate(candidates.items(), start=1):
        progress(done, steps, f"merged into the {name} base")
        model, meter = load(), DivergenceMeter()
        for example in scored:
            trained = truncated(example.logits, example.targets, 0)
            meter.add(trained, _rows(model, example.ids, example.places), example.targets)
        del model
        result = meter.result()
        figures[name] = {"mean_kld": result.mean_kld, "loss": float(np.log(result.ppl)), "top1": result.top1}
        trained_loss = float(np.log(result.ppl_reference))
    progress(steps, steps)
    content = {
        "base": min(figures, key=lambda name: figures[name]["mean_kld"]),
        "positions": sum(len(example.places) for example in scored),
        "loss_as_trained": trained_loss,
        "merged": figures,
    }
    write_json(out / "merge.json", content)
    return content


def _scored(model: hf.PreTrainedModel, examples: TokenizedExamples) -> Iterator[_Scored]:
    """Yields examples until the positions are used up."""
    budget = min(_MOST_POSITIONS, _LOGITS_BYTES // (4 * model.config.vocab_size))
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

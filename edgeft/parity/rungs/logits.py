"""The file's predictions against the reference's: noise, budget, merge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from edgeft.config import ParityThresholds
from edgeft.llamacpp import Engine
from edgeft.parity.ladder import Failure, Rung, Status
from edgeft.parity.reference import OpenReference
from edgeft.parity.statistics import Divergence, DivergenceMeter, Estimate, Positions
from edgeft.progress import Progress
from edgeft.quant_types import UNQUANTIZED

_LOGITS, _QUANTIZATION, _MERGE = "logits", "quantization", "merge"
_MOST_TIMES: Final = 20
"""Times as much as was recorded that anybody will record to have a verdict."""


def measure(engine: Engine, reference: OpenReference, progress: Progress) -> DivergenceMeter:
    """Runs the file over every record's tokens, as they were recorded, up to the end of its context."""
    meter = DivergenceMeter()
    records = reference.content.records
    for number, record in enumerate(records):
        progress(number, len(records), "logits")
        count, first = record.scored_within(engine.n_ctx), record.first_scored
        if not count:
            continue
        kept, targets = reference.distributions(number), record.targets
        for start, rows in engine.logit_chunks(record.ids[: first + count], first):
            part = slice(start - first, start - first + len(rows))
            meter.add(kept.slice(part.start, part.stop), rows, targets[part], number)
    return meter


def unmeasured(n_ctx: int, file_type: str) -> Rung:
    """Returns the rung of a file whose context is too short for every record."""
    name = _LOGITS if file_type in UNQUANTIZED else _QUANTIZATION
    what = f"no record's prompt leaves room for an answer in the file's context of {n_ctx:,} tokens"
    return Rung(name, "undecided", {}, (Failure(name, what, "", "record shorter conversations"),))


def check_conversion(positions: Positions, divergence: Divergence, limits: ParityThresholds) -> Rung:
    """Holds an unquantized file to the noise of the arithmetic: what is more is a bug, whatever the sample.

    But for the perplexity: where few tokens are improbable, noise moves a single one by more than the limit, up or
    down. So the whole interval of its ratio has to be beyond, and one record alone, which has none, decides nothing.
    """
    failures = list(_over(divergence, limits, _LOGITS))
    size, limit, told = _perplexity(positions, limits, "limit")
    one_record = len(np.unique(positions.record)) < 2
    # Written so that NaN, which compares false with everything, fails, as a token given no chance at all does.
    if not size.low <= limit and not (one_record and math.isfinite(size.mean)):
        failures.append(Failure(_LOGITS, told))
    remedy = "repair what an earlier rung names; if none does, the graph differs: is this architecture supported right?"
    failures = [
        Failure(_LOGITS, f"{one.cause}: more than the noise of arithmetic", one.where, remedy) for one in failures
    ]
    return Rung(_LOGITS, "fail" if failures else "pass", divergence.to_json(), tuple(failures))


def _over(divergence: Divergence, limits: ParityThresholds, name: str) -> Iterator[Failure]:
    # Written so that NaN, which compares false with everything, fails.
    if not divergence.mean_kld <= limits.mean_kld:
        yield Failure(name, f"mean KLD is {divergence.mean_kld:.2e}, the limit {limits.mean_kld:.2e}")
    if not divergence.top1 >= limits.top1:
        yield Failure(name, f"the same top token at {divergence.top1:.1%} of positions, the limit {limits.top1:.1%}")


def check_quantization(
    positions: Positions,
    divergence: Divergence,
    limits: ParityThresholds,
    weights: Mapping[str, Any],
    built_in: bool = False,
) -> Rung:
    """Holds a quantized file to its budget: a confidence interval within it passes, one beyond it fails.

    Between, the remedy says how much there is to record, which of the `built_in` texts is nothing.
    """
    states: list[tuple[Status, str]] = []
    times = 1.0
    for estimate, limit, told in _judged(positions, limits):
        said = estimate.verdict(limit)
        state: Status = "pass" if said == "pass" else "undecided" if said == "undecided" else "fail"
        if state != "pass":
            states.append((state, told))
        if state == "undecided":
            times = max(times, estimate.times_more(limit))
    remedy = "choose a larger type, quantize with an importance matrix, or keep the tensors named in a larger type"
    failed = [told for state, told in states if state == "fail"]
    if failed:
        found = tuple(Failure(_QUANTIZATION, told, _worst_tensors(weights), remedy) for told in failed)
        return Rung(_QUANTIZATION, "fail", divergence.to_json(), found)
    if states:
        more = _more(len(positions.kld), times, built_in)
        found = tuple(Failure(_QUANTIZATION, told, "", more) for _, told in states)
        return Rung(_QUANTIZATION, "undecided", divergence.to_json(), found)
    return Rung(_QUANTIZATION, "pass", divergence.to_json())


def _more(count: int, times: float, built_in: bool) -> str:
    """Returns what to do where the interval holds the limit."""
    if times > _MOST_TIMES:
        what = f"its loss is too near to the budget for that: more than {_MOST_TIMES} times the {count:,} positions"
        return f"record more of what the model is for, or say what it may lose (parity.quantization); {what}"
    how = "records of what the model is for, as there are no more built-in texts: " if built_in else ""
    how += "edgeft parity record --data, --records, --positions"
    return f"record more, about {count * times:,.0f} positions in place of {count:,}: {how}"


def _judged(positions: Positions, limits: ParityThresholds) -> Iterator[tuple[Estimate, float, str]]:
    kld, other = positions.kld_estimate, positions.other_top_estimate
    told = f"mean KLD is {kld.mean:.3g} ({kld.low:.3g} to {kld.high:.3g}), the budget {limits.mean_kld:g}"
    yield kld, limits.mean_kld, told
    share = Estimate(other.mean, max(other.low, 0.0), min(other.high, 1.0))
    told = f"the same top token at {1 - other.mean:.1%} of positions ({1 - share.high:.1%} to {1 - share.low:.1%})"
    yield share, 1 - limits.top1, f"{told}, the budget {limits.top1:.1%}"
    yield _perplexity(positions, limits, "budget")


def _perplexity(positions: Positions, limits: ParityThresholds, name: str) -> tuple[Estimate, float, str]:
    """Returns how far the perplexity is from the reference's, up or down, in logarithms; the limit; and both in words.

    `name` is what the limit is called.
    """
    change = positions.nll_change
    size = change if change.mean >= 0 else Estimate(-change.mean, -change.high, -change.low)
    ratios = [_exp(value) for value in (change.mean, change.low, change.high)]
    told = f"perplexity is {ratios[0]:.4f} of the reference's ({ratios[1]:.4f} to {ratios[2]:.4f})"
    return size, math.log(limits.ppl_ratio), f"{told}, the {name} {limits.ppl_ratio:g}"


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _worst_tensors(weights: Mapping[str, Any]) -> str:
    """Names the tensors whose weights were rounded far more than the file's others."""
    typical = float(weights["median_error"])
    far = [one for one in weights["worst"] if one["relative_error"] > 2 * typical]
    return ", ".join(f"{one['tensor']} ({one['type']}, rounded by {one['relative_error']:.0%})" for one in far)


_MERGE_REMEDY: Final = (
    'merge into the base that the adapter was trained on; for one trained in 4 bits: merge.base = "dequantized" in a '
    "run, or --merge-base dequantized"
)
_MERGED_INTO: Final = {
    "original": (
        "merging into the original base lost it, as training computed with that base rounded to 4 bits",
        'set merge.base = "dequantized", or leave it unset',
    ),
    "dequantized": (
        "merging lost it, though into the 4-bit base that training computed with",
        "record the reference on the kind of device that it was trained on: a CPU rounds to 4 bits otherwise than CUDA",
    ),
}
"""By what an adapter trained over 4 bits was merged into: cause and remedy."""


def check_merge(figures: Mapping[str, float] | None, limits: ParityThresholds, merge_base: str | None = None) -> Rung:
    """Tells how far the merged model is from the one that was trained, as it was measured when it was recorded.

    `merge_base` is what an adapter trained over 4 bits was merged into, as `merge.base` names it; None where that is
    not known, or training saw the base as it is.
    """
    if figures is None:
        return Rung(_MERGE, "skipped", {})
    divergence = Divergence.from_json(figures)
    found = list(_over(divergence, limits, _MERGE))
    if not 1 / limits.ppl_ratio <= divergence.ppl_ratio <= limits.ppl_ratio:
        what = f"perplexity is {divergence.ppl_ratio:.4f} of the reference's, limit {limits.ppl_ratio}"
        found.append(Failure(_MERGE, what))
    cause, remedy = _MERGED_INTO.get(merge_base or "", ("merging lost it", _MERGE_REMEDY))
    failures = tuple(Failure(_MERGE, f"{cause}: {one.cause}", "", remedy) for one in found)
    return Rung(_MERGE, "fail" if failures else "pass", dict(figures), failures)

"""The file's predictions against the reference's: noise, budget, merge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from edgeft.config import ParityThresholds
from edgeft.llamacpp import Engine
from edgeft.parity.figures import finding
from edgeft.parity.ladder import Failure, Rung
from edgeft.parity.reference import OpenReference
from edgeft.parity.statistics import Divergence, DivergenceMeter, Estimate, Positions
from edgeft.parity.thresholds import allowed_ranges
from edgeft.progress import Progress
from edgeft.quant_types import FTYPE, UNQUANTIZED

_LOGITS, _QUANTIZATION, _MERGE = "logits", "quantization", "merge"
_MAX_TIMES: Final = 20
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
    figures = _figures(divergence, limits)
    beyond = list(_beyond(divergence, limits))
    size, one_record = positions.nll_change.size, len(np.unique(positions.record)) < 2
    # Written so that NaN, which compares false with everything, fails, as a token given no chance at all does.
    if not size.low <= math.log(limits.ppl_ratio) and not (one_record and math.isfinite(size.mean)):
        beyond.append("ppl_ratio")
    remedy = "repair what an earlier rung names; if none does, the graph differs: is this architecture supported right?"
    causes = [f"{_finding(key, figures)}: more than the noise of arithmetic" for key in beyond]
    failures = tuple(Failure(_LOGITS, cause, "", remedy) for cause in causes)
    return Rung(_LOGITS, "fail" if failures else "pass", figures, failures)


def _figures(divergence: Divergence, limits: ParityThresholds) -> dict[str, Any]:
    """Returns the figures of a rung, with what is `allowed` of them."""
    return divergence.to_json() | {"allowed": allowed_ranges(limits)}


def _finding(key: str, figures: Mapping[str, Any]) -> str:
    return finding(key, figures, figures["allowed"][key])


def _beyond(divergence: Divergence, limits: ParityThresholds) -> Iterator[str]:
    """Yields which of mean KLD and top token are beyond what is allowed as they were measured."""
    # Written so that NaN, which compares false with everything, fails.
    if not divergence.mean_kld <= limits.mean_kld:
        yield "mean_kld"
    if not divergence.top1 >= limits.top1:
        yield "top1"


def check_quantization(
    positions: Positions,
    divergence: Divergence,
    limits: ParityThresholds,
    weights: Mapping[str, Any],
    file_type: str,
    built_in: bool = False,
) -> Rung:
    """Holds a quantized file to its budget: a confidence interval within it passes, one beyond it fails.

    Between, the remedy says what to record, of which there is no more where the texts were `built_in`, and what would
    have to be allowed for the file to pass.
    """
    figures = _figures(divergence, limits)
    verdicts = {key: estimate.verdict(limit) for key, estimate, limit in _judged(positions, limits)}
    failed, undecided = ([key for key, said in verdicts.items() if said == state] for state in ("fail", "undecided"))
    if failed:
        remedy = "choose a larger type, quantize with an importance matrix, or keep the tensors named in a larger type"
        where = _worst_tensors(weights)
        found = tuple(Failure(_QUANTIZATION, _finding(key, figures), where, remedy) for key in failed)
        return Rung(_QUANTIZATION, "fail", figures, found)
    if undecided:
        times = max(
            estimate.times_more(limit) for key, estimate, limit in _judged(positions, limits) if key in undecided
        )
        remedy = f"{_more(positions, times, built_in)}, or {_allowing(figures, limits, file_type)}"
        found = tuple(Failure(_QUANTIZATION, _finding(key, figures), "", remedy) for key in undecided)
        return Rung(_QUANTIZATION, "undecided", figures, found)
    return Rung(_QUANTIZATION, "pass", figures)


def _judged(positions: Positions, limits: ParityThresholds) -> Iterator[tuple[str, Estimate, float]]:
    """Yields by key of the figures what is estimated, and the most that it may be.

    That of top tokens is the share of other ones. That of the perplexity is how far its logarithm is from the
    reference's, up or down.
    """
    yield "mean_kld", positions.kld_estimate, limits.mean_kld
    yield "top1", positions.other_top_estimate, 1 - limits.top1
    yield "ppl_ratio", positions.nll_change.size, math.log(limits.ppl_ratio)


def _more(positions: Positions, times: float, built_in: bool) -> str:
    """Returns what to record where an interval holds the end of its range."""
    if times > _MAX_TIMES:
        return "take a larger type: what it loses is so near to what is allowed that no sample will tell"
    records, count = len(np.unique(positions.record)), len(positions.kld)
    wanted, most = math.ceil(records * times), math.ceil(count * times)
    options = f"--records {wanted} --positions {most}"
    if built_in:
        what = "record the model again on records of what it is for, of which there are as many as you have"
        return f"{what}: edgeft parity record MODEL --data RECORDS.jsonl --out REFERENCE.npz {options}"
    keys = f"in a run: parity.records = {wanted}, parity.positions = {most}"
    return f"record {wanted:,} records in place of {records:,} (edgeft parity record {options}; {keys})"


def _allowing(figures: Mapping[str, Any], limits: ParityThresholds, file_type: str) -> str:
    """Returns what the configuration would say for the file to pass: the ranges as they are, or up to the intervals."""
    kld = max(limits.mean_kld, _up(figures["kld_high"]))
    top1 = min(limits.top1, 1 - _up(1 - figures["top1_low"]))
    ratio = max(limits.ppl_ratio, _up(figures["ppl_ratio_high"]), _up(1 / figures["ppl_ratio_low"]))
    key = f"parity.thresholds.{file_type}" if file_type in FTYPE else "parity.quantization"
    said = f"{key} = {{mean_kld = {kld:.4g}, top1 = {top1:.4g}, ppl_ratio = {ratio:.4g}}}"
    return f"allow what was measured, in the configuration that edgeft parity check -c names: {said}"


def _up(value: float) -> float:
    """Returns a number rounded up to three digits, so that what was measured is within it."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2) if value > 0 else 1.0
    return math.ceil(value / unit) * unit


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
    figures = _figures(divergence, limits)
    beyond = list(_beyond(divergence, limits))
    if not 1 / limits.ppl_ratio <= divergence.ppl_ratio <= limits.ppl_ratio:
        beyond.append("ppl_ratio")
    cause, remedy = _MERGED_INTO.get(merge_base or "", ("merging lost it", _MERGE_REMEDY))
    failures = tuple(Failure(_MERGE, f"{cause}: {_finding(key, figures)}", "", remedy) for key in beyond)
    return Rung(_MERGE, "fail" if failures else "pass", figures, failures)

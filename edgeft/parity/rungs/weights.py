"""The file's tensors against the checkpoint's fingerprints, and what is wrong with those that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from gguf import GGMLQuantizationType

from edgeft.gguf_header import GgufHeader
from edgeft.parity.file_tensors import Compared, FileTensors
from edgeft.parity.fingerprint import Fingerprint, cell_sums, relative_error
from edgeft.parity.ladder import Failure, Rung, listed, rung
from edgeft.parity.layout import is_known, other_layouts, places
from edgeft.parity.reference import ModelFacts
from edgeft.parity.rounding import most_rounding
from edgeft.parity.rungs.training import TrainingShares
from edgeft.progress import Progress

NAME: Final = "weights"
_ANOTHER_MODEL = 0.5
"""From this share of strange tensors on, the file is not a damaged export but that of another model."""
_REMEDY = "convert the model again"
_BF16 = GGMLQuantizationType.BF16

# What can be wrong, the plainest first: `cause` is told with the number of tensors.
_ORDER: Final = (
    "missing",
    "shape",
    "not finite",
    "zero",
    "layout",
    "transposed",
    "exchanged",
    "adapter",
    "scale",
    "part",
    "other",
)


def check_weights(
    header: GgufHeader,
    theirs: Mapping[str, Fingerprint],
    facts: ModelFacts,
    progress: Progress,
    expected_shares: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Rung:
    """Holds every tensor that the checkpoint has to its fingerprint; costs one pass over the file.

    `expected_shares` are the reference's of that name.
    """
    where = places(header, list(theirs))
    present = {name: place for name, place in where.items() if place.name in header.tensors}
    tensors = FileTensors(header)
    compared: list[Compared] = []
    for number, (name, place) in enumerate(present.items()):
        progress(number, len(present), f"weights: {place.name}")
        compared.append(tensors.compare(place, theirs[name]))
    names = [name for name in where if name not in present and not _may_lack(name, facts)]
    problems = [("missing", _missing(name, where[name].name), name) for name in names]
    shares = TrainingShares(compared, expected_shares)
    problems += [found for one in compared for found in _problem(one, tensors, theirs, shares)]
    figures = _figures(compared, where, theirs, header) | shares.figures()
    return rung(NAME, _failures(problems, len(compared)), figures, shares.warnings())


def _may_lack(name: str, facts: ModelFacts) -> bool:
    return name.endswith("lm_head.weight") and bool(facts.config.get("tie_word_embeddings"))


def _missing(name: str, there: str) -> str:
    if name.endswith("lm_head.weight"):
        return "the embeddings are tied, which the model's are not: llama.cpp takes token_embd.weight for the output"
    return f"tensors of the model are missing: {there}"


Problem = tuple[str, str, str]
"""Kind, cause, and the tensor in both vocabularies."""


def _problem(
    one: Compared, tensors: FileTensors, theirs: Mapping[str, Fingerprint], shares: TrainingShares
) -> Iterator[Problem]:
    most = one.max_error
    if not one.fits:
        what = f"tensors have another shape: {one.info.shape} in the file, the model's is {one.theirs.shape}"
        yield "shape", what, one.names
    elif not one.ours.finite:
        yield "not finite", "weights are infinite or not a number", one.names
    elif shares.fault(one) is not None and not shares.is_alone(one) and one.error < _ANOTHER_MODEL:
        yield "adapter", str(shares.fault(one)), one.names
    elif len(one.damaged) and one.typical_error <= most:
        yield "part", _damage(one), one.names
    elif one.error <= most:
        if (cause := shares.fault(one)) is not None:
            yield "adapter", cause, one.names
    elif one.rms == 0:
        yield "zero", "weights are all zero", one.names
    else:
        yield from _whole(one, tensors, theirs, shares)


def _whole(
    one: Compared, tensors: FileTensors, theirs: Mapping[str, Fingerprint], shares: TrainingShares
) -> Iterator[Problem]:
    """Names what the tensor holds instead, by trying: another layout, another tensor, another scale."""
    most = one.max_error
    layouts = other_layouts(tensors.header, one.info.name)
    for cause, restore in layouts.items():
        if _error(tensors.restored(one.place, restore), one.theirs) <= most:
            if is_known(tensors.header.arch):
                yield "layout", cause, one.names
            return
    if len(one.theirs.shape) == 2:
        matrix = tensors.restored(one.place, None)
        turned = matrix.T if matrix.shape[0] == matrix.shape[1] else matrix.reshape(matrix.shape[::-1]).T
        if _error(np.ascontiguousarray(turned), one.theirs) <= most:
            yield "transposed", "weights are transposed", one.names
            return
    for other in theirs.values():
        same_kind = other.shape == one.theirs.shape and other.cell == one.theirs.cell and other is not one.theirs
        same_kind = same_kind and len(one.ours) == len(other.cells)
        if same_kind and relative_error(one.ours.sums - other.cells, other.rms) <= most:
            yield "exchanged", "tensors hold the weights of others", f"{one.names} holds {other.name}"
            return
    share = shares.fault(one)
    if share is not None and one.error < _ANOTHER_MODEL:
        yield "adapter", share, one.names
        return
    count = min(len(one.ours), len(one.theirs.cells))
    ours, wanted = (cells[:count].astype(np.float64) for cells in (one.ours.sums, one.theirs.cells))
    factor = float(ours @ wanted / (wanted @ wanted))
    # What was multiplied in bfloat16 was rounded to it, too.
    if relative_error(ours - factor * wanted, one.theirs.rms) <= max(most, most_rounding(_BF16)) * abs(factor):
        yield "scale", f"weights are multiplied by {factor:.3g}", one.names
        return
    yield "other", "weights are others than the model's", f"{one.names}, relative error {one.error:.2g}"


def _error(weights: Any, theirs: Fingerprint) -> float:
    if weights.size != theirs.n_elements:
        return float("inf")
    cells = cell_sums(np.ascontiguousarray(weights).reshape(-1), theirs.cell)
    return relative_error(cells - theirs.cells, theirs.rms)


def _damage(one: Compared) -> str:
    first, last = one.theirs.rows_of(one.damaged)
    return f"weights of one part are damaged, rows {first} to {last}"


def _failures(problems: list[Problem], count: int) -> Iterator[Failure]:
    strange = [problem for problem in problems if problem[0] == "other"]
    if strange and len(strange) >= _ANOTHER_MODEL * count:
        what = f"the file holds another model's weights: {len(strange)} of {count} tensors are not the trained model's"
        yield Failure(NAME, what, listed([name for _, _, name in strange]), "is this the right file, or reference?")
        return
    for kind in _ORDER:
        found = [problem for problem in problems if problem[0] == kind]
        for cause in dict.fromkeys(cause for _, cause, _ in found):
            names = [name for _, said, name in found if said == cause]
            number = f" ({len(names)} tensors)" if len(names) > 1 else ""
            remedy = _ADAPTER_REMEDY if kind == "adapter" else _REMEDY
            yield Failure(NAME, cause + number, listed(names), remedy)


_ADAPTER_REMEDY = "merge the adapter once into the base it was trained on (edgeft merge), and convert that"


def _figures(
    compared: list[Compared], where: Mapping[str, Any], theirs: Mapping[str, Fingerprint], header: GgufHeader
) -> dict[str, Any]:
    worst: Callable[[Compared], float] = lambda one: one.error  # noqa: E731 (a key, named for both uses)
    types: dict[str, list[float]] = {}
    for one in compared:
        types.setdefault(one.info.type.name, []).append(one.error)
    named = {place.name for place in where.values()}
    return {
        "tensors": len(compared),
        "not_compared": sorted((theirs.keys() - where.keys()) | (header.tensors.keys() - named)),
        "relative_error": {kind: float(np.median(errors)) for kind, errors in types.items()},
        "worst": [
            {"tensor": one.info.name, "type": one.info.type.name, "relative_error": one.error}
            for one in sorted(compared, key=worst, reverse=True)[:8]
        ],
        "median_error": _typical_error(compared),
    }


def _typical_error(compared: list[Compared]) -> float:
    """Returns the median relative error of the matrices, of damaged ones no more than their type explains."""
    errors = [min(one.max_error, one.error) for one in compared if len(one.theirs.shape) > 1]
    return float(np.median(errors or [0.0]))

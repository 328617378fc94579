"""A peft adapter -> a GGUF LoRA, which llama.cpp puts beside a model when it runs (src/llama-adapter.cpp).

The format has one alpha for the whole file, and divides it by each tensor's rank. Here it is 0, which means no scale at
all, and each module's own scale is folded into its B: so rsLoRA and patterns of rank and alpha are right, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGUFType, GGUFWriter, Keys

from edgeft.artifacts import Checkpoint
from edgeft.convert.families import plan_of
from edgeft.convert.plan import FoundTensor, stack
from edgeft.errors import EdgeftError, Problem
from edgeft.files import replacing
from edgeft.progress import Progress, silent
from edgeft.weights import MergedWeights
from edgeft.weights.low_rank import nearest_product
from edgeft.weights.updates import LowRank

# What is left of a product in float32 when the rows are ordered before it instead of after it.
_SAME = 1e-5
_EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class ConvertedAdapter:
    """The file, and by tensor the share of the update's norm that an extracted LoRA lacks: 0 where it is exact."""

    path: Path
    errors: Mapping[str, float]


@dataclass(frozen=True)
class _Factors:
    """The update of one tensor of the file: b @ a, (..., out, rank) and (..., rank, in), scale and all."""

    a: torch.Tensor
    b: torch.Tensor
    error: float = 0.0


def convert_adapter(
    weights: MergedWeights, source: Checkpoint, out: Path, rank: int | None = None, progress: Progress = silent
) -> ConvertedAdapter:
    """Writes the adapter in `weights` as a GGUF LoRA, float32; `source` is its base's checkpoint.

    An update that is no product of two small matrices (DoRA, IA3, a module saved whole) becomes the nearest one of
    `rank`, by singular values, with its error. Raises EdgeftError, naming each tensor, for updates of that kind without
    a `rank`, and for what no LoRA can hold: trained vectors, trained tokens, other values for tied matrices.
    """
    plan = plan_of({**source.config(), **weights.config_changes}, str(source.path / "config.json"))
    found = [t for t in plan.find(weights.specs, str(source.path)) if weights.adapted.intersection(t.sources)]
    tied = "output.weight" not in {tensor.planned.name for tensor in plan.find(weights.specs, str(source.path))}
    problems = [Problem(what, str(source.path), "merge it instead") for what in _outside(weights)]
    if tied and any(tensor.planned.name == _EMBEDDING for tensor in found):
        # It would take the flipped factors of the embedding for those of the output, and end on an assertion.
        what = "it changes the embedding, and the base file has one tensor for it and the output matrix"
        problems.append(Problem(what, _EMBEDDING, "merge it instead"))
    factors: dict[str, _Factors] = {}
    for done, tensor in enumerate(found):
        progress(done, len(found), tensor.planned.name)
        try:
            factors[tensor.planned.name] = _factors(weights, tensor, rank)
        except EdgeftError as error:
            problems += error.problems
    if problems:
        raise EdgeftError(problems)
    writer = GGUFWriter(None, MODEL_ARCH_NAMES[plan.arch])
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, 0.0)
    for name, pair in factors.items():
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(pair.a.float().numpy()))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(pair.b.float().numpy()))
    with replacing(out) as partial:
        writer.write_header_to_file(partial)
        try:
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    progress(len(found), len(found))
    return ConvertedAdapter(out, {name: pair.error for name, pair in factors.items()})


def _outside(weights: MergedWeights) -> Iterator[str]:
    if "tie_word_embeddings" in weights.config_changes:
        yield "the adapter makes embedding and output matrix differ, which the base file holds as one"
    if "vocab_size" in weights.config_changes:
        yield "the adapter enlarges the vocabulary"


def _factors(weights: MergedWeights, found: FoundTensor, rank: int | None) -> _Factors:
    """Returns the factors in the file's order of rows; raises EdgeftError when there are none."""
    name, shape = found.planned.name, found.planned.shape
    if len(shape) == 1:
        raise EdgeftError("a trained vector is no product of two matrices", name, "merge the adapter instead")
    parts = [_part(weights, source, rank) for source in found.sources]
    if found.planned.make is stack:
        ranks = {len(part.a) for part in parts}
        if len(ranks) > 1:
            raise EdgeftError(f"its experts have updates of ranks {sorted(ranks)}", name, "merge the adapter instead")
        error = sum(part.error for part in parts) / len(parts)
        return _Factors(torch.stack([p.a for p in parts]), torch.stack([p.b for p in parts]), error)
    if len(parts) == 1 and parts[0].b.shape[0] == shape[0]:
        part = parts[0]
        ordered = found.planned.make(part.b)
        expected = found.planned.make(part.b @ part.a)
        if (ordered @ part.a - expected).norm() <= _SAME * expected.norm():
            if name == _EMBEDDING:  # looked up by token, so that A has a row for each (llama-graph.cpp)
                return _Factors(ordered, part.a.T, part.error)
            return _Factors(part.a, ordered, part.error)
    raise EdgeftError("llama.cpp lays this tensor out so that no LoRA fits it", name, "merge the adapter instead")


def _part(weights: MergedWeights, name: str, rank: int | None) -> _Factors:
    updates = weights.updates(name)
    if updates is not None and len(updates) == 1 and isinstance(updates[0], LowRank) and updates[0].magnitude is None:
        return _Factors(updates[0].right.float(), updates[0].left.float() * updates[0].scale)
    if updates is not None and not updates:  # one of several experts that was not trained: a product of zeros
        n_out, n_in = weights.specs[name].shape
        return _Factors(torch.zeros(rank or 1, n_in), torch.zeros(n_out, rank or 1))
    if rank is None:
        what = "its update is not low-rank (DoRA, IA3, trained tokens, or saved whole)"
        remedy = "merge it; or give --rank for the nearest LoRA; or merge it and take one with `edgeft extract-adapter`"
        raise EdgeftError(what, name, remedy)
    before, after = weights.before_and_after(name)
    product = nearest_product(after - before, rank)
    return _Factors(product.right, product.left, product.error)

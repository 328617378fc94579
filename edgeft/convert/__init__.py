"""Checkpoint to GGUF, as llama.cpp's own converter writes it, streaming and with every problem named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGUFWriter

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert.families import plan_of
from edgeft.convert.metadata import add_metadata
from edgeft.convert.plan import FoundTensor, Plan
from edgeft.convert.tensors import (
    F32,
    FILE_TYPES,
    MATRIX_TYPES,
    StoredType,
    stored_type,
    value_type,
)
from edgeft.convert.tokenizer import ProvedTokenizer, prove_tokenizer
from edgeft.convert.writing import write_tensors
from edgeft.errors import EdgeftError
from edgeft.files import replacing, require_free_disk
from edgeft.progress import Progress, silent
from edgeft.weights import CheckpointWeights, TensorSpec, TunedWeights, Weights

__all__ = ["convert", "require_convertible", "tensor_names"]


def convert(
    weights: Weights, source: Checkpoint, config: ConvertConfig, out: Path, progress: Progress = silent
) -> GgufFile:
    """Writes one GGUF file at `out`; `source` gives everything that is no weight: config.json, tokenizer, template.

    Each thread holds a part of one tensor. With trained `weights`, a base without a chat template has the one
    that it was tuned with. llama.cpp must give the trained tokenizer's ids with the written file, on a corpus and on
    `config.random_texts` random strings. Raises EdgeftError where it does not, for an unsupported model, for tensors
    that do not fit config.json (all at once, before any is read), and for weights that are not finite or overflow
    `config.dtype`; then nothing is left at `out`.
    """
    tuned = weights if isinstance(weights, TunedWeights) else None
    if tuned is not None and tuned.tokenizer is not None:
        what = "the adapter enlarges the vocabulary, and the tokenizer of it is not the base's"
        raise EdgeftError(what, str(tuned.tokenizer), "merge into a checkpoint first, then convert that")
    changes = {} if tuned is None else tuned.config_changes
    prepared = _prepare(weights.specs, source, config, tuned=tuned is not None, config_changes=changes)
    writer = prepared.writer
    size_bytes = sum(info.nbytes for infos in writer.tensors for info in infos.values())
    require_free_disk(out.parent, size_bytes, "the GGUF file")
    with replacing(out) as partial:
        writer.write_header_to_file(partial)
        try:
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        finally:
            writer.close()
        write_tensors(partial, writer.data_alignment, prepared.plan, prepared.tensors, weights, progress)
        prepared.tokenizer.require_in(partial)
    return GgufFile(out)


def require_convertible(source: Checkpoint, config: ConvertConfig) -> None:
    """Raises EdgeftError unless this checkpoint, or one fine-tuned from it, can be converted; reads no weight.

    Everything but the weights is made as for a file, so what is wrong with architecture, shapes or tokenizer shows.
    """
    _prepare(CheckpointWeights(source).specs, source, config, tuned=True)


def tensor_names(source: Checkpoint) -> dict[str, str]:
    """Returns the GGUF name of each tensor of a checkpoint that becomes one of the file alone, as all matrices do.

    Experts are joined and are not among them. Raises EdgeftError as `convert` does.
    """
    plan = plan_of(source.config(), str(source.path / "config.json"))
    found = plan.find(CheckpointWeights(source).specs, str(source.path))
    return {tensor.sources[0]: tensor.planned.name for tensor in found if len(tensor.sources) == 1}


@dataclass(frozen=True)
class _Prepared:
    """A file before its weights: what the writer holds, and the tensors in the order in which they are written."""

    writer: GGUFWriter
    plan: Plan
    tensors: list[tuple[FoundTensor, StoredType]]
    tokenizer: ProvedTokenizer


def _prepare(
    specs: Mapping[str, TensorSpec],
    source: Checkpoint,
    config: ConvertConfig,
    *,
    tuned: bool,
    config_changes: Mapping[str, Any] = MappingProxyType({}),
) -> _Prepared:
    config_json = {**source.config(), **config_changes}
    plan = plan_of(config_json, str(source.path / "config.json"))
    matrix_type = MATRIX_TYPES[config.dtype]
    found = [
        (tensor, stored_type(tensor.planned.name, tensor.planned.shape, matrix_type))
        for tensor in plan.find(specs, str(source.path))
    ]
    writer = GGUFWriter(None, MODEL_ARCH_NAMES[plan.arch])
    _add_tensor_infos(writer, plan, found)
    add_metadata(writer, source.path, config.name, FILE_TYPES[config.dtype])
    for key, value in plan.keys.items():
        writer.add_key_value(key, value, value_type(value))
    text = config_json.get("text_config")
    text_config = {**config_json, **(text if isinstance(text, dict) else {})}
    name = writer.kv_data[0]["general.name"].value
    tokenizer = prove_tokenizer(source.path, text_config, plan.vocab_size, name, config, tuned=tuned)
    tokenizer.add_to(writer)
    return _Prepared(writer, plan, found, tokenizer)


def _add_tensor_infos(writer: GGUFWriter, plan: Plan, tensors: Sequence[tuple[FoundTensor, StoredType]]) -> None:
    for name, tensor in plan.generated.items():
        writer.add_tensor_info(name, tuple(tensor.shape), np.dtype(F32.numpy), tensor.nbytes, F32.ggml)
    for found, stored in tensors:
        name, shape = found.planned.name, found.planned.shape
        size_bytes = TensorSpec(shape, stored.torch).size_bytes
        writer.add_tensor_info(name, shape, np.dtype(stored.numpy), size_bytes, stored.ggml)

"""Checkpoint to GGUF, as llama.cpp's own converter writes it, streaming and with every problem named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gguf import MODEL_ARCH_NAMES, GGUFWriter

from edgeft.artifacts import Checkpoint, GgufFile, plain_name
from edgeft.config import ConvertConfig
from edgeft.convert.coding import Coding, unquantized
from edgeft.convert.families import plan_of
from edgeft.convert.metadata import Origin, add_metadata
from edgeft.convert.plan import FoundTensor, Plan
from edgeft.convert.quantized import Planner, add_tensor_infos, ask, quantized_writer, recoded, write_header
from edgeft.convert.tensors import FILE_TYPES, MATRIX_TYPES, stored_type, value_type
from edgeft.convert.tokenizer import ProvedTokenizer, prove_tokenizer
from edgeft.convert.upstream import default_cache, find_converter, require_known, run_converter
from edgeft.convert.writing import write_tensors
from edgeft.dataset.record import Record
from edgeft.errors import EdgeftError, Problem
from edgeft.files import list_files, placing, replacing, require_free_disk
from edgeft.progress import Progress, silent
from edgeft.weights import CheckpointWeights, TensorSpec, TunedWeights, Weights

__all__ = ["Origin", "Planner", "convert", "require_convertible", "tensor_names"]


def convert(
    weights: Weights,
    source: Checkpoint,
    config: ConvertConfig,
    out: Path,
    progress: Progress = silent,
    *,
    origin: Origin | None = None,
    split_max_bytes: int = 0,
    planner: Planner | None = None,
    records: Sequence[Record] = (),
    warn: Callable[[Problem], None] | None = None,
) -> GgufFile:
    """Writes a GGUF file at `out`; `source` gives everything that is no weight: config.json, tokenizer, template.

    Each thread holds a part of one tensor. With trained `weights`, a base without a chat template has the one
    that it was tuned with. With `split_max_bytes` there are as many files as it takes, `-00001-of-0000N` added to their
    names, and the first is returned; one with more bytes of tensors holds a single one. llama.cpp must give the trained
    tokenizer's ids with the written file, on a corpus, on `config.random_texts` random strings and on the user's own
    `records`; texts that decide nothing and have other ids are told to `warn`, once the file is there. With
    `config.converter` llama.cpp's own converter writes the file, from the checkpoint as it lies on disk. With a
    `planner` the file is quantized: the bytes that llama.cpp makes of the one in `config.dtype`, which is not made.

    Raises EdgeftError where ids differ, for an unsupported model, for tensors that do not fit config.json (all at once,
    before any is read), and for weights that are not finite or overflow `config.dtype`; then nothing is left at `out`.
    """
    if config.converter is not None:
        if planner is not None:
            what = "llama.cpp's converter writes no quantized file"
            raise EdgeftError(what, "convert.converter", "make the unquantized one first, then edgeft quantize")
        return _convert_elsewhere(weights, source, config, config.converter, out, split_max_bytes)
    tuned = weights if isinstance(weights, TunedWeights) else None
    if tuned is not None and tuned.tokenizer is not None:
        what = "the adapter enlarges the vocabulary, and the tokenizer of it is not the base's"
        raise EdgeftError(what, str(tuned.tokenizer), "merge into a checkpoint first, then convert that")
    changes = {} if tuned is None else tuned.config_changes
    writer = GGUFWriter(None, "", split_max_size=split_max_bytes)
    prepared = _prepare(
        writer, weights.specs, source, config, origin, records, tuned=tuned is not None, config_changes=changes
    )
    tensors = prepared.tensors
    if planner is not None:
        plan = ask(planner, writer)
        tensors = recoded(tensors, plan)
        writer = quantized_writer(writer, plan, tensors)
    size_bytes = sum(info.nbytes for infos in writer.tensors for info in infos.values())
    require_free_disk(out.parent, size_bytes, "the GGUF file")
    with _destination(out, split_max_bytes) as (partial, written):
        write_header(writer, partial)
        paths = writer.format_shard_names(partial)
        names = [infos.keys() for infos in writer.tensors]
        write_tensors(paths, names, writer.data_alignment, prepared.plan, tensors, weights, progress)
        prepared.tokenizer.require_in(paths[0])
    if warn is not None:
        for warning in prepared.tokenizer.warnings:
            warn(warning)
    return GgufFile(written[0])


@contextmanager
def _destination(out: Path, split_max_bytes: int) -> Iterator[tuple[Path, list[Path]]]:
    """Yields where to write, and a list that holds the paths of the files once they are in their place."""
    written = [out]
    if not split_max_bytes:
        with replacing(out) as partial:
            yield partial, written
        return
    with placing(out.parent) as folder:
        yield folder / out.name, written
        written[:] = [out.parent / path.name for path in sorted(list_files(folder))]


def _convert_elsewhere(
    weights: Weights, source: Checkpoint, config: ConvertConfig, named: str, out: Path, split_max_bytes: int
) -> GgufFile:
    if isinstance(weights, TunedWeights):
        what = "llama.cpp's converter reads a checkpoint, not one with an adapter beside it"
        raise EdgeftError(what, str(source.path), "edgeft merge first, then convert what it wrote")
    converter = find_converter(named, default_cache())
    with _destination(out, split_max_bytes) as (partial, written):
        run_converter(converter, source, config, partial, split_max_bytes)
    return GgufFile(written[0])


def require_convertible(source: Checkpoint, config: ConvertConfig, records: Sequence[Record] = ()) -> None:
    """Raises EdgeftError unless this checkpoint, or one fine-tuned from it, can be converted; reads no weight.

    The user's own `records` must have the same token ids in llama.cpp.
    Everything but the weights is made as for a file, so what is wrong with architecture, shapes or tokenizer shows.
    Of llama.cpp's own converter it is asked whether it knows the architecture.
    """
    if config.converter is not None:
        require_known(find_converter(config.converter, default_cache()), source)
        return
    _prepare(GGUFWriter(None, ""), CheckpointWeights(source).specs, source, config, None, records, tuned=True)


def tensor_names(source: Checkpoint) -> dict[str, str]:
    """Returns the GGUF name of each tensor of a checkpoint by its plain name, of those that are joined by the first.

    Raises EdgeftError as `convert` does.
    """
    plan = plan_of(source.config(), str(source.path / "config.json"))
    found = plan.find(CheckpointWeights(source).specs, str(source.path))
    return {plain_name(tensor.sources[0]): tensor.planned.name for tensor in found}


@dataclass(frozen=True)
class _Prepared:
    """A file before its weights: what the writer holds, and the tensors in the order in which they are written."""

    writer: GGUFWriter
    plan: Plan
    tensors: list[tuple[FoundTensor, Coding]]
    tokenizer: ProvedTokenizer


def _prepare(
    writer: GGUFWriter,
    specs: Mapping[str, TensorSpec],
    source: Checkpoint,
    config: ConvertConfig,
    origin: Origin | None,
    records: Sequence[Record],
    *,
    tuned: bool,
    config_changes: Mapping[str, Any] = MappingProxyType({}),
) -> _Prepared:
    config_json = {**source.config(), **config_changes}
    plan = plan_of(config_json, str(source.path / "config.json"))
    matrix_type = MATRIX_TYPES[config.dtype]
    found = [
        (tensor, unquantized(stored_type(tensor.planned.name, tensor.planned.shape, matrix_type)))
        for tensor in plan.find(specs, str(source.path))
    ]
    writer.arch = MODEL_ARCH_NAMES[plan.arch]
    writer.add_architecture()
    add_tensor_infos(writer, plan, found)
    add_metadata(writer, source.path, config, FILE_TYPES[config.dtype], origin)
    for key, value in plan.keys.items():
        writer.add_key_value(key, value, value_type(value))
    text = config_json.get("text_config")
    text_config = {**config_json, **(text if isinstance(text, dict) else {})}
    name = writer.kv_data[0]["general.name"].value
    tokenizer = prove_tokenizer(source.path, text_config, plan.vocab_size, name, config, records, tuned=tuned)
    tokenizer.add_to(writer)
    return _Prepared(writer, plan, found, tokenizer)

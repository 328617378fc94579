"""The `general.*` keys: name, size, licence, provenance, recommended sampling, file type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from gguf import GGML_QUANT_VERSION, GGUFType, GGUFWriter, LlamaFileType, Metadata, size_label

from edgeft.artifacts import Adapter
from edgeft.config import ConvertConfig
from edgeft.errors import EdgeftError
from edgeft.files import read_object, sha256_file

_HUB_ID = re.compile(r"([\w.-]+)/([\w.-]+)")
_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Origin:
    """Where a fine-tuned model comes from.

    `base` is what was tuned, a hub id or a folder; `base_folder` has its card; `adapter` is the folder of the adapter
    and `datasets` are the sources of records, of which those on the hub are named.
    """

    base: str
    base_folder: Path
    adapter: Path
    datasets: Sequence[str] = ()


def add_metadata(
    writer: GGUFWriter, folder: Path, config: ConvertConfig, file_type: LlamaFileType, origin: Origin | None = None
) -> None:
    """Adds the `general.*` keys as llama.cpp's converter does, from README.md's header, config.json,
    generation_config.json and the folder's name, over which go `config` and what `origin` tells.

    The hash of an adapter has no key of its own in GGUF: it is `edgeft.adapter.sha256`. The writer must hold the tensor
    infos already: they give the size.
    """
    parameters, shared, expert, experts = writer.get_total_parameter_count()
    metadata = _card(folder, parameters)
    if origin is not None:
        _add_origin(metadata, origin, parameters)
        weights = Adapter(origin.adapter).weights_path
        if weights.is_file():  # a model that was trained whole has none
            writer.add_string("edgeft.adapter.sha256", sha256_file(weights))
    metadata.name = config.name or metadata.name or folder.resolve().name
    metadata.author = config.author or metadata.author
    metadata.license = config.license or metadata.license
    metadata.tags = list(config.tags) or metadata.tags
    metadata.quantized_by = config.quantized_by or metadata.quantized_by
    metadata.size_label = metadata.size_label or size_label(parameters, shared, expert, experts)
    if metadata.sampling_penalty_repeat is None:
        # transformers' spelling, which gguf 0.19 does not look for.
        metadata.sampling_penalty_repeat = _repetition_penalty(folder)
    writer.add_type(GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _card(folder: Path, parameters: int) -> Metadata:
    try:
        return Metadata.load(None, folder.resolve(), None, parameters)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EdgeftError(f"its YAML header cannot be read: {error}", str(folder / "README.md")) from error


def _add_origin(metadata: Metadata, origin: Origin, parameters: int) -> None:
    """Names base and datasets, and hands down the base's licence, languages and tags."""
    base = _card(origin.base_folder, parameters)
    metadata.base_models = [_repository(origin.base) or {"name": base.name or origin.base_folder.resolve().name}]
    for name in ("license", "license_name", "license_link", "languages", "tags"):
        if getattr(metadata, name) is None:
            setattr(metadata, name, getattr(base, name))
    on_hub = [repository for source in origin.datasets if (repository := _repository(source.partition("@")[0]))]
    if on_hub:
        metadata.datasets = on_hub


def _repository(name: str) -> dict[str, str] | None:
    """Returns the entry of a hub id, None for anything else."""
    match = _HUB_ID.fullmatch(name)
    if match is None or Path(name).exists():
        return None
    return {
        "name": match[2].replace("-", " "),
        "organization": match[1],
        "repo_url": f"{_HUB}/{name}",
    }


def _repetition_penalty(folder: Path) -> float | None:
    penalty = read_object(folder / "generation_config.json").get("repetition_penalty")
    return float(penalty) if isinstance(penalty, int | float) else None

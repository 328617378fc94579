"""The `general.*` keys: name, size, licence, provenance, recommended sampling, file type."""

from __future__ import annotations

import json
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from gguf import GGML_QUANT_VERSION, GGUFType, GGUFWriter, LlamaFileType, Metadata, size_label

from edgeft.errors import EdgeftError


def add_metadata(writer: GGUFWriter, folder: Path, name: str | None, file_type: LlamaFileType) -> None:
    """Adds the `general.*` keys as llama.cpp's converter does, from README.md's header, config.json,
    generation_config.json and the folder's name, unless `name` is given.

    The writer must hold the tensor infos already: they give the size.
    """
    parameters, shared, expert, experts = writer.get_total_parameter_count()
    try:
        metadata = Metadata.load(None, folder.resolve(), None, parameters)
    except yaml.YAMLError as error:
        raise EdgeftError(f"its YAML header cannot be read: {error}", str(folder / "README.md")) from error
    metadata.name = name or metadata.name or folder.resolve().name
    metadata.size_label = metadata.size_label or size_label(parameters, shared, expert, experts)
    if metadata.sampling_penalty_repeat is None:
        # transformers' spelling, which gguf 0.19 does not look for.
        metadata.sampling_penalty_repeat = _repetition_penalty(folder)
    writer.add_type(GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _repetition_penalty(folder: Path) -> float | None:
    path = folder / "generation_config.json"
    if not path.is_file():
        return None
    try:
        penalty = json.loads(path.read_text(encoding="utf-8")).get("repetition_penalty")
    except (ValueError, AttributeError):
        return None
    return float(penalty) if isinstance(penalty, int | float) else None

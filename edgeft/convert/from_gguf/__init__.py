"""GGUF to checkpoint: the converter backwards, from the same descriptions of families.

A family's `config_of` reads config.json out of the file's keys. The plan that the converter makes of that config.json
must then have the file's keys and its tensors, all of them: only so is it the checkpoint that the file was made of.
Each tensor is what the plan's change of it, undone, gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]
from gguf import Keys

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.convert.families import imported_config, plan_of
from edgeft.convert.from_gguf.tokenizer import GgufTokenizer, write_tokenizer
from edgeft.convert.from_gguf.weights import GgufWeights
from edgeft.convert.gguf_fields import GgufFields, shortest
from edgeft.errors import EdgeftError
from edgeft.files import require_free_disk, write_json
from edgeft.gguf_header import GgufHeader, read_header
from edgeft.progress import Progress, silent
from edgeft.weights.saving import write_weights

_DTYPES = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}
_OTHERS = {
    "adapter": ("this file is a LoRA adapter", "give the model that it belongs to"),
    "imatrix": ("this file is an importance matrix", "give a model"),
    "mmproj": ("this file holds the eyes or ears of a model", "give the text model that it belongs to"),
}
# transformers' names in generation_config.json of the sampling that a file recommends.
_SAMPLING = {
    Keys.General.SAMPLING_TEMP: "temperature",
    Keys.General.SAMPLING_TOP_K: "top_k",
    Keys.General.SAMPLING_TOP_P: "top_p",
    Keys.General.SAMPLING_MIN_P: "min_p",
    Keys.General.SAMPLING_PENALTY_REPEAT: "repetition_penalty",
}
# The names in a model card's header of what a file says about itself.
_CARD = {
    Keys.General.NAME: "name",
    Keys.General.AUTHOR: "author",
    Keys.General.VERSION: "version",
    Keys.General.ORGANIZATION: "organization",
    Keys.General.DESCRIPTION: "description",
    Keys.General.FINETUNE: "finetune",
    Keys.General.BASENAME: "basename",
    Keys.General.SIZE_LABEL: "size_label",
    Keys.General.LICENSE: "license",
    Keys.General.LICENSE_NAME: "license_name",
    Keys.General.LICENSE_LINK: "license_link",
    Keys.General.TAGS: "tags",
    Keys.General.LANGUAGES: "language",
}


@dataclass(frozen=True)
class GgufModel:
    """A GGUF file that can be imported: config.json, the weights as they will be, and the tokenizer's keys."""

    gguf: GgufFile
    header: GgufHeader
    config_json: dict[str, Any]
    weights: GgufWeights
    tokenizer: GgufTokenizer


@dataclass(frozen=True)
class Imported:
    """What an import wrote: `dtypes` has how many tensors of each type, `types` the file's own."""

    checkpoint: Checkpoint
    architecture: str
    parameters: int
    size_bytes: int
    types: dict[str, int]
    dtypes: dict[str, int]
    dtype: str

    def figures(self) -> dict[str, Any]:
        """Returns the figures for import.json."""
        return {
            "architecture": self.architecture,
            "parameters": self.parameters,
            "size_bytes": self.size_bytes,
            "gguf_types": self.types,
            "dtypes": self.dtypes,
            "dtype": self.dtype,
        }


def read_model(path: Path) -> GgufModel:
    """Reads a GGUF file as the checkpoint that it was made of; no weight is read but those that are float32.

    Raises EdgeftError for a file that is damaged or no model, for a model of another family, and where the checkpoint
    would not give this file again.
    """
    gguf = GgufFile.open(path)
    header = read_header(gguf, strings=True)
    where = str(path)
    if (kind := str(header.keys.get("general.type", "model"))) != "model":
        what, remedy = _OTHERS.get(kind, (f"this file is no model, its general.type is {kind!r}", "give a model"))
        raise EdgeftError(what, where, remedy)
    if not header.tensors:
        raise EdgeftError("this file has no weights, only a vocabulary", where, "give a file with the model's weights")
    fields = GgufFields(header)
    config_json = imported_config(fields, header.arch)
    tokenizer = GgufTokenizer.read(header)
    config_json |= {name.replace("_token", "_token_id"): None for name in ("bos_token", "eos_token", "pad_token")}
    config_json |= {f"{name}_id": number for name, number in tokenizer.roles.items() if f"{name}_id" in config_json}
    plan = plan_of(config_json, where)
    fields.require_alike(plan.keys)
    weights = GgufWeights(header, plan)
    if len(tokenizer.tokens) > fields.vocab:
        raise EdgeftError(f"the file has {len(tokenizer.tokens)} tokens and {fields.vocab} embeddings", where)
    config_json["dtype"] = _DTYPES[weights.dtype]
    return GgufModel(gguf, header, config_json, weights, tokenizer)


def import_gguf(model: GgufModel, out: Path, progress: Progress = silent) -> Imported:
    """Writes the checkpoint of a GGUF file into an empty folder.

    Every value of the file is held exactly. Raises EdgeftError where no tokenizer gives llama.cpp's ids, and for
    weights that are not finite.
    """
    size_bytes = sum(spec.size_bytes for spec in model.weights.specs.values())
    require_free_disk(out, size_bytes, "the checkpoint")
    write_json(out / "config.json", model.config_json)
    write_tokenizer(model.tokenizer, model.gguf.path, model.config_json, out)
    write_json(out / "generation_config.json", dict(_generation(model)))
    (out / "README.md").write_text(_card(model), encoding="utf-8")
    write_weights(model.weights, out, progress)
    imported = Imported(
        checkpoint=Checkpoint.open(out),
        architecture=model.config_json["architectures"][0],
        parameters=sum(int(np.prod(spec.shape, dtype=np.int64)) for spec in model.weights.specs.values()),
        size_bytes=size_bytes,
        types=dict(Counter(info.type.name for info in model.header.tensors.values()).most_common()),
        dtypes=dict(Counter(_DTYPES[spec.dtype] for spec in model.weights.specs.values()).most_common()),
        dtype=model.config_json["dtype"],
    )
    write_json(out / "import.json", {"file": model.gguf.path.name, **imported.figures()})
    return imported


def _generation(model: GgufModel) -> Iterator[tuple[str, Any]]:
    """Yields the keys of generation_config.json."""
    ends = model.tokenizer.end_ids()
    yield "eos_token_id", ends if len(ends) > 1 else ends[0]
    for name in ("bos_token_id", "pad_token_id"):
        if model.config_json[name] is not None:
            yield name, model.config_json[name]
    sampling = {name: model.header.keys[key] for key, name in _SAMPLING.items() if key in model.header.keys}
    if sampling:
        yield "do_sample", True
    for name, value in sampling.items():
        yield name, shortest(value) if isinstance(value, float) else value


def _card(model: GgufModel) -> str:
    """Returns the model card, with what the file says about itself in its header."""
    keys: Mapping[str, Any] = model.header.keys
    described = {name: keys[key] for key, name in _CARD.items() if key in keys}
    header = yaml.safe_dump(described, allow_unicode=True, sort_keys=False)
    return f"---\n{header}---\n\nImported from `{model.gguf.path.name}` by `edgeft import`.\n"

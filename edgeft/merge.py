"""Base + adapter -> checkpoint, one tensor at a time."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import torch

from edgeft.artifacts import METHOD_RECORD, Checkpoint, Trained
from edgeft.config import MOVED_STARTS, PREFERRED_MERGE_BASE, TrainConfig
from edgeft.device import Device, pick_device
from edgeft.errors import EdgeftError
from edgeft.files import list_files, read_object, require_free_disk, write_json, write_text
from edgeft.given_template import GivenTemplate, given_template
from edgeft.progress import Progress, silent
from edgeft.weights import (
    BaseWeights,
    CheckpointWeights,
    MergedWeights,
    RoundedWeights,
    TunedWeights,
    WholeWeights,
)
from edgeft.weights.saving import write_weights

if TYPE_CHECKING:
    from edgeft.hf import PreTrainedModel
    from edgeft.hf.streamed import Rounding

MergeBase = Literal["original", "dequantized"]
"""Which weights an adapter is merged into: the base's own, or as training held them in 4 bits."""

# Weights from which on a GPU is taken. A thread of a CPU (AMD EPYC) merges 270 million a second at rank 16 and 160 at
# rank 256; a GPU takes seconds to start.
_WORTH_A_GPU: Final = 4_000_000_000

# What an adapter with an enlarged vocabulary may bring.
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    "chat_template.jinja",
)
_MORE_TEMPLATES = "additional_chat_templates"
_KEPT_SUFFIXES = {".json", ".jinja", ".model", ".txt"}


def merge(
    base: Checkpoint, trained: Trained, out: Path, progress: Progress = silent, device: Device = "cpu"
) -> Checkpoint:
    """Folds an adapter into its base and writes the folder `out`, loadable by transformers, vLLM and llama.cpp.

    A checkpoint that was trained whole passes through: its weights, with the base's other files.

    Each tensor is merged in float32, on `device`, and rounded once to the base's dtype. Configuration, generation
    configuration, tokenizer files (tokenizer.model too) and chat template are the base's own bytes; a base without a
    chat template is given one, and the end token of that. config.json says it where the adapter unties embedding and
    output matrix or enlarges the vocabulary; then the adapter's tokenizer takes the place of the base's.
    Peak memory is a few times the largest tensor. Raises EdgeftError, before anything is written, when the adapter does
    not fit the base.
    """
    return write_merged(merged_weights(base, trained, "original", device), base, out, progress)


def write_merged(weights: TunedWeights, base: Checkpoint, out: Path, progress: Progress = silent) -> Checkpoint:
    """Writes the folder `out` of weights that are merged already, the rest from `base`, as `merge` does."""
    size_bytes = sum(spec.size_bytes for spec in weights.specs.values())
    require_free_disk(out, size_bytes, "the merged checkpoint")
    out.mkdir(parents=True, exist_ok=True)
    for path in list_files(base.path):
        is_index = path.name.endswith(".safetensors.index.json")
        kept = path.parent in (base.path, base.path / _MORE_TEMPLATES)
        if kept and path.suffix in _KEPT_SUFFIXES and not is_index:
            (out / path.relative_to(base.path)).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, out / path.relative_to(base.path))
    if weights.config_changes:
        write_json(out / "config.json", base.config() | weights.config_changes)
    if weights.tokenizer is not None:
        for name in _TOKENIZER_FILES:
            if (weights.tokenizer / name).is_file():
                shutil.copyfile(weights.tokenizer / name, out / name)
    if given := given_template(base.path):
        _give_template(given, out)
    write_weights(weights, out, progress)
    return Checkpoint.open(out)


def merged_weights(base: Checkpoint, trained: Trained, merge_base: MergeBase, device: Device = "cpu") -> TunedWeights:
    """Returns the adapter folded into the original weights, or into those that 4-bit training computed with.

    `device` computes the products; what rounds is the kind of device that training was on, where there is one. The
    tensors are on the CPU. A checkpoint that was trained whole is all there is.
    """
    original = CheckpointWeights(base)
    if isinstance(trained, Checkpoint):
        return WholeWeights(original, trained)
    if merge_base == "original":
        return MergedWeights(original, trained, device)
    from edgeft import hf

    return MergedWeights(_rounded(base, hf.rounding_of(trained)), trained, device)


def untrained_weights(base: Checkpoint, config: TrainConfig, merge_base: MergeBase) -> BaseWeights:
    """Returns what an adapter will be merged into that is trained by a configuration: see `merged_weights`."""
    if merge_base == "original":
        return CheckpointWeights(base)
    from edgeft import hf

    return _rounded(base, hf.planned_rounding(config))


def _rounded(base: Checkpoint, rounding: Rounding | None) -> BaseWeights:
    from edgeft import hf

    original = CheckpointWeights(base)
    if rounding is None:
        return original
    return RoundedWeights(original, hf.quantized_names(base.config()), rounding, rounding.device)


def choose_merge_base(trained: Trained, wanted: MergeBase | None = None) -> MergeBase:
    """Returns the `wanted` base, or without one what suits the training, as edgeft has recorded it beside the adapter.

    That is `PREFERRED_MERGE_BASE` for an adapter that was trained over 4 bits, otherwise the original. Raises
    EdgeftError when the rounded base is wanted for what was trained over another.
    """
    record = read_object(trained.path / METHOD_RECORD)
    over_rounded = bool(record.get("quantization")) and record.get("init") not in MOVED_STARTS
    if wanted == "dequantized" and record and not over_rounded:
        what = "this was not trained over the base as 4 bits hold it"
        raise EdgeftError(what, str(trained.path / METHOD_RECORD), "merge into the original base")
    return wanted or (PREFERRED_MERGE_BASE if over_rounded else "original")


def merging_device(wanted: Literal["auto", "cuda", "cpu"], where: str, base: Checkpoint) -> Device:
    """Returns where to merge: with "auto" a GPU, where there is one and the model is large enough to be worth it.

    Raises EdgeftError when CUDA is asked for, by `where`, and there is none.
    """
    device = pick_device(wanted, where)
    if wanted != "auto" or device == "cpu":
        return device
    n_weights = sum(math.prod(spec.shape) for spec in CheckpointWeights(base).specs.values())
    return device if n_weights >= _WORTH_A_GPU else "cpu"


def load_merged(base: Checkpoint, trained: Trained, merge_base: MergeBase, device: Device) -> PreTrainedModel:
    """Returns the merged model in float32, in evaluation mode; no checkpoint of it is written."""
    from edgeft import hf

    weights = merged_weights(base, trained, merge_base, device)
    tensors = {name: weights.read(name) for name in weights.specs}
    return hf.load_tensors({**base.config(), **weights.config_changes}, tensors, device, torch.float32)


def _give_template(given: GivenTemplate, folder: Path) -> None:
    """Writes a chat template, and its end token into generation_config.json: others than edgeft must stop there too."""
    write_text(folder / "chat_template.jinja", given.text)
    if given.end_id is None:
        return
    path = folder / "generation_config.json"
    generation = json.loads((path if path.is_file() else folder / "config.json").read_text(encoding="utf-8"))
    listed = generation.get("eos_token_id")
    ends = listed if isinstance(listed, list) else [] if listed is None else [listed]
    if given.end_id not in ends:
        content = generation if path.is_file() else {}
        write_json(path, content | {"eos_token_id": [given.end_id, *ends]})

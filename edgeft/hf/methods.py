"""The methods of training: how the base is loaded for each, what is saved, and the trained model again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open

from edgeft.artifacts import METHOD_RECORD, Adapter, Checkpoint
from edgeft.config import MOVED_STARTS, TrainConfig
from edgeft.device import Device
from edgeft.files import read_object, write_json
from edgeft.hf.adapters import add_ia3, add_lora, set_all_trainable
from edgeft.hf.models import compute_dtype, load_model, load_quantized
from edgeft.hf.starts import fold_start, save_difference, start_adapter
from edgeft.hf.streamed import rounding_of
from edgeft.progress import Progress, silent

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# Of an adapter whose start is not nothing: as it was trained, over what the start has left of the base.
_AS_TRAINED = "as_trained"
_START = "start.safetensors"


def load_for_training(
    checkpoint: Checkpoint,
    config: TrainConfig,
    device: Device,
    out: Path,
    *,
    trained_ids: Sequence[int] = (),
    recompute: bool = False,
    prepare: bool = True,
    progress: Progress = silent,
) -> PreTrainedModel | PeftModel:
    """Loads a base and makes trainable what the method trains; the rows of `trained_ids` too.

    `prepare` is peft's preparation of a quantized base, with recomputation where `recompute` says so. The folder `out`
    keeps the start of an adapter that has one. Raises EdgeftError for layers that the model has not.
    """
    # AdamW's steps are smaller than what bfloat16 resolves: weights that are trained are float32.
    dtype = torch.float32 if config.method == "full" else compute_dtype(device)
    if config.quantized:
        model = load_quantized(checkpoint, device, config.quantization)
    else:
        model = load_model(checkpoint, device, dtype)
    if config.method == "full":
        return set_all_trainable(model)
    if config.method == "ia3":
        return add_ia3(model, config.ia3)
    adapted = add_lora(
        model,
        config.lora,
        dora=config.method in ("dora", "qdora"),
        trained_ids=trained_ids,
        gradient_checkpointing=recompute,
        prepare=prepare and config.quantized,
    )
    if config.lora.init in MOVED_STARTS:
        start_adapter(adapted, checkpoint, config.lora.init, out / _AS_TRAINED / _START, progress)
    return adapted


def save_trained(model: Any, config: TrainConfig, dtype: torch.dtype, out: Path) -> Adapter | Checkpoint:
    """Writes the folder `out`: a peft adapter, or, where every weight was trained, a checkpoint in `dtype`, without
    tokenizer."""
    quantization = config.quantization.model_dump() if config.quantized else None
    record: dict[str, Any] = {"method": config.method, "init": config.lora.init, "quantization": quantization}
    if config.quantized:
        record["dtype"] = str(compute_dtype(model.device.type)).removeprefix("torch.")
    write_json(out / METHOD_RECORD, record)
    if config.method == "full":
        model.to(dtype).save_pretrained(str(out))
        return Checkpoint.open(out)
    moved = config.method in ("qlora", "lora") and config.lora.init in MOVED_STARTS
    folder = out / _AS_TRAINED if moved else out
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card; the manifest says more
    if moved:
        save_difference(folder, folder / _START, out)
    return Adapter.open(out)


def load_adapted(checkpoint: Checkpoint, trained: Adapter | Checkpoint, device: Device) -> PreTrainedModel:
    """Loads the model as it was trained, in evaluation mode: over a quantized base, where it was one.

    An adapter that edgeft has not trained is put on a base in double-quantized NF4. Raises EdgeftError for a
    record of training that is none.
    """
    if isinstance(trained, Checkpoint):
        return load_model(trained, device, compute_dtype(device))
    from peft import PeftModel

    rounding = rounding_of(trained)
    if rounding is None:
        base = load_model(checkpoint, device, compute_dtype(device))
    else:
        base = load_quantized(checkpoint, device, rounding.quantization)
    folder = trained.path / _AS_TRAINED
    if not folder.is_dir():
        with safe_open(trained.weights_path, framework="pt") as file:
            trained.require_named_as_peft(file.keys())
        model = PeftModel.from_pretrained(base, str(trained.path))
    else:
        model = PeftModel.from_pretrained(base, str(folder))
        fold_start(model, checkpoint, read_object(trained.path / METHOD_RECORD)["init"], folder / _START)
        model.load_adapter(str(folder), "default")
    model.eval()
    return cast("PreTrainedModel", model)

"""Starts of a LoRA adapter that are taken from the base's weights: PiSSA, OLoRA and LoftQ.

A plain adapter starts as nothing: B is zero. These start as a part s B0 A0 of the weights (PiSSA: Meng et al. 2024;
OLoRA: Büyükakyüz 2024), which is taken out of the base, W - s B0 A0, before that is quantized, or as what quantizing
the base has lost (LoftQ: Li et al. 2023). Either way the weights that the training started from are W, as nearly as can
be, and what it has learned is s B A - s B0 A0. So that is what is saved: a plain LoRA of twice the rank, [B, -B0] over
[A; A0], for the base as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file

from edgeft.artifacts import Checkpoint
from edgeft.errors import EdgeftError
from edgeft.files import read_object, replacing, write_json
from edgeft.hf.models import load_model
from edgeft.progress import Progress, silent

if TYPE_CHECKING:
    from bitsandbytes.nn import Linear4bit, Params4bit
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel

PEFT_STARTS = {"default": True, "gaussian": "gaussian"}
"""peft's names of the others, which leave the base as it is."""

_ADAPTER = "default"
_PREFIX = "base_model.model."


def start_adapter(
    model: PeftModel, checkpoint: Checkpoint, init: str, path: Path | None = None, progress: Progress = silent
) -> None:
    """Gives a fresh adapter such a start, and the base what is left; raises EdgeftError for layers that are not linear.

    With a `path` the start is written there, or taken from there where an earlier run has left it, so that a resumed
    training goes on from the same base.
    """
    layers = dict(_lora_layers(model))
    if path is not None and path.is_file():
        fold_start(model, checkpoint, init, path)
        return
    originals = _originals(model, checkpoint)
    tensors: dict[str, torch.Tensor] = {}
    for done, (name, layer) in enumerate(layers.items()):
        progress(done, len(layers), f"{init}: {name.rpartition('.')[2]}")
        original = originals(name)
        a, b = _factors(init, original, layer)
        _set_start(layer, original, a, b, init)
        tensors |= {f"{name}.lora_A": a.cpu().contiguous(), f"{name}.lora_B": b.cpu().contiguous()}
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file(tensors, partial)


def fold_start(model: PeftModel, checkpoint: Checkpoint, init: str, path: Path) -> None:
    """Gives an adapter, and its base, the start that `start_adapter` has written."""
    start = load_file(path)
    originals = _originals(model, checkpoint)
    for name, layer in _lora_layers(model):
        original = originals(name)
        a, b = (start[f"{name}.lora_{half}"].to(original.device) for half in "AB")
        _set_start(layer, original, a, b, init)


def save_difference(trained: Path, start: Path, out: Path) -> None:
    """Writes the adapter folder `out`: what the adapter in `trained` has learned since its start, a plain LoRA."""
    begun = load_file(start)
    tensors = load_file(trained / "adapter_model.safetensors")
    for name in {key.rpartition(".")[0] for key in begun}:
        a, b = (f"{_PREFIX}{name}.lora_{half}.weight" for half in "AB")
        tensors[a] = torch.cat([tensors[a], begun[f"{name}.lora_A"]])
        tensors[b] = torch.cat([tensors[b], -begun[f"{name}.lora_B"]], dim=1)
    with replacing(out / "adapter_model.safetensors") as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    config = read_object(trained / "adapter_config.json")
    factor = math.sqrt(2) if config["use_rslora"] else 2  # alpha / rank, or alpha / sqrt(rank), stays what it is
    write_json(out / "adapter_config.json", config | _widened(config, factor))


def _widened(config: Mapping[str, Any], factor: float) -> dict[str, Any]:
    return {
        "r": config["r"] * 2,
        "lora_alpha": config["lora_alpha"] * factor,
        "rank_pattern": {name: rank * 2 for name, rank in config["rank_pattern"].items()},
        "alpha_pattern": {name: alpha * factor for name, alpha in config["alpha_pattern"].items()},
    }


def _lora_layers(model: PeftModel) -> Iterator[tuple[str, LoraLayer]]:
    """Yields the adapted linear layers by the base's names."""
    from peft.tuners.lora import LoraLayer

    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            if not isinstance(module.base_layer, torch.nn.Linear):
                what = f"{name} is no linear layer, which this start needs"
                raise EdgeftError(what, "train.lora.init", "name linear layers alone as targets, or start by default")
            yield name, module


def _originals(model: PeftModel, checkpoint: Checkpoint) -> Callable[[str], torch.Tensor]:
    """Returns what gives a layer's weights as they were before quantization, (n_out, n_in), float32."""
    from bitsandbytes.nn import Linear4bit

    base = cast("PreTrainedModel", model.get_base_model())
    if not any(isinstance(module, Linear4bit) for module in base.modules()):
        return lambda name: _base_layer(base.get_submodule(name)).weight.detach().float()
    source = load_model(checkpoint, "cpu", "auto")
    return lambda name: cast(torch.nn.Linear, source.get_submodule(name)).weight.detach().to(base.device).float()


def _base_layer(layer: Any) -> torch.nn.Linear:
    return cast(torch.nn.Linear, layer.base_layer)


@torch.no_grad()
def _factors(init: str, weight: torch.Tensor, layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns A, (rank, n_in), and B, (n_out, rank), at the start."""
    rank, scale = int(layer.r[_ADAPTER]), float(layer.scaling[_ADAPTER])
    if init == "olora":
        q, r = torch.linalg.qr(weight)
        return r[:rank], q[:, :rank]
    if init == "loftq":
        from bitsandbytes.functional import dequantize_4bit

        base = _base_layer(layer)
        state = cast(Any, base.weight).quant_state
        weight = weight - dequantize_4bit(base.weight.data, state).reshape(weight.shape).float()
    if "_niter_" in init:
        u, s, v = torch.svd_lowrank(weight, rank, niter=int(init.rpartition("_")[2]))
        vh = v.t()
    else:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root


@torch.no_grad()
def _set_start(layer: LoraLayer, original: torch.Tensor, a: torch.Tensor, b: torch.Tensor, init: str) -> None:
    from bitsandbytes.nn import Linear4bit

    for halves, half in ((layer.lora_A, a), (layer.lora_B, b)):
        weight = cast(torch.nn.Parameter, cast(torch.nn.Linear, halves[_ADAPTER]).weight)
        weight.data = half.to(weight.device, torch.float32, copy=True).contiguous()
    if init == "loftq":
        return
    base = _base_layer(layer)
    left = original - float(layer.scaling[_ADAPTER]) * (b @ a)
    if isinstance(base, Linear4bit):
        base.weight = _quantized(base, left)
    else:
        base.weight.data = left.to(base.weight.dtype)


def _quantized(layer: Linear4bit, weight: torch.Tensor) -> Params4bit:
    """Quantizes other weights as a layer's are."""
    from bitsandbytes.nn import Params4bit

    old = cast(Any, layer.weight)
    fresh = Params4bit(
        weight.to(old.quant_state.dtype),
        requires_grad=False,
        quant_type=old.quant_type,
        blocksize=old.blocksize,
        compress_statistics=old.compress_statistics,
        quant_storage=old.quant_storage,
        module=layer,
        bnb_quantized=False,
    )
    return cast(Params4bit, fresh.to(old.device))

"""Several LoRA adapters made into one by peft's own `add_weighted_adapter`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from edgeft.artifacts import Adapter
from edgeft.device import Device
from edgeft.hf.lora_files import Layers
from edgeft.hf.models import seed_everything
from edgeft.hf.streamed import empty_model
from edgeft.progress import Progress, silent

if TYPE_CHECKING:
    from peft import LoraConfig

HalvesMethod = Literal["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
"""Methods that combine the As and the Bs apart, which need equal ranks."""
ProductMethod = Literal["svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"]
"""Methods that combine the products, and take the nearest of a rank."""
CombineMethod = Literal[HalvesMethod, ProductMethod, "cat"]

HALVES_METHODS: tuple[str, ...] = get_args(HalvesMethod)
COMBINE_METHODS: tuple[str, ...] = get_args(CombineMethod)

_COMBINED = "default"  # the name whose files peft writes into the folder itself
_STORED = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Combining:
    """How adapters are combined: `density` is the share of values that ties, dare and magnitude_prune keep, `rank` that
    of the methods by products (unset: the largest of the adapters), `seed` that of dare's choice."""

    how: CombineMethod
    weights: Sequence[float]
    density: float | None = None
    rank: int | None = None
    seed: int = 0


def combine_lora(
    config_json: Mapping[str, Any],
    adapters: Sequence[tuple[Adapter, Collection[str]]],
    layers: Layers,
    combining: Combining,
    device: Device,
    out: Path,
    progress: Progress = silent,
) -> None:
    """Writes the folder `out`: one LoRA of the adapters, each given with the names of its modules.

    The base's own weights are not needed, and take no memory.
    """
    from peft import PeftModel

    model = _weightless(config_json, device)
    names = [f"adapter {number}" for number in range(len(adapters))]
    wrapped: Any = None
    for done, (name, (adapter, modules)) in enumerate(zip(names, adapters, strict=True)):
        progress(done, len(names) + 1, adapter.path.name)
        config = _exact(adapter, modules)
        if wrapped is None:
            wrapped = PeftModel.from_pretrained(model, str(adapter.path), name, config=config)
        else:
            wrapped.load_adapter(str(adapter.path), name, config=config, torch_device=device)
    progress(len(names), len(names) + 1, combining.how)
    # The combined one's alpha is its rank, in the first one's configuration: by rsLoRA's rule that would be a scale.
    wrapped.peft_config[names[0]].use_rslora = False
    seed_everything(combining.seed)
    with torch.no_grad():
        wrapped.add_weighted_adapter(
            names,
            list(combining.weights),
            _COMBINED,
            combination_type=combining.how,
            svd_rank=combining.rank,
            svd_full_matrices=False,
            density=combining.density,
        )
    wrapped.peft_config[_COMBINED].target_modules = layers.shortest({m for _, modules in adapters for m in modules})
    wrapped.save_pretrained(str(out), selected_adapters=[_COMBINED], save_embedding_layers=False)
    for path in out.iterdir():
        if path.name not in _STORED:
            path.unlink()
    progress(len(names) + 1, len(names) + 1)


def _weightless(config_json: Mapping[str, Any], device: Device) -> torch.nn.Module:
    """Returns a model whose every weight is one zero in float32, seen as a tensor of its shape."""
    model = empty_model(config_json)
    zero = torch.zeros((), device=device)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(zero.expand(parameter.shape), requires_grad=False))
    return model


def _exact(adapter: Adapter, modules: Collection[str]) -> LoraConfig:
    """Returns an adapter's configuration with its modules by their whole names, whatever chose them.

    So what `layers_to_transform` or a pattern left out of one adapter is not left out of the combined one.
    """
    from peft import LoraConfig

    config: LoraConfig = LoraConfig.from_pretrained(str(adapter.path))
    config.target_modules = set(modules)
    config.layers_to_transform = config.layers_pattern = config.exclude_modules = None
    config.init_lora_weights = True
    return config

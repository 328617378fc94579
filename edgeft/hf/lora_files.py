"""Where a LoRA fits on a model, and the configuration file of an adapter that was computed rather than trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeft.hf.streamed import empty_model


@dataclass(frozen=True)
class Layers:
    """The modules of a model, by name.

    Attributes:
        linear: those that take a LoRA, but the output matrix; whether their weight is stored as (in, out), as GPT-2's.
        leaves: those with parameters and no modules in them, which an adapter can hold whole (`modules_to_save`).
    """

    linear: Mapping[str, bool]
    leaves: frozenset[str]

    def shortest(self, chosen: Collection[str]) -> list[str]:
        """Returns names for `target_modules`: the last part of a name where all modules of that name are chosen."""
        last = {name: name.rpartition(".")[2] for name in self.leaves | self.linear.keys() | set(chosen)}
        others = {last[name] for name in last.keys() - set(chosen)}
        return sorted({name if last[name] in others else last[name] for name in chosen})


def model_layers(config_json: Mapping[str, Any]) -> Layers:
    """Returns the modules of the model of a config.json."""
    from transformers.pytorch_utils import Conv1D

    model = empty_model(config_json)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    kinds = (torch.nn.Linear, Conv1D)
    linear = {n: isinstance(m, Conv1D) for n, m in model.named_modules() if isinstance(m, kinds) and m is not head}
    with_parameters = {name.rpartition(".")[0] for name, _ in model.named_parameters(remove_duplicate=False)}
    inner = {name for name, module in model.named_modules() if next(module.children(), None) is not None}
    return Layers(linear, frozenset(with_parameters - inner))


def write_lora_config(out: Path, base_name: str, targets: Collection[str], rank: int, **settings: Any) -> None:
    """Writes adapter_config.json of a LoRA whose products are added as they are: alpha is the rank.

    `settings` go to peft's LoraConfig.
    """
    from peft import LoraConfig

    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        target_modules=list(targets),
        r=rank,
        lora_alpha=rank,
        inference_mode=True,
        **settings,
    )
    config.save_pretrained(str(out))

"""A plan in the making: what the files of the families write down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.plan import Change, Plan, PlannedTensor, unchanged

VISION = r"(model\.)?(vision_tower|multi_modal_projector)\..*"
"""What a model that sees has beside its text model, for `Draft.ignore`."""


class Draft:
    """Collects the keys and tensors of one file, with the sizes that nearly every family needs.

    `blocks`, `vocab`, `hidden`, `heads`, `kv_heads` and `head_dim` come from config.json.
    """

    def __init__(self, config: ConfigFields, arch: MODEL_ARCH) -> None:
        self.config = config
        self.blocks = config.count("num_hidden_layers")
        self.vocab = config.count("vocab_size")
        self.hidden = config.count("hidden_size")
        self.heads = config.count("num_attention_heads")
        self.kv_heads = config.count("num_key_value_heads", self.heads)
        self.head_dim = config.count("head_dim", max(self.hidden // self.heads, 1))
        self._arch = arch
        self._keys: dict[str, Any] = {}
        self._tensors: list[PlannedTensor] = []
        self._generated: dict[str, torch.Tensor] = {}
        self._ignored: list[str] = []

    def key(self, key: str, value: Any) -> None:
        """Sets one key, `{arch}` in it filled in. The value's Python type gives the type in the file: int is uint32."""
        self._keys[key.format(arch=MODEL_ARCH_NAMES[self._arch])] = value

    def tensor(
        self, source: str, name: str, shape: tuple[int, ...], make: Change | None = None, *, optional: bool = False
    ) -> None:
        """Adds a tensor made from one of the checkpoint's, which has this shape; `make` keeps the shape."""
        self._tensors.append(PlannedTensor(name, shape, {source: shape}, make or unchanged, optional))

    def made(self, sources: Mapping[str, tuple[int, ...]], name: str, shape: tuple[int, ...], make: Change) -> None:
        """Adds a tensor of this shape, made from several of the checkpoint's or from one of another shape."""
        self._tensors.append(PlannedTensor(name, shape, sources, make))

    def linear(
        self, source: str, name: str, outputs: int, inputs: int, make: Change | None = None, *, bias: bool = False
    ) -> None:
        """Adds the weight (outputs, inputs) of a linear layer, and its bias where it has one."""
        self.tensor(f"{source}.weight", f"{name}.weight", (outputs, inputs), make)
        if bias:
            self.tensor(f"{source}.bias", f"{name}.bias", (outputs,), make)

    def generate(self, name: str, tensor: torch.Tensor) -> None:
        """Adds a float32 tensor that no tensor of the checkpoint is needed for."""
        self._generated[name] = tensor

    def ignore(self, *patterns: str) -> None:
        """Leaves tensors out whose whole names match one of these regular expressions."""
        self._ignored += patterns

    def plan(self) -> Plan:
        """Returns the plan; raises EdgeftError with everything that is wrong with config.json."""
        self.config.check()
        return Plan(self._arch, self.vocab, self._keys, self._tensors, self._generated, "|".join(self._ignored))

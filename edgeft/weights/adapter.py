"""A peft adapter's files, by module: which tensors it has for each, and what its configuration says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from edgeft.artifacts import Adapter, plain_name
from edgeft.errors import EdgeftError, Problem

_PREFIX = "base_model.model."
_KINDS = ("LORA", "IA3", "TRAINABLE_TOKENS")
# What changes the base's weights at the start of training, so that the saved halves alone do not say what was trained.
_MUTATED_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
_UNMERGEABLE = {
    "alora_invocation_tokens": "it acts on a part of the tokens only",
    "arrow_config": "it routes by token",
    "layer_replication": "it repeats layers of the base",
    "use_bdlora": "its blocks are not covered",
    "kasa_config": "its updates are no plain products",
    "use_qalora": "its input is pooled",
}
# How peft names what it saves (peft.utils.save_and_load), the adapter's name taken out; the first match holds.
_PATTERNS = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        ("lora_{0}", r"(?P<module>.+)\.lora_(?:embedding_)?(?P<which>[AB])(?:\.weight)?"),
        ("lora_bias", r"(?P<module>.+)\.lora_B\.bias"),
        ("magnitude", r"(?P<module>.+)\.lora_magnitude_vector(?:\.weight)?"),
        ("ia3", r"(?P<module>.+)\.ia3_l"),
        ("tokens", r"(?P<module>.+?)(?:\.token_adapter)?\.trainable_tokens_delta"),
        ("replaced", r"(?P<module>.+)\.original_module\.(?:weight|bias)"),
        ("saved_{0}", r"(?P<module>.+?)(?:\.base_layer|\.modules_to_save)?\.(?P<which>weight|bias)"),
        ("saved_parameter", r"(?P<module>.+\.experts\.(?:gate_up_proj|down_proj))"),
    )
)


@dataclass
class ModuleTensors:
    """The adapter's tensors of one module by what they are (`lora_A`, `ia3`, `tokens`...), as keys of the file.

    `embedding` tells the halves of an embedding's update, which peft stores transposed.
    """

    name: str
    keys: dict[str, str] = field(default_factory=dict)
    embedding: bool = False


class AdapterTensors:
    """An adapter's configuration and tensors. Tensors are mapped from the file and read when they are asked for.

    `problems` holds what makes it impossible to merge, whatever the base; raises EdgeftError for a file that cannot be
    read at all.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.path = adapter.path / "adapter_model.safetensors"
        self.config = adapter.config()
        where = str(adapter.path / "adapter_config.json")
        if malformed := [Problem(what, where, "copy the adapter again") for what in _malformed(self.config)]:
            raise EdgeftError(malformed)
        self.problems = [Problem(what, str(adapter.path), remedy) for what, remedy in _unmergeable(self.config)]
        self.modules: dict[str, ModuleTensors] = {}
        try:
            self._file = safe_open(self.path, framework="pt")
            for key in self._file.keys():  # type: ignore[no-untyped-call] # noqa: SIM118 (safe_open is no mapping)
                self._sort(key)
        except (OSError, SafetensorError) as error:
            raise EdgeftError(f"cannot be read: {error}", str(self.path), "copy the adapter again") from error
        self.problems += [Problem(what, str(self.path), "copy the adapter again") for what in self._missing()]

    def name_as(self, names: Iterable[str]) -> None:
        """Names the modules of a text model as these tensors of the base, which may have it under another prefix."""
        actual = {plain_name(name).rpartition(".")[0]: name.rpartition(".")[0] for name in names}
        for module in self.modules.values():
            module.name = actual.get(plain_name(module.name), module.name)
        self.modules = {module.name: module for module in self.modules.values()}

    def _sort(self, key: str) -> None:
        name = key.removeprefix(_PREFIX)
        for part, pattern in _PATTERNS:
            if match := pattern.fullmatch(name):
                module = self.modules.setdefault(match["module"], ModuleTensors(match["module"]))
                module.keys[part.format(match.groupdict().get("which"))] = key
                module.embedding |= ".lora_embedding_" in key
                return
        self.problems.append(Problem("this tensor belongs to no method that can be merged", f"{self.path}: {name}"))

    def _missing(self) -> Iterator[str]:
        """Yields what the configuration promises and the file does not hold."""
        kind, dora = self.config.get("peft_type"), bool(self.config.get("use_dora"))
        parts = {"LORA": "lora_A", "IA3": "ia3", "TRAINABLE_TOKENS": "tokens"}
        if kind in parts and not any(parts[kind] in module.keys for module in self.modules.values()):
            yield f"an adapter of type {kind} without a tensor of it"
        for module in self.modules.values():
            if "lora_A" in module.keys and dora != ("magnitude" in module.keys):
                yield f"{module.name}: use_dora is {str(dora).lower()}, and the file says otherwise"
        for name in self.config.get("modules_to_save") or ():
            if not any(f".{module}.".find(f".{name}.") >= 0 for module in self.modules):
                yield f"modules_to_save names {name}, and the file holds nothing of it"

    def read(self, key: str) -> torch.Tensor:
        """Returns one tensor, as stored."""
        tensor: torch.Tensor = self._file.get_tensor(key)  # type: ignore[no-untyped-call]
        return tensor

    def shape(self, key: str) -> tuple[int, ...]:
        """Returns the shape of one tensor, unread."""
        return tuple(self._file.get_slice(key).get_shape())  # type: ignore[no-untyped-call]

    def rank(self, parameter: str) -> int:
        """Returns the rank that the configuration gives a module, or an expert parameter."""
        return int(_by_pattern(parameter, self.config.get("rank_pattern") or {}, self.config["r"]))

    def scale(self, parameter: str) -> float:
        """Returns alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023), with peft's patterns."""
        rank = self.rank(parameter)
        alpha = _by_pattern(parameter, self.config.get("alpha_pattern") or {}, self.config["lora_alpha"])
        return float(alpha / (rank**0.5 if self.config.get("use_rslora") else rank))

    def token_indices(self, module: str) -> tuple[int, ...]:
        """Returns the ids whose rows were trained in a module."""
        indices = self.config.get("trainable_token_indices") or self.config.get("token_indices") or []
        if isinstance(indices, dict):
            indices = next((ids for name, ids in indices.items() if f".{module}".endswith(f".{name}")), [])
        return tuple(indices)

    def targets_parameter(self, parameter: str) -> bool:
        """Returns whether `target_parameters` names this parameter, as peft matches it."""
        names = self.config.get("target_parameters") or ()
        return any(f".{parameter}".endswith(f".{name}") for name in names)


def _malformed(config: dict[str, Any]) -> Iterator[str]:
    """Yields what in the configuration has a type with which nothing can be computed."""
    kind = config.get("peft_type")
    for key in ("r", "lora_alpha"):
        if kind == "LORA" and not _is_number(config.get(key)):
            yield f"{key}: {config.get(key)!r} is no positive number"
    for key in ("rank_pattern", "alpha_pattern"):
        table = config.get(key) or {}
        if not isinstance(table, dict) or not all(map(_is_number, table.values())):
            yield f"{key}: {table!r} is no table of positive numbers"
            continue
        for pattern in table:
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"{key}: {pattern!r} is no regular expression: {error}"
    for key in ("modules_to_save", "target_parameters"):
        names = config.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            yield f"{key}: {names!r} is no list of names"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _unmergeable(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kind = config.get("peft_type")
    if kind not in _KINDS:
        yield f"adapters of type {kind} cannot be merged", f"types that can: {', '.join(_KINDS)}"
    for key, why in _UNMERGEABLE.items():
        if config.get(key):
            yield f"an adapter with {key} cannot be merged: {why}", "train without it"
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_MUTATED_STARTS):
        what = f"it was started with {start}, which changes the base's weights, and not converted to a plain LoRA"
        yield what, "save it with peft's path_initial_model_for_weight_conversion"


def _by_pattern(parameter: str, patterns: dict[str, float], default: float) -> float:
    """Returns the value of the first pattern that matches the end of the name, as peft does (`get_pattern_key`)."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", parameter):
            return value
    return default

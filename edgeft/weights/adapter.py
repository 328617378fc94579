"""An adapter's files, by module: which tensors it has for each, and what its configuration says of them.

peft's are read, and mlx-lm's, whose halves are transposed and whose scale is given as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
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
# Every option of peft 0.21's configurations of these kinds; a test holds the list to peft's own.
KNOWN_OPTIONS = {
    *("alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path"),
    *("bias", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out"),
    *("feedforward_modules", "inference_mode", "init_ia3_weights", "init_lora_weights", "init_weights"),
    *("kasa_config", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config"),
    *("lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core"),
    *("modules_to_save", "monteclora_config", "peft_type", "peft_version", "qalora_group_size", "r"),
    *("rank_pattern", "revision", "runtime_config", "target_modules", "target_parameters", "task_type"),
    *("token_indices", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora", "use_rslora"),
    "velora_config",
}
# What training wraps modules in: torch.compile, FSDP, recomputation. A whole model is wrapped as `module` by DDP.
_WRAPPER = re.compile(r"(?:^module\.)|(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# peft takes an adapter's name out of its keys when it saves; a state_dict that is saved by itself has it.
_ADAPTER_NAME = re.compile(
    r"\.(lora_(?:embedding_)?[AB]|lora_magnitude_vector|ia3_l|trainable_tokens_delta|modules_to_save)"
    r"\.(?!weight$|bias$)(\w+)"
)
_MLX_HALVES = re.compile(r"(?P<module>.+)\.(?P<part>lora_[ab]|m)")
_MAX_NAMED = 3
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
        self.path = adapter.weights_path
        where = str(adapter.path / "adapter_config.json")
        self._is_peft = adapter.is_peft
        self.config = adapter.config() if adapter.is_peft else _mlx_config(adapter.config(), where)
        if malformed := [Problem(what, where, "copy the adapter again") for what in _malformed(self.config)]:
            raise EdgeftError(malformed)
        self.problems = [Problem(what, str(adapter.path), remedy) for what, remedy in _unmergeable(self.config)]
        self.modules: dict[str, ModuleTensors] = {}
        self._adapter_names: set[str] = set()
        try:
            self._file = safe_open(self.path, framework="pt")
            for key in self._file.keys():  # type: ignore[no-untyped-call] # noqa: SIM118 (safe_open is no mapping)
                self._sort(key)
        except (OSError, SafetensorError) as error:
            raise EdgeftError(f"cannot be read: {error}", str(self.path), "copy the adapter again") from error
        if damaged := list(self._damaged()):
            raise EdgeftError(damaged)
        if len(self._adapter_names) > 1:
            what = f"it holds several adapters: {', '.join(sorted(self._adapter_names))}"
            self.problems.append(Problem(what, str(self.path), "save each in a folder of its own"))
        self.problems += [Problem(what, str(self.path), "copy the adapter again") for what in self._missing()]

    @property
    def keys(self) -> list[str]:
        """The names of all tensors, as the file has them."""
        return [key for module in self.modules.values() for key in module.keys.values()]

    def name_as(self, names: Iterable[str]) -> None:
        """Names the modules of a text model as these tensors of the base, which may have it under another prefix."""
        actual = {plain_name(name).rpartition(".")[0]: name.rpartition(".")[0] for name in names}
        for module in self.modules.values():
            module.name = actual.get(plain_name(module.name), module.name)
        self.modules = {module.name: module for module in self.modules.values()}

    def without_effect(self) -> list[str]:
        """Returns the modules whose update is zero, as that of a LoRA is before its first step."""
        return [
            module.name
            for module in self.modules.values()
            if {"lora_A", "lora_B"} <= module.keys.keys()
            and not {"magnitude", "lora_bias"} & module.keys.keys()
            and not all(bool(self.read(module.keys[half]).any()) for half in ("lora_A", "lora_B"))
        ]

    def _damaged(self) -> Iterator[Problem]:
        """Yields what no base can be changed by: tensors that are empty, and values that are no numbers."""
        if empty := [key for key in self.keys if 0 in self.shape(key)]:
            what = f"{_some(empty)} that are empty: DeepSpeed ZeRO-3 saves weights so that it has not gathered"
            remedy = "save it again from the training's checkpoint, with stage3_gather_16bit_weights_on_model_save"
            yield Problem(what, str(self.path), remedy)
            return
        parts = (item for module in self.modules.values() for item in module.keys.items())
        if flat := [key for part, key in parts if part in ("lora_A", "lora_B") and len(self.shape(key)) < 2]:
            yield Problem(f"{_some(flat)} with one dimension, where a matrix is expected", str(self.path))
        if broken := [key for key in self.keys if not bool(torch.isfinite(self.read(key)).all())]:
            what = f"{_some(broken)} with values that are NaN or infinite: the training has diverged"
            yield Problem(what, str(self.path), "take an earlier checkpoint, or train again at a lower learning rate")

    def _sort(self, key: str) -> None:
        if not self._is_peft:
            self._sort_mlx(key)
            return
        name = _WRAPPER.sub("", key).removeprefix(_PREFIX)
        name = _WRAPPER.sub("", name)
        if named := _ADAPTER_NAME.search(name):
            self._adapter_names.add(named[2])
            name = _ADAPTER_NAME.sub(r".\1", name)
        for part, pattern in _PATTERNS:
            if match := pattern.fullmatch(name):
                module = self.modules.setdefault(match["module"], ModuleTensors(match["module"]))
                module.keys[part.format(match.groupdict().get("which"))] = key
                module.embedding |= ".lora_embedding_" in key
                return
        self.problems.append(Problem("this tensor belongs to no method that can be merged", f"{self.path}: {name}"))

    def _sort_mlx(self, key: str) -> None:
        match = _MLX_HALVES.fullmatch(key)
        if match is None or len(self.shape(key)) > 2:
            self.problems.append(Problem("this tensor of mlx-lm belongs to no linear layer", f"{self.path}: {key}"))
            return
        part = {"lora_a": "lora_A", "lora_b": "lora_B", "m": "magnitude"}[match["part"]]
        self.modules.setdefault(match["module"], ModuleTensors(match["module"])).keys[part] = key

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
        """Returns one tensor as peft stores it."""
        tensor: torch.Tensor = self._file.get_tensor(key)  # type: ignore[no-untyped-call]
        return tensor if self._is_peft or tensor.ndim < 2 else tensor.mT.contiguous()

    def shape(self, key: str) -> tuple[int, ...]:
        """Returns the shape of one tensor as peft stores it, unread."""
        shape = tuple(self._file.get_slice(key).get_shape())  # type: ignore[no-untyped-call]
        return shape if self._is_peft else shape[::-1]

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

    def targets(self, module: str) -> bool:
        """Returns whether `target_modules` names this module, as peft matches it, and `exclude_modules` does not."""
        chosen, excluded = (self.config.get(key) for key in ("target_modules", "exclude_modules"))
        return (chosen == "all-linear" or _names(chosen, module)) and not _names(excluded, module)

    def targets_parameter(self, parameter: str) -> bool:
        """Returns whether `target_parameters` names this parameter, as peft matches it."""
        names = self.config.get("target_parameters") or ()
        return any(f".{parameter}".endswith(f".{name}") for name in names)


def _names(patterns: Any, module: str) -> bool:
    """Returns whether a regular expression, or one of a list of names, is a module's."""
    if isinstance(patterns, str):
        return re.fullmatch(patterns, module) is not None
    return any(f".{module}".endswith(f".{name}") for name in patterns or ())


def _some(keys: Sequence[str]) -> str:
    """Returns how many tensors there are, with the names of the first."""
    names = ", ".join(keys[:_MAX_NAMED]) + (", ..." if len(keys) > _MAX_NAMED else "")
    return f"{len(keys)} tensor{'s' * (len(keys) > 1)} ({names})"


def _mlx_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns mlx-lm's configuration in peft's words; raises EdgeftError for one that is no LoRA's."""
    kind, options = config.get("fine_tune_type", "lora"), config.get("lora_parameters")
    if kind not in ("lora", "dora") or not isinstance(options, dict):
        what = f"mlx-lm's fine_tune_type {kind!r} with lora_parameters {options!r} is no LoRA"
        raise EdgeftError(what, where, "give an adapter of mlx_lm.lora, or fuse it there: mlx_lm.fuse")
    rank: Any = options.get("rank")
    scale: Any = options.get("scale")
    if not (_is_number(rank) and _is_number(scale)):
        what = f"lora_parameters: rank {rank!r} and scale {scale!r} are no positive numbers"
        raise EdgeftError(what, where, "copy the adapter again")
    return {"peft_type": "LORA", "r": rank, "lora_alpha": scale * rank, "use_dora": kind == "dora"}


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
    for key in sorted(config.keys() - KNOWN_OPTIONS):
        if config[key]:
            what = f"the option {key} = {config[key]!r} is not known here, and may change what the weights mean"
            yield what, "merge it with the peft that trained it, or take the option out if it changes nothing"
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

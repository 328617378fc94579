"""Adapter tensors -> what becomes of each tensor of the base."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgeft.errors import Problem
from edgeft.weights.adapter import AdapterTensors, ModuleTensors
from edgeft.weights.checkpoint import TensorSpec
from edgeft.weights.updates import Added, LowRank, Rows, Scaled, Update

# Where transformers keeps all experts' matrices in one parameter, checkpoints have one tensor for each: the names of
# their modules, and the halves of the parameter's rows (transformers.conversion_mapping).
_EXPERTS = {
    ".mlp.experts": {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)},
    ".block_sparse_moe.experts": {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)},
}
_EXPERT_PARAMETERS = ("gate_up_proj", "down_proj")


@dataclass
class Changes:
    """By the base's tensor names: the updates in order, and the adapter's key of what takes the base's place."""

    updates: dict[str, list[Update]] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class ChangeReader:
    """Finds the base's tensors of an adapter's modules; what has none is in `changes.problems`."""

    def __init__(self, tensors: AdapterTensors, specs: Mapping[str, TensorSpec]) -> None:
        self._tensors = tensors
        self._specs = specs
        self.changes = Changes()
        for module in tensors.modules.values():
            self._read_module(module)

    def _read_module(self, module: ModuleTensors) -> None:
        if "saved_parameter" in module.keys:
            self._problem(module.name, "experts saved whole cannot be merged", "train them by target_parameters")
            return
        name, keys = module.name, module.keys
        for part in ("weight", "bias"):
            if key := keys.get(f"saved_{part}"):
                self._save(f"{name}.{part}", key)
        halves = keys.keys() & {"lora_A", "lora_B"}
        if len(halves) == 1:
            self._problem(name, f"this update has no {'lora_B' if 'lora_A' in halves else 'lora_A'}")
        elif halves and self._is_experts(name):
            self._add_experts(module)
        elif halves:
            self._add_low_rank(module)
        if "ia3" in keys:
            self._add_ia3(module)
        if "tokens" in keys:
            indices, rows = self._tensors.token_indices(name), self._tensors.read(keys["tokens"])
            if len(indices) != len(rows):
                self._problem(name, f"{len(rows)} rows are trained and the configuration names {len(indices)} tokens")
            else:
                self._add(f"{name}.weight", Rows(indices, rows))

    def _add_low_rank(self, module: ModuleTensors) -> None:
        name, keys = module.name, module.keys
        a, b = self._tensors.read(keys["lora_A"]), self._tensors.read(keys["lora_B"])
        # peft's patterns match the parameter's name where target_parameters names it.
        matched = f"{name}.weight" if self._tensors.targets_parameter(f"{name}.weight") else name
        if not self._rank_holds(name, a.shape[0], b.shape[1], self._tensors.rank(matched)):
            return
        scale = self._tensors.scale(matched)
        magnitude = self._tensors.read(keys["magnitude"]) if "magnitude" in keys else None
        transposed = module.embedding or self._is_transposed(f"{name}.weight", (b.shape[0], a.shape[1]))
        left, right = (a.T, b.T) if transposed else (b, a)
        self._add(f"{name}.weight", LowRank(left, right, scale, magnitude, by_columns=transposed))
        if "lora_bias" in keys:
            self._add(f"{name}.bias", Added(self._tensors.read(keys["lora_bias"]), scale))

    def _add_ia3(self, module: ModuleTensors) -> None:
        factor = self._tensors.read(module.keys["ia3"])
        transposed = bool(self._tensors.config.get("fan_in_fan_out"))
        self._add(f"{module.name}.weight", Scaled(factor.T if transposed else factor))
        bias = f"{module.name}.bias"
        if factor.shape[1] == 1 and bias in self._specs:  # outputs are scaled, and with them the bias
            self._add(bias, Scaled(factor.flatten()))

    def _is_transposed(self, name: str, shape: tuple[int, int]) -> bool:
        """Whether a weight is stored as (in, out), as GPT-2's are. `fan_in_fan_out` alone does not say: it is kept for
        the whole adapter, where single layers may differ."""
        spec = self._specs.get(name)
        fits, fits_transposed = (spec is not None and spec.shape == size for size in (shape, shape[::-1]))
        return fits_transposed and (not fits or bool(self._tensors.config.get("fan_in_fan_out")))

    # Experts

    def _is_experts(self, name: str) -> bool:
        return name.removesuffix(".base_layer").endswith(".experts")

    def _add_experts(self, module: ModuleTensors) -> None:
        """Adds the updates of all experts: A is (rank * experts, in), B (out, rank * experts), experts outermost in A
        and innermost in B (peft's `ParamWrapper`)."""
        inner = module.name.endswith(".base_layer")
        experts = module.name.removesuffix(".base_layer")
        targeted = [name for name in _EXPERT_PARAMETERS if self._tensors.targets_parameter(f"{experts}.{name}")]
        depth = len(targeted) - 1 if not inner else len(targeted) - 2
        if depth < 0 or (len(targeted) == 2) != (f"{experts}.base_layer" in self._tensors.modules):
            self._problem(module.name, "target_parameters does not name what this update belongs to")
            return
        parameter = targeted[depth]
        layout = self._expert_layout(experts)
        if layout is None:
            packed = f"{experts}.{parameter}" in self._specs
            what = (
                "the base's experts lie in one tensor, which is not covered"
                if packed
                else "the base has no such experts"
            )
            self._problem(f"{experts}.{parameter}", what, "merge it with peft" if packed else "is this its base?")
            return
        path, names = layout
        rank, scale = self._tensors.rank(f"{experts}.{parameter}"), self._tensors.scale(f"{experts}.{parameter}")
        a, b = self._tensors.read(module.keys["lora_A"]), self._tensors.read(module.keys["lora_B"])
        n_experts = sum(1 for name in self._specs if _is_part(name, path, names[parameter][0]))
        if not self._rank_holds(module.name, a.shape[0], b.shape[1], rank * n_experts):
            return
        halves = b.chunk(len(names[parameter]), dim=0)
        for half, name in zip(halves, names[parameter], strict=True):
            for expert in range(n_experts):
                left = half.reshape(half.shape[0], rank, n_experts)[:, :, expert]
                right = a.reshape(n_experts, rank, a.shape[1])[expert]
                self._add(f"{path}.{expert}.{name}.weight", LowRank(left, right, scale))

    def _expert_layout(self, experts: str) -> tuple[str, Mapping[str, tuple[str, ...]]] | None:
        stem = experts.removesuffix(".mlp.experts")
        for suffix, names in _EXPERTS.items():
            if f"{stem}{suffix}.0.{names['down_proj'][0]}.weight" in self._specs:
                return stem + suffix, names
        return None

    # Into the base's names

    def _add(self, name: str, update: Update) -> None:
        for target in self._target(name):
            spec = self._specs[target]
            saved = self.changes.replaced.get(target)
            shape = spec.shape if saved is None else self._tensors.shape(saved)
            if not _fits(update.shape, shape):
                what = f"the adapter's update is {_shown(update.shape)}, the base's tensor is {shape}"
                self._problem(name, what, "is this the base it was trained on?")
            elif isinstance(update, Rows) and max(update.indices) >= shape[0]:
                self._problem(name, f"token {max(update.indices)} was trained, the base has {shape[0]}")
            else:
                self.changes.updates.setdefault(target, []).append(update)

    def _save(self, name: str, key: str) -> None:
        for target in self._target(name):
            shape, expected = self._tensors.shape(key), self._specs[target].shape
            rows_may_differ = len(shape) == 2 and is_vocabulary(target)
            if shape[rows_may_differ:] != expected[rows_may_differ:]:
                what = f"the adapter holds it as {shape}, the base as {expected}"
                self._problem(name, what, "is this the base it was trained on?")
            else:
                self.changes.replaced[target] = key

    def _target(self, name: str) -> Iterator[str]:
        """Yields the base's tensor of that name; notes a problem when it has none."""
        for candidate in (name, name.replace(".mlp.", ".block_sparse_moe.")):
            if candidate in self._specs:
                yield candidate
                return
        what, remedy = "the base has no such tensor", "is this its base?"
        if name.endswith(".bias"):
            what, remedy = "a bias was trained, and the base has none there", "train without biases"
        self._problem(name, what, remedy)

    def _rank_holds(self, name: str, rank_a: int, rank_b: int, expected: int) -> bool:
        if rank_a == rank_b == expected:
            return True
        what = f"its halves have ranks {rank_a} and {rank_b}, by the adapter's configuration it is {expected}"
        self._problem(name, what)
        return False

    def _problem(self, name: str, what: str, remedy: str = "") -> None:
        self.changes.problems.append(Problem(what, f"{self._tensors.path.parent}: {name}", remedy))


def _is_part(name: str, path: str, part: str) -> bool:
    return name.startswith(f"{path}.") and name.endswith(f".{part}.weight")


def is_vocabulary(name: str) -> bool:
    """Whether a tensor has a row for each token."""
    return name.split(".")[-2] in ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings")


def _fits(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    pairs = zip(wanted, shape, strict=False)
    return len(wanted) == len(shape) and all(size is None or size == other for size, other in pairs)


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," * (len(shape) == 1)) + ")"


_LAYER = re.compile(r"(?P<stem>(?:.+\.)?)(?P<layer>\d+)\.(?P<rest>\D.*)")
_SHARED_BETWEEN_LAYERS = ("k_proj", "v_proj")
_DRAFT = "eh_proj.weight"
"""In a layer that predicts more tokens at once (MTP), which transformers does not load."""


def lacking_updates(tensors: AdapterTensors, specs: Mapping[str, TensorSpec]) -> Iterator[Problem]:
    """Yields the layers of the base that an adapter's configuration targets and its file has no update of.

    Seen by layers: where one has an update of a matrix, all that are targeted have. Experts are one parameter in the
    model and many tensors in its files, and keys and values that layers share may be no modules: they are left out.
    So are layers that transformers does not load.
    """
    if tensors.config.get("peft_type") != "LORA":
        return
    updated = {module.name for module in tensors.modules.values() if "lora_A" in module.keys}
    places = [match.groupdict() for name in updated if (match := _LAYER.fullmatch(name))]
    stems, rests = {place["stem"] for place in places}, {place["rest"] for place in places}
    lacking: dict[str, list[str]] = {}
    for name, spec in specs.items():
        module = name.removesuffix(".weight")
        match = _LAYER.fullmatch(module)
        if match is None or module == name or len(spec.shape) != 2 or module in updated or match["stem"] not in stems:
            continue
        last, layers = match["rest"].rpartition(".")[2], tensors.config.get("layers_to_transform")
        layers = [layers] if isinstance(layers, int) else layers
        if ".experts." in module or (layers is not None and int(match["layer"]) not in layers):
            continue
        layer = f"{match['stem']}{match['layer']}"
        shared = last in _SHARED_BETWEEN_LAYERS and any(other.startswith(f"{layer}.") for other in updated)
        named = isinstance(tensors.config.get("target_modules"), list)
        wholly = named and not any(f".{rest}".endswith(f".{last}") for rest in rests)
        draft = f"{layer}.{_DRAFT}" in specs
        if (match["rest"] in rests or wholly) and not shared and not draft and tensors.targets(module):
            lacking.setdefault(layer, []).append(match["rest"])
    if lacking:
        layer, missing = next(iter(lacking.items()))
        what = (
            f"target_modules names {len(lacking)} layers that the file has no update of: {layer}: {', '.join(missing)}"
        )
        remedy = "a part of the training is lost: copy the adapter again, or save it again where it was trained"
        yield Problem(what, str(tensors.path), remedy)

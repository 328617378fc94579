"""Two checkpoints -> an adapter that makes one into the other, as nearly as its rank allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from edgeft import hf
from edgeft.artifacts import BASE_RECORD, Checkpoint
from edgeft.errors import EdgeftError, Problem
from edgeft.files import write_json
from edgeft.progress import Progress, silent
from edgeft.weights import CheckpointWeights, TensorSpec
from edgeft.weights.changes import is_vocabulary
from edgeft.weights.low_rank import nearest_product
from edgeft.weights.merged import find_tie
from edgeft.weights.saving import write_tensors

_PREFIX = "base_model.model."
# What older versions of transformers saved beside the weights, and only some of two checkpoints may have.
_NO_WEIGHTS = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attn.masked_bias", ".attention.bias", ".attn.bias")


@dataclass(frozen=True)
class ExtractedUpdate:
    """What a LoRA holds of one weight's change: `norm` of the change, and `error`, the share of it that is lacking."""

    name: str
    rank: int
    norm: float
    error: float


@dataclass(frozen=True)
class SavedTensor:
    """A tensor that the adapter holds whole, as the tuned checkpoint has it."""

    name: str
    size_bytes: int


@dataclass
class Extraction:
    """An adapter folder, and what of the tuned checkpoint is in it."""

    adapter: Path
    updates: list[ExtractedUpdate] = field(default_factory=list)
    saved: list[SavedTensor] = field(default_factory=list)

    @property
    def error(self) -> float:
        """The share of the norm of all extracted changes together that the LoRA lacks."""
        whole = sum(update.norm**2 for update in self.updates)
        lacking = sum((update.norm * update.error) ** 2 for update in self.updates)
        return float((lacking / whole) ** 0.5) if whole else 0.0


def extract_adapter(
    base: Checkpoint,
    tuned: Checkpoint,
    rank: int,
    out: Path,
    device: hf.Device = "cpu",
    progress: Progress = silent,
    base_name: str | None = None,
) -> Extraction:
    """Writes the folder `out`: a peft LoRA for `base` that gives the weights of `tuned`.

    The change of each linear layer becomes the nearest product of two matrices of that rank, float32, one layer in
    memory at a time; its scale is 1. What else was changed is held whole: embedding, output matrix and norms as
    `modules_to_save`, biases of linear layers as peft's `bias="all"`. `base_name` is what adapter_config.json calls the
    base; unset: its folder.
    Raises EdgeftError, before anything is written, for checkpoints that are the same, or whose tensors differ by name
    or shape, and for changes that no adapter holds: experts, and parameters that are no module's own.
    """
    pair, layers = _Pair(base, tuned), hf.model_layers(base.config())
    linear, others = _changed(pair, layers)
    tensors, made = _AdapterFile(pair), Extraction(out)
    for done, name in enumerate(linear):
        progress(done, len(linear), name)
        update = pair.update(f"{name}.weight")
        product = nearest_product(update.T if layers.linear[name] else update, rank, device)
        tensors.hold(f"{_PREFIX}{name}.lora_A.weight", product.right)
        tensors.hold(f"{_PREFIX}{name}.lora_B.weight", product.left)
        made.updates.append(ExtractedUpdate(f"{name}.weight", len(product.right), product.norm, product.error))
    biases = [name for name in others if name.removesuffix(".bias") in layers.linear]
    modules = sorted({name.rpartition(".")[0] for name in others if name not in biases})
    for name in [*biases, *(name for name in pair.names if name.rpartition(".")[0] in modules)]:
        tensors.take(f"{_PREFIX}{_saved_name(name, linear)}", name)
        made.saved.append(SavedTensor(name, pair.tuned.specs[name].size_bytes))
    out.mkdir(parents=True, exist_ok=True)
    _write_config(out, base_name or str(base.path), made.updates, layers, rank, modules, biases)
    write_tensors(tensors, tensors.specs, out / "adapter_model.safetensors")
    write_json(out / BASE_RECORD, {"fingerprint": pair.base.weights.fingerprint()})
    progress(len(linear), len(linear))
    return made


def _changed(pair: _Pair, layers: hf.Layers) -> tuple[list[str], list[str]]:
    """Returns the linear layers whose weight was changed, and the other tensors that were."""
    changed = [name for name in pair.names if pair.changed(name)]
    linear = [name.removesuffix(".weight") for name in changed if _is_linear(name, layers)]
    others = [name for name in changed if not _is_linear(name, layers)]
    where = str(pair.tuned.path)
    problems = [
        Problem(
            "it was changed, and an adapter cannot hold it: transformers has no module of this tensor alone",
            f"{where}: {name}",
            "use the tuned checkpoint as it is",
        )
        for name in others
        if name.rpartition(".")[0] not in layers.leaves
    ]
    if not linear:
        what = f"no linear layer was changed{', ' + ', '.join(others[:3]) + ' alone' if others else ''}"
        problems.append(Problem(what, where, "are these the two checkpoints?"))
    if problems:
        raise EdgeftError(problems)
    return linear, others


def _write_config(
    out: Path,
    base_name: str,
    updates: Sequence[ExtractedUpdate],
    layers: hf.Layers,
    rank: int,
    modules: Sequence[str],
    biases: Sequence[str],
) -> None:
    found = {update.name.removesuffix(".weight"): update.rank for update in updates}
    smaller = {name: size for name, size in found.items() if size != rank}
    hf.write_lora_config(
        out,
        base_name,
        layers.shortest(found),
        rank,
        rank_pattern=smaller,
        alpha_pattern=smaller,
        fan_in_fan_out=any(layers.linear[name] for name in found),
        modules_to_save=list(modules) or None,
        bias="all" if biases else "none",
    )


def _is_linear(name: str, layers: hf.Layers) -> bool:
    return name.endswith(".weight") and name.removesuffix(".weight") in layers.linear


def _saved_name(name: str, adapted: Sequence[str]) -> str:
    """Returns peft's name of a tensor that is held whole: in the layer that it wraps, where it does."""
    module, _, part = name.rpartition(".")
    return f"{module}.base_layer.{part}" if module in adapted else name


class _Side:
    """The tensors of one checkpoint; of a tied one the output matrix, too."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.path = checkpoint.path
        self.weights = CheckpointWeights(checkpoint)
        tie = find_tie(self.weights)
        self._sources = {} if tie is None else {tie.head: tie.embedding}
        own = {name: spec for name, spec in self.weights.specs.items() if not name.endswith(_NO_WEIGHTS)}
        self.specs = own | {head: own[source] for head, source in self._sources.items()}

    def read(self, name: str) -> torch.Tensor:
        return self.weights.read(self._sources.get(name, name))


class _Pair:
    """Two checkpoints with the same tensors; raises EdgeftError with all that differs by name or shape."""

    def __init__(self, base: Checkpoint, tuned: Checkpoint) -> None:
        self.base, self.tuned = _Side(base), _Side(tuned)
        self.names = list(self.base.specs)
        problems = [*_only_in(self.base, self.tuned), *_only_in(self.tuned, self.base)]
        for name in self.base.specs.keys() & self.tuned.specs.keys():
            shapes = self.base.specs[name].shape, self.tuned.specs[name].shape
            if shapes[0] != shapes[1]:
                remedy = "give the base that it was tuned from"
                if is_vocabulary(name):
                    remedy = "resize the base's vocabulary first (transformers' resize_token_embeddings)"
                what = f"its shape is {shapes[1]}, the base's {shapes[0]}"
                problems.append(Problem(what, f"{tuned.path}: {name}", remedy))
        if problems:
            raise EdgeftError(sorted(problems, key=lambda problem: problem.where))

    def changed(self, name: str) -> bool:
        """Whether a tensor is another than the base's in the type that the tuned checkpoint has it in."""
        tuned = self.tuned.read(name)
        return not torch.equal(self.base.read(name).to(tuned.dtype), tuned)

    def update(self, name: str) -> torch.Tensor:
        """Returns what was added to a tensor, float32."""
        return self.tuned.read(name).float() - self.base.read(name).float()


def _only_in(one: _Side, other: _Side) -> Iterator[Problem]:
    for name in one.specs.keys() - other.specs.keys():
        yield Problem("the other checkpoint has this tensor", f"{other.path}: {name}", "is this its base?")


class _AdapterFile:
    """The tensors of the adapter's file: halves of updates from memory, what is whole from the tuned checkpoint."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._held: dict[str, torch.Tensor] = {}
        self._taken: dict[str, str] = {}
        self.specs: dict[str, TensorSpec] = {}

    def hold(self, name: str, tensor: torch.Tensor) -> None:
        self._held[name] = tensor
        self.specs[name] = TensorSpec(tuple(tensor.shape), tensor.dtype)

    def take(self, name: str, source: str) -> None:
        self._taken[name] = source
        self.specs[name] = self._pair.tuned.specs[source]

    def read(self, name: str) -> torch.Tensor:
        return self._pair.tuned.read(self._taken[name]) if name in self._taken else self._held[name]

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        return self.read(name)[start:stop]

    def whole(self, name: str) -> bool:
        return not self.specs[name].shape

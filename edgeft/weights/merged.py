"""A base with an adapter folded in on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeft.artifacts import BASE_RECORD, Adapter
from edgeft.errors import EdgeftError, Problem
from edgeft.files import read_object
from edgeft.weights.adapter import AdapterTensors
from edgeft.weights.changes import ChangeReader, is_vocabulary, lacking_updates
from edgeft.weights.checkpoint import BaseWeights, TensorSpec
from edgeft.weights.computing import Computing
from edgeft.weights.updates import Rows, Update, same_update

_HEADS = ("lm_head.weight", "embed_out.weight")
# Blocks of rows that stay in a core's cache while they are widened, updated and rounded.
_BLOCK_ELEMENTS = 1 << 18
# Blocks that keep a GPU busy: a thread holds about 50 MB of its memory.
_DEVICE_BLOCK_ELEMENTS = 1 << 22


class MergedWeights:
    """A base with a peft adapter folded in: computed in float32, rounded once to the base's dtype.

    LoRA with everything that peft's layers of it can hold (rank and alpha patterns, rsLoRA, DoRA, embeddings, biases,
    experts by `target_parameters`, trained tokens, whole modules saved), IA3, and trained tokens alone. Where it gives
    embedding and output matrix different values and the base ties them, the output matrix becomes a tensor of its own.

    With `device` "cuda" the products are computed there, as long as that goes on: see `Computing`.

    Raises EdgeftError, every problem at once, for an adapter that names a tensor the base lacks, has another shape,
    was trained on another base, or uses a method that cannot be merged.
    """

    def __init__(self, base: BaseWeights, adapter: Adapter, device: str = "cpu") -> None:
        self._base = base
        self._computing = Computing(device)
        self._tensors = AdapterTensors(adapter)
        self._tensors.name_as(base.specs)
        tie = find_tie(base)
        self._sources = {} if tie is None else {tie.head: tie.embedding}
        specs = dict(base.specs)
        if tie is not None:  # first, as it is in a checkpoint's order of names
            specs = {tie.head: specs[tie.embedding], **{n: spec for n, spec in specs.items() if n != tie.head}}
        self._changes = ChangeReader(self._tensors, specs).changes
        problems = [*_other_base(base, adapter.path), *self._tensors.problems, *self._changes.problems]
        if not problems:
            problems += lacking_updates(self._tensors, specs)
        if problems:
            raise EdgeftError(problems)
        self._drop_copies()
        self.config_changes: dict[str, Any] = {}
        """What config.json must say instead of what the base's says."""
        if tie is not None and not self._stays_tied(tie):
            self.config_changes["tie_word_embeddings"] = False
        elif tie is not None and (tie.head not in base.specs or tie.embedding in self.adapted):
            del specs[tie.head]
        self.specs = specs | {
            name: TensorSpec(self._tensors.shape(key), specs[name].dtype)
            for name, key in self._changes.replaced.items()
        }
        self.config_changes |= _vocabulary_change(base, self.specs, adapter.path)
        self.tokenizer = adapter.path if "vocab_size" in self.config_changes else None
        """The folder that may hold the tokenizer of an enlarged vocabulary."""

    @property
    def doubts(self) -> list[str]:
        """Why the adapter may not be what was meant to be merged."""
        idle, count = self._tensors.without_effect(), len(self._tensors.modules)
        if not idle:
            return []
        what = "the adapter changes nothing" if len(idle) == count else f"{len(idle)} of its {count} updates are zero"
        return [f"{what}: untrained, as {idle[0]} is (lora_A or lora_B all zero); was this saved after training?"]

    @property
    def adapted(self) -> set[str]:
        """Names of the tensors that the adapter changes."""
        return set(self._changes.updates) | set(self._changes.replaced)

    def read(self, name: str) -> torch.Tensor:
        """Returns one tensor, merged, in the base's dtype."""
        if name not in self._changes.updates:
            return self._source(name).to(self.specs[name].dtype)
        return self.read_rows(name, 0, self.specs[name].shape[0])

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Returns some rows of one tensor, merged, in the base's dtype."""
        dtype = self.specs[name].dtype
        updates = self._changes.updates.get(name, ())
        if not all(update.by_rows for update in updates):
            return self._merge(self._source(name), updates, 0, dtype)[start:stop]
        source = self._source(name)[start:stop]
        if not updates:
            return source.to(dtype)
        elements = _BLOCK_ELEMENTS if self._computing.device == "cpu" else _DEVICE_BLOCK_ELEMENTS
        step = max(1, elements // max(1, source[0].numel()))
        if step >= len(source):
            return self._merge(source, updates, start, dtype)
        merged = torch.empty(source.shape, dtype=dtype)
        for place in range(0, len(source), step):
            merged[place : place + step] = self._merge(source[place : place + step], updates, start + place, dtype)
        return merged

    def updates(self, name: str) -> Sequence[Update] | None:
        """Returns what the adapter does to one tensor of the base; None when it takes its place."""
        return None if name in self._changes.replaced else self._changes.updates.get(name, ())

    def before_and_after(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns one tensor of the base and what the adapter makes of it, both float32 and not rounded."""
        before = self._base.read(self._sources.get(name, name)).float()
        updates = self._changes.updates.get(name, ())
        return before, self._merge(self._source(name), updates, 0, torch.float32)

    def whole(self, name: str) -> bool:
        """Returns whether every row of a tensor takes all of them."""
        updates = self._changes.updates.get(name, ())
        from_base = name not in self._changes.replaced
        return not all(u.by_rows for u in updates) or (from_base and self._base.whole(self._sources.get(name, name)))

    def _merge(self, source: torch.Tensor, updates: Sequence[Update], start: int, dtype: torch.dtype) -> torch.Tensor:
        """Returns rows of the source, from `start` of the tensor on, with every update, rounded once to `dtype`."""

        def change(block: torch.Tensor) -> torch.Tensor:
            for update in updates:
                block = update.apply(block, start)
            return block

        return self._computing.run(source, change, dtype)

    def _source(self, name: str) -> torch.Tensor:
        if key := self._changes.replaced.get(name):
            return self._tensors.read(key)
        return self._base.read(self._sources.get(name, name))

    def _drop_copies(self) -> None:
        """Forgets the base's own weights that peft saves beside the update of an embedding or output matrix."""
        for name, key in list(self._changes.replaced.items()):
            if ".base_layer." in key:
                original, saved = self._base.read(self._sources.get(name, name)), self._tensors.read(key)
                if original.shape == saved.shape and torch.equal(original, saved.to(original.dtype)):
                    del self._changes.replaced[name]

    def _stays_tied(self, tie: Tie) -> bool:
        """Whether the output matrix still is the embedding; if it is, what the adapter holds of it for itself goes."""
        updates, replaced = self._changes.updates, self._changes.replaced
        of_embedding, of_head = updates.get(tie.embedding, []), updates.get(tie.head, [])
        saved = replaced.get(tie.embedding, "")
        if tie.head not in replaced and ".base_layer." in saved:  # the base's own, perhaps enlarged: still both's
            replaced[tie.head] = saved
        alone = tie.head not in replaced and not saved
        if alone and not of_head and all(isinstance(update, Rows) for update in of_embedding):
            return True
        pairs = zip(of_embedding, of_head, strict=False)
        same = len(of_embedding) == len(of_head) and all(same_update(one, other) for one, other in pairs)
        if not same or not torch.equal(self._source(tie.embedding), self._source(tie.head)):
            return False
        updates.pop(tie.head, None)
        replaced.pop(tie.head, None)
        return True


@dataclass(frozen=True)
class Tie:
    """The names of two tensors that the base keeps as one."""

    embedding: str
    head: str


def find_tie(base: BaseWeights) -> Tie | None:
    """Returns embedding and output matrix of a base that ties them: it says so, or has no output matrix."""
    embedding = next((name for name in base.specs if is_vocabulary(name) and name not in _HEADS), None)
    head = next((name for name in _HEADS if name in base.specs), _HEADS[0])
    return Tie(embedding, head) if embedding is not None and (base.tied or head not in base.specs) else None


def _vocabulary_change(base: BaseWeights, specs: Mapping[str, TensorSpec], where: Path) -> dict[str, int]:
    """Returns the size of an enlarged vocabulary; raises EdgeftError unless embedding and output matrix have it."""
    changed = [name for name in base.specs if is_vocabulary(name) and name in specs]
    changed = [name for name in changed if base.specs[name].shape != specs[name].shape]
    if not changed:
        return {}
    sizes = {specs[name].shape[0] for name in specs if is_vocabulary(name)}
    if len(sizes) > 1:
        what = f"embedding and output matrix have {' and '.join(map(str, sorted(sizes)))} rows"
        raise EdgeftError(what, str(where), "save both with the adapter")
    return {"vocab_size": sizes.pop()}


def _other_base(base: BaseWeights, folder: Path) -> Iterator[Problem]:
    recorded = read_object(folder / BASE_RECORD).get("fingerprint")
    if recorded is not None and recorded != base.fingerprint():
        what = "the adapter was trained on another base: its record of that base's weights does not fit this one"
        yield Problem(what, str(folder / BASE_RECORD), "give the base that it was trained on")

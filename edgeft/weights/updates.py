"""What an adapter does to one tensor, in float32, a block of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class Update(Protocol):
    """One change of a tensor.

    `shape` is the shape of the tensor that it fits, in which None stands for any size. `apply` changes the rows from
    `start` on, (rows, ...), float32, in place or not, and returns them; it computes on their device. An update that is
    not `by_rows` has to see the whole tensor at once.
    """

    @property
    def shape(self) -> tuple[int | None, ...]: ...

    @property
    def by_rows(self) -> bool: ...

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor: ...


@dataclass(frozen=True)
class LowRank:
    """`W + scale * left @ right` (Hu et al. 2021, LoRA); with `magnitude` DoRA (Liu et al. 2024).

    `left` is (rows, rank) and `right` (rank, columns) of the weight as it is stored: B and A for a linear layer, the
    transposed A and B for an embedding and for GPT-2's layers, which are stored as (in, out). DoRA gives each output
    feature the learned norm: a row of a linear layer, and a column (`by_columns`) of the other two.
    """

    left: torch.Tensor
    right: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None = None
    by_columns: bool = False

    @property
    def shape(self) -> tuple[int | None, ...]:
        return self.left.shape[0], self.right.shape[1]

    @property
    def by_rows(self) -> bool:
        return self.magnitude is None or not self.by_columns

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        """The product is scaled and then added, in this order, as peft's `get_delta_weight` does in float32."""
        left = self.left[start : start + len(weight)]
        weight = weight.add_((_beside(left, weight) @ _beside(self.right, weight)).mul_(self.scale))
        if self.magnitude is None:
            return weight
        norm = torch.linalg.norm(weight, dim=0 if self.by_columns else 1)
        magnitude = _beside(self.magnitude, weight)
        if self.by_columns:
            return weight.mul_((magnitude / norm).view(1, -1))
        return weight.mul_((magnitude[start : start + len(weight)] / norm).view(-1, 1))


@dataclass(frozen=True)
class Scaled:
    """The weight times a learned vector along one axis: IA3 (Liu et al. 2022). `factor` is (rows, 1), (1, columns) or
    (rows,)."""

    factor: torch.Tensor
    by_rows: bool = True

    @property
    def shape(self) -> tuple[int | None, ...]:
        return tuple(None if size == 1 else size for size in self.factor.shape)

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        factor = _beside(self.factor, weight)
        return weight.mul_(factor if factor.shape[0] == 1 else factor[start : start + len(weight)])


@dataclass(frozen=True)
class Added:
    """A bias plus `scale` times a learned one (peft's `lora_bias`)."""

    bias: torch.Tensor
    scale: float
    by_rows: bool = True

    @property
    def shape(self) -> tuple[int | None, ...]:
        return tuple(self.bias.shape)

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        return weight.add_(_beside(self.bias[start : start + len(weight)], weight) * self.scale)


@dataclass(frozen=True)
class Rows:
    """Single rows in the place of the base's: trained tokens. `rows` is (tokens, columns)."""

    indices: tuple[int, ...]
    rows: torch.Tensor
    by_rows: bool = True

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.rows.shape[1]

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        for place, index in enumerate(self.indices):
            if start <= index < start + len(weight):
                weight[index - start] = self.rows[place]
        return weight


def _beside(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns a factor on the device of the weight, float32."""
    return factor.to(weight.device).float()


def same_update(one: Update, other: Update) -> bool:
    """Returns whether two updates are the same change, by their factors."""
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        plain = one.magnitude is None and other.magnitude is None and one.scale == other.scale
        return plain and torch.equal(one.left, other.left) and torch.equal(one.right, other.right)
    if isinstance(one, Rows) and isinstance(other, Rows):
        return one.indices == other.indices and torch.equal(one.rows, other.rows)
    return False

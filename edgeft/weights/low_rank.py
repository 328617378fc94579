"""The nearest product of two small matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Product:
    """`left @ right`, (rows, rank) and (rank, columns), float32 on the CPU, in the place of a matrix.

    `norm` is that of the matrix (Frobenius), `lacking` that of what the product differs from it by.
    """

    left: torch.Tensor
    right: torch.Tensor
    norm: float
    lacking: float

    @property
    def error(self) -> float:
        """The share of the norm that the product lacks, 0 to 1."""
        return self.lacking / self.norm if self.norm else 0.0


def nearest_product(matrix: torch.Tensor, rank: int, device: Literal["cpu", "cuda"] = "cpu") -> Product:
    """Returns the nearest product of at most that rank (Eckart and Young 1936), each half with the roots of the
    singular values.

    By the eigenvectors of the smaller product of the matrix with itself, in float64: squared, float32's 24 bits still
    fit into its 53, and a tall or wide matrix takes a fraction of its singular value decomposition's time.
    """
    values = matrix.to(device, torch.float64)
    tall = values.shape[0] > values.shape[1]
    wide = values.T if tall else values
    vectors = torch.linalg.eigh(wide @ wide.T).eigenvectors[:, -rank:].flip(1)
    along = vectors.T @ wide
    roots = along.norm(dim=1).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    left, right = (vectors * roots).float(), (along / roots[:, None]).float()
    if tall:
        left, right = right.T, left.T
    lacking = values - left.double() @ right.double()
    return Product(left.cpu().contiguous(), right.cpu().contiguous(), float(values.norm()), float(lacking.norm()))

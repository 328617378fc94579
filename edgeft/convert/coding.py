"""How the values of one tensor become the bytes of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType

from edgeft.convert.tensors import StoredType, encode
from edgeft.errors import EdgeftError
from edgeft.llamacpp.blocks import block_columns, quantize_rows, row_bytes
from edgeft.quant_types import TENSOR_TYPE


@dataclass(frozen=True)
class Coding:
    """Rounded to a floating-point type, and quantized from that where `type_name` is another.

    `importance` are the mean squares of the columns, (n_matrices, n_columns), a matrix for each expert, or None.
    """

    rounded: StoredType
    type_name: str
    importance: npt.NDArray[np.float32] | None = None

    @property
    def ggml_type(self) -> GGMLQuantizationType:
        """The type's number; newer ones than gguf knows are given as plain numbers."""
        number = TENSOR_TYPE[self.type_name]
        return GGMLQuantizationType(number) if number in set(GGMLQuantizationType) else number

    def size_bytes(self, elements: int) -> int:
        """Returns the bytes of so many values, which are whole blocks."""
        block = block_columns(self.type_name)
        assert elements % block == 0
        return row_bytes(self.type_name, elements)

    def encode(self, tensor: torch.Tensor, where: str, matrix: int = 0) -> npt.NDArray[Any]:
        """Returns the bytes of a tensor, or of rows of one; of several matrices the first is number `matrix`.

        Raises EdgeftError for weights beyond what the type can hold.
        """
        if self.type_name == self.rounded.ggml.name:
            return encode(tensor, self.rounded, where)
        values = torch.from_numpy(encode(tensor, self.rounded, where)).view(self.rounded.torch).float().numpy()
        columns = values.shape[-1]
        if self.importance is None or len(self.importance) == 1:
            return self._quantized(values.reshape(-1, columns), 0, where)
        matrices = values.reshape(-1, *values.shape[-2:])
        return np.stack([self._quantized(rows, matrix + place, where) for place, rows in enumerate(matrices)])

    def _quantized(self, rows: npt.NDArray[np.float32], matrix: int, where: str) -> npt.NDArray[np.uint8]:
        weights = None if self.importance is None else self.importance[matrix]
        try:
            return quantize_rows(rows, self.type_name, weights)
        except ValueError as error:
            raise EdgeftError(str(error), where) from error


def unquantized(stored: StoredType) -> Coding:
    """Returns the coding of a tensor that keeps its floating-point type."""
    return Coding(stored, stored.ggml.name)

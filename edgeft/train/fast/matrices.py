"""Linear layers of one input as one matrix, the adapters at its edges.

    [ W    s B ]     W: the layers' weights on top of each other, dequantized
    [ A     .  ]     s B: each layer's own block, zero elsewhere; A: one below the other

With x A^T written behind x in each row, `[x | x A^T] [W | s B]^T` is the layers' whole output: LoRA's scaling, product
and addition cost one or two percent of the product instead of passes over the output. The transpose does the same for
the gradient of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from edgeft import hf
from edgeft.resources.layers import room


class Workspace:
    """One buffer that every group's matrix is dequantized into in turn, when it is needed."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._buffer = torch.empty(0, dtype=dtype, device=device)

    def matrix(self, rows: int, columns: int) -> torch.Tensor:
        """Returns room for a matrix; valid until the next call. It holds numbers that other matrices left."""
        if self._buffer.numel() < rows * columns:
            self._buffer = torch.zeros(rows * columns, dtype=self._dtype, device=self._device)
        return self._buffer[: rows * columns].view(rows, columns)


class Group:
    """Layers that share their input.

    Attributes:
        n_in, n_out: width of the input, and of all outputs together.
        rank: of all adapters together, rounded up to a multiple of 8 as fast products need it.
        parameters: A and B of each layer that has an adapter.
    """

    def __init__(self, linears: Sequence[hf.AdaptedLinear], workspace: Workspace) -> None:
        self._linears = linears
        self._workspace = workspace
        self.n_in = linears[0].shape[1]
        self.n_out = sum(linear.shape[0] for linear in linears)
        self.rank = -(-sum(linear.rank for linear in linears) // 8) * 8
        self.parameters = [p for linear in linears for p in (linear.a, linear.b) if p is not None]
        self.dtype, self.device = linears[0].state.dtype, linears[0].packed.device
        self.bias = self._joined_bias()
        self._resident: torch.Tensor | None = None

    @property
    def codes(self) -> list[torch.Tensor]:
        """The packed codes of each layer."""
        return [linear.packed for linear in self._linears]

    def take_codes_from(self, places: Sequence[torch.Tensor]) -> None:
        """Reads the packed codes of each layer there from now on, and empties the model's own parameters."""
        for linear in self._linears:
            linear.parameter.data = linear.packed.new_empty(0, 1)
        self._linears = [replace(linear, packed=place) for linear, place in zip(self._linears, places, strict=True)]

    def make_resident(self) -> None:
        """Keeps the matrix dequantized from now on, in memory of its own; the adapters in it stay as they are."""
        workspace = Workspace(self.dtype, self.device)
        matrix = workspace.matrix(self.n_out + self.rank, room(self.n_in + self.rank))
        self._fill(matrix)
        self._resident = matrix

    def adapter_places(self) -> list[tuple[torch.nn.Parameter, torch.Tensor, float]]:
        """Returns each adapter's parameter, its place in the resident matrix, and what it is multiplied by there."""
        assert self._resident is not None
        places: list[tuple[torch.nn.Parameter, torch.Tensor, float]] = []
        row = column = 0
        for linear in self._linears:
            if linear.a is not None and linear.b is not None:
                ranks = slice(column, column + linear.rank)
                below = self._resident[self.n_out :][ranks, : self.n_in]
                beside = self._resident[row : row + linear.shape[0], self.n_in :][:, ranks]
                places += [(linear.a, below, 1.0), (linear.b, beside, linear.scaling)]
            row += linear.shape[0]
            column += linear.rank
        return places

    def _joined_bias(self) -> torch.Tensor | None:
        if all(linear.bias is None for linear in self._linears):
            return None
        none = [torch.zeros(linear.shape[0], dtype=self.dtype, device=self.device) for linear in self._linears]
        parts = [zero if linear.bias is None else linear.bias for zero, linear in zip(none, self._linears, strict=True)]
        return torch.cat([part.to(self.dtype) for part in parts])

    def matrix(self) -> torch.Tensor:
        """Returns the matrix, (n_out + rank, n_in + rank or more), valid until another group's is asked for."""
        if self._resident is not None:
            return self._resident
        matrix = self._workspace.matrix(self.n_out + self.rank, room(self.n_in + self.rank))
        self._fill(matrix)
        return matrix

    def _fill(self, matrix: torch.Tensor) -> None:
        row = column = 0
        write = _fill_on_cuda if matrix.is_cuda else _fill_plainly
        for linear in self._linears:
            write(self, linear, matrix, row, column)
            row += linear.shape[0]
            column += linear.rank

    def split_gradients(self, grad_a: torch.Tensor, grad_b: torch.Tensor) -> list[torch.Tensor]:
        """Returns the gradient of each of `parameters`, from those of A, (rank, n_in), and of [B], (n_out, rank)."""
        gradients: list[torch.Tensor] = []
        row = column = 0
        for linear in self._linears:
            if linear.a is not None and linear.b is not None:
                columns = slice(column, column + linear.rank)
                b = grad_b[row : row + linear.shape[0], columns].to(linear.b.dtype, copy=True)
                gradients += [grad_a[columns].to(linear.a.dtype), b.mul_(linear.scaling)]
            row += linear.shape[0]
            column += linear.rank
        return gradients


def _fill_plainly(group: Group, linear: hf.AdaptedLinear, matrix: torch.Tensor, row: int, column: int) -> None:
    rows = slice(row, row + linear.shape[0])
    matrix[rows, : group.n_in] = linear.dequantize()
    matrix[rows, group.n_in : group.n_in + group.rank] = 0
    if linear.a is not None and linear.b is not None:
        matrix[rows, group.n_in + column : group.n_in + column + linear.rank] = linear.b.detach() * linear.scaling
        matrix[group.n_out + column : group.n_out + column + linear.rank, : group.n_in] = linear.a.detach()


def _fill_on_cuda(group: Group, linear: hf.AdaptedLinear, matrix: torch.Tensor, row: int, column: int) -> None:
    from edgeft.train.fast import triton_kernels  # Triton comes with torch for CUDA only

    state: Any = linear.state
    n_out, n_in = linear.shape
    n_blocks = n_out * n_in // state.blocksize
    blocks, b_rows, a_block = 64, 64, 2048
    weight_programs = -(-n_blocks // blocks)
    b_programs = -(-n_out // b_rows) if group.rank else 0
    a_programs = -(-linear.rank * n_in // a_block)
    a, b = (matrix if tensor is None else tensor.detach() for tensor in (linear.a, linear.b))
    triton_kernels.fill_matrix[(weight_programs + b_programs + a_programs,)](
        linear.packed, state.absmax, state.state2.code, state.state2.absmax, state.offset, state.code, a, b, matrix,
        n_blocks, n_out, n_in, matrix.stride(0), row, group.n_out, linear.rank, column, group.rank, linear.scaling,
        weight_programs, b_programs, blocksize=state.blocksize, absmax_blocksize=state.state2.blocksize, blocks=blocks,
        b_rows=b_rows, b_columns=max(16, 1 << (group.rank - 1).bit_length()) if group.rank else 16, a_block=a_block,
        num_warps=4,
    )  # fmt: skip

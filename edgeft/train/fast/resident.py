"""Matrices that stay dequantized: only the adapters in them change, once a step, all layers in one launch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgeft.train.fast.matrices import Group

_BLOCK = 2048


class ResidentMatrices:
    """Keeps the matrices of groups in memory of their own, and brings their adapters up to date."""

    def __init__(self, groups: Sequence[Group]) -> None:
        for group in groups:
            group.make_resident()
        self._places = [place for group in groups for place in group.adapter_places()]
        self._table: torch.Tensor | None = None
        self._known: list[int] = []

    def refresh(self) -> None:
        """Copies every adapter, scaled, into its group's matrix."""
        if not self._places or not self._places[0][1].is_cuda:
            for parameter, place, scaling in self._places:
                place.copy_(parameter.detach() * scaling)
            return
        from edgeft.train.fast import triton_kernels  # Triton comes with torch for CUDA only

        known = [parameter.data_ptr() for parameter, _, _ in self._places]
        if self._table is None or known != self._known:  # whoever moved a parameter would train an adapter unseen
            self._table, self._known = self._addresses(), known
        largest = max(place.numel() for _, place, _ in self._places)
        grid = (len(self._places), -(-largest // _BLOCK))
        triton_kernels.copy_adapters[grid](self._table, self._places[0][1], block=_BLOCK)

    def _addresses(self) -> torch.Tensor:
        """A row for each adapter: both addresses, its shape, its row length in the matrix, the bits of its scale."""
        rows = []
        for parameter, place, scaling in self._places:
            assert parameter.dtype == torch.float32 and parameter.is_contiguous()
            bits = int(torch.tensor(scaling, dtype=torch.float32).view(torch.int32))
            rows.append([parameter.data_ptr(), place.data_ptr(), *place.shape, place.stride(0), bits])
        return torch.tensor(rows, dtype=torch.int64, device=self._places[0][1].device)

"""NEFTune (Jain et al. 2023) on packed batches: the noise of each sequence is that of its own length."""

from __future__ import annotations

import torch


def add_noise(embeddings: torch.Tensor, boundaries: torch.Tensor, alpha: float) -> torch.Tensor:
    """Returns embeddings, (1, tokens, width), with uniform noise of at most alpha / sqrt(length x width) on them.

    `boundaries` are those of `packing.pack`. transformers' own NEFTune takes the length of the padded row.
    """
    lengths = boundaries.diff().long()
    length_of_token = lengths.repeat_interleave(lengths, output_size=embeddings.shape[1])
    most = alpha / (length_of_token * embeddings.shape[2]).sqrt()
    noise = torch.empty_like(embeddings).uniform_(-1, 1)
    return embeddings + noise * most[None, :, None].to(noise.dtype)

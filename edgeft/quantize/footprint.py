"""What a GGUF file takes on a device: on disk, and in memory with a context of so many tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGUFReader, Keys

from edgeft.artifacts import GgufFile

_N_BATCH = 512


@dataclass(frozen=True)
class Footprint:
    """Attributes are bytes, but for `parameters`, the number of weights, and `bits_per_weight`.

    `memory_bytes` is what llama.cpp needs at least: the tensors, keys and values of the context in F16, and the logits
    and activations of one batch.
    """

    size_bytes: int
    parameters: int
    bits_per_weight: float
    kv_bytes: int
    memory_bytes: int


def footprint(gguf: GgufFile, n_ctx: int) -> Footprint:
    """Returns what a file takes with a context of `n_ctx` tokens, from its header alone."""
    reader = GGUFReader(gguf.path)
    arch = str(reader.fields[Keys.General.ARCHITECTURE].contents())
    parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    tensor_bytes = sum(int(tensor.n_bytes) for tensor in reader.tensors)

    def number(key: str, default: int = 0) -> int:
        name = key.format(arch=arch)
        return int(np.max(reader.fields[name].contents())) if name in reader.fields else default

    heads = number(Keys.Attention.HEAD_COUNT, 1)
    width = number(Keys.LLM.EMBEDDING_LENGTH)
    kv_heads = number(Keys.Attention.HEAD_COUNT_KV, heads)
    per_head = sum(number(key, width // heads) for key in (Keys.Attention.KEY_LENGTH, Keys.Attention.VALUE_LENGTH))
    kv_bytes = 2 * n_ctx * number(Keys.LLM.BLOCK_COUNT) * kv_heads * per_head
    vocabulary = next((int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight"), 0)
    activations = 4 * min(n_ctx, _N_BATCH) * (vocabulary + 4 * width + 2 * number(Keys.LLM.FEED_FORWARD_LENGTH))
    return Footprint(
        size_bytes=gguf.size_bytes,
        parameters=parameters,
        bits_per_weight=8 * tensor_bytes / parameters,
        kv_bytes=kv_bytes,
        memory_bytes=tensor_bytes + kv_bytes + activations,
    )

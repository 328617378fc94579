"""Whether this build of llama.cpp computes here: a small model of several types, for a process of its own.

A build for another processor ends its process with an illegal instruction. pip keeps what it compiled, and where the
folder it keeps it in is shared or moved, gives it to a machine that cannot run it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError
from edgeft.llamacpp.blocks import dequantize_rows, quantize_rows
from edgeft.llamacpp.engine import Engine

_WIDTH: Final = 256
"""A block of the K types; every loop over blocks of the kernels is entered."""
_N_TOKENS: Final = 64
"""A prompt, for the products of matrices, and a token behind it, for those of a vector."""
_TENSORS: Final = {
    "token_embd.weight": "Q8_0",
    "blk.0.attn_q.weight": "Q4_0",
    "blk.0.attn_k.weight": "Q4_K",
    "blk.0.attn_v.weight": "Q6_K",
    "blk.0.attn_output.weight": "Q8_0",
    "blk.0.ffn_gate.weight": "Q5_K",
    "blk.0.ffn_up.weight": "Q3_K",
    "blk.0.ffn_down.weight": "IQ4_NL",
    "output.weight": "Q6_K",
}
_NORMS: Final = ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight")
_MOST_NMSE: Final = 1e-2
"""Between a file and the same weights in float32. What products round their other side to makes 4e-4 here."""


def products_nmse() -> float:
    """Returns the NMSE of the logits of quantized weights, against those of the same weights in float32."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        quantized = _header(Path(folder) / "quantized.gguf")
        plain = _header(Path(folder) / "float32.gguf")
        for name, type_name in _TENSORS.items():
            values = generator.standard_normal((_WIDTH, _WIDTH), dtype=np.float32) / _WIDTH**0.5
            codes = quantize_rows(values, type_name)
            quantized.add_tensor(name, codes, raw_dtype=GGMLQuantizationType[type_name])
            plain.add_tensor(name, dequantize_rows(codes, type_name, _WIDTH))
        tested, expected = _logits(quantized), _logits(plain)
    return float(((tested - expected) ** 2).mean() / expected.var())


def _header(path: Path) -> GGUFWriter:
    """Returns a writer of a Llama of one layer without a tokenizer; its matrices are still missing."""
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(_WIDTH)
    writer.add_context_length(2 * _N_TOKENS)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    for name in _NORMS:
        writer.add_tensor(name, np.ones(_WIDTH, dtype=np.float32))
    return writer


def _logits(writer: GGUFWriter) -> npt.NDArray[np.float32]:
    """Writes the file, and returns the logits of a prompt, and of a token behind it."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ids = range(_N_TOKENS + 1)
    with Engine(GgufFile(writer.path), 2 * _N_TOKENS, exact_kv=True) as engine:
        return np.concatenate([engine.logits(ids[:-1]), engine.logits(ids, _N_TOKENS)])


def _main() -> None:
    try:
        nmse = products_nmse()
    except EdgeftError as error:
        sys.exit(error.problems[0].what)
    if not nmse <= _MOST_NMSE:
        sys.exit(f"its products with quantized weights are wrong (NMSE {nmse:.1e})")


if __name__ == "__main__":
    _main()

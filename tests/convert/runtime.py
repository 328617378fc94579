"""llama.cpp on a GGUF file: token ids and logits, through the C bindings directly."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

_quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)


@contextmanager
def _loaded(path: Path, vocab_only: bool) -> Iterator[Any]:
    llama_cpp.llama_log_set(_quiet, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only, parameters.n_gpu_layers = vocab_only, 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, f"llama.cpp cannot load {path}"
    try:
        yield model
    finally:
        llama_cpp.llama_model_free(model)


class Vocab:
    """The tokenizer of a GGUF file."""

    def __init__(self, model: Any) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Returns the ids of a text in which special tokens are recognised."""
        encoded = text.encode()
        buffer = (llama_cpp.llama_token * (len(encoded) + 16))()
        count = llama_cpp.llama_tokenize(self._vocab, encoded, len(encoded), buffer, len(buffer), add_special, True)
        return list(buffer[:count])

    def ends(self, token: int) -> bool:
        """Returns whether generation ends at a token."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))


@contextmanager
def vocabulary(path: Path) -> Iterator[Vocab]:
    """Yields the tokenizer of a file, no weights loaded."""
    with _loaded(path, vocab_only=True) as model:
        yield Vocab(model)


def logits(path: Path, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """Returns the logits at every position, (n, vocab), with an F32 KV cache and without flash attention."""
    with _loaded(path, vocab_only=False) as model:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = len(ids)
        parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.n_threads = parameters.n_threads_batch = 2
        context = llama_cpp.llama_init_from_model(model, parameters)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, token in enumerate(ids):
                batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            assert llama_cpp.llama_decode(context, batch) == 0
            size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
            flat = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(ids) * size,))
            return flat.reshape(len(ids), size).copy()
        finally:
            llama_cpp.llama_batch_free(batch)
            llama_cpp.llama_free(context)

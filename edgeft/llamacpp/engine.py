"""A GGUF model ready to run."""

from __future__ import annotations

import ctypes
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import llama_cpp
import numpy as np
import numpy.typing as npt

from edgeft.artifacts import GgufFile
from edgeft.cores import available_cores
from edgeft.errors import EdgeftError
from edgeft.llamacpp.log import LOG
from edgeft.llamacpp.observe import Observer, Point
from edgeft.llamacpp.vocabulary import Vocabulary
from edgeft.quant_types import FTYPE, UNQUANTIZED

_N_BATCH: Final = 512
_MOST_LOGITS: Final = 1 << 24
"""Logits that llama.cpp holds at once where every position's are asked for: 64 MB, 130 rows of 128,000 tokens."""
LOGITS: Final[Point] = ("logits", "output")
_KV_TYPES: Final = {
    "F32": llama_cpp.GGML_TYPE_F32,
    "F16": llama_cpp.GGML_TYPE_F16,
    "Q8_0": llama_cpp.GGML_TYPE_Q8_0,
}


@dataclass(frozen=True)
class Runtime:
    """How llama.cpp runs a model: the type of its KV cache, flash attention (Q8_0 needs it), and threads, 0 for all."""

    kv: Literal["F32", "F16", "Q8_0"] = "F16"
    flash_attention: bool = False
    threads: int = 0


class Engine(Vocabulary):
    """A GGUF model ready to run: tokenizer, chat template, logits and greedy generation.

    A context manager: llama.cpp's memory is freed on exit, which must happen before the interpreter ends. Weights are
    memory-mapped, or read if not `mapped`: then those that llama.cpp repacks for the processor are in memory once and
    not twice. KV is F16 as llama.cpp's users run it; with `exact_kv` a file of unquantized type gets F32, so that
    nothing but the conversion can differ from float32. Flash attention is off. An `adapter` is a GGUF LoRA of it.
    `gpu_layers` lie on the GPUs that llama.cpp takes, or on the `devices` named; -1 for all. With 0 the CPU computes
    everything.
    """

    def __init__(
        self,
        gguf: GgufFile,
        n_ctx: int,
        *,
        exact_kv: bool = False,
        gpu_layers: int = 0,
        devices: Sequence[str] | None = None,
        mapped: bool = True,
        threads: int = 0,
        adapter: GgufFile | None = None,
    ) -> None:
        super().__init__(gguf.path, vocab_only=False, gpu_layers=gpu_layers, devices=devices, mapped=mapped)
        self.n_ctx = min(n_ctx, llama_cpp.llama_model_n_ctx_train(self._model))
        exact = exact_kv and self.file_type in UNQUANTIZED
        self.runtime = Runtime("F32" if exact else "F16", threads=threads)
        self._held: list[int] = []
        try:
            self._context = self._new_context(self.runtime)
        except EdgeftError:
            super().close()
            raise
        if adapter is not None:
            self._put_on(adapter)

    def _put_on(self, adapter: GgufFile) -> None:
        """Puts a LoRA beside the model for good; llama.cpp frees it with the model."""
        lora = llama_cpp.llama_adapter_lora_init(self._model, str(adapter.path).encode())
        if not lora or llama_cpp.llama_set_adapters_lora(
            self._context, (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora), 1, (ctypes.c_float * 1)(1.0)
        ):
            reason = LOG.errors[-1] if LOG.errors else "no reason given"
            self.close()
            raise EdgeftError(f"llama.cpp cannot use this adapter: {reason}", str(adapter.path), "is it this model's?")

    def run_as(self, runtime: Runtime) -> None:
        """Goes on with another runtime, the weights as they are loaded; what the context held is forgotten."""
        self._renew(runtime)
        self.runtime = runtime

    def observe(
        self, ids: Sequence[int], chosen: Sequence[int], wanted: Mapping[Point, int]
    ) -> dict[Point, npt.NDArray[np.float32]]:
        """Runs one sequence and returns what is seen of it at the positions `chosen`, (n_chosen, features) each.

        `wanted` are points of the graph with their numbers of features; points that this graph has not are left out.
        The logits are at `LOGITS`. What the context held is forgotten.
        """
        self._require_room(len(ids))
        observer = Observer(wanted, self.n_layers)
        logits: list[npt.NDArray[np.float32]] = []
        self._renew(self.runtime, observer)
        try:
            for start in range(0, len(ids), _N_BATCH):
                chunk = ids[start : start + _N_BATCH]
                here = [place - start for place in chosen if start <= place < start + len(chunk)]
                observer.expect(len(chunk), here)
                self._decode(chunk, here or [len(chunk) - 1])
                logits += [self._logits_at(place).copy() for place in here]
        finally:
            self._renew(self.runtime)
        if observer.error:
            raise observer.error
        seen = {point: np.stack(rows) for point, rows in observer.rows.items() if len(rows) == len(chosen)}
        return seen | {LOGITS: np.stack(logits)}

    def _renew(self, runtime: Runtime, observer: Observer | None = None) -> None:
        """Takes another context in the place of the one there is, so that there are never two in memory."""
        llama_cpp.llama_free(self._context)
        self._context, self._held = None, []
        self._context = self._new_context(runtime, observer)

    def _new_context(self, runtime: Runtime, observer: Observer | None = None) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = self.n_ctx
        parameters.n_batch = parameters.n_ubatch = min(_N_BATCH, self.n_ctx)
        flash = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.flash_attn_type = flash[0 if runtime.flash_attention else 1]
        parameters.type_k = parameters.type_v = _KV_TYPES[runtime.kv]
        # llama.cpp takes 4 threads by default, and 4 that spin on 2 cores generate 11 times slower than 2.
        parameters.n_threads = parameters.n_threads_batch = runtime.threads or available_cores()
        if observer is not None:
            parameters.cb_eval = observer.callback
        context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not context:
            raise EdgeftError(f"llama.cpp cannot make a context of {self.n_ctx} tokens", remedy="ask for fewer tokens")
        return context

    def close(self) -> None:
        """Frees llama.cpp's memory."""
        llama_cpp.llama_free(self._context)
        super().close()

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return int(llama_cpp.llama_model_n_layer(self._model))

    @property
    def file_type(self) -> str:
        """The name of `general.file_type`; "mixed" for one that llama.cpp has no name for."""
        names = {str(number): name for name, number in FTYPE.items()}
        return names.get(self.metadata.get("general.file_type", ""), "mixed")

    def logits(self, ids: Sequence[int], first: int = 0) -> npt.NDArray[np.float32]:
        """Returns the logits of one sequence's positions from `first` on, (n_tokens - first, n_vocab)."""
        rows = np.empty((len(ids) - first, self.n_vocab), dtype=np.float32)
        for place, chunk in self.logit_chunks(ids, first):
            rows[place - first : place - first + len(chunk)] = chunk
        return rows

    def logit_chunks(self, ids: Sequence[int], first: int = 0) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yields the logits of one sequence's positions from `first` on, some at a time, each with its first position.

        They are llama.cpp's own memory: the next ones overwrite them. What the context already holds of the sequence
        before `first` is kept: answers to one prompt cost it once.
        """
        self._require_room(len(ids))
        self._forget(min(self._common(ids), first))
        most = max(1, min(_N_BATCH, _MOST_LOGITS // self.n_vocab))
        while (start := len(self._held)) < len(ids):
            wanted = max(start, first)
            chunk = ids[start : min(start + _N_BATCH, wanted + most)]
            outputs = range(wanted - start, len(chunk))
            # One batch for the end of the prompt and the answer: small ones cost more a token.
            self._decode(chunk, outputs or [len(chunk) - 1])
            if outputs:
                pointer = llama_cpp.llama_get_logits(self._context)
                yield wanted, np.ctypeslib.as_array(pointer, shape=(len(outputs), self.n_vocab))

    def generate(self, ids: Sequence[int], max_new: int) -> Iterator[int]:
        """Continues a prompt greedily and yields the new tokens, the end token included.

        What the context already holds of the prompt is kept, so a conversation costs only its new turns. Raises
        EdgeftError for a prompt that leaves no room for an answer.
        """
        self._require_room(len(ids) + 1)
        self._forget(min(self._common(ids), len(ids) - 1))
        pending = list(ids[len(self._held) :])
        for _ in range(min(max_new, self.n_ctx - len(ids))):
            for start in range(0, len(pending), _N_BATCH):
                chunk = pending[start : start + _N_BATCH]
                self._decode(chunk, [len(chunk) - 1])
            token = int(np.argmax(self._logits_at(-1)))
            yield token
            if self.ends(token):
                return
            pending = [token]

    def _logits_at(self, index: int) -> npt.NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return cast("npt.NDArray[np.float32]", np.ctypeslib.as_array(pointer, shape=(self.n_vocab,)))

    def _require_room(self, n_tokens: int) -> None:
        # llama.cpp ends the process on an assertion when a batch is larger than the context.
        if n_tokens > self.n_ctx:
            raise EdgeftError(f"{n_tokens} tokens do not fit a context of {self.n_ctx}", remedy="ask for a larger one")

    def _common(self, ids: Sequence[int]) -> int:
        """Returns how many of the first ids the context holds."""
        differ = (i for i, (a, b) in enumerate(zip(self._held, ids, strict=False)) if a != b)
        return next(differ, min(len(self._held), len(ids)))

    def _forget(self, kept: int) -> None:
        """Removes what is after the first `kept` tokens from the context; everything where it has no such memory.

        A recurrent state (LFM2, Qwen3.5) cannot go back.
        """
        memory = llama_cpp.llama_get_memory(self._context)
        if len(self._held) > kept and not llama_cpp.llama_memory_seq_rm(memory, 0, kept, -1):
            llama_cpp.llama_memory_clear(memory, True)
            kept = 0
        del self._held[kept:]

    def _decode(self, ids: Sequence[int], outputs: Container[int]) -> None:
        """Computes the next tokens, and the logits of those whose places among them are `outputs`."""
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i] = token
                batch.pos[i] = len(self._held) + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = i in outputs
            status = llama_cpp.llama_decode(self._context, batch)
        finally:
            llama_cpp.llama_batch_free(batch)
        if status != 0:
            raise EdgeftError(f"llama.cpp cannot decode (status {status}): the context holds {self.n_ctx} tokens")
        self._held += ids

"""The tokenizer and the chat template of a GGUF file."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import llama_cpp

from edgeft.artifacts import Message
from edgeft.errors import EdgeftError
from edgeft.llamacpp.devices import device_list
from edgeft.llamacpp.log import LOG, start_llama_cpp
from edgeft.template import render_template

_SPECIAL_TOKEN_KEYS: Final = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}
EOS_KEY: Final = "tokenizer.ggml.eos_token_id"
_END_KEYS: Final = (
    EOS_KEY,
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
)
"""Every key whose token ends generation. Padding ends none, and the other tokens of infilling do not."""
ENDS_BY_NAME: Final = frozenset(
    {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<turn|>",
        "<end_of_utterance>",
        "<eos>",
        "<|tool_response>",
        "[e~[",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    }
)
"""Tokens that end generation in llama.cpp by their text alone, of whatever type (src/llama-vocab.cpp)."""


class Vocabulary:
    """The tokenizer and the chat template of a GGUF file, without its weights: nothing but the header is read.

    A context manager: llama.cpp's memory is freed on exit, which must happen before the interpreter ends. Raises
    EdgeftError for a file that llama.cpp cannot load.
    """

    def __init__(
        self,
        path: Path,
        *,
        vocab_only: bool = True,
        gpu_layers: int = 0,
        devices: Sequence[str] | None = None,
        mapped: bool = True,
    ) -> None:
        self.path = path
        start_llama_cpp()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only, parameters.n_gpu_layers = vocab_only, gpu_layers
        if not mapped:
            parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        if devices is not None or not gpu_layers:
            chosen = device_list(devices or ())
            parameters.devices = ctypes.cast(chosen, ctypes.c_void_p)
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            reason = LOG.errors[-1] if LOG.errors else "no reason given"
            raise EdgeftError(f"llama.cpp cannot load this file: {reason}", where=str(path))
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.metadata = _read_metadata(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees llama.cpp's memory."""
        llama_cpp.llama_model_free(self._model)

    def encode(self, text: str, *, special: bool = True, framed: bool = False) -> list[int]:
        """Returns the ids of a text; `special` recognises special tokens in it.

        Nothing is added, but with `framed` what the file asks for: a BOS before the text, an EOS after it.
        """
        encoded = text.encode()
        capacity = len(encoded) + 16
        buffer = (llama_cpp.llama_token * capacity)()
        count = llama_cpp.llama_tokenize(self._vocab, encoded, len(encoded), buffer, capacity, framed, special)
        return list(buffer[:count])

    def encode_prompt(self, rendered: str) -> list[int]:
        """Returns the ids of a rendered conversation, with exactly one BOS where the file asks for one."""
        ids = self.encode(rendered)
        return [self.bos, *ids] if self.adds_bos and ids[:1] != [self.bos] else ids

    @property
    def bos(self) -> int:
        """The token that begins a text; -1 where the file has none."""
        return int(llama_cpp.llama_vocab_bos(self._vocab))

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Returns the bytes of one token; those of a special token only when `special`."""
        buffer = ctypes.create_string_buffer(64)
        count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Returns the text of ids, with that of special tokens only when `special`."""
        return b"".join(self.piece(token, special=special) for token in ids).decode("utf-8", errors="replace")

    def special_texts(self) -> frozenset[str]:
        """Returns the texts of the tokens that are never shown as text, and of those that end an answer."""
        tokens = (token for token in range(self.n_vocab) if self.is_control(token) or self.ends(token))
        return frozenset(self.decode([token], special=True) for token in tokens)

    def ends(self, token: int) -> bool:
        """Returns whether llama.cpp stops generating at this token."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def ends_with_keys(self) -> dict[int, str]:
        """Returns every token at which llama.cpp stops generating, with the key that makes it one.

        The key is "" for tokens that llama.cpp adds by their text, whatever the file says. A file without an EOS has
        llama.cpp's default, which is token 11 for a byte-level vocabulary: such a token goes by the key of the EOS.
        """
        by_key = {int(self.metadata[key]): key for key in reversed(_END_KEYS) if key in self.metadata}
        by_key.setdefault(int(llama_cpp.llama_vocab_eos(self._vocab)), EOS_KEY)
        ends = [token for token in range(self.n_vocab) if llama_cpp.llama_vocab_is_eog(self._vocab, token)]
        return {token: "" if self._name(token) in ENDS_BY_NAME else by_key.get(token, "") for token in ends}

    def _name(self, token: int) -> str:
        """Returns the token as it is written in the file."""
        return bytes(llama_cpp.llama_vocab_get_text(self._vocab, token)).decode("utf-8", errors="replace")

    def is_control(self, token: int) -> bool:
        """Returns whether the file marks this token as CONTROL, so that it is never shown as text."""
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL)

    @property
    def adds_bos(self) -> bool:
        """Whether the file asks for a BOS before a text."""
        return bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[dict[str, Any]] = (),
        now: datetime | None = None,
    ) -> str:
        """Renders a conversation with the file's own chat template; raises EdgeftError when it has none.

        A template that shows the date shows `now`, or the clock's.
        """
        own = self.metadata.get("tokenizer.chat_template")
        # As transformers chooses where a model has one for tools besides.
        template = self.metadata.get("tokenizer.chat_template.tool_use", own) if tools else own
        if not template:
            raise EdgeftError("the GGUF file has no chat template", remedy="convert it from a chat model")
        return render_template(
            template,
            messages,
            add_generation_prompt=add_generation_prompt,
            special_tokens=dict(self._special_tokens()),
            tools=tools,
            now=now,
        )

    def _special_tokens(self) -> Iterator[tuple[str, str]]:
        for name, key in _SPECIAL_TOKEN_KEYS.items():
            if key in self.metadata:
                token = int(self.metadata[key])
                yield name, self.piece(token, special=True).decode("utf-8", errors="replace")


def _read_metadata(model: Any) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for index in range(llama_cpp.llama_model_meta_count(model)):
        key, value = (_read_string(reader, model, index) for reader in _META_READERS)
        metadata[key] = value
    return metadata


_META_READERS: Final = (llama_cpp.llama_model_meta_key_by_index, llama_cpp.llama_model_meta_val_str_by_index)


def _read_string(reader: Any, model: Any, index: int) -> str:
    buffer = ctypes.create_string_buffer(256)
    needed = reader(model, index, buffer, len(buffer))
    if needed >= len(buffer):
        buffer = ctypes.create_string_buffer(needed + 1)
        reader(model, index, buffer, len(buffer))
    return buffer.value.decode("utf-8", errors="replace")

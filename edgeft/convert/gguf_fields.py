"""A GGUF model's keys and small tensors read back into config.json, every problem kept until the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from edgeft.errors import EdgeftError, Problem
from edgeft.gguf_header import GgufHeader, TensorInfo
from edgeft.llamacpp.dequantize import dequantize

# Keys that describe how a file was made, and that llama.cpp computes nothing with.
_IDLE = frozenset({"tensor_data_layout", "rope.scaling.finetuned"})
BASE_FREQUENCY = 10000.0
"""Of the rotary embedding in llama.cpp, where the file is silent."""


class GgufFields:
    """The keys under a GGUF file's architecture, by their names without it: "block_count", "rope.freq_base".

    Reading a key with `silent` says what llama.cpp computes with where the file has no such key. `require_alike` needs
    that: a key may be missing from the file or from a plan, and both may still mean the same.
    """

    def __init__(self, header: GgufHeader) -> None:
        self.where = str(next(iter(header.sizes)))
        self._header = header
        self._problems: list[Problem] = []
        prefix = f"{header.arch}."
        self._values = {
            key.removeprefix(prefix): _plain(value) for key, value in header.keys.items() if key.startswith(prefix)
        }
        self._silent: dict[str, Any] = {}
        self._idle = set(_IDLE)
        self.vocab = self._rows("token_embd.weight")
        self.blocks = self.count("block_count")
        self.hidden = self.count("embedding_length")
        self.heads = self.count("attention.head_count")
        self.context = self.count("context_length")
        self.head_dim = self.count("attention.key_length", max(self.hidden // self.heads, 1))
        self.kv_heads = self.value("attention.head_count_kv", self.heads)
        self._silent |= {
            "attention.value_length": self.head_dim,
            "vocab_size": self.vocab,
            "rope.dimension_count": self.head_dim,
            "rope.freq_base": BASE_FREQUENCY,
            "rope.scaling.type": "none",
            "rope.scaling.factor": 1.0,
            "rope.scaling.original_context_length": self.context,
            "attention.causal": True,
            "attention.sliding_window": 0,
            "expert_count": 0,
            "expert_used_count": 0,
        }

    def value(self, key: str, silent: Any = None) -> Any:
        """Returns the value as it is: a number, a text, a list; `silent`, or None, where the file has no such key."""
        if silent is not None:
            self._silent[key] = silent
        return self._values.get(key, silent)

    def count(self, key: str, silent: int | None = None) -> int:
        """Returns a positive whole number; the file must have it, or llama.cpp compute with `silent`."""
        value = self.value(key, silent)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.reject("missing" if value is None else f"{value!r} is no positive whole number", key)
        return 1

    def number(self, key: str, silent: float | None = None) -> float:
        """Returns a number, as the shortest decimal that is the same float32."""
        value = self.value(key, silent)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return shortest(value)
        self.reject("missing" if value is None else f"{value!r} is no number", key)
        return 1.0

    def each_block(self, key: str, silent: int | None = None) -> list[int]:
        """Returns a whole number for each block, from a list or from one number for all."""
        value = self.value(key, silent)
        values = value if isinstance(value, list) else [value] * self.blocks
        if len(values) == self.blocks and all(isinstance(one, int) for one in values):
            return values
        self.reject("missing" if value is None else f"{value!r} is no number for each of {self.blocks} blocks", key)
        return [1] * self.blocks

    def has(self, tensor: str) -> bool:
        """Returns whether the file has a tensor of this name."""
        return tensor in self._header.tensors

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape, outermost dimension first; () where the file has none of this name."""
        info = self._header.tensors.get(name)
        return () if info is None else info.shape

    def tensor(self, name: str) -> torch.Tensor | None:
        """Returns a small tensor in float32, None where the file has none of this name."""
        info = self._header.tensors.get(name)
        return None if info is None else read_tensor(info)

    def idle(self, *keys: str) -> None:
        """Says of keys that llama.cpp computes nothing with them in this model, so that a plan may lack them."""
        self._idle |= set(keys)

    def amend(self, key: str, value: Any) -> None:
        """Says which value a plan has on purpose where the file has another."""
        self._values[key] = value

    def reject(self, what: str, key: str, remedy: str = "") -> None:
        """Notes a problem with one key."""
        self._problems.append(Problem(what, f"{self.where}: {self._header.arch}.{key}", remedy))

    def check(self) -> None:
        """Raises EdgeftError with every problem so far."""
        if self._problems:
            raise EdgeftError(list(dict.fromkeys(self._problems)))

    def require_alike(self, planned: Mapping[str, Any]) -> None:
        """Raises EdgeftError, naming each, for keys that a plan for the imported model has otherwise than the file."""
        ours = {key.partition(".")[2]: value for key, value in planned.items()}
        problems = []
        for key in sorted(ours.keys() | self._values.keys()):
            if key in self._idle and key not in ours:
                continue
            expected = self._values.get(key, self._silent.get(key))
            got = ours.get(key, self._silent.get(key))
            if _comparable(expected) != _comparable(got):
                what = f"it is {_shown(expected)}, and the checkpoint would give {_shown(got)}"
                problems.append(Problem(what, f"{self.where}: {self._header.arch}.{key}", "this model is not covered"))
        if problems:
            raise EdgeftError(problems)

    def _rows(self, name: str) -> int:
        info = self._header.tensors.get(name)
        if info is None or len(info.shape) != 2:
            self._problems.append(Problem("the file lacks this tensor", f"{self.where}: {name}", "is it a model?"))
            return 1
        return info.shape[0]


def read_tensor(info: TensorInfo) -> torch.Tensor:
    """Returns a tensor in float32, dequantized as llama.cpp does."""
    data = np.fromfile(info.path, dtype=np.uint8, count=info.size_bytes, offset=info.start)
    return torch.from_numpy(dequantize(data, info.type)).reshape(info.shape)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def shortest(value: float) -> float:
    """Returns the shortest decimal that is the same number in float32."""
    return float(str(np.float32(value)))


def _comparable(value: Any) -> Any:
    """Returns a value in which lists of one value are that value, and numbers float32."""
    if isinstance(value, list):
        values = [_comparable(one) for one in value]
        return values[0] if values and all(one == values[0] for one in values) else tuple(values)
    return float(np.float32(value)) if isinstance(value, int | float) else value


def _shown(value: Any) -> str:
    return "absent" if value is None else repr(shortest(value) if isinstance(value, float) else value)

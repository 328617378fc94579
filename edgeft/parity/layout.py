"""How llama.cpp's files lay out a checkpoint's tensors: names, order of rows, offsets. Stated apart from the converter.

A converter that errs is found because what it should have done is written down here a second time, from llama.cpp's
loaders and gguf's own table of names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

from edgeft.gguf_header import GgufHeader
from edgeft.parity.distributions import Floats

_PERMUTED: Final = frozenset({"llama", "granite", "smollm3", "mistral3", "arcee", "deci"})
"""Architectures whose query and key rows llama.cpp wants for its rotary embedding over neighbours (2i, 2i + 1)."""
_PLUS_ONE: Final = frozenset({"gemma", "gemma2", "gemma3", "qwen35"})
"""Architectures whose norms multiply by 1 + weight in transformers and by weight in llama.cpp."""
_PLAIN_NORM: Final = "ssm_norm.weight"
"""The norm inside a delta net, which multiplies by weight in both."""
_DELTA: Final = frozenset({"qwen35"})
"""Architectures with gated delta nets, whose value heads llama.cpp orders by their place beside a key head."""
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")

Restore = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Place:
    """Where a tensor of the checkpoint lies in the file: the tensor's name there, and for an expert its number."""

    name: str
    expert: int | None = None


def places(header: GgufHeader, names: list[str]) -> dict[str, Place]:
    """Returns the place of each of the checkpoint's tensors in a file of this architecture; none where unknown."""
    arch = {name: number for number, name in MODEL_ARCH_NAMES.items()}.get(header.arch)
    if arch is None:
        return {}
    table = get_tensor_name_map(arch, int(header.arch_key("block_count") or 0))
    found: dict[str, Place] = {}
    for name in names:
        for spelled, expert in _spellings(name):
            there = table.get_name(spelled, try_suffixes=(".weight", ".bias"))
            if there is not None:
                # gguf's table may leave out the end of a name that the checkpoint spells without one.
                found[name] = Place(f"{there}.weight" if f"{there}.weight" in header.tensors else there, expert)
                break
    return found


def _spellings(name: str) -> Iterator[tuple[str, int | None]]:
    """Yields the names under which gguf may know a tensor: as it is, without a text model's prefix, of all experts."""
    plain = name.replace("language_model.", "")
    for spelled in dict.fromkeys((name, plain, plain.removeprefix("model."))):
        yield spelled, None
    if match := _EXPERT.fullmatch(plain):
        yield f"{match[1]}.{match[3]}", int(match[2])


def restoring(header: GgufHeader, name: str) -> Restore | None:
    """Returns what turns a tensor of the file into the checkpoint's order; None where both are the same."""
    if header.arch in _PLUS_ONE and name.endswith("norm.weight") and not name.endswith(_PLAIN_NORM):
        return lambda weights: weights - 1
    rows, columns = restoring_rows(header, name), restoring_columns(header, name)
    if columns is not None:
        return lambda weights: columns(weights.T).T
    if header.arch in _DELTA and name.endswith("ssm_a") and rows is not None:
        # The checkpoint has the logarithm of what a step forgets.
        return lambda weights: np.log(-rows(weights))
    return rows


def restoring_rows(header: GgufHeader, name: str) -> Restore | None:
    """Returns what puts the rows of a tensor, which are the features that come out, into the checkpoint's order."""
    if header.arch in _PERMUTED and (heads := _heads(header, name)):
        return lambda weights: unpermuted(weights, heads)
    match = re.fullmatch(r"blk\.\d+\.(.+)", name)
    if header.arch not in _DELTA or match is None:
        return None
    head = int(header.arch_key("ssm.state_size") or 1)
    keys = int(header.arch_key("ssm.group_count") or 1)
    sizes = {
        **{"attn_qkv.weight": (head, 2 * keys * head), "ssm_conv1d.weight": (head, 2 * keys * head)},
        **{"attn_gate.weight": (head, 0), "ssm_beta.weight": (1, 0), "ssm_alpha.weight": (1, 0)},
        **{"ssm_dt.bias": (1, 0), "ssm_a": (1, 0)},
    }
    found = sizes.get(match[1])
    return None if found is None else lambda weights: _by_key_head(weights, keys, *found)


def restoring_columns(header: GgufHeader, name: str) -> Restore | None:
    """Returns what puts the columns of a tensor, as rows, into the checkpoint's order: the features that go in."""
    if header.arch not in _DELTA or not name.endswith("ssm_out.weight"):
        return None
    head, keys = int(header.arch_key("ssm.state_size") or 1), int(header.arch_key("ssm.group_count") or 1)
    return lambda features: _by_key_head(features, keys, head, 0)


def _by_key_head(weights: Floats, keys: int, head: int, start: int) -> Floats:
    """Returns rows where those of the value heads of one key head follow one another, from `start` on.

    A value head has `head` rows. llama.cpp goes through all key heads for the first value head of each, then for the
    second.
    """
    if (weights.shape[0] - start) % (keys * head):
        return weights
    cut = weights[start:].reshape(-1, keys, head, *weights.shape[1:])
    return np.concatenate([weights[:start], cut.swapaxes(0, 1).reshape(weights[start:].shape)])


def other_layouts(header: GgufHeader, name: str) -> Mapping[str, Restore]:
    """Returns the layouts that a faulty converter may have left a tensor in, by what is wrong with it.

    For an architecture that is not known here, none of them is wrong.
    """
    found: dict[str, Restore] = {}
    if heads := _heads(header, name):
        if header.arch in _PERMUTED:
            found["the rows are not permuted for llama.cpp's rotary embedding"] = lambda weights: weights
            found["the rows are permuted twice"] = lambda weights: unpermuted(unpermuted(weights, heads), heads)
        else:
            found["the rows are permuted, which this architecture does not want"] = lambda w: unpermuted(w, heads)
    if name.endswith("norm.weight"):
        if header.arch in _PLUS_ONE and not name.endswith(_PLAIN_NORM):
            found["the 1 that llama.cpp wants added to this norm's weights is missing"] = lambda weights: weights
        else:
            found["1 is added to this norm's weights, which this architecture does not want"] = lambda w: w - 1
    return found


def is_known(arch: str) -> bool:
    """Returns whether the layout of an architecture is stated here, so that another one is a fault."""
    return arch in _PERMUTED | _PLUS_ONE | _UNCHANGED


_UNCHANGED: Final = frozenset({"qwen2", "qwen3", "qwen2moe", "qwen3moe", "phi3", "lfm2", "olmo2"})


def unpermuted(weights: Floats, heads: int) -> Floats:
    """Returns query or key rows (heads x head_dim, ...) in transformers' order: pairs (i, i + head_dim / 2)."""
    rows = weights.shape[0]
    if rows % (2 * heads):
        return weights
    cut = weights.reshape(heads, rows // heads // 2, 2, *weights.shape[1:])
    return cut.swapaxes(1, 2).reshape(weights.shape)


def _heads(header: GgufHeader, name: str) -> int:
    """Returns the heads of a query or key projection, 0 for another tensor."""
    match = re.fullmatch(r"blk\.(\d+)\.attn_([qk])\.(weight|bias)", name)
    if match is None:
        return 0
    key = "attention.head_count" if match[2] == "q" else "attention.head_count_kv"
    count: Any = header.arch_key(key)
    if count is None:
        count = header.arch_key("attention.head_count") or 0
    return int(count if isinstance(count, int) else count[int(match[1])])

"""The rotary embedding: its keys, its scaling, and the order of rows that llama.cpp rotates in."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from gguf import Keys, RopeScalingType

from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import BASE_FREQUENCY, GgufFields
from edgeft.convert.plan import Change

TABLE = "rope_parameters"
_FREQUENCY_FACTORS = "rope_freqs.weight"
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# What llama.cpp computes with, whatever the file says, except for the architectures that pass `any_beta`.
_YARN_BETAS = {
    "beta_fast": (32.0, Keys.Rope.SCALING_YARN_BETA_FAST),
    "beta_slow": (1.0, Keys.Rope.SCALING_YARN_BETA_SLOW),
}


def add_rope(draft: Draft, scalings: Collection[str] = ("linear", "yarn"), table: str = TABLE) -> None:
    """Adds base frequency and scaling; `scalings` are those that llama.cpp computes for this architecture.

    "dynamic" is always taken as none: it begins where the context that the file states ends.
    """
    config, values = draft.config, draft.config.table(table)
    draft.key(Keys.Rope.FREQ_BASE, config.number("rope_theta", within=table))
    kind = rope_kind(draft, table)
    if (values.get("partial_rotary_factor") or 1.0) != 1.0:
        config.reject("rotary embedding of a part of each head", f"{table}.partial_rotary_factor")
    if kind in ("default", "dynamic"):
        return
    if kind not in scalings:
        covered = ", ".join(("default", "dynamic", *scalings))
        config.reject(f"RoPE scaling {kind!r} is not covered", table, f"covered: {covered}")
    elif kind == "linear":
        draft.key(Keys.Rope.SCALING_TYPE, RopeScalingType.LINEAR.value)
        draft.key(Keys.Rope.SCALING_FACTOR, config.number("factor", within=table))
    elif kind == "yarn":
        add_yarn(draft, table)
    elif kind == "llama3":
        _add_llama3(draft, table)


def rope_kind(draft: Draft, table: str = TABLE) -> str:
    """Returns the name of the scaling: "default" for none."""
    values = draft.config.table(table)
    return str(values.get("rope_type") or values.get("type") or "default")


def add_yarn(draft: Draft, table: str, *, any_beta: bool = False) -> None:
    """Adds YaRN's keys (Peng et al. 2023), as transformers computes it and llama.cpp's ggml_rope_yarn_corr_dims.

    llama.cpp reads the two betas for `any_beta` architectures only, and scales attention by 0.1 ln(factor) + 1.
    """
    config, values = draft.config, draft.config.table(table)
    factor = config.number("factor", within=table)
    draft.key(Keys.Rope.SCALING_TYPE, RopeScalingType.YARN.value)
    draft.key(Keys.Rope.SCALING_FACTOR, factor)
    original = values.get("original_max_position_embeddings") or config.count("max_position_embeddings")
    draft.key(Keys.Rope.SCALING_ORIG_CTX_LEN, original)
    for name, (usual, key) in _YARN_BETAS.items():
        value = config.number(name, usual, within=table)
        if values.get(name) is not None:
            draft.key(key, value)
        if value != usual and not any_beta:
            config.reject(f"{value}: llama.cpp computes with {usual}", f"{table}.{name}")
    usual = 0.1 * math.log(factor) + 1
    if not math.isclose(config.number("attention_factor", usual, within=table), usual, rel_tol=1e-6):
        config.reject(f"llama.cpp computes with {usual:.6g}", f"{table}.attention_factor")
    if values.get("truncate") is False:
        config.reject("llama.cpp rounds the bounds of the ramp", f"{table}.truncate")


def _add_llama3(draft: Draft, table: str) -> None:
    numbers = {name: draft.config.number(name, within=table) for name in ("rope_theta", *_LLAMA3)}
    if numbers["high_freq_factor"] <= numbers["low_freq_factor"]:
        draft.config.reject("must be above low_freq_factor", f"{table}.high_freq_factor")
    else:
        draft.generate(_FREQUENCY_FACTORS, llama3_frequency_factors(draft.head_dim, numbers))


def llama3_frequency_factors(head_dim: int, rope: Mapping[str, float]) -> torch.Tensor:
    """Returns what llama.cpp divides each rotary frequency by under Llama 3.1's scaling; (head_dim / 2,), float32.

    High frequencies stay, low ones are slowed by `factor`, those between are blended. The same arithmetic as
    transformers' `_compute_llama3_parameters`, in float32 throughout.
    """
    frequencies = 1.0 / (rope["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    wavelengths = 2 * math.pi / frequencies
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    original_context = rope["original_max_position_embeddings"]
    blend = (original_context / wavelengths - low) / (high - low)
    factors = 1 / ((1 - blend) / factor + blend)
    factors[wavelengths > original_context / low] = factor
    factors[wavelengths < original_context / high] = 1.0
    return factors


def permuted_rows(heads: int) -> Change:
    """Returns the order of rows of a query or key projection (or its bias) for llama.cpp's rotary embedding.

    transformers rotates the pairs (i, i + head_dim / 2) of a head; llama.cpp, for the architectures that need this,
    the neighbours (2i, 2i + 1).
    """

    def make(weight: torch.Tensor) -> torch.Tensor:
        rows = weight.shape[0]
        return weight.view(heads, 2, rows // heads // 2, -1).transpose(1, 2).reshape(weight.shape)

    def undo(weight: torch.Tensor) -> torch.Tensor:
        rows = weight.shape[0]
        return weight.view(heads, rows // heads // 2, 2, -1).transpose(1, 2).reshape(weight.shape)

    return Change(make, undo)


def rope_of(file: GgufFields) -> dict[str, Any]:
    """Returns config.json's table of the rotary embedding that `add_rope` makes these keys and `rope_freqs.weight` of.

    Without a name of the scaling llama.cpp takes the factor, where there is one, as linear.
    """
    theta, factor = file.number("rope.freq_base", BASE_FREQUENCY), file.number("rope.scaling.factor", 1.0)
    kind = file.value("rope.scaling.type") or ("linear" if factor != 1 else "none")
    factors = file.tensor(_FREQUENCY_FACTORS)
    if kind == "yarn":
        original = file.count("rope.scaling.original_context_length", file.context)
        table = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        for name, (_, key) in _YARN_BETAS.items():
            short = key.partition(".")[2]
            if file.value(short) is not None:
                table[name] = file.number(short)
    elif kind == "linear" and factor != 1:
        table = {"rope_type": "linear", "factor": factor}
    elif factors is not None and bool((factors != 1).any()):
        table = _llama3_of(file, factors, theta)
    else:
        table = {"rope_type": "default"}
    return {"rope_theta": theta, **table}


def _llama3_of(file: GgufFields, factors: torch.Tensor, theta: float) -> dict[str, Any]:
    """Returns the numbers of Llama 3.1's scaling that give these frequency factors.

    They are not unique: low_freq_factor, high_freq_factor and the original context may be multiplied by one number. So
    the first is 1, as in every released model. Those of released models are tried first, then what a line through the
    blended frequencies gives.
    """
    factor = float(factors.max())
    known = [
        {"factor": size, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": original}
        for size in (factor, 8.0, 32.0, 16.0, 4.0, 2.0)
        for original in (8192, 4096, 2048, 16384, 32768, 131072)
    ]
    for table in [*known, *_blended(factors, theta, factor)]:
        made = llama3_frequency_factors(2 * factors.numel(), {"rope_theta": theta, **table})
        if torch.allclose(made, factors, rtol=1e-6, atol=0):
            return {"rope_type": "llama3", **table}
    file.reject("these frequency factors are not those of Llama 3.1's scaling", _FREQUENCY_FACTORS)
    return {"rope_type": "default"}


def _blended(factors: torch.Tensor, theta: float, factor: float) -> Iterator[dict[str, Any]]:
    """Yields what the frequencies between the unscaled and the scaled ones tell: 1 / factor is linear in frequency."""
    count = factors.numel()
    frequencies = 1.0 / theta ** (torch.arange(count, dtype=torch.float64) / count)
    between = (factors > 1) & (factors < factor)
    if int(between.sum()) < 2:
        return
    blend = (1 / factors[between].double() - 1 / factor) / (1 - 1 / factor)
    turns = frequencies[between] / (2 * math.pi)
    slope = float((blend[0] - blend[-1]) / (turns[0] - turns[-1]))
    offset = float(blend[0]) - slope * float(turns[0])
    if offset >= 0 or slope <= 0:
        return
    high = 1 - 1 / offset
    for rounded in (round(high), round(high, 3), high):
        original = round(slope * (rounded - 1))
        yield {
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": float(rounded),
            "original_max_position_embeddings": original,
        }

"""Measures training throughput on a CUDA GPU, at the shapes of known models with random weights.

    python scripts/bench_train.py                        the table of docs/benchmarks.md
    python scripts/bench_train.py 8b:fast:8448 1b:plain:16384:recompute

A variant is SHAPE:ENGINE:TOKENS with any of `:recompute`, `:resident` and `:profile` behind it. Engines: `fast` is
edgeft's, `plain` the layers of transformers, peft and bitsandbytes over edgeft's packed batches and loss, `padded` all
of theirs (TOKENS then counts padding too). Speed is in tokens of records, padding left out.
"""

from __future__ import annotations

import gc
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen3Config

from edgeft import hf
from edgeft.config import LoraConfig
from edgeft.train.batches import collate
from edgeft.train.fast import accelerate_model, packed_loss
from edgeft.train.packing import TokenBudgetSampler, pack

LLAMA_3: dict[str, Any] = {"vocab_size": 128_256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5}
SHAPES: dict[str, PreTrainedConfig] = {
    "8b": LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
        **LLAMA_3,
    ),
    "1b": LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        **LLAMA_3,
    ),
    "0.6b": Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151_936,
        tie_word_embeddings=True,
    ),
}
LORA = LoraConfig(rank=16, alpha=32, dropout=0.0)
DEFAULT = (
    *("8b:fast:8448", "8b:fast:8448:resident", "8b:fast:16896:resident", "8b:fast:8192:recompute"),
    *("8b:plain:8192", "8b:padded:8192"),
    *("1b:fast:16384:resident", "1b:fast:16384:recompute", "1b:plain:16384", "1b:padded:16384"),
    *("0.6b:fast:16384:resident", "0.6b:fast:16384:recompute", "0.6b:plain:16384", "0.6b:padded:16384"),
)
LEARNING_RATE = 2e-4
WARM_UP = 4
SECONDS = 7.0


@dataclass(frozen=True)
class Variant:
    """What is measured."""

    shape: str
    engine: str
    tokens: int
    options: frozenset[str]


def parse(text: str) -> Variant:
    """Reads SHAPE:ENGINE:TOKENS[:OPTION...]."""
    shape, engine, tokens, *options = text.split(":")
    return Variant(shape, engine, int(tokens), frozenset(options))


def matmul_rate() -> float:
    """Returns the FLOP/s of a square bfloat16 product, median of 30 after warming up."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for step in range(50):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        torch.mm(a, b)
        end.record()
        end.synchronize()
        if step >= 20:
            seconds.append(start.elapsed_time(end) / 1000)
    return float(2 * 8192**3 / statistics.median(seconds))


def build(variant: Variant) -> Any:
    """Returns the shape with random weights, its linear layers quantized, with an adapter, ready to train."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            SHAPES[variant.shape], attn_implementation="sdpa"
        )
    torch.set_default_dtype(torch.float32)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, _quantized(module))
    model.is_loaded_in_4bit = True
    recompute = "recompute" in variant.options
    if variant.engine == "padded":
        adapted = hf.add_lora(model, LORA, gradient_checkpointing=recompute)
    else:
        adapted = hf.add_lora(model, LORA, prepare=False)
        resident = "resident" in variant.options
        fast = variant.engine == "fast"
        accelerate_model(adapted, recompute=recompute, resident=resident, fast=fast)
    adapted.train()
    return adapted


def _quantized(linear: torch.nn.Linear) -> Any:
    with torch.device("meta"):
        layer = Linear4bit(
            linear.in_features, linear.out_features, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4"
        )
    layer.weight = Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4").to("cuda")
    return layer


def batches(variant: Variant, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yields batches of records whose lengths are lognormal, median 256, sigma 0.8, from 32 to 2,048 tokens.

    Small ids are more frequent, so that there is something to learn.
    """
    rng = random.Random(seed)
    n_vocab = SHAPES[variant.shape].vocab_size
    lengths = [max(32, min(2048, round(math.exp(rng.gauss(math.log(256), 0.8))))) for _ in range(1500)]
    examples = []
    for length in lengths:
        ids = [10 + int((n_vocab - 10) * rng.random() ** 8) for _ in range(length)]
        examples.append({"input_ids": ids, "labels": list(ids)})
    order: Iterator[list[int]]
    if variant.engine == "padded":
        rows = max(1, variant.tokens // 1024)
        order = iter([[rng.randrange(len(examples)) for _ in range(rows)] for _ in range(500)])
    else:
        sampler = TokenBudgetSampler(lengths, variant.tokens, seed)
        order = (batch for _ in range(1000) for batch in sampler)
    for batch in order:
        chosen = [examples[index] for index in batch]
        tensors = collate(chosen) if variant.engine == "padded" else pack(chosen)
        moved = {name: v.cuda(non_blocking=True) if isinstance(v, torch.Tensor) else v for name, v in tensors.items()}
        yield {**moved, "real": sum(lengths[index] for index in batch)}


def measure(variant: Variant, rate: float) -> dict[str, Any]:
    """Trains for some seconds; returns the figures."""
    model = build(variant)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=True)
    torch.cuda.reset_peak_memory_stats()
    losses, norms, real, started = [], [], 0, 0.0
    source = batches(variant)
    prepared = [next(source) for _ in range(24)]
    for step in range(10_000):
        if step == WARM_UP:
            torch.cuda.synchronize()
            started, real = time.perf_counter(), 0
        batch = dict(prepared[step % len(prepared)])
        real += batch.pop("real")
        loss, norm = _step(model, optimizer, trained, batch, padded=variant.engine == "padded")
        losses.append(loss)
        norms.append(norm)
        if step > WARM_UP and step % 4 == 0:
            torch.cuda.synchronize()
            if time.perf_counter() - started > SECONDS:
                break
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**30
    if "profile" in variant.options:
        _profile(model, optimizer, trained, prepared)
    speed = real / seconds
    return {
        "tokens/s": f"{speed:,.0f}",
        "ms/step": f"{1000 * seconds / (len(losses) - WARM_UP):.1f}",
        "of limit": f"{speed * _flop_a_token(SHAPES[variant.shape]) / rate:.1%}",
        "peak GiB": f"{peak:.1f}",
        "loss": f"{float(losses[0]):.3f} -> {float(losses[-1]):.3f}",
        "gradient": f"{float(norms[0]):.3f} -> {float(norms[-1]):.3f}",
        "steps": str(len(losses)),
    }


def _step(
    model: torch.nn.Module, optimizer: Any, trained: list[torch.nn.Parameter], batch: dict[str, Any], *, padded: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    if padded:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**batch).loss
    else:
        loss = packed_loss(model, batch)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), norm


def _flop_a_token(config: Any) -> float:
    """FLOP that frozen weights cost a token: 2 forward and 2 back to the activations, for each weight."""
    width, dim = config.hidden_size, config.head_dim
    attention = width * dim * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    layer = attention + 3 * width * config.intermediate_size
    weights: int = config.num_hidden_layers * layer + width * config.vocab_size
    return 4.0 * weights


def _profile(model: Any, optimizer: Any, trained: Any, prepared: list[dict[str, Any]]) -> None:
    """Prints where the time of two steps goes, by kernel."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        for batch in prepared[:2]:
            _step(model, optimizer, trained, {k: v for k, v in batch.items() if k != "real"}, padded=False)
        torch.cuda.synchronize()
    rows = [e for e in profiler.key_averages() if str(e.device_type).endswith("CUDA")]
    rows.sort(key=lambda event: -event.self_device_time_total)
    print(f"kernels of a step: {sum(e.self_device_time_total for e in rows) / 2000:.1f} ms")
    for event in rows[:45]:
        print(f"{event.self_device_time_total / 2000:9.2f} ms {event.count // 2:6} x {event.key[:130]}")


def main(arguments: list[str]) -> None:
    """Measures each variant and prints a table."""
    rate = matmul_rate()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16 product {rate / 1e12:.0f} TFLOP/s")
    lines = []
    for text in arguments or DEFAULT:
        try:
            row = measure(parse(text), rate)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            row = {"failed": str(error).splitlines()[0][:200]}
        lines.append(f"{text:28} " + "  ".join(f"{name} {value}" for name, value in row.items()))
        print(lines[-1], flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    print("\n".join(["", *lines]))


if __name__ == "__main__":
    main(sys.argv[1:])

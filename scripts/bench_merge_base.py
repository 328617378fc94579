"""Merged into the original base or into the rounded one: files of both, held to the model as it was trained.

    python scripts/bench_merge_base.py BASE ADAPTER RECORDS [--types F16 Q8_0] [--records 64] [--answers 300]

The reference is the 4-bit base with its adapter, as training saw it. For each base and type: mean KLD from that
reference, top token, the loss of the true answers, and the share of answers that match exactly.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeft import hf
from edgeft.artifacts import Adapter, Checkpoint, GgufFile
from edgeft.config import ConvertConfig, EvalConfig, ParityConfig
from edgeft.convert import convert
from edgeft.dataset.records import read_records
from edgeft.evaluate.on_edge import evaluate_gguf
from edgeft.merge import MergeBase, merged_weights
from edgeft.parity.check import check_parity
from edgeft.parity.record import MergedModel, record_reference
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights

_BASES: tuple[MergeBase, ...] = ("original", "dequantized")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each base and type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--types", nargs="+", default=["F16", "Q8_0", "Q4_K_M", "Q2_K"])
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--n-ctx", type=int, default=384)
    options = parser.parse_args(arguments)
    base, adapter = Checkpoint.open(options.base), Adapter.open(options.adapter)
    records = read_records(options.data)
    parity, asked = ParityConfig(records=options.records, max_new_tokens=96), EvalConfig(max_new_tokens=96)
    device = hf.pick_device("auto")
    with TemporaryDirectory() as name:
        work = Path(name)
        trained = MergedModel(partial(hf.load_adapted, base, adapter, device), CheckpointWeights(base))
        reference = record_reference(base, None, records, parity, device, work / "reference.npz", model=trained)
        print(f"{'base':<12} {'type':<8} {'mean KLD':>10} {'same top':>9} {'loss':>8} {'exact':>7}")
        for merge_base in _BASES:
            source = work / f"{merge_base}.gguf"
            convert(merged_weights(base, adapter, merge_base), base, ConvertConfig(name="m"), source)
            for type_name in options.types:
                path = work / f"{merge_base}-{type_name}.gguf"
                gguf = GgufFile(source) if type_name == "F16" else quantize(GgufFile(source), type_name, path)
                folder = work / f"{merge_base}-{type_name}"
                logits = check_parity(reference, gguf, parity, folder).content()["logits"]
                scores = evaluate_gguf(gguf, records[: options.answers], options.n_ctx, asked, folder).content()
                figures = f"{logits['mean_kld']:10.2e} {logits['top1']:9.2%} {math.log(logits['ppl']):8.4f}"
                print(f"{merge_base:<12} {type_name:<8} {figures} {scores['exact_match']:7.1%}", flush=True)


if __name__ == "__main__":
    main()

"""Merged into the original base or into the rounded one: files of both, held to the model as it was trained.

    python scripts/bench_merge_base.py BASE ADAPTER RECORDS [--types F16 Q8_0] [--answers 300]

For each base, in float32 and as a file of each type: mean KLD from the 4-bit base with its adapter and the loss of the
true answers, as `merge.base = "auto"` measures them, and the share of answers that match exactly.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeft import hf
from edgeft.artifacts import Adapter, Checkpoint, GgufFile
from edgeft.config import ConvertConfig, DatasetConfig, EvalConfig
from edgeft.convert import convert
from edgeft.dataset.records import Record, read_records, stream_records
from edgeft.dataset.tokens import TokenInputs, TokenizedExamples, TokenSource, build_tokens
from edgeft.evaluate.on_edge import evaluate_gguf
from edgeft.merge import MergeBase, load_merged, merged_weights
from edgeft.parity.merge_base import Candidate, measure_merge_bases
from edgeft.quantize import quantize

_BASES: tuple[MergeBase, ...] = ("original", "dequantized")
_N_CTX = 384


class Bench:
    """One adapter, its files in a folder, and by base and type how many answers were right."""

    def __init__(self, base: Checkpoint, adapter: Adapter, records: Sequence[Record], types: Sequence[str]) -> None:
        self._base, self._adapter = base, adapter
        self._records, self._types = records, types
        self.exact: dict[tuple[str, str], float] = {}

    def measure(self, examples: TokenizedExamples, work: Path) -> dict[str, Any]:
        """Returns what `merge.base = "auto"` writes down, for these types."""
        device = hf.pick_device("auto")
        candidates: dict[str, Candidate] = {
            name: Candidate(
                partial(load_merged, self._base, self._adapter, name, device), partial(self._files, name, work)
            )
            for name in _BASES
        }
        live = partial(hf.load_adapted, self._base, self._adapter, device)
        return measure_merge_bases(live, candidates, examples, work)

    def _files(self, merge_base: MergeBase, work: Path) -> Iterator[tuple[str, GgufFile]]:
        weights = merged_weights(self._base, self._adapter, merge_base)
        source = convert(weights, self._base, ConvertConfig(name="m", random_texts=0), work / f"{merge_base}.gguf")
        asked = EvalConfig(max_new_tokens=96)
        for kind in self._types:
            path = work / f"{merge_base}-{kind}.gguf"
            gguf = source if kind == "F16" else quantize(source, kind, path)
            scores = evaluate_gguf(gguf, self._records, _N_CTX, asked, work / f"{merge_base}-{kind}").content()
            self.exact[merge_base, kind] = scores["exact_match"]
            yield kind, gguf


def _row(base: str, kind: str, figures: Mapping[str, float], exact: float | None) -> str:
    numbers = f"{figures['mean_kld']:10.2e} {figures['top1']:9.2%} {figures['loss']:8.4f}"
    return f"{base:<12} {kind:<8} {numbers} {'' if exact is None else f'{exact:7.1%}'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each base and type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--types", nargs="+", default=["F16", "Q8_0", "Q4_K_M", "Q2_K"])
    parser.add_argument("--answers", type=int, default=300)
    options = parser.parse_args(arguments)
    base, adapter = Checkpoint.open(options.base), Adapter.open(options.adapter)
    bench = Bench(base, adapter, read_records(options.data)[: options.answers], options.types)
    with TemporaryDirectory() as name:
        work = Path(name)
        (work / "tokens").mkdir()
        source = TokenSource(str(options.data), partial(stream_records, options.data))
        config = DatasetConfig(train=str(options.data), max_tokens=_N_CTX)
        build_tokens(TokenInputs([source]), hf.tokenizer_opener(base.path), config, work / "tokens", workers=1)
        measured = bench.measure(TokenizedExamples(work / "tokens" / "train"), work)
    print(f"{measured['positions']} tokens of answers; loss as trained {measured['loss_as_trained']:.4f}")
    print(f"{'base':<12} {'type':<8} {'mean KLD':>10} {'same top':>9} {'loss':>8} {'exact':>7}")
    for name, figures in measured["merged"].items():
        print(_row(name, "float32", figures, None))
        for kind, found in figures["quantized"].items():
            print(_row(name, kind, found, bench.exact[name, kind]))


if __name__ == "__main__":
    main()

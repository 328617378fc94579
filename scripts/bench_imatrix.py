"""When an importance matrix helps: the divergence of types without one, with a general text, own records, and both.

    python scripts/bench_imatrix.py GGUF --base MODEL --adapter DIR --tokens DIR --text FILE [--tokens-seen 50000]

GGUF is the unquantized file of the tuned model, --tokens the tokens/ folder of its run. Matrices are measured on the
training records; each file is held to GGUF in llama.cpp, on the answers of the evaluation records, which nothing has
seen. Prints mean KLD in 1e-4 nats a token.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeft import hf
from edgeft.artifacts import Checkpoint, GgufFile, Tokens, open_trained
from edgeft.config import ImatrixConfig
from edgeft.convert import tensor_names
from edgeft.imatrix import make_imatrix, measured_texts
from edgeft.merge import load_merged
from edgeft.quant_types import NEEDS_IMATRIX
from edgeft.quantize import Recipe, quantize
from edgeft.quantize.budget import FileDivergence
from edgeft.quantize.passages import passages

_TYPES = ("Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "IQ3_XXS", "Q2_K")


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the matrices, then every file with each, and prints a row for each type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="a text of another kind, as wikitext-2")
    parser.add_argument("--tokens-seen", type=int, default=50_000, help="tokens that a matrix is measured on")
    parser.add_argument("--positions", type=int, default=5000, help="tokens that divergences are measured on")
    parser.add_argument("--types", nargs="+", default=_TYPES)
    options = parser.parse_args(arguments)
    source, tokens = GgufFile.open(options.gguf), Tokens(options.tokens)
    measure = FileDivergence(source, passages(tokens, options.positions, "evaluation"))
    with TemporaryDirectory(dir=options.gguf.parent) as name:
        work = Path(name)
        matrices: dict[str, Path | None] = {"none": None, **_matrices(options, work)}
        print(f"{'type':<8} {'bytes':>12} " + " ".join(f"{kind:>10}" for kind in matrices), flush=True)
        for type_name in options.types:
            cells, size_bytes = [], 0
            for matrix in matrices.values():
                if matrix is None and type_name in NEEDS_IMATRIX:
                    cells.append(f"{'-':>10}")
                    continue
                made = quantize(source, Recipe(type_name, imatrix=matrix), work / "made.gguf")
                size_bytes = made.size_bytes
                cells.append(f"{1e4 * measure(made):10.3f}")
            print(f"{type_name:<8} {size_bytes:12,} " + " ".join(cells), flush=True)


def _matrices(options: argparse.Namespace, work: Path) -> dict[str, Path]:
    """Writes the matrices of a text, of the records, and of both with half the tokens of each."""
    base = Checkpoint.open(options.base)
    load = partial(load_merged, base, open_trained(options.adapter), "original", hf.pick_device("auto"))
    names = tensor_names(base)
    made = {}
    for kind, records, text, share in (("text", False, True, 1), ("records", True, False, 1), ("both", True, True, 2)):
        config = ImatrixConfig(tokens=options.tokens_seen // share)
        files = [options.text] if text else []
        texts = measured_texts(base, Tokens(options.tokens) if records else None, files, config)
        made[kind] = work / f"{kind}.gguf"
        make_imatrix(load, names, texts, config, made[kind])
    return made


if __name__ == "__main__":
    main()

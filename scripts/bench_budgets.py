"""What a healthy model loses by type: files of a checkpoint against its F16 file, on the built-in conversations.

    python scripts/bench_budgets.py MODEL FOLDER [--types Q8_0 Q4_K_M] [--every 1]

MODEL is a checkpoint that was not trained further. Its files are made in FOLDER, and those that lie there are used
again. F16 loses nothing that shows in these figures (docs/parity.md), so no torch is needed to measure the others.
Prints for each type mean KLD, same top token and perplexity ratio with their 95% intervals, and in brackets what
`edgeft.parity.thresholds` allows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeft import hf
from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ConvertConfig, ParityConfig
from edgeft.convert import convert
from edgeft.dataset.mask import tokenize_last_turn
from edgeft.gguf_header import read_header
from edgeft.given_template import given_template
from edgeft.llamacpp import Engine
from edgeft.parity.conversations import PLAIN_TEMPLATE, built_in_records
from edgeft.parity.distributions import Distributions, truncated
from edgeft.parity.figures import JUDGED, allowed, measured
from edgeft.parity.statistics import Divergence, DivergenceMeter
from edgeft.parity.thresholds import allowed_ranges, budget
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights

_TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q4_1", "Q4_0", "Q3_K_M", "IQ3_S", "Q2_K")


class Texts:
    """The built-in conversations in a model's tokens: all ids, and the number of the first one that is scored."""

    def __init__(self, checkpoint: Checkpoint, every: int) -> None:
        tokenizer = hf.load_tokenizer(checkpoint.path)
        if given_template(checkpoint.path) is not None:
            tokenizer.chat_template = PLAIN_TEMPLATE
        view = hf.tokenizer_view(tokenizer, checkpoint.path)
        turns = [tokenize_last_turn(record, view) for record in built_in_records()[::every]]
        self.scored: list[tuple[list[int], int]] = [(prompt + turn, len(prompt)) for _, prompt, turn in turns]
        self.longest = max(len(ids) for ids, _ in self.scored)

    def distributions(self, gguf: GgufFile) -> list[Distributions]:
        """Returns what the file predicts at each scored position, a record each."""
        kept = []
        with Engine(gguf, self.longest + 8, exact_kv=True) as engine:
            for ids, first in self.scored:
                parts = [
                    truncated(rows.copy(), ids[start + 1 :][: len(rows)], ParityConfig().kept_tokens)
                    for start, rows in engine.logit_chunks(ids[:-1], first - 1)
                ]
                kept += [_joined(parts)]
        return kept

    def divergence(self, gguf: GgufFile, reference: Sequence[Distributions]) -> Divergence:
        """Returns how far a file is from the reference."""
        meter = DivergenceMeter()
        with Engine(gguf, self.longest + 8, exact_kv=True) as engine:
            for number, (ids, first) in enumerate(self.scored):
                for start, rows in engine.logit_chunks(ids[:-1], first - 1):
                    done = start - (first - 1)
                    kept = reference[number].slice(done, done + len(rows))
                    meter.add(kept, rows, ids[start + 1 :][: len(rows)], number)
        return meter.result()


def _joined(parts: Sequence[Distributions]) -> Distributions:
    columns = ([vars(part)[name] for part in parts] for name in vars(parts[0]))
    return Distributions(*(np.concatenate(column) for column in columns))


def main() -> None:
    """Makes the files that are missing, measures each, and prints a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--types", nargs="+", default=_TYPES)
    parser.add_argument("--every", type=int, default=1, help="take only one in so many conversations")
    asked = parser.parse_args()
    checkpoint = Checkpoint.open(asked.model)
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = asked.folder / "F16.gguf"
    if not path.exists():
        convert(CheckpointWeights(checkpoint), checkpoint, ConvertConfig(name="m", random_texts=0), path)
    source = GgufFile.open(path)
    n_weights = read_header(source).n_weights
    texts = Texts(checkpoint, asked.every)
    reference = texts.distributions(source)
    print(f"{n_weights:,} weights, {sum(len(kept) for kept in reference):,} positions", flush=True)
    for name in asked.types:
        path = asked.folder / f"{name}.gguf"
        figures = texts.divergence(GgufFile.open(path) if path.exists() else quantize(source, name, path), reference)
        ranges = allowed_ranges(budget(name, n_weights))
        said = (
            f"{JUDGED[key].name} {measured(key, figures.to_json())} [{allowed(key, ranges[key])}]" for key in JUDGED
        )
        print(f"{name:<8} {'; '.join(said)}", flush=True)


if __name__ == "__main__":
    main()

"""Trains once over 4 bits and merges into the original base and into the rounded one: files of both, beside the model.

    python scripts/bench_merge_base.py BASE RECORDS --out merge_base.json [--rank 32] [--alpha 64] [--rate 1e-3]
        [--epochs 4] [--batch-size 64] [--answers 350] [--types F16 Q8_0 Q4_K_M]

BASE is a checkpoint folder, or a GGUF file where this edgeft imports them. RECORDS is a folder with train.jsonl and
validation.jsonl. For each merge base and type: exact match, answers won and lost against the model as trained and the
probability that chance did it (McNemar's exact test), mean KLD from the model as trained and the loss of the true
answers over 2,048 held-out tokens, and the share of the training that survives rounding. Files are answered with
llama.cpp on the CPU, several processes at a time; the model as trained in batches, on a GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from edgeft.artifacts import Checkpoint, GgufFile, Trained
from edgeft.config import ConvertConfig, DatasetConfig, EvalConfig, LoraConfig, TrainConfig
from edgeft.cores import available_cores
from edgeft.dataset.records import Record, read_records, stream_records
from edgeft.evaluate.on_edge import answer
from edgeft.files import write_json
from edgeft.llamacpp import Engine
from edgeft.metric import is_exact

MERGE_BASES: tuple[Literal["original", "dequantized"], ...] = ("original", "dequantized")
_N_CTX = 512
_MAX_NEW = 96
_THREADS_EACH = 2
"""Of a process that answers: a model of 135M weights gains next to nothing from more."""
_SHARD_RECORDS = 25


class Clock:
    """The seconds of each step, printed as it ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times what is done within."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)
        print(f"{name:<36} {self.seconds[name]:8.1f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs everything, writes the JSON file and prints the table."""
    options = _parse(arguments)
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        content = bench(options, Path(name), clock)
    write_json(options.out, content)
    print_table(content)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--out", type=Path, default=Path("merge_base.json"))
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--alpha", type=float, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--answers", type=int, default=350)
    parser.add_argument("--types", nargs="+", default=["F16", "Q8_0", "Q4_K_M"])
    parser.add_argument("--train-records", type=int, default=0, help="0: all")
    return parser.parse_args(arguments)


def bench(options: argparse.Namespace, work: Path, clock: Clock) -> dict[str, Any]:
    """Returns everything that is measured; files are made in `work`."""
    import torch

    from edgeft import hf
    from edgeft.train import train

    hf.quiet()
    base = checkpoint_of(options.base, work)
    device = hf.pick_device("auto")
    held_out = read_records(options.records / "validation.jsonl")[: options.answers]
    with clock.step("tokens"):
        tokens = _tokens(base, options, work)
    config = TrainConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.rate,
        evaluations=2,
        lora=LoraConfig(rank=options.rank, alpha=options.alpha),
    )
    with clock.step("training"):
        trained = train(tokens, base, config, work / "adapter")
    with clock.step("answers as trained"):
        as_trained = _answers_as_trained(base, trained, device, held_out, work)
    files = _files(base, trained, options.types, work, clock)
    with clock.step("divergences and losses"):
        measured = _divergences(base, trained, tokens, files, device, work)
    with clock.step("share that survives rounding"):
        survival = _survival(base, trained, [name for name in options.types if name != "F16"])
    with clock.step("answers of the files"):
        answers = answers_of(files, held_out)
    rows = []
    for merge_base, made in files.items():
        for kind in made:
            row: dict[str, Any] = {"base": merge_base, "type": kind, "size_bytes": made[kind].size_bytes}
            row |= measured["merged"][merge_base]["quantized"][kind]
            row |= survival[merge_base].get(kind, {})
            rows.append(row | compared(held_out, as_trained, answers[merge_base, kind]))
    between = {
        kind: compared(held_out, answers["original", kind], answers["dequantized", kind]) for kind in options.types
    }
    return {
        "base": options.base.name,
        "machine": f"{platform.machine()}, {available_cores()} cores, {device}",
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "settings": {name: str(value) for name, value in vars(options).items()},
        "training": json.loads((work / "adapter" / "training.json").read_text(encoding="utf-8")),
        "as_trained": {"exact": exact_share(held_out, as_trained), "loss": measured["loss_as_trained"]},
        "merged_in_float32": {name: {**one, "quantized": None} for name, one in measured["merged"].items()},
        "positions": measured["positions"],
        "rows": rows,
        "dequantized_against_original": between,
        "seconds": clock.seconds,
        "answers": [
            {"expected": record.answer, "as_trained": said}
            | {f"{merge_base} {kind}": given[number] for (merge_base, kind), given in answers.items()}
            for number, (record, said) in enumerate(zip(held_out, as_trained, strict=True))
        ],
    }


def checkpoint_of(path: Path, work: Path) -> Checkpoint:
    """Opens a folder; a GGUF file is imported, by the command, into a folder in `work`."""
    if path.is_dir():
        return Checkpoint.open(path)
    from edgeft.cli import main as edgeft

    edgeft(["import", str(path), "--out", str(work / "base")], standalone_mode=False)
    return Checkpoint.open(work / "base")


def _tokens(base: Checkpoint, options: argparse.Namespace, work: Path) -> Any:
    from edgeft import hf
    from edgeft.artifacts import Tokens
    from edgeft.dataset.tokens import TokenInputs, TokenSource, build_tokens

    train = options.records / "train.jsonl"
    if options.train_records:
        lines = train.read_text(encoding="utf-8").splitlines(keepends=True)[: options.train_records]
        train = work / "train.jsonl"
        train.write_text("".join(lines), encoding="utf-8")
    evaluation = options.records / "validation.jsonl"
    sources = [TokenSource(str(path), partial(stream_records, path)) for path in (train, evaluation)]
    config = DatasetConfig(train=str(train), evaluation=str(evaluation), max_tokens=_N_CTX)
    out = work / "tokens"
    out.mkdir()
    build_tokens(TokenInputs(sources[:1], sources[1]), hf.tokenizer_opener(base.path), config, out)
    return Tokens(out)


def _answers_as_trained(
    base: Checkpoint, trained: Trained, device: Any, records: Sequence[Record], work: Path
) -> list[str]:
    from edgeft import hf
    from edgeft.evaluate.on_torch import evaluate_model

    tokenizer = hf.load_tokenizer(base.path)
    end_ids = hf.end_token_ids(tokenizer, base.path)
    config = EvalConfig(max_new_tokens=_MAX_NEW, batch_size=64)
    model = hf.load_adapted(base, trained, device)
    evaluate_model(model, tokenizer, end_ids, records, config, work / "as-trained")
    lines = (work / "as-trained" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["answer"] for line in lines]


def _files(
    base: Checkpoint, trained: Trained, types: Sequence[str], work: Path, clock: Clock
) -> dict[str, dict[str, GgufFile]]:
    """Returns by merge base and type the files; merging is a part of making the F16 file."""
    from edgeft.convert import convert
    from edgeft.merge import merged_weights, merging_device
    from edgeft.quantize import quantize

    files: dict[str, dict[str, GgufFile]] = {}
    for merge_base in MERGE_BASES:
        with clock.step(f"merge and convert, {merge_base}"):
            weights = merged_weights(base, trained, merge_base, merging_device("auto", "", base))
            config = ConvertConfig(name="m", random_texts=0)
            source = convert(weights, base, config, work / f"{merge_base}-F16.gguf")
        files[merge_base] = {}
        for kind in types:
            with clock.step(f"quantize {kind}, {merge_base}"):
                path = work / f"{merge_base}-{kind}.gguf"
                files[merge_base][kind] = source if kind == "F16" else quantize(source, kind, path)
    return files


def _divergences(
    base: Checkpoint,
    trained: Trained,
    tokens: Any,
    files: Mapping[str, Mapping[str, GgufFile]],
    device: Any,
    work: Path,
) -> dict[str, Any]:
    from edgeft import hf
    from edgeft.dataset.tokens import TokenizedExamples
    from edgeft.merge import load_merged
    from edgeft.parity.merge_base import Candidate, measure_merge_bases

    candidates: dict[str, Candidate] = {
        name: Candidate(partial(load_merged, base, trained, name, device), partial(_each, files[name]))
        for name in MERGE_BASES
    }
    live = partial(hf.load_adapted, base, trained, device)
    return measure_merge_bases(live, candidates, TokenizedExamples(tokens.path / "evaluation"), work)


def _each(files: Mapping[str, GgufFile]) -> Iterator[tuple[str, GgufFile]]:
    yield from files.items()


def _survival(base: Checkpoint, trained: Trained, types: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    from edgeft.convert.sampled_survival import sample_survival
    from edgeft.merge import merged_weights
    from edgeft.quantize import Recipe, plan_quantization

    found: dict[str, dict[str, dict[str, float]]] = {}
    for merge_base in MERGE_BASES:
        weights = merged_weights(base, trained, merge_base)
        measured = sample_survival(weights, base, types, lambda name: partial(plan_quantization, recipe=Recipe(name)))
        found[merge_base] = {
            name: {"share": one.survival.share, "cosine": one.survival.cosine} for name, one in measured.items()
        }
    return found


def answers_of(
    files: Mapping[str, Mapping[str, GgufFile]], records: Sequence[Record]
) -> dict[tuple[str, str], list[str]]:
    """Returns the answers of each file, by merge base and type, in the order of the records."""
    shards = [records[first : first + _SHARD_RECORDS] for first in range(0, len(records), _SHARD_RECORDS)]
    workers = max(1, available_cores() // _THREADS_EACH)
    # Started afresh: torch has threads by now, which a fork would not have.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {
            (merge_base, kind): [pool.submit(_answer, gguf, shard) for shard in shards]
            for merge_base, made in files.items()
            for kind, gguf in made.items()
        }
        return {key: [text for job in futures for text in job.result()] for key, futures in jobs.items()}


def _answer(gguf: GgufFile, records: Sequence[Record]) -> list[str]:
    with Engine(gguf, _N_CTX, threads=_THREADS_EACH) as engine:
        return [answer(engine, record, _MAX_NEW).text for record in records]


def exact_share(records: Sequence[Record], answers: Sequence[str]) -> float:
    """Returns the share of answers that are exactly right."""
    return sum(_exact(records, answers)) / len(records)


def _exact(records: Sequence[Record], answers: Sequence[str]) -> list[bool]:
    return [is_exact(record.answer, text) for record, text in zip(records, answers, strict=True)]


def compared(records: Sequence[Record], before: Sequence[str], after: Sequence[str]) -> dict[str, float]:
    """Returns the share of exact answers in `after`, those won and lost against `before`, and chance's probability."""
    pairs = list(zip(_exact(records, before), _exact(records, after), strict=True))
    won = sum(now and not then for then, now in pairs)
    lost = sum(then and not now for then, now in pairs)
    return {"exact": exact_share(records, after), "won": won, "lost": lost, "chance": mcnemar(won, lost)}


def mcnemar(won: int, lost: int) -> float:
    """Returns the probability of a difference at least so large when winning and losing are equally likely."""
    n = won + lost
    tail: float = sum(math.comb(n, k) for k in range(min(won, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def print_table(content: Mapping[str, Any]) -> None:
    """Prints a row for each file."""
    as_trained = content["as_trained"]
    print(f"\n{content['base']}: as trained {as_trained['exact']:.1%} exact, loss {as_trained['loss']:.4f}")
    headings = ("exact", "won", "lost", "chance", "mean KLD", "same top", "loss", "share", "cosine")
    print(f"{'merged into':<12} {'type':<8}" + "".join(f"{heading:>10}" for heading in headings))
    for row in content["rows"]:
        figures = [f"{row['exact']:.1%}", str(row["won"]), str(row["lost"]), f"{row['chance']:.3f}"]
        figures += [f"{row['mean_kld']:.2e}", f"{row['top1']:.2%}", f"{row['loss']:.4f}"]
        figures += [f"{row[key]:.2f}" if key in row else "" for key in ("share", "cosine")]
        print(f"{row['base']:<12} {row['type']:<8}" + "".join(f"{figure:>10}" for figure in figures))
    print("dequantized against original:")
    for kind, one in content["dequantized_against_original"].items():
        print(f"  {kind:<8} won {one['won']}, lost {one['lost']}, chance {one['chance']:.3f}")


if __name__ == "__main__":
    main()

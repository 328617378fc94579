"""Measures the tokens stage beside `datasets.map` with the same tokenizer and template: time and memory, on Linux.

Run `python scripts/bench_data.py --records 10000 100000`; it needs `pip install datasets`. Each tool runs in a process
of its own, from a JSONL file to tokens on disk, split into training and evaluation. Memory is the largest sum of the
resident sizes of that process and all below it, looked at every 20 ms; pages that they share are counted in each.
"CPU s" is the time of all processors: what to compare where other programs run beside.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LOOK_SECONDS = 0.02
_WORDS = 4000


def main() -> None:
    """Makes the records, runs both tools on them and prints a table."""
    options = _parse()
    if options.tool is not None:
        print(json.dumps(_TOOLS[options.tool](options.file, options.out, options.model, options.workers)))
        return
    print(f"{os.cpu_count()} cores, {_processor()}; {options.workers} workers; {options.model}")
    headings = ("seconds", "CPU s", "records/s", "peak MiB", "tokens", "trained")
    print(f"{'records':>9}  {'tool':<9}" + "".join(f"{heading:>12}" for heading in headings))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for count in options.records:
            file = Path(folder) / f"{count}.jsonl"
            write_records(file, count)
            for tool in _TOOLS:
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    seconds, busy, peak_bytes, counts = measure(tool, file, Path(out), options)
                figures = (f"{seconds:.1f}", f"{busy:.1f}", f"{count / seconds:,.0f}", f"{peak_bytes / 2**20:,.0f}")
                cells = (*figures, f"{counts['tokens']:,}", f"{counts['trained']:,}")
                print(f"{count:>9,}  {tool:<9}" + "".join(f"{cell:>12}" for cell in cells), flush=True)
            file.unlink()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000], help="how many, a run for each")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes of each tool")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="checkpoint with the tokenizer")
    parser.add_argument("--folder", type=Path, help="where files are put for a while; default: the system's place")
    parser.add_argument("--tool", choices=_TOOLS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_records(path: Path, count: int, seed: int = 0) -> None:
    """Writes single-turn records of random words, 3 to 400 in a question and 1 to 200 in an answer, most short."""
    rng = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(_WORDS)]

    def text(median: float, least: int, most: int) -> str:
        return " ".join(rng.choices(words, k=min(most, max(least, int(rng.lognormvariate(0, 0.8) * median)))))

    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            question = {"role": "user", "content": f"{text(20, 3, 400)} {number}?"}
            answer = {"role": "assistant", "content": f"{text(12, 1, 200)}."}
            file.write(json.dumps({"messages": [question, answer]}) + "\n")


def measure(
    tool: str, file: Path, out: Path, options: argparse.Namespace
) -> tuple[float, float, int, Mapping[str, int]]:
    """Returns the seconds, those of all processors, the peak memory in bytes and the token counts of one tool.

    What counts the tokens afterwards is not measured: a tool writes the file `done` before.
    """
    flags = ["--tool", tool, "--file", file, "--out", out, "--model", options.model, "--workers", options.workers]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(out / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, *map(str, flags)]
    done = out / "done"
    started, seconds, peak_bytes = time.monotonic(), 0.0, 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        while process.poll() is None and not done.exists():
            peak_bytes = max(peak_bytes, sum(map(_resident_bytes, _tree(process.pid))))
            seconds = time.monotonic() - started
            time.sleep(_LOOK_SECONDS)
        printed = process.communicate()[0]
    if process.returncode != 0:
        raise SystemExit(f"{tool} failed; run: {' '.join(command)}")
    return seconds, float(done.read_text()), peak_bytes, json.loads(printed.splitlines()[-1])


def _finish(out: Path) -> None:
    """Says that the work is done, and what processor time it took, that of ended processes below included."""
    times = os.times()
    partial = out / "done.partial"
    partial.write_text(str(times.user + times.system + times.children_user + times.children_system))
    partial.rename(out / "done")


def _tree(root: int) -> Iterator[int]:
    yield root
    for path in Path(f"/proc/{root}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # it has ended
            continue
        for child in children:
            yield from _tree(int(child))


def _resident_bytes(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def run_edgeft(file: Path, out: Path, model: Path, workers: int) -> dict[str, int]:
    """Runs the tokens stage."""
    from edgeft import hf
    from edgeft.config import DatasetConfig
    from edgeft.dataset.records import stream_records
    from edgeft.dataset.tokens import TokenInputs, TokenSource, build_tokens, token_counts

    source = TokenSource(str(file), partial(stream_records, file))
    config = DatasetConfig(train=str(file), max_tokens=100_000)
    tokens = build_tokens(TokenInputs([source]), hf.tokenizer_opener(model), config, out, workers=workers)
    _finish(out)
    counts = token_counts(tokens)
    return {"tokens": counts["tokens_used"], "trained": counts["tokens_trained"]}


def run_datasets(file: Path, out: Path, model: Path, workers: int) -> dict[str, int]:
    """Runs `datasets.map`, batched, the way training scripts do: render, tokenize, mask the prompt, split."""
    import datasets
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in batch["messages"]]
        prompts = [
            tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            for messages in batch["messages"]
        ]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        starts = [len(prompt) for prompt in tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        # The newline after the end token is no part of the answer.
        labels = [[-100] * start + row[start:-1] + [-100] for start, row in zip(starts, ids, strict=True)]
        return {"input_ids": ids, "labels": labels}

    records = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(out / "cache"))
    tokenized = records.map(tokenize, batched=True, num_proc=workers, remove_columns=["messages"])
    tokenized.train_test_split(0.1, seed=0)
    _finish(out)
    tokens = trained = 0
    for batch in tokenized.with_format("numpy").iter(10_000):
        tokens += sum(len(row) for row in batch["input_ids"])
        trained += sum(int((row != -100).sum()) for row in batch["labels"])
    return {"tokens": tokens, "trained": trained}


_TOOLS: Mapping[str, Callable[[Path, Path, Path, int], dict[str, int]]] = {
    "edgeft": run_edgeft,
    "datasets": run_datasets,
}


if __name__ == "__main__":
    main()

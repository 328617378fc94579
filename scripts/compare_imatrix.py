"""Our importance matrix beside that of llama.cpp's own tool, `llama-imatrix`, on the same text: figures and speed.

    python scripts/compare_imatrix.py MODEL GGUF --tool llama-imatrix --text FILE [--tokens 8192] [--their-tokens 8192]

MODEL is a checkpoint, GGUF its unquantized file. Ours runs on the GPU where there is one, theirs on the cores of this
machine. Seconds are those of reading the text in chunks of 512 tokens; loading stands apart. The figures of tensors
are compared on the tokens that both have seen, in float32 unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.config import ImatrixConfig
from edgeft.convert import tensor_names
from edgeft.cores import available_cores
from edgeft.imatrix import make_imatrix, measured_texts
from edgeft.imatrix_file import Imatrix, read_imatrix

_CHUNK = 512
_BEGINS = re.compile(r"computing over (\d+) chunks")


@dataclass(frozen=True)
class Speed:
    """How long a tool took to load the model, and to read so many tokens."""

    where: str
    load_seconds: float
    seconds: float
    tokens: int

    @property
    def tokens_per_second(self) -> float:
        """The tokens of a second, loading aside."""
        return self.tokens / self.seconds


def ours(model: Path, text: Path, tokens: int, dtype: torch.dtype, out: Path) -> tuple[Imatrix, Speed]:
    """Measures with edgeft on `tokens` of a text, after a chunk to warm up."""
    checkpoint, device = Checkpoint.open(model), hf.pick_device("auto")
    texts = measured_texts(checkpoint, None, [text], ImatrixConfig(tokens=tokens, chunk_tokens=_CHUNK))
    names = tensor_names(checkpoint)
    started = time.perf_counter()
    loaded = hf.load_model(checkpoint, device, dtype)
    _wait(device)
    load_seconds = time.perf_counter() - started
    hf.logits(loaded, next(iter(texts.values()))[0])
    started = time.perf_counter()
    made = make_imatrix(lambda: loaded, names, texts, ImatrixConfig(tokens=tokens, chunk_tokens=_CHUNK), out)
    _wait(device)
    seconds = time.perf_counter() - started
    name = torch.cuda.get_device_name() if device == "cuda" else f"{available_cores()} cores"
    return made, Speed(f"{name}, {dtype}", load_seconds, seconds, made.chunk_count * _CHUNK)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def theirs(tool: Path, gguf: Path, text: Path, tokens: int, threads: int, out: Path) -> tuple[Imatrix, Speed]:
    """Measures with llama.cpp's tool, without the perplexity that it would compute beside it."""
    settings = ["-c", _CHUNK, "--chunks", tokens // _CHUNK, "-t", threads, "--no-ppl"]
    command = [str(word) for word in (tool, "-m", gguf, "-f", text, "-o", out, "--parse-special", *settings)]
    said, chunks, begun = [], 0, 0.0
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if found := _BEGINS.search(line):
                chunks, begun = int(found[1]), time.perf_counter()
    ended = time.perf_counter()
    if process.returncode or not chunks:
        raise SystemExit(f"{tool} ended with {process.returncode}:\n{''.join(said[-20:])}")
    return read_imatrix(out), Speed(f"{threads} threads", begun - started, ended - begun, chunks * _CHUNK)


def largest_differences(one: Imatrix, other: Imatrix) -> list[float]:
    """Returns for each tensor the relative difference of the mean squares of its columns."""
    if one.squares.keys() != other.squares.keys():
        raise SystemExit(f"other tensors: {sorted(one.squares.keys() ^ other.squares.keys())}")
    ours, theirs = one.means(), other.means()
    return [float(np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name])) for name in theirs]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs both and prints their speeds, and how far the figures are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--tool", type=Path, required=True, help="llama-imatrix")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192, help="for our speed")
    parser.add_argument("--their-tokens", type=int, default=8192, help="for theirs, and for the figures")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of llama.cpp")
    parser.add_argument("--speed-only", action="store_true", help="do not compare the figures")
    parser.add_argument("--out", type=Path, help="write what was found as JSON, too")
    options = parser.parse_args(arguments)
    hf.quiet()
    with TemporaryDirectory() as name:
        work = Path(name)
        dtype = hf.compute_dtype(hf.pick_device("auto"))
        _, our_speed = ours(options.model, options.text, options.tokens, dtype, work / "ours.gguf")
        print(f"edgeft: {our_speed}, {our_speed.tokens_per_second:,.0f} tokens/s", flush=True)
        found = {"ours": asdict(our_speed)}
        their_matrix, their_speed = theirs(
            options.tool, options.gguf, options.text, options.their_tokens, options.threads, work / "theirs.gguf"
        )
        print(f"llama.cpp: {their_speed}, {their_speed.tokens_per_second:,.0f} tokens/s", flush=True)
        found["theirs"] = asdict(their_speed)
        print(f"edgeft over llama.cpp: {our_speed.tokens_per_second / their_speed.tokens_per_second:.1f}", flush=True)
        if not options.speed_only:
            exact, _ = ours(options.model, options.text, options.their_tokens, torch.float32, work / "exact.gguf")
            apart = largest_differences(exact, their_matrix)
            print(f"{len(apart)} tensors differ by {np.median(apart):.1e} (median) to {max(apart):.1e}")
            found["differences"] = {"tensors": len(apart), "median": float(np.median(apart)), "largest": max(apart)}
        if options.out is not None:
            options.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

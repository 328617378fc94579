"""Our divergence figures beside those of llama.cpp's own tool, `llama-perplexity --kl-divergence`.

Both take the same two GGUF files, the unquantized one as the reference, and score the same positions of the same text:
the second half of each chunk of `--n-ctx` tokens. What is left between them is how llama.cpp keeps its reference: each
log-probability in 16 bits, and none more than 16 nats below the likeliest. So the third column has our figures from a
reference that is kept like that.

    python scripts/compare_perplexity.py --binary llama-perplexity --text text.txt model-F16.gguf model-Q4_K_M.gguf
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgeft.artifacts import GgufFile
from edgeft.llamacpp import Engine
from edgeft.parity.distributions import Doubles, Floats, log_softmax, truncated
from edgeft.parity.statistics import DivergenceMeter

KEPT_NATS, STEPS = 16.0, 65535
"""tools/perplexity/perplexity.cpp, log_softmax: 16 bits from the likeliest token to 16 nats below it."""
_KEPT_TOKENS = 64
_LINES = {
    "mean KLD": r"Mean    KLD:\s+(\S+)",
    "median KLD": r"Median  KLD:\s+(\S+)",
    "99% KLD": r"99\.0%   KLD:\s+(\S+)",
    "99.9% KLD": r"99\.9%   KLD:\s+(\S+)",
    "maximum KLD": r"Maximum KLD:\s+(\S+)",
    "same top token, %": r"Same top p:\s+(\S+)",
    "mean delta-p, %": r"Mean    Δp:\s+(\S+)",
    "RMS delta-p, %": r"RMS Δp    :\s+(\S+)",
    "perplexity": r"Mean PPL\(Q\)\s+:\s+(\S+)",
    "perplexity ratio": r"Mean PPL\(Q\)/PPL\(base\)\s+:\s+(\S+)",
}


@dataclass(frozen=True)
class Figures:
    """The same figures four ways: from the whole reference, from what a reference file keeps, as stored, and theirs."""

    whole: dict[str, float]
    kept: dict[str, float]
    stored: dict[str, float]
    theirs: dict[str, float]


def compare(binary: Path, base: GgufFile, gguf: GgufFile, text: Path, n_ctx: int, threads: int = 1) -> Figures:
    """Runs both tools; one thread by default, as sums of floats depend on how they are cut."""
    meters = DivergenceMeter(), DivergenceMeter()
    parts: list[tuple[Doubles, Doubles, list[int]]] = []
    for number, (p, q, targets) in enumerate(_scored(base, gguf, text, n_ctx, threads)):
        for meter, count in zip(meters, (0, _KEPT_TOKENS), strict=True):
            meter.add(truncated(p, targets, count), q, targets, number)
        parts.append((stored(p), log_softmax(q), targets))
    whole, kept = (_named(meter.result().to_json()) for meter in meters)
    return Figures(whole, kept, _from_stored(parts), theirs(binary, base, gguf, text, n_ctx, threads))


def _scored(
    base: GgufFile, gguf: GgufFile, text: Path, n_ctx: int, threads: int
) -> Iterator[tuple[Floats, Floats, list[int]]]:
    """Yields for each chunk the logits of both files at the positions that llama.cpp scores, and the tokens after."""
    with Engine(base, n_ctx, threads=threads) as one, Engine(gguf, n_ctx, threads=threads) as other:
        ids = one.encode(text.read_text(encoding="utf-8"), special=False)
        if one.adds_bos:
            ids = [one.bos, *ids]
        first = n_ctx // 2
        for start in range(0, len(ids) - n_ctx + 1, n_ctx):
            chunk = ids[start : start + n_ctx]
            if one.adds_bos:
                chunk = [one.bos, *chunk[1:]]
            yield one.logits(chunk, first)[:-1], other.logits(chunk, first)[:-1], chunk[first + 1 :]


def stored(logits: Floats) -> Doubles:
    """Returns the log-probabilities of logits as llama.cpp's file of a reference gives them back."""
    log_p = log_softmax(logits)
    most = log_p.max(axis=-1, keepdims=True)
    least = np.maximum(log_p.min(axis=-1, keepdims=True), most - KEPT_NATS)
    scale = (most - least) / STEPS
    found: Doubles = np.rint((np.maximum(log_p, least) - least) / scale) * scale + least
    return found


def _from_stored(parts: Sequence[tuple[Doubles, Doubles, list[int]]]) -> dict[str, float]:
    # llama.cpp leaves out what was cut off: tokens at 16 nats and more below certainty.
    kld = np.concatenate([(np.exp(p) * (p - q) * (p > -KEPT_NATS)).sum(axis=-1) for p, q, _ in parts])
    same = np.concatenate([p.argmax(axis=-1) == q.argmax(axis=-1) for p, q, _ in parts])
    pairs = [(p[range(len(ids)), ids], q[range(len(ids)), ids]) for p, q, ids in parts]
    log_p, log_q = (np.concatenate(side) for side in zip(*pairs, strict=True))
    change = np.exp(log_q) - np.exp(log_p)
    ppl, ratio = float(np.exp(-log_q.mean())), float(np.exp((log_p - log_q).mean()))
    return _named(
        {
            "mean_kld": float(kld.mean()),
            "median_kld": float(np.median(kld)),
            "p99_kld": float(np.percentile(kld, 99)),
            "p999_kld": float(np.percentile(kld, 99.9)),
            "max_kld": float(kld.max()),
            "top1": float(same.mean()),
            "mean_delta_p": float(change.mean()),
            "rms_delta_p": float(np.sqrt((change**2).mean())),
            "ppl": ppl,
            "ppl_ratio": ratio,
        }
    )


def _named(found: dict[str, float]) -> dict[str, float]:
    keys = ("mean_kld", "median_kld", "p99_kld", "p999_kld", "max_kld")
    shares = ("top1", "mean_delta_p", "rms_delta_p")
    values = [*(found[key] for key in keys), *(100 * found[key] for key in shares), found["ppl"], found["ppl_ratio"]]
    return dict(zip(_LINES, values, strict=True))


def theirs(binary: Path, base: GgufFile, gguf: GgufFile, text: Path, n_ctx: int, threads: int) -> dict[str, float]:
    """Runs llama-perplexity twice: for the file of the reference, and for the figures."""
    options = ["-f", text, "-c", n_ctx, "-b", n_ctx, "-ub", n_ctx, "-t", threads, "-fa", "off"]
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "reference.kld"
        _run([binary, "-m", base.path, *options, "--kl-divergence-base", kept])
        said = _run([binary, "-m", gguf.path, *options, "--kl-divergence-base", kept, "--kl-divergence"])
    found = {name: re.search(pattern, said) for name, pattern in _LINES.items()}
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise SystemExit(f"{binary} does not say: {', '.join(missing)}")
    return {name: float(match[1].rstrip("%")) for name, match in found.items() if match is not None}


def _run(command: Sequence[object]) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def table(figures: Figures) -> str:
    """Returns the figures as a Markdown table."""
    lines = ["| | edgeft, whole | edgeft, 64 kept | edgeft, stored as llama.cpp does | llama.cpp |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for name, value in figures.theirs.items():
        ours = (side[name] for side in (figures.whole, figures.kept, figures.stored))
        lines.append(f"| {name} | {' | '.join(f'{x:.6f}' for x in ours)} | {value:.6f} |")
    return "\n".join(lines)


def main() -> None:
    """Prints a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="llama-perplexity")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--n-ctx", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("base", type=Path, help="the reference: an unquantized GGUF file")
    parser.add_argument("files", type=Path, nargs="+", help="GGUF files of the same model")
    given = parser.parse_args()
    for path in given.files:
        files = GgufFile.open(given.base), GgufFile.open(path)
        print(f"\n{path.name}\n\n{table(compare(given.binary, *files, given.text, given.n_ctx, given.threads))}")


if __name__ == "__main__":
    main()

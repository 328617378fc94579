"""The file as users run it: other types of the KV cache, flash attention, threads, and a GPU beside the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError
from edgeft.llamacpp import Engine, Runtime
from edgeft.parity.ladder import Failure, Rung
from edgeft.parity.reference import OpenReference
from edgeft.parity.statistics import DivergenceMeter, Positions
from edgeft.progress import Progress

_RUNTIME = "runtime"
_POSITIONS: Final = 256
"""Positions that are run again under other runtimes: enough to see a fault, a fraction of the check's time."""
_ONE_THREAD_POSITIONS: Final = 64
"""A thread alone is as many times slower as there are cores."""
RUNTIMES: Final[Mapping[str, Runtime]] = {
    "F16 KV": Runtime("F16"),
    "F16 KV, flash attention": Runtime("F16", flash_attention=True),
    "F16 KV, 1 thread": Runtime("F16", threads=1),
}
"""What is tried beside the runtime of the check, with as many threads as it has where none are named."""
GPU_RUNTIMES: Final[Mapping[str, Runtime]] = {
    "F16 KV": Runtime("F16"),
    "F16 KV, flash attention": Runtime("F16", flash_attention=True),
    "Q8_0 KV, flash attention": Runtime("Q8_0", flash_attention=True),
}
"""What is tried with all layers on a GPU. Names of figures begin with the device's."""


def check_runtime(
    engine: Engine,
    reference: OpenReference,
    measured: Positions,
    most_kld: float,
    progress: Progress,
    gpus: Sequence[str] = (),
) -> Rung:
    """Runs some records again as users run a file; more than rounding between the runtimes is a fault of the build.

    `measured` is what was found with the engine as it is, on the CPU. A file that is far from the reference moves with
    every rounding, up at one position and down at another: it fails when the whole interval of the rise, position by
    position, is beyond `most_kld`. What a KV cache of 8 bits costs is told and fails nothing. Where a model does not
    fit a GPU, its figures are the reason, `not_run`.
    """
    figures: dict[str, Any] = {}
    failures: list[Failure] = []
    for name, runtime, found in _tried(engine, reference, progress, gpus):
        if isinstance(found, EdgeftError):
            figures[name] = {"not_run": str(found.problems[0].what)}
            continue
        base = measured.first(len(found.kld))
        rise, change = found.rise_over(base), float(abs(found.nll - base.nll).mean())
        figures[name] = {"mean_kld": float(found.kld.mean()), "base_kld": float(base.kld.mean())}
        figures[name] |= {"rise_low": rise.low, "rise_high": rise.high, "mean_nll_change": change}
        if not rise.low <= most_kld and runtime.kv != "Q8_0":
            what = f"with {name} the mean KLD rises by {rise.mean:.2e} ({rise.low:.2e} to {rise.high:.2e})"
            what += f", the limit {most_kld:.2e}"
            failures.append(Failure(_RUNTIME, what, name, "run without it, or use another build of llama.cpp"))
    return Rung(_RUNTIME, "fail" if failures else "pass", figures, tuple(failures))


def _tried(
    engine: Engine, reference: OpenReference, progress: Progress, gpus: Sequence[str]
) -> Iterator[tuple[str, Runtime, Positions | EdgeftError]]:
    """Yields each runtime's name, and what was measured with it, or why nothing was."""
    before, total = engine.runtime, len(RUNTIMES) + len(gpus) * len(GPU_RUNTIMES)
    for number, (name, runtime) in enumerate(RUNTIMES.items()):
        progress(number, total, f"runtime: {name}")
        tried = runtime if runtime.threads else replace(runtime, threads=before.threads)
        if tried == before:
            continue
        engine.run_as(tried)
        yield name, tried, _sampled(engine, reference, _ONE_THREAD_POSITIONS if runtime.threads else _POSITIONS)
    engine.run_as(before)
    done = len(RUNTIMES)
    for gpu in gpus:
        try:
            with Engine(GgufFile(engine.path), engine.n_ctx, gpu_layers=-1, devices=[gpu], mapped=False) as on_gpu:
                for name, runtime in GPU_RUNTIMES.items():
                    progress(done, total, f"runtime: {gpu}, {name}")
                    on_gpu.run_as(runtime)
                    yield f"{gpu}, {name}", runtime, _sampled(on_gpu, reference, _POSITIONS)
                    done += 1
        except EdgeftError as error:
            yield gpu, before, error


def _sampled(engine: Engine, reference: OpenReference, most: int) -> Positions:
    """Measures the first records, so many positions in all."""
    meter, left = DivergenceMeter(), most
    for number, record in enumerate(reference.content.records):
        count = min(record.scored_within(engine.n_ctx), left)
        if not count:
            continue
        kept, first = reference.distributions(number).slice(0, count), record.first_scored
        for start, rows in engine.logit_chunks(record.ids[: first + count], first):
            part = slice(start - first, start - first + len(rows))
            meter.add(kept.slice(part.start, part.stop), rows, record.targets[part], number)
        left -= count
        if left <= 0:
            break
    return meter.positions()

"""How a configuration's training will be cut on a machine, what every stage needs, and how long training takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeft.doctor.machine import Machine, product_rate
from edgeft.files import human_size, read_object
from edgeft.graph import Graph
from edgeft.resources import Choice, Job, ModelShape, choose, usable_bytes
from edgeft.resources.duration import training_seconds
from edgeft.resources.jobs import job_of, wish_of
from edgeft.resources.packable import with_packing
from edgeft.resources.stages import StageNeed, stage_needs

_BYTES_A_TOKEN = 4
"""Of a file of records: English prose has about four letters a token, and JSON's marks are about what templates add."""


@dataclass(frozen=True)
class Forecast:
    """What will be.

    Attributes:
        tokens: of the records, once through; None where nobody knows before they are read.
        counted: the tokens are counted, not guessed from the size of the files.
        usable: bytes of GPU memory that can be planned with; None on a CPU.
        seconds: of the whole training; None without `tokens` or torch.
    """

    job: Job
    choice: Choice
    stages: tuple[StageNeed, ...]
    tokens: int | None
    counted: bool
    usable: int | None
    seconds: float | None

    def lines(self) -> list[str]:
        """Returns it in a few words: how training is cut, its memory, its time."""
        choice, need = self.choice, self.choice.need
        cut = f"batches of at most {choice.strategy.tokens:,} tokens"
        cut += f", {choice.accumulation} to a step" if choice.accumulation > 1 else ""
        ways = ["layers computed again" if choice.strategy.recompute else "activations kept"]
        ways += ["weights kept dequantized"] if choice.strategy.resident else []
        layers = {"fast": "packed, fast layers", "plain": "packed", "padded": "padded"}[self.job.engine]
        of_usable = "of RAM, and the libraries'" if self.usable is None else f"of {human_size(self.usable)} usable"
        parts = {
            "weights": need.weights + need.embeddings + need.dequantized,
            "adapter": need.adapter,
            "activations": need.activations,
            "for moments": need.moment + need.workspaces,
        }
        held = ", ".join(f"{name} {human_size(size)}" for name, size in parts.items())
        return [
            f"{layers}: {cut}; {', '.join(ways)}",
            f"{human_size(need.total)} {of_usable}: {held}",
            self._time(),
        ]

    def _time(self) -> str:
        if self.tokens is None:
            return "time: known when the records are tokens"
        about = (
            f"{self.tokens:,} tokens" if self.counted else f"about {self.tokens:,} tokens (by the size of the files)"
        )
        return f"{about} an epoch" + ("" if self.seconds is None else f"; about {human_duration(self.seconds)} in all")


def forecast(
    graph: Graph, config_json: Mapping[str, Any], machine: Machine, rate: Callable[..., float] = product_rate
) -> Forecast:
    """Returns what training on this machine needs; raises EdgeftError for a model that is no decoder of this kind.

    `rate` measures the machine's FLOP/s.
    """
    config = graph.config
    shape = ModelShape.read(config_json, f"{config.model.base}: config.json")
    gpu = None if config.train.device == "cpu" else machine.gpu
    cuda = gpu is not None
    lengths, tokens, counted = _lengths(graph)
    possible = gpu is not None and gpu.bfloat16
    training = with_packing(config.train, config_json, max(lengths), possible=possible)
    job = job_of(shape, training, "cuda" if cuda else "cpu")
    usable = None if gpu is None else usable_bytes(gpu.free_bytes, gpu.card_bytes)
    choice = choose(job, wish_of(training, lengths), usable)
    seconds = None
    if tokens is not None and machine.can_train:
        everything = tokens * config.train.epochs
        seconds = training_seconds(job, choice.strategy, everything, rate(cuda=cuda))
    asked = {node.stage for node in graph.nodes()}
    needs = stage_needs(shape, config, choice.need, tokens or 0, cuda=cuda)
    stages = [need for need in needs if need.stage in asked]
    return Forecast(job, choice, tuple(stages), tokens, counted, usable, seconds)


def _lengths(graph: Graph) -> tuple[Sequence[int], int | None, bool]:
    """Returns lengths of records in tokens, their sum, and whether they were counted.

    Before the records are tokens each may be as long as the configuration allows.
    """
    folder = graph.tokens.path
    if graph.run.manifest("tokens") is not None:
        lengths: list[int] = []
        for split in ("train", "evaluation"):
            offsets = folder / split / "offsets.bin"
            if offsets.is_file() and read_object(folder / split / "header.json"):
                lengths += np.diff(np.fromfile(offsets, dtype="<i8")).tolist()
        if lengths:
            return lengths, sum(lengths), True
    config = graph.config
    longest = [config.dataset.max_tokens] * config.train.batch_size
    size_bytes = 0.0
    for source in config.dataset.sources:
        path = config.local_source(source.path)
        if path is None or not path.is_file():
            return longest, None, False
        size_bytes += source.weight * path.stat().st_size
    return longest, round(size_bytes / _BYTES_A_TOKEN), False


def human_duration(seconds: float) -> str:
    """Returns 40 s, 12 min, 3.5 h or 11 days."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"

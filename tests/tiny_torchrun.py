"""Trainings by one process and by several that torchrun starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner

from edgeft.cli import main

# 7 batches an epoch in steps of 2: at the end of each epoch one process has no batch left.
OPTIONS = ["train.accumulation=2", "train.batch_size=6", "train.epochs=3", "train.learning_rate=5e-3"]
PACKED = [*OPTIONS, "train.packing=true", "train.token_budget=300"]
SHARDED = [*PACKED, "train.epochs=2", "train.shard_weights=true"]


_PATIENCE_S = 600
"""Of a machine that is slow and busy; 30 s on an idle core of an Intel Xeon."""


def command(config: Path, options: list[str]) -> list[str]:
    return ["run", "train", "-c", str(config), *(word for option in options for word in ("--set", option))]


def torchrun(processes: int) -> list[str]:
    """The command that starts so many of what follows it."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


@contextmanager
def started(config: Path, options: list[str], processes: int = 2) -> Iterator[subprocess.Popen[str]]:
    """torchrun with its processes, which it ends when it is ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*torchrun(processes), "-m", "edgeft", *command(config, options)],
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def together(config: Path, options: list[str]) -> tuple[int, str, str]:
    with started(config, options) as process:
        out, err = process.communicate(timeout=_PATIENCE_S)
    return process.returncode, out, err


def killed_once_saved(config: Path, options: list[str], processes: int = 2) -> tuple[int, str]:
    """Kills the last of the processes when there is a checkpoint; returns torchrun's exit code and what it said."""
    checkpoints = config.parent / "run" / "adapter.partial" / "checkpoints"
    with started(config, options, processes) as process:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and process.poll() is None and not list(checkpoints.glob("*/complete")):
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1]
        os.kill(child_of(process.pid), signal.SIGKILL)
        _, err = process.communicate(timeout=_PATIENCE_S)
    return process.returncode, err


def alone(config: Path, options: list[str]) -> None:
    result = CliRunner().invoke(main, command(config, options), catch_exceptions=False)
    assert result.exit_code == 0, result.output


def losses(config: Path) -> list[tuple[int, float]]:
    lines = (config.parent / "run" / "adapter" / "logs" / "metrics.jsonl").read_text().splitlines()
    rows = map(json.loads, lines)
    return [(row["step"], row.get("loss", row.get("eval_loss"))) for row in rows]


def child_of(pid: int) -> int:
    """The youngest process that torchrun has started: its last rank."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1])

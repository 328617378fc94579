"""What ends in the middle leaves nothing under a final name: a kill, a full disk."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.quantize import Recipe, plan_quantization
from edgeft.weights import CheckpointWeights

_PATIENCE_S = 600


def edgeft(*arguments: str | Path, most_bytes: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
    """Starts a command that may write files of so many bytes; beyond that they fail as on a full disk."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    command = [sys.executable, "-m", "edgeft", *map(str, arguments)]
    return subprocess.Popen(command, preexec_fn=limit, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_kill_leaves_no_file_and_no_process(tiny_f32: GgufFile, tmp_path: Path) -> None:
    """llama.cpp opens the file, then works for seconds on the codebook of this type."""
    out = tmp_path / "q.gguf"
    with edgeft("quantize", tiny_f32.path, "--type", "IQ3_S", "--out", out) as process:
        _kill_when(process, lambda: any(tmp_path.glob("q.gguf.*.partial")))
    assert not out.exists()
    (partial_file,) = tmp_path.iterdir()
    deadline = time.monotonic() + _PATIENCE_S
    while _writers(partial_file) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _writers(partial_file) == []


def test_a_killed_straight_conversion_leaves_no_file(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Its file is open while ggml makes the codebook of this type."""
    out = tmp_path / "q.gguf"
    with edgeft("convert", tiny_checkpoint.path, "--type", "IQ3_S", "--out", out) as process:
        _kill_when(process, lambda: any(tmp_path.glob("q.gguf.*.partial")))
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]


def test_a_killed_fit_leaves_no_file(run: Path, tmp_path: Path) -> None:
    """Files are tried in a folder of their own, beside the one that is asked for."""
    out = tmp_path / "q.gguf"
    with edgeft(*_fit(run, out)) as process:
        _kill_when(process, lambda: any(tmp_path.glob(".q.gguf-*/*.partial")))
    assert [path.name.startswith(".q.gguf-") for path in tmp_path.iterdir()] == [True]


def test_a_disk_that_fills_up_while_files_are_tried(run: Path, tmp_path: Path) -> None:
    with edgeft(*_fit(run, tmp_path / "q.gguf"), most_bytes=200_000) as process:
        _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "\nerror" in f"\n{errors}" and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def _fit(run: Path, out: Path) -> tuple[str | Path, ...]:
    source = (run / "base.gguf", "--model", run / "base", "--tokens", run / "run" / "tokens")
    return ("fit", *source, "--positions", "40", "--threads", "1", "--max-size", "0.4MB", "--out", out)


def _kill_when(process: subprocess.Popen[str], begun: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not begun() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"


def _writers(path: Path) -> list[str]:
    """Returns the processes that have a file open."""
    found = []
    for process in [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]:
        with suppress(OSError):  # it is gone, or another user's
            found += [process for link in Path(f"/proc/{process}/fd").iterdir() if link.readlink() == path]
    return found


def test_a_full_disk_leaves_no_file(tiny_f32: GgufFile, tmp_path: Path) -> None:
    out = tmp_path / "q.gguf"
    with edgeft("quantize", tiny_f32.path, "--type", "Q8_0", "--out", out, most_bytes=300_000) as process:
        _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert errors.startswith("error") and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_fails_leaves_the_others(tiny_f32: GgufFile, tmp_path: Path) -> None:
    """The first of two files is too large for the disk."""
    types = ("--type", "Q8_0", "--type", "Q4_0")
    with edgeft(
        "quantize", tiny_f32.path, *types, "--out", tmp_path / "out", "--json", most_bytes=1_000_000
    ) as process:
        said, errors = process.communicate()
    assert process.returncode == 1
    assert "error" in errors and "Q8_0" in errors and "Traceback" not in errors
    (row,) = json.loads(said)
    assert row["type"] == "Q4_0" and [str(path) for path in (tmp_path / "out").iterdir()] == [row["file"]]


def test_a_disk_that_fills_up_while_tensors_are_written(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.pwrite

    def fill(descriptor: int, content: bytes, offset: int) -> int:
        if offset > 200_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", fill)
    planner = partial(plan_quantization, recipe=Recipe("Q8_0"))
    weights, config = CheckpointWeights(tiny_checkpoint), ConvertConfig(random_texts=20)
    with pytest.raises(OSError, match="No space left"):
        convert(weights, tiny_checkpoint, config, tmp_path / "q.gguf", planner=planner)
    assert list(tmp_path.iterdir()) == []

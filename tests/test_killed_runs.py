"""Killed in the middle of a stage, the same command goes on to the same bytes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_run import make_run

from edgeft.cli import main
from edgeft.files import sha256_file

# The model is larger, so that there is a middle to be killed in.
LARGER: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 6}
MOMENTS = {
    "train": "adapter.partial/checkpoints/checkpoint-*/complete",
    "merge": "merged.partial/*",
    "convert": "gguf.partial/*",
    "quantize": "quantized/*.partial/*.gguf*",
}


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("larger"), **LARGER).parent


@pytest.fixture(scope="module")
def uninterrupted(larger: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hashes of every weight file of a run that was not killed."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "copy"
    shutil.copytree(larger, folder)
    words = ["run", "merge", "quantize", "-c", str(folder / "edgeft.toml")]
    assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
    return weight_hashes(folder / "run")


def weight_hashes(run: Path) -> dict[str, str]:
    paths = [*run.rglob("*.gguf"), *run.rglob("*.safetensors")]
    return {path.relative_to(run).as_posix(): sha256_file(path) for path in paths}


@pytest.mark.parametrize("stage", MOMENTS)
def test_kill_9_in_the_middle_then_the_same_command(
    larger: Path, uninterrupted: dict[str, str], tmp_path: Path, stage: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(larger, folder)
    run = folder / "run"
    command = [sys.executable, "-m", "edgeft", "run", "merge", "quantize", "-c", str(folder / "edgeft.toml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not list(run.glob(MOMENTS[stage])):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    for path in run.glob("**/manifest.json"):
        for entry in json.loads(path.read_text())["files"]:
            assert sha256_file(path.parent / entry["path"]) == entry["sha256"], "a complete-looking artifact is not"
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert weight_hashes(run) == uninterrupted
    assert not list(run.rglob("*.partial"))

"""Several files at once are those that would be made one after another; what stops one stops all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import make_model

from edgeft.artifacts import GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.errors import EdgeftError
from edgeft.progress import Progress, silent
from edgeft.quantize import Recipe, how_many_at_once, quantize, quantize_several
from edgeft.weights import CheckpointWeights

TYPES = ("Q8_0", "Q4_K_M", "Q5_0")


def test_they_are_the_files_of_one_after_another(tiny_f32: GgufFile, tmp_path: Path) -> None:
    files = [(Recipe(name), tmp_path / f"{name}.gguf") for name in TYPES]
    shares: dict[int, float] = {}

    def reporter(number: int) -> Progress:
        def report(done: float, total: float, status: str = "") -> None:
            assert status.startswith(TYPES[number])
            shares[number] = done / total

        return report

    made = quantize_several(tiny_f32, files, 1, [reporter(number) for number in range(3)], at_once=3)
    assert shares == {0: 1.0, 1: 1.0, 2: 1.0}
    for name, found in zip(TYPES, made, strict=True):
        assert isinstance(found, GgufFile)
        assert found.path.read_bytes() == quantize(tiny_f32, name, tmp_path / "alone.gguf").path.read_bytes()


def test_an_error_leaves_the_others(tiny_f32: GgufFile, tmp_path: Path) -> None:
    files = [(Recipe("Q8_0"), tmp_path / "q8.gguf"), (Recipe("IQ1_S"), tmp_path / "iq1.gguf")]
    made, error = quantize_several(tiny_f32, files, 1, [silent, silent], at_once=2)
    assert isinstance(made, GgufFile) and isinstance(error, EdgeftError)
    assert [path.name for path in tmp_path.iterdir()] == ["q8.gguf"]


def test_what_is_raised_in_one_ends_all(tiny_f32: GgufFile, tmp_path: Path) -> None:
    def refuse(done: float, total: float, status: str = "") -> None:
        raise KeyboardInterrupt

    files = [(Recipe(name), tmp_path / f"{name}.gguf") for name in ("Q8_0", "IQ3_S", "IQ2_M")]
    with pytest.raises(KeyboardInterrupt):
        quantize_several(tiny_f32, files, 1, [refuse, silent, silent], at_once=2)
    assert not any(path.name.endswith(".partial") for path in tmp_path.iterdir())
    assert not (tmp_path / "IQ2_M.gguf").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux's /proc")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_every_process(tmp_path: Path) -> None:
    """Sent to the command alone, not, as a terminal does it, to its children, too.

    The model takes 10 seconds to quantize, so that the signal comes long before.
    """
    checkpoint = make_model(tmp_path / "model", hidden_size=512, intermediate_size=4096, num_hidden_layers=4)
    config = ConvertConfig(dtype="f32", random_texts=100)
    source = convert(CheckpointWeights(checkpoint), checkpoint, config, tmp_path / "model.gguf")
    types = ("--type", "IQ3_S", "--type", "IQ3_M")
    command = [sys.executable, "-m", "edgeft", "quantize", str(source.path), *types, "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 600
        while len(list((tmp_path / "out").glob("*.partial"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        workers = children(process.pid)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=600)
    assert len(workers) == 2
    assert process.returncode != 0, (said, errors)
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Commands that a shell starts with `&`, these tests too, ignore SIGINT, and so would what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in listed for child in thread.read_text().split()]


def test_memory_says_how_many(tiny_f32: GgufFile) -> None:
    assert how_many_at_once(tiny_f32, 1) == 1
    assert how_many_at_once(tiny_f32, 3) == 3
    assert how_many_at_once(tiny_f32, 100) < 100

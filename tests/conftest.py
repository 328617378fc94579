"""The cores of each process of tests; a tiny model and its GGUF files, made once for all tests of a process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, settings

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.cores import available_cores, let_threads_sleep

_MOST_WORKERS = 4
_WORKER_BYTES = 3 * 10**9
"""Each imports torch: with their children, 2 took 4.3 GB at the most."""
_PRINTED_OTHERWISE = (
    *("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"),
    *("PYTHONWARNINGS", "PYTHONDEVMODE"),
)
"""Variables that change what commands print."""


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which the tests also run without
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `pytest -n auto` starts: none but this where there is a GPU, whose memory tests fill up."""
    import torch

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _WORKER_BYTES
    return 0 if torch.cuda.is_available() else max(1, min(_MOST_WORKERS, available_cores(), memory))


def pytest_configure() -> None:
    """Leaves each process of `pytest -n` its share of the cores: threads of one that spin would slow the others down.

    Before torch is imported, which starts as many threads as there are cores; so nothing here imports it at the top.
    What is drawn at random is drawn alike each time, and a slow machine fails nothing.
    """
    for name in _PRINTED_OTHERWISE:
        os.environ.pop(name, None)
    let_threads_sleep(os.environ)
    settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("steady")
    worker, count = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) :: count] or cores)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random Llama in bfloat16 with a ChatML tokenizer; read-only."""
    from tiny_model import make_model

    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_f32(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    """The tiny model as an F32 GGUF file: every bfloat16 is exact in it."""
    return _converted(tiny_checkpoint, "f32", tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="session")
def tiny_f16(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    """The tiny model as an F16 GGUF file."""
    return _converted(tiny_checkpoint, "f16", tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="session")
def smollm2_gguf() -> GgufFile:
    """SmolLM2-135M-Instruct as others made it, at Q4_1; read-only. Skips where it cannot be fetched."""
    from real_models import smollm2_path

    return GgufFile(smollm2_path())


@pytest.fixture(scope="session")
def gemma_gguf() -> GgufFile:
    """Gemma 3 270M as others made it, at Q4_K_M; read-only. Skips without EDGEFT_GEMMA."""
    from real_models import gemma_path

    return GgufFile(gemma_path())


def _converted(checkpoint: Checkpoint, dtype: Literal["f32", "f16"], folder: Path) -> GgufFile:
    from edgeft.config import ConvertConfig
    from edgeft.convert import convert
    from edgeft.weights import CheckpointWeights

    config = ConvertConfig(dtype=dtype, random_texts=100)
    return convert(CheckpointWeights(checkpoint), checkpoint, config, folder / f"tiny-{dtype}.gguf")

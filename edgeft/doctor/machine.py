"""What this machine is: versions, memory, GPU, whether llama.cpp computes on it, and how fast a large product runs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeft.cores import available_cores
from edgeft.processes import python_command

TRAIN_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors", "tokenizers")
DEVICE_LIBRARIES = ("llama-cpp-python", "gguf", "numpy")
_MODULES = {"llama-cpp-python": "llama_cpp"}
_SIDE = 1024


@dataclass(frozen=True)
class Gpu:
    """A CUDA device; bytes of all its memory, and of what is free."""

    name: str
    card_bytes: int
    free_bytes: int
    bfloat16: bool


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        versions: None for a library that is not installed.
        ram_bytes: None where nobody says.
    """

    python: tuple[int, int]
    versions: dict[str, str | None]
    gpu: Gpu | None
    cpu_features: frozenset[str]
    cores: int
    ram_bytes: int | None

    @property
    def can_train(self) -> bool:
        """Whether everything that training imports is there."""
        return all(self.versions.get(name) for name in TRAIN_LIBRARIES)


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp on this machine: what ended it when it was tried, or else its version and processor features."""

    failure: str
    build: str


def examine() -> Machine:
    """Looks at this machine; imports torch where it is installed."""
    version = platform.python_version_tuple()
    versions = {name: _version(name) for name in (*TRAIN_LIBRARIES, *DEVICE_LIBRARIES)}
    return Machine(
        python=(int(version[0]), int(version[1])),
        versions=versions,
        gpu=_gpu() if versions["torch"] else None,
        cpu_features=_cpu_features(),
        cores=available_cores(),
        ram_bytes=_ram_bytes(),
    )


def examine_llama_cpp(machine: Machine) -> LlamaCpp | None:
    """Tries llama.cpp, for about a second; None where it is not installed."""
    if not machine.versions["llama-cpp-python"]:
        return None
    if failure := llama_failure():
        return LlamaCpp(failure, "")
    from edgeft.llamacpp import build_description

    return LlamaCpp("", build_description())


def llama_failure(command: Sequence[str] | None = None) -> str:
    """Returns what ends llama.cpp when it computes on this machine, "" where nothing does.

    It is tried in a process of its own: one that was compiled for another processor may end on its import.
    """
    command = command or python_command("-m", "edgeft.llamacpp.trial")
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode == -signal.SIGILL:
        return "an illegal instruction: it was compiled for another processor"
    if ended.returncode < 0:
        return signal.Signals(-ended.returncode).name
    return "" if ended.returncode == 0 else ended.stderr.strip().splitlines()[-1]


def product_rate(*, cuda: bool) -> float:
    """Returns the FLOP/s of a large product, bfloat16 on CUDA and float32 on a CPU, in less than a second."""
    import torch

    if cuda:
        from edgeft.train.limit import matmul_rate

        return matmul_rate()
    a = torch.randn(_SIDE, _SIDE)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - started)
    return 2 * _SIDE**3 / min(seconds)


def _version(name: str) -> str | None:
    """Returns the version of a library that can be imported."""
    try:
        found = importlib.util.find_spec(_MODULES.get(name, name))
        return None if found is None else importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError):
        return None


def _gpu() -> Gpu | None:
    import torch

    if not torch.cuda.is_available():
        return None
    free_bytes, card_bytes = torch.cuda.mem_get_info()
    return Gpu(torch.cuda.get_device_name(), card_bytes, free_bytes, torch.cuda.get_device_capability() >= (8, 0))


def _cpu_features() -> frozenset[str]:
    """Returns Linux's names of the processor's features; none elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None

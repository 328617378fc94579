"""What this machine is: versions, memory, GPU, the build of llama.cpp, and how fast a large product runs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from edgeft.cores import available_cores

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
    """What was found; `versions` has None for a library that is not installed, `ram_bytes` where nobody says."""

    python: tuple[int, int]
    versions: dict[str, str | None]
    gpu: Gpu | None
    llama_build: str
    cpu_features: frozenset[str]
    cores: int
    ram_bytes: int | None

    @property
    def can_train(self) -> bool:
        """Whether everything that training imports is there."""
        return all(self.versions.get(name) for name in TRAIN_LIBRARIES)


def examine() -> Machine:
    """Looks at this machine; imports torch and llama_cpp where they are installed."""
    version = platform.python_version_tuple()
    versions = {name: _version(name) for name in (*TRAIN_LIBRARIES, *DEVICE_LIBRARIES)}
    build = ""
    if versions["llama-cpp-python"]:
        from edgeft.llamacpp import build_description

        build = build_description()
    return Machine(
        python=(int(version[0]), int(version[1])),
        versions=versions,
        gpu=_gpu() if versions["torch"] else None,
        llama_build=build,
        cpu_features=_cpu_features(),
        cores=available_cores(),
        ram_bytes=_ram_bytes(),
    )


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

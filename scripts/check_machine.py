"""Says whether this machine can be set up, and what to do where it cannot, before anything is installed.

It runs with the system's Python, whatever that is: only the standard library, and no syntax newer than Python 3.8's.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED_PYTHON = (3, 11)
NEEDED_DISK_GB = 6
# When torch is there already, an update writes little.
NEEDED_DISK_UPDATE_GB = 1
# Linux gets torch with CUDA unless pip is told otherwise: its wheels, and their unpacked files.
CUDA_DISK_GB = 15
ADVISED_RAM_GB = 8
GB = 1_000_000_000

# Remedies by the program that installs things on this platform, in the order in which they are looked for.
REMEDIES = {
    "apt": {
        "python": "sudo apt install python3.11 python3.11-venv",
        "compiler": "sudo apt install build-essential",
        "venv": "sudo apt install python3-venv",
    },
    "dnf": {
        "python": "sudo dnf install python3.11",
        "compiler": "sudo dnf install gcc gcc-c++",
        "venv": "sudo dnf reinstall python3 python3-libs",
    },
    "xcode-select": {
        "python": "install it from https://www.python.org/downloads/",
        "compiler": "xcode-select --install",
        "venv": "install Python from https://www.python.org/downloads/",
    },
}


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        python: version of the Python that `.venv` is to be made with.
        installer: a key of `REMEDIES`, or None when no installer is known.
        compiler: path of the C++ compiler, or None.
        has_venv: whether this Python has the modules venv and ensurepip.
        installed: the packages that `.venv` holds already in the pinned version.
        disks: what for, folder, and free bytes, for each file system that is written to.
        ram_bytes: memory of the machine, or None where the system does not say.
        gets_cuda: whether pip will choose the torch for CUDA.
    """

    python: tuple[int, int]
    installer: str | None
    compiler: str | None
    has_venv: bool
    installed: frozenset[str]
    disks: tuple[tuple[str, Path, int], ...]
    ram_bytes: int | None
    gets_cuda: bool


def find_problems(machine: Machine) -> list[str]:
    """Everything that would make the set-up fail, each with its remedy."""
    problems = []
    if machine.python < NEEDED_PYTHON:
        problems.append(
            "Python {}.{} is too old, {}.{} or newer is needed.\n".format(*machine.python, *NEEDED_PYTHON)
            + f"    {_remedy(machine, 'python')}, then: make PYTHON=python3.11"
        )
    if not machine.has_venv:
        problems.append(f"This Python has no venv and ensurepip modules.\n    {_remedy(machine, 'venv')}")
    if machine.compiler is None and "llama-cpp-python" not in machine.installed:
        problems.append(
            "There is no C++ compiler (c++, g++, clang++), and llama.cpp has to be compiled once.\n"
            f"    {_remedy(machine, 'compiler')}"
        )
    needed_gb = NEEDED_DISK_UPDATE_GB if "torch" in machine.installed else NEEDED_DISK_GB
    for purpose, folder, free_bytes in machine.disks:
        if free_bytes < needed_gb * GB:
            move = " or set PIP_CACHE_DIR to a folder on a larger disk" if purpose == "pip's cache" else ""
            problems.append(
                f"{folder} ({purpose}) has {free_bytes / GB:.1f} GB free, {needed_gb} GB are needed.\n"
                f"    Make room there{move}."
            )
    return problems


def find_hints(machine: Machine) -> list[str]:
    """What may become a problem later."""
    hints = []
    if machine.ram_bytes is not None and machine.ram_bytes < ADVISED_RAM_GB * GB:
        hints.append(
            f"This machine has {machine.ram_bytes / GB:.1f} GB of memory; below {ADVISED_RAM_GB} GB compiling may "
            "fail. CMAKE_BUILD_PARALLEL_LEVEL=1 makes it need less."
        )
    if machine.gets_cuda and "torch" not in machine.installed:
        hints += [
            f"{folder} ({purpose}) has {free_bytes / GB:.1f} GB free; torch with CUDA can need {CUDA_DISK_GB} GB. "
            "Without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu offers the small one."
            for purpose, folder, free_bytes in machine.disks
            if NEEDED_DISK_GB * GB <= free_bytes < CUDA_DISK_GB * GB
        ]
    return hints


def _remedy(machine: Machine, what: str) -> str:
    if machine.installer is None:
        return {"python": "Install Python 3.11", "compiler": "Install GCC or Clang", "venv": "Install Python's venv"}[
            what
        ]
    return REMEDIES[machine.installer][what]


def examine(
    root: Path,
    python: tuple[int, int] = (sys.version_info[0], sys.version_info[1]),
    which: Callable[[str], str | None] = shutil.which,
    has_module: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ram_bytes: Callable[[], int | None] = lambda: _ram_bytes(),
) -> Machine:
    """Look at this machine; `root` is the repository, with its `constraints.txt`. The rest are the probes."""
    return Machine(
        python=python,
        installer=next((name for name in REMEDIES if which(name)), None),
        compiler=find_compiler(which),
        has_venv=has_module("venv") and has_module("ensurepip"),
        installed=_installed(root),
        disks=_disks(root, free_bytes),
        ram_bytes=ram_bytes(),
        gets_cuda=platform.system() == "Linux" and "/cpu" not in os.environ.get("PIP_EXTRA_INDEX_URL", ""),
    )


def find_compiler(which: Callable[[str], str | None] = shutil.which) -> str | None:
    """The path of the C++ compiler that CMake takes, if there is one."""
    compilers = [os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++"]
    return next((path for path in map(which, filter(None, compilers)) if path), None)


def _installed(root: Path) -> frozenset[str]:
    """The pinned packages that `.venv` holds in their pinned version."""
    found = set()
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, pinned, version = line.strip().partition("==")
        # A build such as 2.13.0+cpu satisfies the pin 2.13.0.
        folders = f"{name.replace('-', '_')}-{version}*.dist-info"
        if pinned and any(
            folder.name[: -len(".dist-info")].partition("+")[0].endswith("-" + version)
            for folder in (root / ".venv").glob(f"lib/python*/site-packages/{folders}")
        ):
            found.add(name)
    return frozenset(found)


def _disks(root: Path, free_bytes: Callable[[Path], int]) -> tuple[tuple[str, Path, int], ...]:
    rows: dict[int, tuple[str, Path, int]] = {}
    for purpose, folder in (("the repository", root), ("pip's cache", _pip_cache())):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        # One file system is one row, whatever the number of folders on it.
        rows.setdefault(existing.stat().st_dev, (purpose, existing, free_bytes(existing)))
    return tuple(rows.values())


def _pip_cache() -> Path:
    if "PIP_CACHE_DIR" in os.environ:
        return Path(os.environ["PIP_CACHE_DIR"]).absolute()
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "pip"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "pip"


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def main() -> int:
    """Print every problem and hint; 1 when there is a problem."""
    machine = examine(ROOT)
    problems = find_problems(machine)
    for hint in find_hints(machine):
        print(f"hint: {hint}", file=sys.stderr)
    if problems:
        print("This machine cannot be set up yet:", file=sys.stderr)
        for problem in problems:
            print(f"  - {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

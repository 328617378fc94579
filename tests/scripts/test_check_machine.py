"""The check before the set-up: each refusal, all refusals at once, and that an old Python can run it at all."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import check_machine
import pytest
from check_machine import GB, Machine, examine, find_hints, find_problems

ROOT = Path(__file__).parents[2]

GOOD = Machine(
    python=(3, 11),
    installer="apt",
    compiler="/usr/bin/c++",
    has_venv=True,
    installed=frozenset(),
    disks=(("the repository", Path("/home/ada/edgeft"), 50 * GB),),
    ram_bytes=16 * GB,
    gets_cuda=True,
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "constraints.txt").write_text("# pins\nllama-cpp-python==0.3.36\ntorch==2.13.0\n", encoding="utf-8")
    return tmp_path


def look(root: Path, **probes: object) -> Machine:
    """A look at a good machine, but for the given probes."""
    good: dict[str, object] = {
        "python": (3, 12),
        "which": lambda name: f"/usr/bin/{name}" if name in ("apt", "c++") else None,
        "has_module": lambda name: True,
        "free_bytes": lambda folder: 50 * GB,
        "ram_bytes": lambda: 16 * GB,
    }
    return examine(root, **{**good, **probes})  # type: ignore[arg-type]


def test_a_good_machine_has_no_problem(repository: Path) -> None:
    machine = look(repository)
    assert find_problems(machine) == []
    assert find_hints(machine) == []


def test_an_old_python_is_refused(repository: Path) -> None:
    (problem,) = find_problems(look(repository, python=(3, 8)))
    assert "Python 3.8 is too old" in problem
    assert "make PYTHON=python3.11" in problem


def test_the_needed_python_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">={}.{}".format(*check_machine.NEEDED_PYTHON)


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_refused(repository: Path, missing: str) -> None:
    (problem,) = find_problems(look(repository, has_module=lambda name: name != missing))
    assert "apt install python3-venv" in problem


@pytest.mark.parametrize(
    ("installer", "remedy"),
    [
        ("apt", "build-essential"),
        ("dnf", "gcc-c++"),
        ("xcode-select", "xcode-select --install"),
        (None, "GCC or Clang"),
    ],
)
def test_a_machine_without_compiler_is_refused(repository: Path, installer: str | None, remedy: str) -> None:
    (problem,) = find_problems(look(repository, which=lambda name: "/usr/bin/it" if name == installer else None))
    assert "C++ compiler" in problem
    assert remedy in problem


@pytest.mark.parametrize("compiler", ["c++", "g++", "clang++"])
def test_any_compiler_will_do(repository: Path, compiler: str) -> None:
    assert find_problems(look(repository, which=lambda name: "/bin/it" if name == compiler else None)) == []


def test_no_compiler_is_needed_for_what_is_installed(repository: Path) -> None:
    packages = repository / ".venv" / "lib" / "python3.11" / "site-packages"
    (packages / "llama_cpp_python-0.3.36.dist-info").mkdir(parents=True)
    (packages / "torch-2.13.0+cpu.dist-info").mkdir()
    machine = look(repository, which=lambda name: None, free_bytes=lambda folder: 2 * GB)
    assert machine.installed == {"llama-cpp-python", "torch"}
    assert find_problems(machine) == []


def test_another_version_is_not_what_is_installed(repository: Path) -> None:
    packages = repository / ".venv" / "lib" / "python3.11" / "site-packages"
    for name in ("llama_cpp_python-0.3.3", "llama_cpp_python-0.3.361", "torch-2.13.0.post1"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    assert look(repository).installed == frozenset()


def test_a_full_disk_is_refused(repository: Path) -> None:
    problems = find_problems(look(repository, free_bytes=lambda folder: 5_900_000_000))
    assert problems
    assert all("5.9 GB free, 6 GB are needed" in problem for problem in problems)


def test_a_full_cache_disk_can_be_avoided() -> None:
    disks = (*GOOD.disks, ("pip's cache", Path("/small/.cache"), GB))
    (problem,) = find_problems(replace(GOOD, disks=disks))
    assert "/small/.cache" in problem
    assert "PIP_CACHE_DIR" in problem


def test_all_problems_are_told_at_once(repository: Path) -> None:
    machine = look(
        repository,
        python=(3, 9),
        which=lambda name: None,
        has_module=lambda name: False,
        free_bytes=lambda folder: 0,
    )
    told = "\n".join(find_problems(machine))
    assert all(word in told for word in ("too old", "ensurepip", "compiler", "GB are needed"))


def test_little_memory_and_a_tight_disk_are_hints_only() -> None:
    machine = replace(GOOD, ram_bytes=4 * GB, disks=(("the repository", Path("/srv"), 9 * GB),))
    assert find_problems(machine) == []
    memory, disk = find_hints(machine)
    assert "CMAKE_BUILD_PARALLEL_LEVEL=1" in memory
    assert "whl/cpu" in disk


def test_an_old_python_can_read_the_script() -> None:
    source = (ROOT / "scripts" / "check_machine.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["dev"]]
    pinned = re.findall(r"^([\w-]+)==\S+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {re.split(r"[<>=!~\[; ]", name)[0] for name in wanted} == set(pinned)

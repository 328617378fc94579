"""The cores that a container may use are those that it is given time for, and threads that wait leave them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.cores import available_cores, container_share, cores_are_free, let_threads_sleep


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu.max": ""}, math.inf),
        ({}, math.inf),
    ],
)
def test_what_linux_says_of_a_container(files: dict[str, str], share: float, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert container_share(tmp_path) == share


def test_there_is_at_least_one() -> None:
    assert available_cores() >= 1


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_says_of_waiting_stands(chosen: dict[str, str]) -> None:
    environment = dict(chosen)
    let_threads_sleep(environment)
    assert environment == chosen


@pytest.mark.parametrize(("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_llama_cpp_waits_as_it_is_told(given: dict[str, str], spins: str) -> None:
    """libgomp, once it is loaded, prints what it has read: a setting that comes too late is not in it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-m", "edgeft", "chat", "nowhere.gguf"]
    environment = kept | given | {"OMP_DISPLAY_ENV": "verbose"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr
    assert "nowhere.gguf" in said
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("this llama.cpp is compiled without libgomp")
    assert f"GOMP_SPINCOUNT = '{spins}'" in said


def test_more_threads_than_cores_have_none_to_themselves() -> None:
    assert not cores_are_free(4 * available_cores())

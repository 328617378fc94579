"""The cores that a container may use are those that it is given time for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgeft.cores import available_cores, container_share


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

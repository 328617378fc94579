"""Codes that processes share out are gathered as they were, each way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from tiny_torchrun import torchrun

TWO_GPUS = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]


@pytest.mark.parametrize(
    ("kind", "extra", "way"),
    [
        ("cpu", {}, "_ExchangedParts"),
        pytest.param("cuda", {}, "_ReadParts", marks=TWO_GPUS),
        pytest.param("cuda", {"NCCL_P2P_DISABLE": "1"}, "_ExchangedParts", marks=TWO_GPUS),
    ],
)
def test_codes_are_gathered_as_they_were(kind: str, extra: dict[str, str], way: str) -> None:
    script = Path(__file__).with_name("share_codes.py")
    command = [*torchrun(2), str(script), kind, way]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | extra
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]

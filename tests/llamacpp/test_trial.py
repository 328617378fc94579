"""The trial of llama.cpp on this machine computes with quantized weights, and nearly what they say."""

from __future__ import annotations

import subprocess
import sys

from edgeft.llamacpp.trial import products_nmse


def test_quantized_products_are_near_those_in_float32() -> None:
    # Less than 1e-6 would be float32 arithmetic: then the kernels of the types were not tried.
    assert 1e-6 < products_nmse() < 1e-3


def test_a_process_tells_by_its_exit() -> None:
    ended = subprocess.run([sys.executable, "-m", "edgeft.llamacpp.trial"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

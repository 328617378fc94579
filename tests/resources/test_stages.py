"""Sizes of files and speeds, against what was measured (docs/benchmarks.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_shapes import SHAPES

from edgeft.resources import Job, ModelShape, Strategy
from edgeft.resources.duration import training_seconds
from edgeft.resources.memory import Engine
from edgeft.resources.stages import file_bytes

BASE = Path(__file__).parent.parent.parent / "models" / "base" / "config.json"


@pytest.mark.parametrize(("type_name", "megabytes"), [("F16", 19.0), ("Q8_0", 10.2), ("Q4_K_M", 6.1)])
def test_files_are_as_large_as_said_or_a_little_smaller(type_name: str, megabytes: float) -> None:
    predicted = file_bytes(ModelShape.read(json.loads(BASE.read_text())), type_name) / 1e6
    assert 0.98 * megabytes < predicted < 1.15 * megabytes  # F16 files have a tokenizer, which is not counted


@pytest.mark.parametrize(
    ("name", "engine", "tokens", "recompute", "speed"),
    [
        ("8b", "fast", 8448, False, 17_034),
        ("8b", "fast", 8192, True, 12_903),
        ("8b", "plain", 8192, False, 11_166),
        ("1b", "fast", 16384, False, 89_568),
        ("1b", "plain", 16384, False, 50_920),
        ("0.6b", "fast", 16384, False, 79_584),
    ],
)
def test_speeds_are_those_that_were_measured(
    name: str, engine: Engine, tokens: int, recompute: bool, speed: int
) -> None:
    """Within 7%: the product's rate was between 745 and 769 TFLOP/s."""
    shape = ModelShape.read(SHAPES[name].to_dict())
    job = Job(shape, 16, frozenset(shape.linears), engine)
    seconds = training_seconds(job, Strategy(tokens, 2048, recompute), 100 * tokens, 757e12)
    assert 100 * tokens / seconds == pytest.approx(speed, rel=0.07)

"""A tiny model and its GGUF files, made once for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from tiny_model import make_model

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.weights import CheckpointWeights


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random Llama in bfloat16 with a ChatML tokenizer; read-only."""
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_f32(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    """The tiny model as an F32 GGUF file: every bfloat16 is exact in it."""
    return _converted(tiny_checkpoint, "f32", tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="session")
def tiny_f16(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    """The tiny model as an F16 GGUF file."""
    return _converted(tiny_checkpoint, "f16", tmp_path_factory.mktemp("gguf"))


def _converted(checkpoint: Checkpoint, dtype: Literal["f32", "f16"], folder: Path) -> GgufFile:
    config = ConvertConfig(dtype=dtype, random_texts=100)
    return convert(CheckpointWeights(checkpoint), checkpoint, config, folder / f"tiny-{dtype}.gguf")

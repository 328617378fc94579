"""A GGUF file as a checkpoint: the converter backwards, on a tiny model of every family."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from convert.cases import CASES
from convert.models import byte_level_tokenizer, sentencepiece_model, to_gguf
from convert.zoo import Case, make
from edgeft.artifacts import Checkpoint
from edgeft.convert.from_gguf import Imported, import_gguf, read_model
from edgeft.hf import load_model

_FIRST = {case.family: case for case in reversed(CASES)}
_CHOSEN = CASES if os.environ.get("EDGEFT_WHOLE_MATRIX") else tuple(_FIRST[name] for name in dict.fromkeys(_FIRST))
_EACH = pytest.mark.parametrize("case", _CHOSEN, ids=lambda case: case.id)
# A file of half the checkpoint's precision has other weights; a wrong permutation, scale or norm gives 1e-2 or more.
_MAX_NMSE_ROUNDED = 1e-5


@dataclass(frozen=True)
class RoundTrip:
    """A checkpoint, the file of it, and the checkpoint that is imported from the file."""

    folder: Path
    file: Path
    imported: Imported


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RoundTrip]:
    root = tmp_path_factory.mktemp("imported")
    byte_level_tokenizer(root / "bpe", "qwen2")
    byte_level_tokenizer(root / "qwen35", "qwen35")
    sentencepiece_model(root / "spm")
    return {case.id: _round_trip(case, root / str(number)) for number, case in enumerate(_CHOSEN)}


def _round_trip(case: Case, root: Path) -> RoundTrip:
    folder = root / "model"
    make(case, folder, root.parent / case.tokenizer)
    file = to_gguf(folder, root / "ours.gguf", case.dtype).path
    out = root / "imported"
    out.mkdir()
    return RoundTrip(folder, file, import_gguf(read_model(file), out))


def _tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    found = gguf.GGUFReader(path).tensors
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in found}


@_EACH
def test_converted_again_the_tensors_are_the_files(case: Case, made: dict[str, RoundTrip], tmp_path: Path) -> None:
    theirs = _tensors(made[case.id].file)
    ours = _tensors(to_gguf(made[case.id].imported.checkpoint.path, tmp_path / "again.gguf", "f32").path)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert values.tobytes() == theirs[name].astype(np.float32).tobytes(), name


@_EACH
def test_converted_again_the_keys_are_the_files(case: Case, made: dict[str, RoundTrip], tmp_path: Path) -> None:
    theirs = _keys(made[case.id].file)
    ours = _keys(to_gguf(made[case.id].imported.checkpoint.path, tmp_path / "again.gguf", case.dtype).path)
    differing = {key for key in ours | theirs if ours.get(key) != theirs.get(key)}
    # tokenizer.json has no scores, which become ranks, and makes a control token of the unknown one.
    assert differing <= ({"tokenizer.ggml.scores", "tokenizer.ggml.token_type"} if case.sentencepiece else set())


def _keys(path: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(path).fields.items()
    return {name: (entry.types, entry.contents()) for name, entry in fields if not name.startswith("GGUF.")}


@_EACH
def test_transformers_computes_the_same_with_it(case: Case, made: dict[str, RoundTrip]) -> None:
    ids = torch.randint(0, 460, (1, case.tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (
            load_model(checkpoint, "cpu", torch.float32)(ids).logits
            for checkpoint in (Checkpoint.open(made[case.id].folder), made[case.id].imported.checkpoint)
        )
    if case.dtype == case.stored:
        assert torch.equal(one, other)
    else:
        assert torch.nn.functional.mse_loss(other, one) / one.var() < _MAX_NMSE_ROUNDED

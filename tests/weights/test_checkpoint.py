"""One folder is one model: what is read of it is what transformers loads, or it is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import make_model

from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.convert.families import plan_of
from edgeft.errors import EdgeftError
from edgeft.weights import CheckpointWeights

SMALL: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in several shards, and another one's single file beside them."""
    root = tmp_path_factory.mktemp("models")
    make_model(root / "both", max_shard_size="100KB", **SMALL)
    make_model(root / "single", seed=1, **SMALL)
    shutil.copy(root / "single" / "model.safetensors", root / "both")
    return root


def same_as_transformers(path: Path) -> bool:
    weights, model = CheckpointWeights(Checkpoint.open(path)), hf.load_model(Checkpoint.open(path), "cpu", "auto")
    theirs = model.state_dict()
    return all(torch.equal(weights.read(name), theirs[name]) for name in weights.specs)


def test_one_file_goes_before_shards_as_in_transformers(folder: Path) -> None:
    assert len(list((folder / "both").glob("model-*.safetensors"))) > 1
    assert same_as_transformers(folder / "both")
    theirs, ours = (CheckpointWeights(Checkpoint.open(folder / name)) for name in ("single", "both"))
    assert ours.fingerprint() == theirs.fingerprint()


def test_an_index_that_save_pretrained_left_is_not_read(folder: Path, tmp_path: Path) -> None:
    stale = shutil.copytree(folder / "both", tmp_path / "stale")
    for shard in stale.glob("model-*.safetensors"):
        shard.unlink()
    assert (stale / "model.safetensors.index.json").is_file()
    assert same_as_transformers(stale)


def test_shards_alone_are_read_by_their_index(folder: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(folder / "both", tmp_path / "shards")
    (shards / "model.safetensors").unlink()
    assert same_as_transformers(shards)


def test_an_adapter_beside_a_model_is_refused(folder: Path, tmp_path: Path) -> None:
    """transformers puts it on the model when it loads the folder; files alone do not say whether it is in already."""
    both = shutil.copytree(folder / "single", tmp_path / "both")
    (both / "adapter_config.json").write_text("{}")
    with pytest.raises(EdgeftError, match="holds a whole model and an adapter") as caught:
        Checkpoint.open(both)
    assert "delete adapter_config.json" in str(caught.value)


def test_an_architecture_that_is_not_named_follows_from_the_model_type(folder: Path) -> None:
    config = Checkpoint.open(folder / "single").config()
    plain = config | {"architectures": None}
    ours, theirs = plan_of(plain, "config.json"), plan_of(config, "config.json")
    assert ours.arch == theirs.arch
    assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]
    with pytest.raises(EdgeftError, match="'none'"):
        plan_of(plain | {"model_type": "of-2030"}, "config.json")


def test_a_leftover_quantization_config_is_named(folder: Path) -> None:
    config = Checkpoint.open(folder / "single").config() | {"quantization_config": {"quant_method": "bitsandbytes"}}
    with pytest.raises(EdgeftError, match="already quantized") as caught:
        plan_of(config, "config.json")
    assert "bitsandbytes" in str(caught.value) and "take quantization_config out of config.json" in str(caught.value)

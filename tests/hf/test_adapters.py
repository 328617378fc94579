"""Without names of layers, all linear layers of every family get an adapter, and the merge is peft's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from convert.cases import CASES
from convert.models import byte_level_tokenizer
from convert.zoo import Case, make

from edgeft.artifacts import Checkpoint, open_trained
from edgeft.config import LoraConfig
from edgeft.hf import add_lora
from edgeft.merge import load_merged

_FIRST = {case.family: case for case in reversed(CASES)}
_CASES = [*_FIRST.values(), *(case for case in CASES if case.option == "with vision")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "bpe"
    byte_level_tokenizer(folder, "qwen2")
    return folder


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.id)
def test_every_linear_layer_of_a_family_is_adapted_and_merged(case: Case, tokenizer: Path, tmp_path: Path) -> None:
    model = make(replace(case, stored="float32"), tmp_path / "model", tokenizer)
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not output]
    linear = {name for name, _ in layers if "vision" not in name and "multi_modal" not in name}
    tuned = add_lora(model, LoraConfig(rank=4), prepare=False)
    tuned_layers = tuned.get_base_model().named_modules()
    assert {name for name, layer in tuned_layers if hasattr(layer, "lora_A")} == linear
    assert len(linear) >= 4 * 2
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    tuned.save_pretrained(tmp_path / "adapter")
    theirs = tuned.merge_and_unload().state_dict()
    ours = load_merged(Checkpoint.open(tmp_path / "model"), open_trained(tmp_path / "adapter"), "original", "cpu")
    for name, values in ours.state_dict().items():
        # Both sum the same products in float32; the order of single roundings may differ.
        torch.testing.assert_close(values, theirs[name], rtol=2e-6, atol=2e-7, msg=name)

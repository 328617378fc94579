"""A correct export passes, and each kind of fault is found on its own rung."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, TokenType
from safetensors.torch import load_file, save_file
from tiny_model import CHATML, make_model
from tiny_run import write_records

from edgeft.artifacts import Checkpoint, GgufFile, Reference
from edgeft.config import ConvertConfig, ParityConfig, ParityThresholds
from edgeft.convert import convert
from edgeft.dataset.records import read_records
from edgeft.errors import EdgeftError
from edgeft.parity.check import compare, thresholds_for
from edgeft.parity.record import record_reference
from edgeft.parity.reference import OpenReference
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights

CONFIG = ParityConfig(records=5, positions=256, max_new_tokens=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("parity") / "model")


@pytest.fixture(scope="module")
def reference(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    write_records(folder / "test.jsonl", 5)
    records = read_records(folder / "test.jsonl")
    return record_reference(model, None, records, CONFIG, "cpu", folder / "reference.npz")


def export(model: Checkpoint, path: Path, dtype: str = "f32") -> GgufFile:
    return convert(CheckpointWeights(model), model, ConvertConfig.model_validate({"dtype": dtype}), path)


# The measured noise of each type's arithmetic in llama.cpp on this model: see the assertion.
NOISE = {"f32": 1e-9, "f16": 1e-5, "bf16": 2e-3}


@pytest.mark.parametrize("dtype", NOISE)
def test_a_correct_export_passes(model: Checkpoint, reference: Reference, tmp_path: Path, dtype: str) -> None:
    report = compare(reference, export(model, tmp_path / "model.gguf", dtype), CONFIG)
    assert report["verdict"] == "pass", report["failures"]
    assert report["type"] == dtype.upper()
    assert report["logits"]["mean_kld"] < NOISE[dtype]
    if dtype == "f32":
        assert report["logits"]["nmse"] < 1e-9
        assert report["greedy"]["same"] == report["greedy"]["records"]


def test_a_quantized_file_is_held_to_its_budget(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    f16 = export(model, tmp_path / "f16.gguf", "f16")
    smaller = quantize(f16, "Q8_0", tmp_path / "q8.gguf")
    loose = CONFIG.model_copy(update={"quantization": ParityThresholds(mean_kld=1.0, top1=0.0, ppl_ratio=9.0)})
    tight = CONFIG.model_copy(update={"thresholds": {"Q8_0": ParityThresholds(mean_kld=1e-9, top1=0.0, ppl_ratio=9.0)}})
    assert compare(reference, smaller, loose)["verdict"] == "pass"
    failed = compare(reference, smaller, tight)
    assert (failed["verdict"], failed["rung"]) == ("fail", "logits")
    assert "mean KLD" in failed["cause"]


# Faults, each put into an otherwise correct export. They change a copy of the checkpoint before it is converted.


def _edit_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")

    return edit


def _edit_json(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def _swap_layers(weights: dict[str, torch.Tensor]) -> None:
    first, second = (f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
    weights[first], weights[second] = weights[second], weights[first]


def _zero(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.1.self_attn.o_proj.weight"].zero_()


def _half_merged(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.0.mlp.down_proj.weight"] *= 0.9


def _lose_merges(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:20]


def _other_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(CHATML.replace("'\n'", "' '", 1))


def _system_prompt(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML)


FAULTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "two layers swapped": ("logits", _edit_weights(_swap_layers)),
    "a tensor zeroed": ("logits", _edit_weights(_zero)),
    "an update at the wrong scale": ("logits", _edit_weights(_half_merged)),
    "another RoPE base": ("logits", _edit_json("config.json", lambda c: c["rope_parameters"].update(rope_theta=5e4))),
    "another norm epsilon": ("logits", _edit_json("config.json", lambda c: c.update(rms_norm_eps=0.1))),
    "merges lost": ("token ids", _edit_json("tokenizer.json", _lose_merges)),
    "another template": ("chat template", _other_template),
    "a system prompt added": ("chat template", _system_prompt),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_on_its_rung(model: Checkpoint, reference: Reference, tmp_path: Path, fault: str) -> None:
    rung, inject = FAULTS[fault]
    shutil.copytree(model.path, tmp_path / "broken")
    inject(tmp_path / "broken")
    report = compare(reference, export(Checkpoint.open(tmp_path / "broken"), tmp_path / "model.gguf"), CONFIG)
    assert report["verdict"] == "fail"
    assert report["rung"] == rung, report["failures"]


def test_a_turn_marker_that_is_text_is_found(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    """The start marker: llama.cpp itself makes <|im_end|> and its like CONTROL again, by their names."""
    token = "<|im_start|>"
    gguf = export(model, tmp_path / "model.gguf")
    reader = GGUFReader(gguf.path, "r+")
    place = reader.fields["tokenizer.ggml.tokens"].contents().index(token)
    types = reader.fields["tokenizer.ggml.token_type"]
    types.parts[types.data[place]][0] = TokenType.NORMAL
    reader.data.flush()
    report = compare(reference, gguf, CONFIG)
    assert (report["verdict"], report["rung"]) == ("fail", "token types"), report["failures"]
    assert token in report["where"]


def test_not_a_number_fails(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    """A reference whose logits are not finite can never pass: NaN compares false with every threshold."""
    with np.load(reference.path) as arrays:
        broken = {name: arrays[name] for name in arrays}
    broken["logits_0"] = np.full_like(broken["logits_0"], np.nan)
    np.savez(tmp_path / "nan.npz", **broken)
    report = compare(Reference(tmp_path / "nan.npz"), export(model, tmp_path / "model.gguf"), CONFIG)
    assert report["verdict"] == "fail"


def test_positions_are_limited(model: Checkpoint, tmp_path: Path) -> None:
    write_records(tmp_path / "test.jsonl", 12)
    config = CONFIG.model_copy(update={"positions": 64, "records": 12})
    made = record_reference(model, None, read_records(tmp_path / "test.jsonl"), config, "cpu", tmp_path / "r.npz")
    content = OpenReference(made).content
    assert sum(record.n_scored for record in content.records) == 64


def test_what_is_no_reference_is_refused(model: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(b"PK not a zip")
    with pytest.raises(EdgeftError, match="not a parity reference"):
        compare(Reference(tmp_path / "reference.npz"), export(model, tmp_path / "model.gguf"), CONFIG)


def test_thresholds_by_type() -> None:
    assert thresholds_for("F16", CONFIG) == CONFIG.conversion
    assert thresholds_for("Q4_K_M", CONFIG) == CONFIG.quantization
    assert thresholds_for("mixed", CONFIG) == CONFIG.quantization

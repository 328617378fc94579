"""What a file says about its model, files in several parts, and files that llama.cpp's own converter writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import oracle
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner
from safetensors.torch import save_file

from convert.models import byte_level_tokenizer, llama
from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.cli import main
from edgeft.config import ConvertConfig
from edgeft.convert import Origin, convert, require_convertible
from edgeft.errors import EdgeftError
from edgeft.files import sha256_file
from edgeft.hf import load_model, logits
from edgeft.llamacpp import Engine
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights


@pytest.fixture
def source(tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "merged-model"
    byte_level_tokenizer(folder, "gpt-2")
    llama(folder, torch.bfloat16)
    return Checkpoint.open(folder)


def _keys(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def _converted(source: Checkpoint, out: Path, config: ConvertConfig | None = None, **options: Any) -> GgufFile:
    few = (config or ConvertConfig()).model_copy(update={"random_texts": 50})
    return convert(CheckpointWeights(source), source, few, out, **options)


def _origin(folder: Path, base: str, datasets: tuple[str, ...] = ()) -> Origin:
    card = {"license": "apache-2.0", "tags": ["tiny"], "language": "en", "model_name": "Base Model"}
    for name in ("base", "adapter"):
        (folder / name).mkdir()
    (folder / "base" / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\nA base.\n")
    save_file({"w": torch.ones(2)}, folder / "adapter" / "adapter_model.safetensors")
    return Origin(base, folder / "base", folder / "adapter", datasets)


def test_a_fine_tuned_model_says_where_it_comes_from(source: Checkpoint, tmp_path: Path) -> None:
    origin = _origin(tmp_path, "someone/Base-1B", ("someone/texts@train", "train.jsonl", "/data/set"))
    keys = _keys(_converted(source, tmp_path / "m.gguf", ConvertConfig(name="Mine"), origin=origin).path)
    assert keys["general.name"] == "Mine"
    assert keys["general.base_model.count"] == keys["general.dataset.count"] == 1
    assert keys["general.base_model.0.name"] == "Base 1B"
    assert keys["general.base_model.0.organization"] == "someone"
    assert keys["general.base_model.0.repo_url"] == "https://huggingface.co/someone/Base-1B"
    assert keys["general.dataset.0.repo_url"] == "https://huggingface.co/someone/texts"
    assert (keys["general.license"], keys["general.tags"]) == ("apache-2.0", ["tiny"])
    assert keys["general.languages"] == ["en"]
    assert keys["edgeft.adapter.sha256"] == sha256_file(origin.adapter / "adapter_model.safetensors")


def test_a_base_in_a_folder_goes_by_its_name(source: Checkpoint, tmp_path: Path) -> None:
    origin = _origin(tmp_path, str(tmp_path / "base"))
    keys = _keys(_converted(source, tmp_path / "m.gguf", origin=origin).path)
    assert keys["general.base_model.0.name"] == "Base Model"
    assert "general.base_model.0.repo_url" not in keys


def test_the_configuration_wins_over_the_card_and_survives_quantization(source: Checkpoint, tmp_path: Path) -> None:
    config = ConvertConfig(author="Me", license="mit", tags=("home", "voice"), quantized_by="Me again")
    file = _converted(source, tmp_path / "m.gguf", config, origin=_origin(tmp_path, "someone/Base-1B"))
    for path in (file.path, quantize(file, "Q8_0", tmp_path / "q.gguf", 1).path):
        keys = _keys(path)
        found = [keys[f"general.{name}"] for name in ("author", "license", "tags", "quantized_by")]
        assert found == ["Me", "mit", ["home", "voice"], "Me again"]


def test_parts_hold_what_the_whole_file_holds(source: Checkpoint, tmp_path: Path) -> None:
    whole = _converted(source, tmp_path / "whole.gguf")
    first = _converted(source, tmp_path / "parts" / "m.gguf", split_max_bytes=800_000)
    assert first.path.name == "m-00001-of-00005.gguf"
    assert sorted(first.path.parent.iterdir()) == first.parts
    expected = {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(whole.path).tensors}
    found: dict[str, bytes] = {}
    for part in first.parts:
        found |= {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(part).tensors}
    assert found == expected
    ids = list(range(20, 60))
    with Engine(whole, 64, exact_kv=True) as one, Engine(first, 64, exact_kv=True) as several:
        assert np.array_equal(one.logits(ids), several.logits(ids))
    from_parts, from_whole = (quantize(f, "Q8_0", tmp_path / f"{n}.gguf", 1) for n, f in enumerate((first, whole)))
    tensors = [[t.data.tobytes() for t in gguf.GGUFReader(file.path).tensors] for file in (from_parts, from_whole)]
    assert tensors[0] == tensors[1]


def test_one_part_is_an_ordinary_file(source: Checkpoint, tmp_path: Path) -> None:
    file = _converted(source, tmp_path / "out" / "m.gguf", split_max_bytes=10**9)
    assert list((tmp_path / "out").iterdir()) == [file.path] == [tmp_path / "out" / "m.gguf"]


def test_a_refused_conversion_leaves_no_part(source: Checkpoint, tmp_path: Path) -> None:
    weights = CheckpointWeights(source)
    name = next(reversed(weights.specs))
    tensors = {other: weights.read(other) for other in weights.specs}
    tensors[name].flatten()[0] = float("nan")
    save_file(tensors, source.path / "model.safetensors", {"format": "pt"})
    with pytest.raises(EdgeftError, match="NaN"):
        _converted(source, tmp_path / "out" / "m.gguf", split_max_bytes=800_000)
    assert list((tmp_path / "out").iterdir()) == []


def test_parts_that_are_missing_or_not_the_first_are_named(source: Checkpoint, tmp_path: Path) -> None:
    first = _converted(source, tmp_path / "m.gguf", split_max_bytes=800_000)
    assert GgufFile.open(first.path).size_bytes == sum(part.stat().st_size for part in first.parts)
    with pytest.raises(EdgeftError, match=r"not the first part(.|\n)*give m-00001-of-00005\.gguf"):
        GgufFile.open(first.parts[1])
    first.parts[2].unlink()
    with pytest.raises(EdgeftError, match=r"m-00003-of-00005\.gguf: this part is missing"):
        GgufFile.open(first.path)


@pytest.mark.parametrize("size", ["2", "0M", "-1G", "2T"])
def test_a_size_needs_a_number_and_a_unit(size: str, source: Checkpoint, tmp_path: Path) -> None:
    arguments = ["convert", str(source.path), "--out", str(tmp_path / "m.gguf"), "--split-max-size", size]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "is no size; write it as" in result.output


@pytest.mark.parametrize("name", ["README.md", "chat_template.jinja"])
def test_a_text_that_is_not_utf8_is_named(name: str, source: Checkpoint, tmp_path: Path) -> None:
    (source.path / name).write_bytes(b"---\nlicense: mit\n---\n\xff\xfe")
    with pytest.raises(EdgeftError, match=name.replace(".", r"\.")):
        _converted(source, tmp_path / "m.gguf")


@pytest.mark.parametrize("edit", [{"layer_types": 5}, {"text_config": 3}, {"layer_types": "full_attention"}])
def test_a_configuration_of_wrong_types_is_refused(edit: dict[str, Any], source: Checkpoint, tmp_path: Path) -> None:
    path = source.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    arguments = ["convert", str(source.path), "--out", str(tmp_path / "m.gguf")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 1 and "config.json" in result.output


def test_a_folder_is_refused_before_anything_is_converted(source: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = CliRunner().invoke(main, ["convert", str(source.path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1 and "it is a folder" in result.output
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def foreign(tmp_path: Path) -> Checkpoint:
    """A model of an architecture that is not native: GPT-2."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    byte_level_tokenizer(folder, "gpt-2")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=463, n_embd=64, n_layer=2, n_head=2, n_positions=128, eos_token_id=2, bos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    path = folder / "config.json"  # llama.cpp's converter wants GPT-2's older key
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_ctx": 128}))
    return Checkpoint.open(folder)


def test_another_converter_serves_other_architectures(foreign: Checkpoint, tmp_path: Path) -> None:
    folder = oracle.converter_folder()
    with pytest.raises(EdgeftError, match="--converter"):
        require_convertible(foreign, ConvertConfig())
    config = ConvertConfig(dtype="f32", converter=str(folder), name="Mine")
    require_convertible(foreign, config)
    file = _converted(foreign, tmp_path / "m.gguf", config)
    assert _keys(file.path)["general.name"] == "Mine"
    ids = list(range(20, 60))
    expected = logits(load_model(foreign, "cpu", torch.float32), ids).double().numpy()
    with Engine(file, 64, exact_kv=True) as engine:
        computed = engine.logits(ids)
    # GPT-2's GELU is a table of half-precision numbers in ggml: 1e-7 was measured.
    assert np.mean((computed - expected) ** 2) / expected.var() < 1e-6


def test_what_another_converter_says_when_it_fails_is_told(source: Checkpoint, tmp_path: Path) -> None:
    (source.path / "tokenizer.json").write_text("{}")
    config = ConvertConfig(converter=str(oracle.converter_folder()))
    with pytest.raises(EdgeftError, match=r"llama\.cpp's converter failed: "):
        _converted(source, tmp_path / "out" / "m.gguf", config)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_converter_that_is_not_there_is_named(source: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"no convert_hf_to_gguf\.py(.|\n)*a checkout of llama\.cpp"):
        require_convertible(source, ConvertConfig(converter=str(tmp_path)))


def test_an_architecture_that_the_other_converter_does_not_know_is_named(source: Checkpoint) -> None:
    path = source.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["NobodyForCausalLM"]}))
    with pytest.raises(EdgeftError, match="does not know NobodyForCausalLM"):
        require_convertible(source, ConvertConfig(converter=str(oracle.converter_folder())))

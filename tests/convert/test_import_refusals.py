"""GGUF files that cannot be imported are refused, naming what and where, and nothing is left."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner

from convert.models import byte_level_tokenizer, llama
from edgeft.artifacts import Checkpoint
from edgeft.cli import main
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.weights import CheckpointWeights

_SHAPE: dict[str, Any] = {"vocab_size": 480, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as a file that can be imported."""
    folder = tmp_path_factory.mktemp("llama")
    byte_level_tokenizer(folder / "model", "smollm")
    llama(folder / "model", **_SHAPE)
    source = Checkpoint.open(folder / "model")
    config = ConvertConfig(dtype="f32", random_texts=0)
    return convert(CheckpointWeights(source), source, config, folder / "tiny.gguf").path


def _refusal(path: Path, out: Path) -> str:
    result = CliRunner().invoke(main, ["import", str(path), "--out", str(out)])
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert not list(out.parent.glob(f"{out.name}*")), "a refused import left a folder"
    return result.stderr


def _rewritten(
    file: Path,
    path: Path,
    *,
    keys: Callable[[dict[str, Any]], object] = lambda _: None,
    tensors: Callable[[dict[str, np.ndarray[Any, Any]]], object] = lambda _: None,
    arch: str = "llama",
) -> Path:
    """Writes the file again with other keys and tensors; a key's value is a field's content, or (content, type)."""
    reader = gguf.GGUFReader(file)
    fields = {name: entry for name, entry in reader.fields.items() if not name.startswith("GGUF.")}
    values: dict[str, Any] = {name: (entry.contents(), entry.types) for name, entry in fields.items()}
    values.pop("general.architecture")
    arrays = {tensor.name: tensor.data for tensor in reader.tensors}
    keys(values)
    tensors(arrays)
    writer = gguf.GGUFWriter(path, arch)
    for name, (content, types) in values.items():
        writer.add_key_value(name, content, types[0], types[1] if len(types) > 1 else None)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _typed(content: Any, kind: gguf.GGUFValueType) -> tuple[Any, list[gguf.GGUFValueType]]:
    return content, [kind]


_STRING, _UINT32, _FLOAT32 = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32


def test_the_file_itself_is_imported(file: Path, tmp_path: Path) -> None:
    again = _rewritten(file, tmp_path / "again.gguf")
    result = CliRunner().invoke(main, ["import", str(again), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert Checkpoint.open(tmp_path / "out").config()["num_hidden_layers"] == 1


def test_a_folder_that_is_there_is_kept(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    result = CliRunner().invoke(main, ["import", str(file), "--out", str(out)])
    assert result.exit_code == 1
    assert "already exists" in result.stderr
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("adapter", "this file is a LoRA adapter"),
        ("imatrix", "this file is an importance matrix"),
        ("mmproj", "this file holds the eyes or ears of a model"),
        ("vocab", "this file is no model, its general.type is 'vocab'"),
    ],
)
def test_files_of_other_kinds(file: Path, tmp_path: Path, kind: str, said: str) -> None:
    other = _rewritten(
        file, tmp_path / "other.gguf", keys=lambda keys: keys.update({"general.type": _typed(kind, _STRING)})
    )
    assert said in _refusal(other, tmp_path / "out")


def test_another_architecture_names_those_that_are_covered(file: Path, tmp_path: Path) -> None:
    message = _refusal(_rewritten(file, tmp_path / "other.gguf", arch="mamba"), tmp_path / "out")
    assert "GGUF files of architecture 'mamba' cannot be imported" in message
    assert "supported: gemma2, gemma3, gemma4, granite, lfm2, llama, mistral3, phi3, qwen2" in message


def test_a_vocabulary_alone(file: Path, tmp_path: Path) -> None:
    bare = _rewritten(file, tmp_path / "vocab.gguf", tensors=lambda tensors: tensors.clear())
    assert "this file has no weights, only a vocabulary" in _refusal(bare, tmp_path / "out")


def test_no_tokenizer(file: Path, tmp_path: Path) -> None:
    def edit(keys: dict[str, Any]) -> None:
        for name in [name for name in keys if name.startswith("tokenizer.")]:
            del keys[name]

    assert "the file has no tokenizer" in _refusal(_rewritten(file, tmp_path / "f.gguf", keys=edit), tmp_path / "out")


def test_a_tokenizer_of_another_kind(file: Path, tmp_path: Path) -> None:
    edited = _rewritten(
        file, tmp_path / "f.gguf", keys=lambda keys: keys.update({"tokenizer.ggml.model": _typed("bert", _STRING)})
    )
    assert "tokenizers of type 'bert' cannot be imported" in _refusal(edited, tmp_path / "out")


def test_splitting_rules_that_none_here_equals(file: Path, tmp_path: Path) -> None:
    """llama.cpp splits otherwise by the rules of this name: the ids differ for every tokenizer that is tried."""
    edited = _rewritten(
        file, tmp_path / "f.gguf", keys=lambda keys: keys.update({"tokenizer.ggml.pre": _typed("superbpe", _STRING)})
    )
    assert "texts otherwise than the model's tokenizer" in _refusal(edited, tmp_path / "out")


def test_keys_that_config_json_cannot_express(file: Path, tmp_path: Path) -> None:
    more = {"llama.rope.scaling.attn_factor": _typed(1.5, _FLOAT32), "llama.attention.clamp_kqv": _typed(8.0, _FLOAT32)}
    message = _refusal(_rewritten(file, tmp_path / "f.gguf", keys=lambda keys: keys.update(more)), tmp_path / "out")
    assert "llama.rope.scaling.attn_factor: it is 1.5, and the checkpoint would give absent" in message
    assert "llama.attention.clamp_kqv: it is 8.0" in message


def test_missing_keys_are_named_together(file: Path, tmp_path: Path) -> None:
    def edit(keys: dict[str, Any]) -> None:
        del keys["llama.block_count"], keys["llama.attention.layer_norm_rms_epsilon"]

    message = _refusal(_rewritten(file, tmp_path / "f.gguf", keys=edit), tmp_path / "out")
    assert "llama.block_count: missing" in message
    assert "llama.attention.layer_norm_rms_epsilon: missing" in message


def test_tensors_that_lack_that_are_too_many_or_of_another_shape(file: Path, tmp_path: Path) -> None:
    def edit(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        del tensors["blk.0.ffn_up.weight"]
        tensors["blk.0.extra.weight"] = np.zeros((2, 32), np.float32)
        tensors["blk.0.ffn_norm.weight"] = np.ones(31, np.float32)
        tensors["blk.0.attn_k.weight"] = np.zeros((16, 32), np.int32)

    message = _refusal(_rewritten(file, tmp_path / "f.gguf", tensors=edit), tmp_path / "out")
    assert "blk.0.ffn_up.weight: the file lacks this tensor" in message
    assert "blk.0.extra.weight: the architecture leaves no place for this tensor" in message
    assert "blk.0.ffn_norm.weight: its shape is (31,), by the file's keys it is (32,)" in message
    assert "blk.0.attn_k.weight: type I32 holds no weights that can be imported" in message


def test_weights_that_are_not_finite(file: Path, tmp_path: Path) -> None:
    def edit(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        tensors["blk.0.ffn_up.weight"] = np.full((64, 32), np.nan, np.float32)

    message = _refusal(_rewritten(file, tmp_path / "f.gguf", tensors=edit), tmp_path / "out")
    assert "2048 of 2048 weights are NaN or infinite" in message


def test_a_file_that_was_cut(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    for size, said in ((len(content) - 64, "the file ends before this tensor does"), (1000, "cannot be read")):
        cut = tmp_path / f"cut-{size}.gguf"
        cut.write_bytes(content[:size])
        assert said in _refusal(cut, tmp_path / "out")


def test_a_type_that_is_not_known(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    name = b"blk.0.ffn_up.weight"
    at = content.index(name) + len(name)  # then the number of dimensions, two lengths, and the type
    struct.pack_into("<I", content, at + 4 + 2 * 8, 999)
    (tmp_path / "f.gguf").write_bytes(content)
    message = _refusal(tmp_path / "f.gguf", tmp_path / "out")
    assert "the tensor blk.0.ffn_up.weight has type 999, which is not known" in message


def test_what_is_no_gguf_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    assert "this is not a GGUF file" in _refusal(tmp_path / "text.gguf", tmp_path / "out")
    assert "no such file" in _refusal(tmp_path, tmp_path / "folder" / "out")
    assert "no such file" in _refusal(tmp_path / "nothing.gguf", tmp_path / "out")


def test_a_part_that_is_missing_and_a_part_that_is_not_the_first(file: Path, tmp_path: Path) -> None:
    folder = file.parent / "model"
    source = Checkpoint.open(folder)
    config = ConvertConfig(dtype="f32", random_texts=0)
    first = convert(CheckpointWeights(source), source, config, tmp_path / "m.gguf", split_max_bytes=40_000)
    assert len(first.parts) > 2
    assert f"give {first.path.name}" in _refusal(first.parts[1], tmp_path / "out")
    whole = CliRunner().invoke(main, ["import", str(first.path), "--out", str(tmp_path / "whole"), "--json"])
    assert whole.exit_code == 0, whole.output
    first.parts[1].unlink()
    assert f"{first.parts[1].name}: this part is missing" in _refusal(first.path, tmp_path / "out")


def test_a_gguf_file_in_the_place_of_a_checkpoint(file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["convert", str(file), "--out", str(tmp_path / "out.gguf")])
    assert result.exit_code == 1
    assert "this is a GGUF file, and a checkpoint is needed here" in result.stderr
    assert "edgeft import tiny.gguf --out tiny" in result.stderr

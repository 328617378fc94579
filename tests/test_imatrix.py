"""The importance matrix is what goes into the weights: by hand, by llama.cpp's own tool, and whatever interrupts it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import make_model

from edgeft import hf, imatrix
from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ImatrixConfig
from edgeft.convert import tensor_names
from edgeft.errors import EdgeftError
from edgeft.imatrix import chunk_tokens, make_imatrix, measured_texts
from edgeft.imatrix_file import Imatrix, read_imatrix
from edgeft.weights import CheckpointWeights

CONFIG = ImatrixConfig(chunk_tokens=32, tokens=512, batch_size=2)
TEXT = "turn on the light in the kitchen and say what the temperature in the garden is. " * 40


def loader(checkpoint: Checkpoint) -> Callable[[], hf.PreTrainedModel]:
    return partial(hf.load_model, checkpoint, "cpu", torch.float32)


def made(checkpoint: Checkpoint, out: Path, config: ImatrixConfig = CONFIG) -> Imatrix:
    path = out.with_name("some.txt")
    path.write_text(TEXT)
    texts = measured_texts(checkpoint, None, [path], config)
    return make_imatrix(loader(checkpoint), tensor_names(checkpoint), texts, config, out)


def test_chunks_are_whole_and_begin_with_bos() -> None:
    assert list(chunk_tokens(range(10), 4, None)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(chunk_tokens(range(10), 4, 99)) == [[99, 1, 2, 3], [99, 5, 6, 7]]


def test_the_first_layer_by_hand(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """What goes into the first query matrix is the embedding, normalized."""
    got = made(tiny_checkpoint, tmp_path / "im.gguf")
    weights = CheckpointWeights(tiny_checkpoint)
    ids = hf.encode(hf.load_tokenizer(tiny_checkpoint.path), TEXT)[: got.chunk_count * 32]
    rows = weights.read("model.embed_tokens.weight").float()[ids]
    rows = rows * (rows.square().mean(1, keepdim=True) + tiny_checkpoint.config()["rms_norm_eps"]).rsqrt()
    rows *= weights.read("model.layers.0.input_layernorm.weight").float()
    squares = got.squares["blk.0.attn_q.weight"]
    assert squares.counts.tolist() == [len(ids)]
    # Float32 sums over some hundred tokens.
    np.testing.assert_allclose(squares.sums[0], rows.square().sum(0).numpy(), rtol=1e-5)
    for other in ("attn_k", "attn_v"):
        np.testing.assert_array_equal(got.squares[f"blk.0.{other}.weight"].sums, squares.sums)


def test_every_matrix_of_every_layer_is_measured(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    wanted = {f"blk.{layer}.{part}.weight" for layer in range(2) for part in parts}
    assert made(tiny_checkpoint, tmp_path / "im.gguf").squares.keys() == wanted
    with_output = made(tiny_checkpoint, tmp_path / "im.gguf", CONFIG.model_copy(update={"output": True}))
    assert with_output.squares.keys() == wanted | {"output.weight"}


def test_what_was_interrupted_goes_on(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(tiny_checkpoint, tmp_path / "whole.gguf")
    monkeypatch.setattr(imatrix, "_SAVE_SECONDS", 0)
    seen: list[float] = []

    def interrupt(done: float, total: float, status: str = "") -> None:
        seen.append(done)
        if done >= 4:
            raise KeyboardInterrupt

    texts = measured_texts(tiny_checkpoint, None, [tmp_path / "some.txt"], CONFIG)
    run = partial(
        make_imatrix, loader(tiny_checkpoint), tensor_names(tiny_checkpoint), texts, CONFIG, tmp_path / "cut.gguf"
    )
    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    assert not (tmp_path / "cut.gguf").exists()
    seen.clear()
    resumed = run(lambda done, total, status="": seen.append(done))
    assert seen[0] == 4
    assert sorted(path.name for path in tmp_path.glob("cut*")) == ["cut.gguf"]
    for name, squares in whole.squares.items():
        assert resumed.squares[name].counts == squares.counts
        # Two float32 sums instead of one in double precision.
        np.testing.assert_allclose(resumed.squares[name].sums, squares.sums, rtol=1e-6)


def test_too_short_a_text_and_a_broken_model_are_refused(tmp_path: Path) -> None:
    checkpoint = make_model(tmp_path / "broken")
    (tmp_path / "short.txt").write_text("turn on the light")
    texts = measured_texts(checkpoint, None, [tmp_path / "short.txt"], CONFIG)
    with pytest.raises(EdgeftError, match="shorter than one chunk of 32 tokens"):
        make_imatrix(loader(checkpoint), tensor_names(checkpoint), texts, CONFIG, tmp_path / "im.gguf")
    model = hf.load_model(checkpoint, "cpu", torch.float32)
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight").fill_(float("inf"))
    model.save_pretrained(tmp_path / "broken")
    with pytest.raises(EdgeftError, match=r"not finite go into blk\.1\.ffn_down\.weight"):
        made(checkpoint, tmp_path / "im.gguf")
    assert not (tmp_path / "im.gguf").exists()


def test_llama_cpps_own_tool_measures_the_same(tiny_checkpoint: Checkpoint, tiny_f32: GgufFile, tmp_path: Path) -> None:
    tool = shutil.which("llama-imatrix")
    if tool is None:
        pytest.skip("llama.cpp's tool is not on the PATH")
    ours = made(tiny_checkpoint, tmp_path / "ours.gguf")
    settings = ["-c", "32", "-b", "32", "--chunks", str(ours.chunk_count), "--no-ppl", "--parse-special"]
    files = ["-m", str(tiny_f32.path), "-f", str(tmp_path / "some.txt"), "-o", str(tmp_path / "theirs.gguf")]
    subprocess.run([tool, *files, *settings], check=True, capture_output=True)
    theirs = read_imatrix(tmp_path / "theirs.gguf")
    assert theirs.squares.keys() == ours.squares.keys()
    for name, squares in theirs.squares.items():
        assert ours.squares[name].counts == squares.counts
        error = np.linalg.norm(ours.squares[name].sums - squares.sums) / np.linalg.norm(squares.sums)
        assert error < 1e-3  # the tool keeps keys and values in F16


def test_a_text_that_is_missing_or_no_utf8_is_refused(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="no such file"):
        measured_texts(tiny_checkpoint, None, [tmp_path / "none.txt"], CONFIG)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(EdgeftError, match="not UTF-8"):
        measured_texts(tiny_checkpoint, None, [tmp_path / "latin.txt"], CONFIG)

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
from convert.cases import CASES
from convert.models import byte_level_tokenizer
from convert.zoo import Case, make
from tiny_model import make_model

from edgeft import hf, imatrix
from edgeft.artifacts import Checkpoint
from edgeft.config import ConvertConfig, ImatrixConfig
from edgeft.convert import convert, tensor_names
from edgeft.errors import EdgeftError
from edgeft.imatrix import chunk_tokens, make_imatrix, measured_texts
from edgeft.imatrix_file import Imatrix, read_imatrix, write_imatrix
from edgeft.llamacpp import Engine
from edgeft.quantize import Recipe, quantize
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


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.option == "with vision" and case.family != "Qwen3.5"],
    ids=lambda case: case.id,
)
def test_the_text_model_alone_is_measured(case: Case, tmp_path: Path) -> None:
    """A model with eyes has its text model's layers under another prefix."""
    byte_level_tokenizer(tmp_path / "bpe", "qwen2")
    model = make(case, tmp_path / "model", tmp_path / "bpe")
    layers = model.config.get_text_config().num_hidden_layers
    got = made(Checkpoint.open(tmp_path / "model"), tmp_path / "im.gguf").squares
    assert len(got) == 7 * layers and all(name.startswith("blk.") for name in got)


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Models with experts, by family."""
    folder = tmp_path_factory.mktemp("mixtures")
    found = {}
    for case in [next(case for case in CASES if case.family == family) for family in ("Mixtral", "Qwen3-MoE")]:
        byte_level_tokenizer(folder / "bpe" / case.family, "qwen2")
        make(case, folder / case.family, folder / "bpe" / case.family)
        found[case.family] = Checkpoint.open(folder / case.family)
    return found


@pytest.mark.parametrize("family", ["Mixtral", "Qwen3-MoE"])
def test_every_expert_is_measured_on_the_tokens_that_it_gets(
    mixtures: dict[str, Checkpoint], family: str, tmp_path: Path
) -> None:
    """Each token goes to two experts, by a router that sees what they see."""
    got = made(mixtures[family], tmp_path / "im.gguf")
    routed = got.squares["blk.1.ffn_gate_inp.weight"]
    for part in ("gate", "up"):
        squares = got.squares[f"blk.1.ffn_{part}_exps.weight"]
        assert squares.sums.shape == (4, 64)
        assert squares.counts.sum() == 2 * routed.counts[0] == 2 * 32 * got.chunk_count
        # Float32 sums in another order.
        np.testing.assert_allclose(squares.sums.sum(0), 2 * routed.sums[0], rtol=1e-5)
    down = got.squares["blk.1.ffn_down_exps.weight"]
    assert np.array_equal(down.counts, got.squares["blk.1.ffn_up_exps.weight"].counts)
    assert np.all((down.sums > 0).any(1) == (down.counts > 0))


def test_an_expert_that_no_token_reaches_weighs_all_columns_alike(
    mixtures: dict[str, Checkpoint], tmp_path: Path
) -> None:
    """And the file that is quantized with it is whole."""
    checkpoint = mixtures["Mixtral"]
    got = made(checkpoint, tmp_path / "im.gguf")
    squares = got.squares["blk.0.ffn_up_exps.weight"]
    squares.sums[1], squares.counts[1] = 0, 0
    # And a block of columns that no token reaches.
    got.squares["blk.0.attn_q.weight"].sums[:] = 0
    assert (got.means()["blk.0.ffn_up_exps.weight"][1] == 1).all()
    write_imatrix(got, tmp_path / "im.gguf")
    source = convert(CheckpointWeights(checkpoint), checkpoint, ConvertConfig(dtype="f32"), tmp_path / "f32.gguf")
    for name in ("Q4_0", "IQ4_NL", "Q5_K_M"):
        quantized = quantize(source, Recipe(name, imatrix=tmp_path / "im.gguf"), tmp_path / "q.gguf")
        with Engine(quantized, n_ctx=32, threads=1) as engine:
            assert np.isfinite(engine.logits([5, 6, 7])).all()


@pytest.mark.parametrize("family", ["Llama", "Mixtral", "Qwen3-MoE"])
def test_llama_cpps_own_tool_measures_the_same(
    family: str, tiny_checkpoint: Checkpoint, mixtures: dict[str, Checkpoint], tmp_path: Path
) -> None:
    tool = shutil.which("llama-imatrix")
    if tool is None:
        pytest.skip("llama.cpp's tool is not on the PATH")
    checkpoint = mixtures.get(family, tiny_checkpoint)
    config = ConvertConfig(dtype="f32", random_texts=20)
    gguf = convert(CheckpointWeights(checkpoint), checkpoint, config, tmp_path / "f32.gguf")
    ours = made(checkpoint, tmp_path / "ours.gguf")
    settings = ["-c", "32", "-b", "32", "--chunks", str(ours.chunk_count), "--no-ppl", "--parse-special"]
    files = ["-m", str(gguf.path), "-f", str(tmp_path / "some.txt"), "-o", str(tmp_path / "theirs.gguf")]
    subprocess.run([tool, *files, *settings], check=True, capture_output=True)
    theirs = read_imatrix(tmp_path / "theirs.gguf")
    assert theirs.squares.keys() == ours.squares.keys()
    for name, squares in theirs.squares.items():
        assert np.array_equal(ours.squares[name].counts, squares.counts)
        error = np.linalg.norm(ours.squares[name].sums - squares.sums) / np.linalg.norm(squares.sums)
        assert error < 1e-3  # the tool keeps keys and values in F16


def test_a_text_that_is_missing_or_no_utf8_is_refused(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="no such file"):
        measured_texts(tiny_checkpoint, None, [tmp_path / "none.txt"], CONFIG)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(EdgeftError, match="not UTF-8"):
        measured_texts(tiny_checkpoint, None, [tmp_path / "latin.txt"], CONFIG)

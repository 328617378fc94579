"""Hidden states: what is recorded and what llama.cpp computes, against transformers' own; their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from convert.models import byte_level_tokenizer, to_gguf
from convert.zoo import Case, make
from tiny_model import make_model, make_tokenizer
from transformers import AutoModelForCausalLM

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.llamacpp import LOGITS, Engine, Point
from edgeft.parity.record import record_reference
from edgeft.parity.reference import OpenReference
from edgeft.parity.states import MOST_BYTES, cell_for, sketched, squared_errors
from parity.exports import CONFIG, checked, records
from parity.gguf_edit import Parts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("layers") / "model", num_hidden_layers=3, max_position_embeddings=2048)


@pytest.fixture(scope="module")
def gguf(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    return to_gguf(model.path, tmp_path_factory.mktemp("gguf") / "f32.gguf")


def theirs(model: Checkpoint, ids: list[int]) -> tuple[torch.Tensor, ...]:
    """Returns transformers' hidden states: the embeddings, then what each layer gives, the last one normed."""
    loaded = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    with torch.no_grad():
        output = loaded(torch.tensor([ids]), output_hidden_states=True)
    return (*(state[0] for state in output.hidden_states), output.logits[0])


def test_what_is_recorded_are_transformers_hidden_states(model: Checkpoint, tmp_path: Path) -> None:
    reference = OpenReference(record_reference(model, None, records(), CONFIG, "cpu", tmp_path / "reference.npz"))
    layers = reference.layers
    assert layers is not None
    assert {record for record, _ in layers.positions} == {0, 1, 2}
    found = {(one.module, str(one.side)): cells for one, cells in zip(layers.states, layers.cells, strict=True)}
    states = [theirs(model, record.ids) for record in reference.content.records]
    for key, number in (
        (("model.layers.0.input_layernorm", "input"), 0),
        (("model.layers.2.input_layernorm", "input"), 2),
        (("model.norm", "output"), 3),
        (("logits", "output"), 4),
    ):
        expected = np.stack([states[record][number][position].numpy() for record, position in layers.positions])
        np.testing.assert_allclose(found[key], expected, rtol=1e-5, atol=1e-5)
    # Queries, keys and values are given what the norm has put out: it is kept once.
    assert ("model.layers.0.self_attn.q_proj", "input") not in found
    assert ("model.layers.0.self_attn.o_proj", "input") in found


def test_what_llama_cpp_computes_are_transformers_hidden_states(model: Checkpoint, gguf: GgufFile) -> None:
    """Over three batches of llama.cpp's: positions in each, and none in the second."""
    width, vocabulary = 256, len(make_tokenizer())
    ids = torch.randint(0, vocabulary, (1100,), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [3, 511, 1099]
    first: Point = ("blk.0.attn_norm.weight", "input")
    third: Point = ("blk.2.attn_norm.weight", "input")
    normed: Point = ("output_norm.weight", "output")
    output: Point = ("token_embd.weight", "output")
    no_layer: Point = ("blk.9.attn_norm.weight", "output")
    no_width: Point = ("blk.1.ffn_norm.weight", "output")
    wanted = {**dict.fromkeys((first, third, normed, no_layer), width), output: vocabulary, no_width: 7}
    with Engine(gguf, len(ids), exact_kv=True, threads=1) as engine:
        seen = engine.observe(ids, chosen, wanted)
        plain = engine.logits(ids)[chosen]
    assert seen.keys() == {first, third, normed, output, LOGITS}
    expected = [state[chosen].numpy() for state in theirs(model, ids)]
    # Float32 sums in another order, and float32 angles of the rotary embedding, of which position 1,099 has the most.
    assert squared_errors(seen[first], expected[0]).max() == 0
    assert squared_errors(seen[third], expected[2]).max() < 1e-9
    assert squared_errors(seen[normed], expected[3]).max() < 1e-9
    assert squared_errors(seen[LOGITS], expected[4]).max() < 1e-9
    np.testing.assert_array_equal(seen[LOGITS], seen[output])
    assert squared_errors(seen[LOGITS], plain).max() < 1e-10


@pytest.mark.parametrize(
    ("layers", "hidden", "middle", "vocabulary"),
    [(2, 64, 96, 500), (16, 2048, 8192, 128256), (126, 16384, 53248, 128256)],
)
def test_states_keep_to_the_bound(layers: int, hidden: int, middle: int, vocabulary: int) -> None:
    """A tiny model keeps every feature; one of 405B parameters at least ten cells of each state."""
    features = layers * ([hidden] * 10 + [middle] * 3) + [hidden, hidden, vocabulary]
    cell = cell_for(features, 16)
    assert 16 * 4 * sum(-(-count // cell) for count in features) <= MOST_BYTES
    assert cell == 1 or 16 * 4 * sum(-(-count // (cell // 2)) for count in features) > MOST_BYTES
    assert hidden // cell >= 10


def test_cells_keep_the_size_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(16, 4096)).astype(np.float32)
    ours = theirs + 0.01 * rng.normal(size=theirs.shape).astype(np.float32)
    exact = squared_errors(ours, theirs).mean()
    kept = squared_errors(sketched(ours, 64), sketched(theirs, 64)).mean()
    # 16 x 64 cells: the mean of their squares has a standard deviation of sqrt(2 / 1024) = 4%, both of them have one.
    assert kept == pytest.approx(exact, rel=0.2)


def test_experts_that_cannot_be_hooked_are_found_by_their_layer(tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path / "bpe", "qwen2")
    settings = {"num_local_experts": 4, "num_hidden_layers": 3}
    make(Case("Mixtral", "", "MixtralForCausalLM", settings, "float32"), tmp_path / "model", tmp_path / "bpe")
    checkpoint = Checkpoint.open(tmp_path / "model")
    reference = record_reference(checkpoint, None, records(), CONFIG, "cpu", tmp_path / "reference.npz")
    parts = Parts(to_gguf(checkpoint.path, tmp_path / "f32.gguf").path)
    name = "blk.1.ffn_up_exps.weight"
    parts.tensors[name].set(parts.tensors[name].weights()[::-1])
    report = checked(reference, GgufFile(parts.write(tmp_path / "faulty.gguf")))
    assert (report["verdict"], report["rung"]) == ("fail", "weights")
    (said,) = next(rung for rung in report["rungs"] if rung["name"] == "layers")["failures"]
    assert "first in layer 1, sum of the feed-forward network and its input after blk.1.ffn_down_exps" in said["cause"]


def test_a_reference_without_states_skips_the_rung(model: Checkpoint, gguf: GgufFile, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"layers": False})
    reference = record_reference(model, None, records(), config, "cpu", tmp_path / "reference.npz")
    report = checked(reference, gguf)
    assert report["verdict"] == "pass"
    assert {rung["name"]: rung["status"] for rung in report["rungs"]}["layers"] == "skipped"

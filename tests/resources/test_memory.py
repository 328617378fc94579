"""Predicted memory against what was measured on a GPU, and against what layers really keep, counted on a CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_shapes import SHAPES

from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.config import LoraConfig
from edgeft.errors import EdgeftError
from edgeft.resources import Job, ModelShape, Strategy, layers, predict
from edgeft.train.batches import collate
from edgeft.train.fast import accelerate_model, packed_loss
from edgeft.train.packing import pack

DOCS = Path(__file__).parent.parent.parent / "docs"
NAMES = {"Llama-3.1-8B": "8b", "Llama-3.2-1B": "1b", "Qwen3-0.6B": "0.6b"}
TARGETS = frozenset(f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down"))
TOKENS = 96
RANK = 8


def measured() -> Iterator[tuple[str, str, int, str, str, float, float]]:
    """Yields each row of "Training throughput": shape, engine, tokens, weights, recomputation, peak, and predicted."""
    name = ""
    for line in (DOCS / "benchmarks.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")] if line.startswith("|") else []
        if line.startswith("| |"):
            cells.insert(0, "")
        if len(cells) != 8 or cells[1] not in ("plain", "edgeft"):
            continue
        name = cells[0] or name
        tokens, weights, recomputed, peak = int(cells[2].replace(",", "")), cells[3], cells[4], float(cells[7])
        shape = ModelShape.read(SHAPES[NAMES[name]].to_dict())
        job = Job(shape, 16, TARGETS, "plain" if cells[1] == "plain" else "fast")
        strategy = Strategy(tokens, 2048, recompute=recomputed == "yes", resident=weights == "dequantized")
        yield name, cells[1], tokens, weights, recomputed, peak, predict(job, strategy).total / 2**30


MEASURED = list(measured())


def test_every_measured_peak_is_there() -> None:
    assert len(MEASURED) == 10
    assert {row[0] for row in MEASURED} == set(NAMES)


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: "-".join(map(str, row[:5])))
def test_the_predicted_peak_is_the_measured_one(row: tuple[Any, ...]) -> None:
    """Within 5%, and not below: a batch is seldom as full as its budget, for which the prediction is."""
    peak, predicted = row[5:]
    assert peak <= predicted < 1.05 * peak


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: "-".join(map(str, row[:5])))
def test_the_page_says_so(row: tuple[Any, ...]) -> None:
    name, engine, tokens, weights, recomputed, peak, predicted = row
    wanted = f"| {name} | {engine} | {tokens:,} | {weights} | {recomputed} | {predicted:.1f} | {peak:.1f} | "
    assert wanted + f"{predicted / peak - 1:+.1%} |" in (DOCS / "memory.md").read_text(encoding="utf-8")


def adapted(checkpoint: Checkpoint, *, prepare: bool) -> Any:
    """Returns the tiny model as training has it on a CPU."""
    lora = LoraConfig(rank=RANK, alpha=16)
    return hf.add_lora(hf.load_quantized(checkpoint, "cpu"), lora, prepare=prepare).train()


class Counted:
    """Counts the bytes of the tensors that autograd saves and that fast layers keep, each memory once."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._known = {parameter.data_ptr() for parameter in (*model.parameters(), *model.buffers())}
        self._tensors: dict[int, torch.Tensor] = {}

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._known:
            self._tensors[place] = tensor
        return tensor

    def add_kept(self, loss: torch.Tensor) -> None:
        """Adds what the fast layers keep beside autograd."""
        queue: list[Any] = [loss.grad_fn]
        while queue:
            node = queue.pop()
            kept = getattr(node, "kept", ())
            values = [*kept] if isinstance(kept, tuple) else [*vars(kept).values()]
            for value in values:
                for tensor in value if isinstance(value, tuple) else (value,):
                    if tensor is not None:
                        self.add(tensor)
            queue += [following for following, _ in node.next_functions if following is not None]

    def of_layers(self, tokens: int, n_vocab: int) -> int:
        """Bytes of tensors with a row for each token, but for rows as wide as the vocabulary and the positions'."""
        rows = [t for t in self._tensors.values() if t.numel() % tokens == 0 and t.shape[-1] != n_vocab]
        return sum(tensor.untyped_storage().nbytes() for tensor in rows if tensor.is_floating_point())


def layer_bytes(checkpoints: tuple[Checkpoint, Checkpoint], kind: str, *, recompute: bool = False) -> float:
    """Returns the bytes a token that one layer keeps: the difference between two models, one layer apart."""
    counts = []
    for checkpoint in checkpoints:
        model = adapted(checkpoint, prepare=kind == "padded")
        if kind != "padded":
            assert accelerate_model(model, recompute=recompute, fast=kind == "fast") == (kind == "fast")
        counted = Counted(model)
        example = {"input_ids": [5] * TOKENS, "labels": [5] * TOKENS}
        with torch.autograd.graph.saved_tensors_hooks(counted.add, lambda tensor: tensor):
            if kind == "padded":
                short = {name: ids[: TOKENS // 2] for name, ids in example.items()}
                loss, tokens = model(**collate([example, short])).loss, 2 * TOKENS
            else:
                loss, tokens = packed_loss(model, pack([example])), TOKENS
        counted.add_kept(loss)
        counts.append(counted.of_layers(tokens, model.config.vocab_size) / tokens)
    return counts[1] - counts[0]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    """A model of one layer, and one of two."""
    from tiny_model import make_model

    folder = tmp_path_factory.mktemp("shapes")
    first, second = (
        make_model(folder / str(n), num_hidden_layers=n, hidden_size=192, num_attention_heads=6) for n in (1, 2)
    )
    return first, second


@pytest.mark.parametrize("kind", ["fast", "recomputed", "plain", "padded"])
def test_a_layer_keeps_what_the_arithmetic_says(checkpoints: tuple[Checkpoint, Checkpoint], kind: str) -> None:
    """To the byte, in float32. A CPU attends sequence by sequence, and joining them copies what attention returns."""
    shape = ModelShape.read(checkpoints[0].config())
    engine = "fast" if kind == "recomputed" else kind
    counted = layer_bytes(checkpoints, engine, recompute=kind == "recomputed")
    joined = 4 * shape.n_query
    if kind == "recomputed":
        assert counted == layers.fast_input(shape, RANK, TARGETS, 4)
    elif kind == "fast":
        assert counted == layers.fast_kept(shape, RANK, TARGETS, 4) + joined
    else:
        padded_to = TOKENS if kind == "padded" else 0
        wanted = layers.plain_kept(shape, RANK, TARGETS, 4, padded_to)
        assert counted == wanted + (0 if padded_to else joined)


def test_adapters_on_fewer_layers_need_less() -> None:
    shape = ModelShape.read(SHAPES["1b"].to_dict())
    few, many = (
        predict(Job(shape, 16, targets, "fast"), Strategy(4096, 1024, recompute=False)).total
        for targets in (frozenset({"q_proj", "v_proj"}), TARGETS)
    )
    assert few < many


def test_weights_are_counted_as_transformers_counts_them(tiny_checkpoint: Checkpoint) -> None:
    shape = ModelShape.read(tiny_checkpoint.config())
    model = hf.load_model(tiny_checkpoint, "cpu", torch.float32)
    assert shape.weights == model.num_parameters()
    lora = LoraConfig(rank=RANK)
    trained = sum(p.numel() for p in hf.add_lora(model, lora, prepare=False).parameters() if p.requires_grad)
    assert shape.adapter_weights(RANK, TARGETS) == trained


def test_what_is_no_such_decoder_is_refused() -> None:
    with pytest.raises(EdgeftError) as caught:
        ModelShape.read({"hidden_size": 8, "num_experts": 4, "vocab_size": -1})
    text = str(caught.value)
    assert all(re.search(rf"config.json: {key}", text) for key in ("num_experts", "vocab_size", "intermediate_size"))
    assert "hidden_size" not in text

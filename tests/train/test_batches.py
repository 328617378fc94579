"""Batches: what is padded carries no loss, and the order depends on the seed and the epoch alone."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import make_model, make_tokenizer
from tiny_run import write_records

from edgeft import hf
from edgeft.config import DatasetConfig
from edgeft.dataset.mask import Example
from edgeft.dataset.records import stream_records
from edgeft.dataset.tokens import TokenInputs, TokenizedExamples, TokenSource, build_tokens
from edgeft.train.batches import IGNORED, ExampleDataset, LengthGroupedSampler, collate
from edgeft.train.packing import pack


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> TokenizedExamples:
    folder = tmp_path_factory.mktemp("batches")
    write_records(folder / "train.jsonl", 40)
    view = hf.tokenizer_view(make_tokenizer(), folder)
    out = folder / "tokens"
    out.mkdir()
    source = TokenSource("train.jsonl", partial(stream_records, folder / "train.jsonl"))
    build_tokens(TokenInputs([source]), lambda: view, DatasetConfig(train="train.jsonl"), out)
    return TokenizedExamples(out / "train")


def test_labels_are_the_answer_and_its_end_token(examples: TokenizedExamples) -> None:
    tokenizer = make_tokenizer()
    for row in (ExampleDataset(examples)[index] for index in range(len(examples))):
        trained = [token for token in row["labels"] if token != IGNORED]
        text = str(tokenizer.decode(trained))
        assert text.startswith("{")
        assert text.endswith("}<|im_end|>")
        places = [place for place, token in enumerate(row["labels"]) if token != IGNORED]
        assert [row["input_ids"][place] for place in places] == trained


def test_a_batch_has_the_loss_of_its_rows(examples: TokenizedExamples, tmp_path: Path) -> None:
    """Right padding changes nothing: the batch's loss is the rows' mean, weighted by their trained tokens."""
    model = hf.load_model(make_model(tmp_path / "base"), "cpu", torch.float32)
    rows = [ExampleDataset(examples)[index] for index in (0, 5, 9, 17)]
    assert len({len(row["input_ids"]) for row in rows}) > 1
    weights = [sum(label != IGNORED for label in row["labels"][1:]) for row in rows]
    with torch.no_grad():
        losses = [float(model(**collate([row])).loss) for row in rows]
        together = float(model(**collate(rows)).loss)
    # Float32 sums in another order.
    assert together == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_every_epoch_sees_every_example_once_in_another_order() -> None:
    lengths = [random.Random(1).randint(10, 200) for _ in range(103)]
    sampler = LengthGroupedSampler(lengths, batch_size=8, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second
    again = LengthGroupedSampler(lengths, batch_size=8, seed=3)
    again.set_epoch(1)
    assert list(again) == second


def test_batches_are_of_about_equal_length() -> None:
    rng = random.Random(2)
    lengths = [rng.randint(10, 500) for _ in range(1024)]

    def padding(order: list[int]) -> float:
        batches = [[lengths[i] for i in order[start : start + 8]] for start in range(0, len(order), 8)]
        return sum(max(batch) * len(batch) for batch in batches) / sum(lengths) - 1

    sampler = LengthGroupedSampler(lengths, batch_size=8, seed=0)
    grouped = padding(list(sampler))
    assert sampler.efficiency() == pytest.approx(1 / (1 + grouped))
    assert grouped < 0.1 < padding(list(range(1024)))


def test_a_packed_row_has_the_losses_of_its_examples(examples: TokenizedExamples, tmp_path: Path) -> None:
    """Each token's loss is the one it has alone, so nothing is seen of the examples beside it."""
    model = hf.load_model(make_model(tmp_path / "base"), "cpu", torch.float32)
    chosen = [examples[index] for index in (3, 11, 0, 20)]
    chosen.insert(2, Example([5, 6, 7], [True, True, True]))
    row = pack([{"input_ids": example.ids, "labels": _labels(example)} for example in chosen])
    lengths = [len(example.ids) for example in chosen]
    triangles = [torch.ones(length, length).tril() for length in lengths]
    mask = torch.block_diag(*triangles).bool()[None, None]  # type: ignore[no-untyped-call]

    def losses(ids: torch.Tensor, labels: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = model(input_ids=ids, **settings).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=IGNORED, reduction="none")

    alone = [losses(torch.tensor([example.ids]), torch.tensor([_labels(example)])) for example in chosen]
    expected = torch.cat([torch.cat([loss, loss.new_zeros(1)]) for loss in alone])[:-1]
    settings = {"position_ids": row["position_ids"], "attention_mask": mask}
    packed = losses(row["input_ids"], row["labels"], **settings)
    # Float32 sums in another order, over at most 64 channels a head.
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    leaking = losses(row["input_ids"], row["labels"])
    assert (leaking - expected).abs().max() > 0.01


def _labels(example: Example) -> list[int]:
    return [token if flag else IGNORED for token, flag in zip(example.ids, example.trained, strict=True)]

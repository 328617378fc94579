"""What becomes of a trained model on its way: loaded again, merged, converted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from edgeft import hf
from edgeft.artifacts import Checkpoint, Trained
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.llamacpp import Engine
from edgeft.merge import merge
from edgeft.train.batches import ExampleDataset, collate
from edgeft.weights import CheckpointWeights


@dataclass(frozen=True)
class Way:
    """How near it stays.

    Attributes:
        loss: of the evaluation's records, as it is loaded, in nats a token.
        merging: squared error of the merged model's logits over what training changed of them.
        export: squared error of llama.cpp's logits of the F32 file over the variance of the merged model's.
    """

    loss: float
    merging: float
    export: float


def way_to_gguf(folder: Path, trained: Trained, out: Path, device: hf.Device) -> Way:
    """Goes from what was trained on the base and the tokens in `folder` to a file in `out`."""
    base = Checkpoint.open(folder / "base")
    examples = ExampleDataset(TokenizedExamples(folder / "run" / "tokens" / "evaluation"))
    batch = collate([examples[number] for number in range(len(examples))])
    live = hf.load_adapted(base, trained, device)
    with torch.no_grad():
        loss = float(live(**{name: value.to(device) for name, value in batch.items()}).loss)
    ids = batch["input_ids"][0][: int(batch["attention_mask"][0].sum())].tolist()
    merged = merge(base, trained, out / "merged")
    theirs, as_trained = hf.logits(hf.load_model(merged, "cpu", torch.float32), ids), hf.logits(live, ids)
    before = hf.logits(hf.load_model(base, "cpu", torch.float32), ids)
    gguf = convert(CheckpointWeights(merged), merged, ConvertConfig(dtype="f32"), out / "m.gguf")
    with Engine(gguf, 128, exact_kv=True, threads=1) as engine:
        export = _nmse(theirs, torch.from_numpy(engine.logits(ids)))
    return Way(loss, _nmse(as_trained, theirs) / _nmse(before, as_trained), export)


def _nmse(reference: torch.Tensor, tested: torch.Tensor) -> float:
    return float((reference - tested).square().mean() / reference.var())

"""Reports on files of a tiny model whose records hold HTML, as a page shows them."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_model import make_model

from edgeft.artifacts import GgufFile, Reference
from edgeft.config import ConvertConfig, ParityConfig, ParityThresholds
from edgeft.convert import convert
from edgeft.dataset.records import read_records
from edgeft.pareto import TradeOff
from edgeft.parity.check import check_file
from edgeft.parity.page import Training
from edgeft.parity.record import record_reference
from edgeft.parity.scored import Checked
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>]]>&amp;\x01"
_LOOSE = ParityThresholds(mean_kld=9.0, top1=0.0, ppl_ratio=99.0)
_TIGHT = ParityThresholds(mean_kld=1e-9, top1=0.0, ppl_ratio=99.0)
CONFIG = ParityConfig(
    records=6,
    positions=256,
    max_new_tokens=6,
    layers=True,
    quantization=_LOOSE,
    thresholds={"Q4_0": _TIGHT},
    runtime_kld=1.0,
)
TRAINING = Training(
    "a <run>",
    [{"step": step, "loss": 3.0 / step} for step in range(1, 30)] + [{"step": 20, "eval_loss": 0.4}],
    {
        "base": "dequantized",
        "loss_as_trained": 0.5,
        "merged": {
            "original": {"mean_kld": 0.2, "loss": 0.6, "quantized": {"Q8_0": {"mean_kld": 0.3, "loss": 0.6}}},
            "dequantized": {"mean_kld": 3e-5, "loss": 0.5, "quantized": {"Q8_0": {"mean_kld": 1e-3, "loss": 0.5}}},
        },
    },
    {"Q8_0": {"cosine": 0.75, "norm_ratio": 1.25, "unchanged_codes": 0.5}},
    {"model-F16.gguf": 12.5, "model-Q8_0.gguf": 25.0},
    [
        TradeOff("Q8_0", 10_200_000, 2e-5, "fixed"),
        TradeOff("Q4_K_M", 6_060_000, 1.1e-3, "fixed"),
        TradeOff("<fitted>", 6_040_000, 7e-4, "fitted"),
    ],
)


def make_reference(folder: Path) -> tuple[Reference, list[GgufFile]]:
    """Makes a reference, and an F16, a Q8_0 and a Q4_0 file; the last is beyond what `CONFIG` allows."""
    model = make_model(folder / "model")
    lines = []
    for number in range(6):
        text = EVIL if number == 0 else f"turn on light {number}"
        asked, said = {"role": "user", "content": text}, {"role": "assistant", "content": f"{text} ok\nyes"}
        lines.append(json.dumps({"messages": [asked, said]}))
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    records = read_records(folder / "test.jsonl")
    reference = record_reference(model, None, records, CONFIG, "cpu", folder / "reference.npz")
    f16 = convert(CheckpointWeights(model), model, ConvertConfig(random_texts=100), folder / "model-F16.gguf")
    smaller = [quantize(f16, kind, folder / f"model-{kind}.gguf") for kind in ("Q8_0", "Q4_0")]
    return reference, [f16, *smaller]


def make_checked(folder: Path) -> list[Checked]:
    """Checks the three files."""
    reference, files = make_reference(folder)
    return [check_file(reference, file, CONFIG, threads=1) for file in files]

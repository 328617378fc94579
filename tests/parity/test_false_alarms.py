"""Correct exports of every family, type and option: none of them may be found at fault.

By default a few families; `make false-alarms` runs the whole matrix and prints its table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from convert.cases import CASES
from convert.models import byte_level_tokenizer, llama_tokenizer, sentencepiece_model, to_gguf
from convert.zoo import Case, make

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ParityThresholds
from edgeft.parity.record import record_reference
from edgeft.quantize import quantize
from parity.exports import CONFIG, checked, records

_WHOLE = bool(os.environ.get("EDGEFT_WHOLE_MATRIX"))
_QUICK = ("Llama: llama3 RoPE", "Mixtral: experts", "Qwen3: plain", "Gemma 3: linear RoPE, soft cap", "Phi-3: plain")
_CHOSEN = tuple(case for case in CASES if _WHOLE or case.id in _QUICK)
_TYPES = ("Q8_0", "Q5_0", "Q4_0") if _WHOLE else ("Q4_0",)
_DTYPES = ("f32", "f16", "bf16") if _WHOLE else ("f16",)
# Logits of random models are far apart or nearly tied: what rounding does to them is no matter here. A fault of the
# weights, keys or tokens is found all the same, and F32 has to be right to the noise: 4e-6 where llama.cpp looks GELU
# up in a table of F16.
_RANDOM = ParityThresholds(mean_kld=9.0, top1=0.0, ppl_ratio=99.0)
_LOOSE = CONFIG.model_copy(update={"conversion": _RANDOM, "thresholds": {"BF16": _RANDOM}, "runtime_kld": 5.0})
_EXACT = ParityThresholds(mean_kld=1e-5, top1=0.9, ppl_ratio=1.001)
_STRICT = CONFIG.model_copy(update={"conversion": _EXACT, "runtime_kld": 5.0})


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokenizers")
    byte_level_tokenizer(root / "bpe", "qwen2")
    # transformers gives Qwen2's tokenizer this normalizer whatever its file says.
    path = root / "bpe" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "NFC"}}))
    llama_tokenizer(root / "spm", sentencepiece_model(root / "spm"), chat=True)
    byte_level_tokenizer(root / "qwen35", "qwen35")
    return root


def _files(folder: Path, out: Path) -> Iterator[tuple[str, GgufFile]]:
    exact = to_gguf(folder, out / "f32.gguf")
    yield "F32", exact
    for dtype in _DTYPES:
        if dtype != "f32":
            yield dtype.upper(), to_gguf(folder, out / f"{dtype}.gguf", dtype)
    for name in _TYPES:
        yield name, quantize(exact, name, out / f"{name}.gguf")


@pytest.mark.parametrize("case", _CHOSEN, ids=lambda case: case.id)
def test_a_correct_export_raises_no_alarm(case: Case, tokenizers: Path, tmp_path: Path) -> None:
    make(case, tmp_path / "model", tokenizers / case.tokenizer)
    model = Checkpoint.open(tmp_path / "model")
    reference = record_reference(model, None, records(), CONFIG, "cpu", tmp_path / "reference.npz")
    row, alarms = [], {}
    for name, gguf in _files(model.path, tmp_path):
        report = checked(reference, gguf, _STRICT if name == "F32" else _LOOSE)
        row.append(f"{name} {report['verdict']}")
        weights = next(rung for rung in report["rungs"] if rung["name"] == "weights")["figures"]
        assert weights["tensors"] > 0
        layers = next(rung for rung in report["rungs"] if rung["name"] == "layers")["figures"]
        if layers["first"]:
            alarms[name] = ["layers", layers["first"]]
        if report["verdict"] != "pass":
            alarms[name] = [report["rung"], report["cause"], report["where"]]
    if _WHOLE:
        print(f"\n| {case.id} | {weights['tensors']} | {' | '.join(row)} |")
    assert not alarms, "\n".join(f"{name}: {alarm}" for name, alarm in alarms.items())

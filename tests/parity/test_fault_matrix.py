"""Every fault that exports are known to have, put into a correct file: each is found, on its rung, by its name.

docs/faults.md is the table of what is said, which `make fault-table` writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from convert.models import to_gguf

from edgeft.artifacts import GgufFile
from edgeft.config import ParityThresholds
from edgeft.quantize import quantize
from parity.beginnings import BEGINS
from parity.exports import CONFIG, Export, checked, gemma, sentencepiece_llama, tuned_llama
from parity.faults import FAULTS
from parity.gguf_edit import Parts

_MOST_SHOWN = 110
_PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
_WRITTEN = bool(os.environ.get("EDGEFT_FAULT_TABLE"))
_HEAD = """# Faults

What `edgeft parity check` says of a file that has one of these faults and is otherwise right: the first rung that
breaks, the cause, and where (cut here). The files are those of small random models (Llama with an adapter, one with
SentencePiece's tokens, Gemma 2) in F32 or Q8_0; the tests put each fault in and demand what is said here.
`make fault-table` writes this page.

| fault | rung | cause | where |
| --- | --- | --- | --- |
"""


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, str]]:
    """The row of each fault."""
    rows: dict[str, str] = {}
    yield rows
    if _WRITTEN:
        _PAGE.write_text(_HEAD + "\n".join(rows.values()) + "\n", encoding="utf-8")


def tell(told: dict[str, str], name: str, report: dict[str, Any]) -> None:
    """Keeps a fault's row, and holds it to the page but for the figures and places, which another torch may change."""
    where = report["where"]
    shown = where if len(where) <= _MOST_SHOWN else where[:_MOST_SHOWN] + "…"
    cells = [
        re.sub(r"([|<])", r"\\\1", cell.replace("\n", "\\n")) for cell in (name, report["rung"], report["cause"], shown)
    ]
    told[name] = f"| {' | '.join(cells)} |"
    if not _WRITTEN:
        documented = _unnumbered(_PAGE.read_text(encoding="utf-8"))
        assert _unnumbered(f"| {' | '.join(cells[:-1])} |") in documented, "run make fault-table"


def _unnumbered(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?(e[-+]\d+)?", "#", text)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    root = tmp_path_factory.mktemp("exports")
    return {make.__name__: make(root / make.__name__) for make in (tuned_llama, sentencepiece_llama, gemma)}


@pytest.fixture(scope="module")
def parts(exports: dict[str, Export], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that faults are put into: each model's F32 file, and what some faults need beside."""
    root = tmp_path_factory.mktemp("parts")
    tuned = exports["tuned_llama"]
    return {
        **{name: export.gguf.path for name, export in exports.items()},
        "base": to_gguf(tuned.base.path, root / "base.gguf").path,
        "Q8_0": quantize(tuned.gguf, "Q8_0", root / "q8.gguf").path,
    }


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(
    name: str, exports: dict[str, Export], parts: dict[str, Path], told: dict[str, str], tmp_path: Path
) -> None:
    fault = FAULTS[name]
    file = Parts(parts[fault.model])
    fault.edit(file, parts)
    export = exports.get(fault.model, exports["tuned_llama"])
    report = checked(export.reference, GgufFile(file.write(tmp_path / "faulty.gguf")))
    said = {key: report[key] for key in ("verdict", "rung", "cause", "where")}
    assert (report["verdict"], report["rung"]) == ("fail", fault.rung), said
    assert re.search(fault.cause, report["cause"]), said
    assert re.search(fault.where, report["where"]), said
    tell(told, name, report)
    layers = next(rung for rung in report["rungs"] if rung["name"] == "layers")
    begins = layers["failures"][0]["cause"] if layers["failures"] else ""
    assert re.search(BEGINS[name], begins) if name in BEGINS else not begins, begins


@pytest.mark.parametrize("model", ["tuned_llama", "sentencepiece_llama", "gemma"])
def test_taken_apart_and_put_together_it_passes(model: str, exports: dict[str, Export], tmp_path: Path) -> None:
    """Else a fault might be found that the test's own tools have made."""
    export = exports[model]
    same = Parts(export.gguf.path).write(tmp_path / "same.gguf")
    report = checked(export.reference, GgufFile(same))
    assert report["verdict"] == "pass", report["failures"]
    layers = next(rung for rung in report["rungs"] if rung["name"] == "layers")["figures"]
    assert layers["first"] is None
    assert layers["not_compared"] == []


def test_quantized_it_passes(exports: dict[str, Export], parts: dict[str, Path]) -> None:
    report = checked(exports["tuned_llama"].reference, GgufFile(parts["Q8_0"]))
    assert report["verdict"] == "pass", report["failures"]


@pytest.mark.parametrize("cut", [16, 2000, -1000])
def test_a_truncated_file(exports: dict[str, Export], told: dict[str, str], tmp_path: Path, cut: int) -> None:
    export = exports["tuned_llama"]
    (tmp_path / "cut.gguf").write_bytes(export.gguf.path.read_bytes()[:cut])
    report = checked(export.reference, GgufFile(tmp_path / "cut.gguf"))
    assert (report["verdict"], report["rung"]) == ("fail", "file")
    assert re.search("truncated|cannot be read", report["cause"])
    if cut < 0:
        tell(told, "the end is missing", report)


def test_the_file_of_another_family(exports: dict[str, Export], told: dict[str, str]) -> None:
    report = checked(exports["tuned_llama"].reference, exports["gemma"].gguf)
    assert (report["verdict"], report["rung"]) == ("fail", "metadata")
    assert "architecture is 'gemma2', the model's is 'llama'" in report["cause"]
    tell(told, "the file of another family", report)


def test_one_layer_quantized_to_two_bits(
    exports: dict[str, Export], parts: dict[str, Path], told: dict[str, str], tmp_path: Path
) -> None:
    """Its type is stated, so it is no damage but a budget that is spent in one place, which is named."""
    export = exports["tuned_llama"]
    two = Parts(quantize(export.gguf, "Q2_K", tmp_path / "q2.gguf").path)
    file = Parts(parts["Q8_0"])
    name = "blk.1.ffn_up.weight"
    file.tensors[name] = two.tensors[name]
    budget = ParityThresholds(mean_kld=1e-4, top1=0.0, ppl_ratio=9.0)
    config = CONFIG.model_copy(update={"quantization": budget})
    report = checked(export.reference, GgufFile(file.write(tmp_path / "mixed.gguf")), config)
    assert (report["verdict"], report["rung"]) == ("fail", "quantization"), report["failures"]
    assert re.fullmatch(r"blk\.1\.ffn_up\.weight \(Q2_K, rounded by \d+%\)", report["where"])
    assert (
        "first in layer 1, matrix product at blk.1.ffn_up.weight (model.layers.1.mlp.up_proj.weight)" in report["cause"]
    )
    tell(told, "one tensor in Q2_K", report)


def test_there_are_at_least_thirty_faults() -> None:
    assert len(FAULTS) >= 30

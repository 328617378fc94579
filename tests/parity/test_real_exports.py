"""Correct exports of real models, as they are and tuned: none of them may be found at fault.

A file may spend its budget of quality, and then the check says that and nothing else. By default SmolLM2 as it is, in
two types; `make false-alarms` tunes three models in several ways, merges into both bases, quantizes to nine types with
and without an importance matrix, straight and by way of F16, and prints its table.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner
from real_models import GEMMA_WANTED, gemma_path, smollm2_path

from edgeft.artifacts import Checkpoint, GgufFile, Reference
from edgeft.cli import main
from edgeft.config import ConvertConfig, ParityConfig
from edgeft.convert import convert
from edgeft.parity.check import compare
from edgeft.parity.record import record_reference
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights

_ROOT = Path(__file__).parents[2]
_WHOLE = bool(os.environ.get("EDGEFT_WHOLE_MATRIX"))
_TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_M", "Q2_K")
_QUALITY = frozenset({"merge", "quantization", "ending", "task"})
"""Rungs on which a correct file may fail: what was asked of it is too little for its model."""
_BATCH = 8
_CONFIG = ParityConfig(records=8, positions=300, max_new_tokens=16)
_RUN = """
[model]
base = "{base}"
[dataset]
train = "train.jsonl"
evaluation = "test.jsonl"
test = "test.jsonl"
max_tokens = 256
[train]
epochs = 1
batch_size = 8
learning_rate = {rate}
evaluations = 1
[train.lora]
rank = {rank}
alpha = {alpha}
[merge]
base = "{merge_base}"
[convert]
random_texts = 0
unquantized = {unquantized}
[imatrix]
tokens = 8000
[quantize]
types = {types}
imatrix = {imatrix}
[parity]
records = 8
positions = 300
max_new_tokens = 16
"""


@dataclass(frozen=True)
class Tune:
    """A short training on the example's records."""

    rank: int
    rate: float
    steps: int


_TUNES = (Tune(4, 1e-5, 20), Tune(16, 2e-4, 30), Tune(32, 1e-3, 60))
"""The first hardly moves a weight, the last changes every answer."""


@dataclass(frozen=True)
class Way:
    """How a tuned model becomes files."""

    merge_base: Literal["original", "dequantized"] = "original"
    imatrix: bool = False
    straight: bool = False


_WAYS = (Way(), Way("dequantized"), Way("dequantized", imatrix=True), Way(straight=True))
_MODELS = ("smollm2", *(("gemma3",) if GEMMA_WANTED else ()), "embedded")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """The checkpoint of each model, those of GGUF files imported."""
    root = tmp_path_factory.mktemp("models")
    found = {"embedded": Checkpoint.open(_ROOT / "models" / "base")}
    files = {"smollm2": smollm2_path, **({"gemma3": gemma_path} if GEMMA_WANTED else {})}
    for name, path in files.items():
        done = CliRunner().invoke(main, ["import", str(path()), "--out", str(root / name)])
        assert done.exit_code == 0, done.output
        found[name] = Checkpoint.open(root / name)
    return found


def alarm(report: dict[str, Any]) -> str:
    """Returns what a report says of a correct file that it should not; "" where that is nothing."""
    wrong = [one for one in report["failures"] if one["rung"] not in _QUALITY]
    return "; ".join(f"{one['rung']}: {one['cause']} ({one['where']})" for one in wrong)


def shown(name: str, way: str, reports: dict[str, dict[str, Any]]) -> None:
    """Prints a row of the table: the verdict on each type, with the rung where it is no pass, and the share."""
    cells = []
    for kind, report in reports.items():
        weights = next(rung for rung in report["rungs"] if rung["name"] == "weights")["figures"]
        share = weights.get("adapter_share")
        told = report["verdict"] if report["verdict"] == "pass" else f"{report['verdict']} ({report['rung']})"
        cells.append(f"{kind} {told}" + ("" if share is None else f" {share:.0%}"))
    print(f"\n| {name} | {way} | {' | '.join(cells)} |")


def held(reference: Reference, files: Iterator[tuple[str, GgufFile]]) -> dict[str, dict[str, Any]]:
    """Returns the report on each file, removed as soon as it is checked."""
    reports = {}
    for kind, gguf in files:
        reports[kind] = compare(reference, gguf, _CONFIG, threads=1)
        if kind not in ("F16", "others'"):
            gguf.path.unlink()
    return reports


def files_of(model: Checkpoint, types: Sequence[str], out: Path) -> Iterator[tuple[str, GgufFile]]:
    """Yields a model as F16, and quantized."""
    exact = convert(CheckpointWeights(model), model, ConvertConfig(random_texts=0), out / "F16.gguf")
    yield "F16", exact
    for kind in types:
        yield kind, quantize(exact, kind, out / f"{kind}.gguf")


@pytest.mark.parametrize("name", _MODELS if _WHOLE else ("smollm2",))
def test_an_untrained_model_raises_no_alarm(name: str, models: dict[str, Checkpoint], tmp_path: Path) -> None:
    model = models[name]
    reference = record_reference(model, None, None, _CONFIG, "cpu", tmp_path / "reference.npz")
    reports = held(reference, files_of(model, _TYPES if _WHOLE else ("Q8_0", "Q2_K"), tmp_path))
    if name != "embedded":
        path = smollm2_path() if name == "smollm2" else gemma_path()
        reports |= held(reference, iter([("others'", GgufFile(path))]))
    shown(name, "untrained", reports)
    alarms = {kind: alarm(report) for kind, report in reports.items() if alarm(report)}
    assert not alarms


@pytest.mark.skipif(not _WHOLE, reason="make false-alarms runs it")
@pytest.mark.parametrize("tune", _TUNES, ids=lambda tune: f"rank {tune.rank}, {tune.rate:g}, {tune.steps} steps")
@pytest.mark.parametrize("name", _MODELS)
def test_a_tuned_model_raises_no_alarm(name: str, tune: Tune, models: dict[str, Checkpoint], tmp_path: Path) -> None:
    alarms: dict[str, str] = {}
    trained: Path | None = None
    for number, way in enumerate(_WAYS):
        folder = tmp_path / str(number)
        reports = exported(models[name], tune, way, folder, trained)
        trained = trained or folder / "run"
        told = f"{way.merge_base}{', imatrix' if way.imatrix else ''}{', straight' if way.straight else ''}"
        shown(f"{name}, rank {tune.rank}, {tune.rate:g}, {tune.steps} steps", told, reports)
        alarms |= {f"{told}, {kind}": alarm(report) for kind, report in reports.items() if alarm(report)}
        for part in ("gguf", "quantized", "imatrix"):
            shutil.rmtree(folder / "run" / part, ignore_errors=True)
    assert not alarms, "\n".join(f"{kind}: {what}" for kind, what in alarms.items())


def exported(model: Checkpoint, tune: Tune, way: Way, folder: Path, trained: Path | None) -> dict[str, dict[str, Any]]:
    """Runs a configuration to its reports; tokens and adapter are those of the run `trained`, if there is one."""
    folder.mkdir()
    examples = _ROOT / "examples" / "home"
    lines = (examples / "train.jsonl").read_text().splitlines(keepends=True)[: tune.steps * _BATCH]
    (folder / "train.jsonl").write_text("".join(lines))
    (folder / "test.jsonl").write_text("".join((examples / "test.jsonl").read_text().splitlines(keepends=True)[:8]))
    values = {"base": model.path, "rate": tune.rate, "rank": tune.rank, "alpha": 2 * tune.rank}
    values |= {"merge_base": way.merge_base, "types": json.dumps(_TYPES), "imatrix": str(way.imatrix).lower()}
    (folder / "edgeft.toml").write_text(_RUN.format(**values, unquantized=str(not way.straight).lower()))
    if trained is not None:
        for part in ("tokens", "adapter"):
            shutil.copytree(trained / part, folder / "run" / part)
    done = CliRunner().invoke(main, ["run", "parity", "-c", str(folder / "edgeft.toml")])
    assert done.exit_code in (0, 3, 4), done.output
    reports = sorted((folder / "run" / "parity").glob("*/parity.json"))
    assert len(reports) == len(_TYPES) + (not way.straight)
    return {path.parent.name: json.loads(path.read_text()) for path in reports}

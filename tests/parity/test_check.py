"""A correct export passes; budgets, small samples, the recorded day, and references that cannot be used."""

from __future__ import annotations

import json
import math
import re
import shutil
import tomllib
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny_model import CHATML, make_model
from tiny_run import write_records

from edgeft.artifacts import Checkpoint, GgufFile, Reference
from edgeft.config import ConvertConfig, ParityConfig, ParityThresholds
from edgeft.convert import convert
from edgeft.dataset import records as dataset_records
from edgeft.errors import EdgeftError
from edgeft.llamacpp import Engine
from edgeft.parity.check import check_parity
from edgeft.parity.ladder import RUNGS
from edgeft.parity.page import origin_here, page
from edgeft.parity.record import record_reference
from edgeft.parity.reference import OpenReference
from edgeft.parity.report_file import read_report
from edgeft.parity.rungs.logits import check_conversion, check_merge, check_quantization, measure
from edgeft.parity.rungs.runtime import GPU_RUNTIMES, RUNTIMES, check_runtime
from edgeft.parity.scored import Checked, read_records
from edgeft.parity.statistics import Divergence, Positions
from edgeft.parity.thresholds import LLAMA_3_8B_KLD, budget, healthy_kld, thresholds_for
from edgeft.progress import silent
from edgeft.quant_types import FTYPE
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights
from parity.exports import checked

CONFIG = ParityConfig(records=5, positions=256, max_new_tokens=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("parity") / "model")


@pytest.fixture(scope="module")
def reference(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    write_records(folder / "test.jsonl", 5)
    records = dataset_records.read_records(folder / "test.jsonl")
    return record_reference(model, None, records, CONFIG, "cpu", folder / "reference.npz")


def export(model: Checkpoint, path: Path, dtype: str = "f32") -> GgufFile:
    return convert(CheckpointWeights(model), model, ConvertConfig.model_validate({"dtype": dtype}), path)


# The measured noise of each type's arithmetic in llama.cpp on this model: see the assertion.
NOISE = {"f32": 1e-9, "f16": 1e-5, "bf16": 2e-3}


@pytest.mark.parametrize("dtype", NOISE)
def test_a_correct_export_passes(model: Checkpoint, reference: Reference, tmp_path: Path, dtype: str) -> None:
    report = checked(reference, export(model, tmp_path / "model.gguf", dtype), CONFIG)
    assert report["verdict"] == "pass", report["failures"]
    assert report["type"] == dtype.upper()
    assert report["logits"]["mean_kld"] < NOISE[dtype]
    if dtype == "f32":
        assert report["logits"]["nmse"] < 1e-9
        assert report["greedy"]["same"] == report["greedy"]["records"]


def test_a_quantized_file_is_held_to_its_budget(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    f16 = export(model, tmp_path / "f16.gguf", "f16")
    smaller = quantize(f16, "Q8_0", tmp_path / "q8.gguf")
    loose = CONFIG.model_copy(update={"quantization": ParityThresholds(mean_kld=1.0, top1=0.0, ppl_ratio=9.0)})
    tight = CONFIG.model_copy(update={"thresholds": {"Q8_0": ParityThresholds(mean_kld=1e-9, top1=0.0, ppl_ratio=9.0)}})
    assert checked(reference, smaller, loose)["verdict"] == "pass"
    failed = checked(reference, smaller, tight)
    assert (failed["verdict"], failed["rung"]) == ("fail", "quantization")
    assert "mean KLD" in failed["cause"]


def test_not_a_number_fails(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    """A reference whose logits are not finite can never pass: NaN compares false with every threshold."""
    with np.load(reference.path) as arrays:
        broken = {name: arrays[name] for name in arrays}
    broken["log_p"] = np.full_like(broken["log_p"], np.nan)
    np.savez(tmp_path / "nan.npz", **broken)
    written = check_parity(
        Reference(tmp_path / "nan.npz"), export(model, tmp_path / "model.gguf"), CONFIG, tmp_path / "parity"
    )
    texts = [(written.path / name).read_text() for name in ("parity.json", "positions.json")]
    assert all("NaN" not in text and "null" in text for text in texts)
    report, records = read_report(written), read_records(written.path / "positions.json")
    assert report["verdict"] == "fail"
    assert report["allowed"] and report["merge"] is None
    assert all(math.isnan(value) for value in (report["logits"]["mean_kld"], records[0].kld[0]))
    assert "not a number" in page([Checked(report, records)], origin_here({}))


def test_positions_are_limited(model: Checkpoint, tmp_path: Path) -> None:
    write_records(tmp_path / "test.jsonl", 12)
    config = CONFIG.model_copy(update={"positions": 64, "records": 12})
    made = record_reference(
        model, None, dataset_records.read_records(tmp_path / "test.jsonl"), config, "cpu", tmp_path / "r.npz"
    )
    content = OpenReference(made).content
    assert sum(record.n_scored for record in content.records) == 64


def test_what_is_no_reference_is_refused(model: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(b"PK not a zip")
    with pytest.raises(EdgeftError, match="not a parity reference"):
        checked(Reference(tmp_path / "reference.npz"), export(model, tmp_path / "model.gguf"), CONFIG)


def test_thresholds_by_type() -> None:
    by_type = ParityConfig()
    assert thresholds_for("F16", 10**9, by_type) == by_type.conversion
    assert thresholds_for("Q4_K_M", 10**9, by_type) == budget("Q4_K_M", 10**9)
    assert thresholds_for("mixed", 10**9, by_type) == budget("Q4_K_M", 10**9)
    own = ParityThresholds(mean_kld=0.5, top1=0.5, ppl_ratio=2.0)
    changed = by_type.model_copy(update={"quantization": own})
    assert thresholds_for("Q4_K_M", 10**9, changed) == thresholds_for("mixed", 10**9, changed) == own
    assert thresholds_for("BF16", 10**9, changed) == thresholds_for("BF16", 10**9, by_type)
    assert set(LLAMA_3_8B_KLD) <= set(FTYPE)


@pytest.mark.parametrize("type_name", LLAMA_3_8B_KLD)
def test_a_budget_is_wider_for_smaller_models_and_for_smaller_types(type_name: str) -> None:
    sizes = [10**6, 10**7, 10**8, 10**9, 10**10, 10**12]
    budgets = [budget(type_name, size) for size in sizes]
    assert healthy_kld(type_name, sizes[4]) == healthy_kld(type_name, sizes[5]) >= LLAMA_3_8B_KLD[type_name]
    for smaller, larger in pairwise(budgets):
        assert smaller.mean_kld >= larger.mean_kld
        assert smaller.top1 <= larger.top1
        assert smaller.ppl_ratio >= larger.ppl_ratio > 1


MEASURED: dict[int, dict[str, tuple[float, float, float]]] = {
    9_441_536: {
        "Q8_0": (0.0039, 0.950, 0.0100),
        "Q6_K": (0.0285, 0.908, 0.0646),
        "Q5_K_M": (0.0528, 0.877, 0.0251),
        "Q5_0": (0.0740, 0.849, 0.0796),
        "Q4_K_M": (0.1507, 0.724, 0.1051),
        "Q4_K_S": (0.1505, 0.781, 0.0068),
        "Q4_0": (0.2178, 0.750, 0.0881),
        "Q4_1": (0.2048, 0.768, 0.1271),
        "IQ4_XS": (0.1927, 0.766, 0.0586),
        "Q3_K_M": (0.3259, 0.714, 0.1237),
        "IQ3_S": (1.0921, 0.558, 0.0106),
        "Q2_K": (1.4812, 0.494, 0.1502),
    },
    134_515_008: {
        "Q8_0": (0.0057, 0.946, 0.0079),
        "Q6_K": (0.0146, 0.928, 0.0214),
        "Q5_K_M": (0.1043, 0.790, 0.1514),
        "Q5_0": (0.1109, 0.800, 0.1136),
        "Q4_0": (0.3951, 0.638, 0.2442),
        "IQ4_XS": (0.2673, 0.695, 0.2107),
        "Q3_K_M": (0.1811, 0.724, 0.1658),
        "IQ3_S": (1.2415, 0.422, 1.3145),
        "Q2_K": (0.5701, 0.573, 0.3302),
    },
    268_098_176: {
        "Q8_0": (0.0035, 0.957, 0.0110),
        "Q6_K": (0.0086, 0.919, 0.0159),
        "Q5_K_M": (0.0319, 0.875, 0.0490),
        "Q4_0": (0.4059, 0.643, 0.5152),
        "Q3_K_M": (0.2609, 0.690, 0.3114),
        "Q2_K": (0.5831, 0.588, 0.7628),
    },
}
"""By weights and type: the far ends of the intervals of mean KLD, top token and logarithm of the perplexity ratio.

Of the embedded model, SmolLM2 135M and Gemma 3 270M (docs/parity.md). Some of the first have their means alone.
"""


@pytest.mark.parametrize("n_weights", MEASURED)
def test_healthy_files_are_within_their_budgets(n_weights: int) -> None:
    for type_name, (kld, top1, log_ppl) in MEASURED[n_weights].items():
        limits = budget(type_name, n_weights)
        assert kld < limits.mean_kld < 14 * kld, type_name
        assert top1 > limits.top1, type_name
        assert log_ppl < math.log(limits.ppl_ratio), type_name


def test_a_sample_that_is_too_small_decides_nothing(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    """The budget is put into the interval: neither pass nor fail can be said of it."""
    smaller = quantize(export(model, tmp_path / "f16.gguf", "f16"), "Q8_0", tmp_path / "q8.gguf")
    figures = checked(reference, smaller, CONFIG)["logits"]
    assert figures["kld_low"] < figures["mean_kld"] < figures["kld_high"]
    between = ParityThresholds(mean_kld=figures["mean_kld"], top1=0.0, ppl_ratio=9.0)
    report = checked(reference, smaller, CONFIG.model_copy(update={"quantization": between}))
    assert (report["verdict"], report["rung"]) == ("undecided", "quantization")
    assert "so near to what is allowed" in report["remedy"]
    assert thresholds_said(report["remedy"]) is not None


def thresholds_said(remedy: str) -> ParityConfig:
    """Returns what a remedy says to write into the configuration, as the configuration is read."""
    key, said = re.search(r"(parity\.[\w.]+ = \{.*\})", remedy)[1].split(" = ", 1)  # type: ignore[index]
    return ParityConfig.model_validate(tomllib.loads(f"{key} = {said}")["parity"])


def test_what_the_remedy_would_allow_lets_the_file_pass(
    model: Checkpoint, reference: Reference, tmp_path: Path
) -> None:
    smaller = quantize(export(model, tmp_path / "f16.gguf", "f16"), "Q4_0", tmp_path / "q4.gguf")
    figures = checked(reference, smaller, CONFIG)["logits"]
    between = ParityThresholds(mean_kld=figures["mean_kld"], top1=figures["top1"], ppl_ratio=9.0)
    report = checked(reference, smaller, CONFIG.model_copy(update={"quantization": between}))
    assert (report["verdict"], report["rung"]) == ("undecided", "quantization")
    allowing = thresholds_said(report["remedy"]).thresholds
    again = checked(reference, smaller, CONFIG.model_copy(update={"quantization": between, "thresholds": allowing}))
    assert (again["verdict"], list(allowing)) == ("pass", ["Q4_0"]), again["cause"]


@pytest.mark.parametrize("built_in", [False, True])
def test_what_is_undecided_says_how_much_to_record(built_in: bool) -> None:
    """Half of the interval's half reaches the limit: a sample of four times the size would."""
    draws = np.random.default_rng(0)
    count = 400
    others = np.zeros(count)
    kld = draws.exponential(size=count)
    positions = Positions(np.arange(count), others.astype(int), others.astype(int), kld, *[others] * 5)
    wide = positions.kld_estimate
    limits = ParityThresholds(mean_kld=wide.mean + (wide.high - wide.mean) / 2, top1=0.0, ppl_ratio=9.0)
    divergence = Divergence(count, wide.mean, wide.low, wide.high, *[1.0] * 15)
    found = check_quantization(positions, divergence, limits, {"median_error": 0.1, "worst": []}, "Q4_0", built_in)
    assert found.status == "undecided"
    remedy = found.failures[0].remedy
    assert "--records 1600 --positions 1600" in remedy
    assert remedy.startswith("record 1,600 records in place of 400 ") != built_in
    assert ("--data RECORDS.jsonl" in remedy) == built_in
    assert thresholds_said(remedy).thresholds["Q4_0"].mean_kld >= wide.high


@pytest.mark.parametrize(
    ("change", "records", "status"),
    [
        ([0.0119, 0, 0, 0, 0, 0, 0], 1, "pass"),  # 1.0017 for one improbable token
        ([-0.0119, 0, 0, 0, 0, 0, 0], 1, "pass"),
        ([0.002] * 7, 1, "pass"),  # a record alone has no interval
        ([0.08, *[0] * 39], 8, "pass"),
        ([0.003, 0.001, 0.002, 0.002] * 10, 8, "fail"),
        ([-0.003, -0.001, -0.002, -0.002] * 10, 8, "fail"),
        ([0.0005] * 40, 8, "pass"),
        ([math.inf, 0, 0, 0, 0, 0, 0], 1, "fail"),
        ([math.nan, 0, 0, 0, 0, 0, 0], 1, "fail"),
    ],
)
def test_the_perplexity_of_an_exact_file_fails_beyond_chance(change: list[float], records: int, status: str) -> None:
    """The noise of the arithmetic moves an improbable token by more than the limit; a fault moves them all one way."""
    count = len(change)
    same, none = np.zeros(count, dtype=np.int64), np.zeros(count)
    record = np.arange(count) * records // count
    positions = Positions(record, same, same, none, none, none, np.array(change), none, none)
    ppl = float(np.exp(positions.nll.mean()))
    divergence = replace(Divergence(count, *[0.0] * 14), top1=1.0, ppl_reference=1.0, ppl=ppl)
    found = check_conversion(positions, divergence, CONFIG.conversion)
    assert found.status == status
    assert (abs(divergence.ppl_ratio - 1) > 0.001) == (change[0] != 0.0005) or math.isnan(ppl)
    assert not found.failures or found.failures[0].cause.startswith("perplexity ratio is ")


@pytest.mark.parametrize(
    ("merge_base", "said"),
    [
        ("original", 'set merge.base = "dequantized"'),
        ("dequantized", "record the reference on the kind of device"),
        (None, "--merge-base dequantized"),
    ],
)
def test_what_merging_lost_is_told_with_the_key_that_brings_it_back(merge_base: str | None, said: str) -> None:
    figures = replace(Divergence(8, *[0.0] * 14), top1=1.0, ppl_reference=6.0, ppl=9.0).to_json()
    failed = check_merge(figures, CONFIG.merge, merge_base)
    assert failed.status == "fail"
    assert all("lost it" in one.cause and said in one.remedy for one in failed.failures)
    assert ("original base" in failed.failures[0].cause) == (merge_base == "original")
    passed = check_merge(figures | {"ppl": 6.0, "ppl_ratio": 1.0}, CONFIG.merge, merge_base)
    assert (passed.status, passed.failures) == ("pass", ())


def test_a_runtime_fails_when_all_of_its_rise_is_beyond_the_limit(
    model: Checkpoint, reference: Reference, tmp_path: Path
) -> None:
    gguf = export(model, tmp_path / "f16.gguf", "f16")
    opened = OpenReference(reference)
    with Engine(gguf, 256, exact_kv=True, threads=2) as engine:
        measured = measure(engine, opened, silent).positions()
        passed = check_runtime(engine, opened, measured, 1.0, silent)
        failed = check_runtime(engine, opened, measured, -1.0, silent)  # no rise is within it
    assert passed.status == "pass"
    assert [failure.where for failure in failed.failures] == list(passed.figures) == list(RUNTIMES)
    for figures in passed.figures.values():
        assert figures["rise_low"] <= figures["mean_kld"] - figures["base_kld"] <= figures["rise_high"]


def test_a_gpu_is_held_to_the_cpu(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    """llama.cpp's CPU in the place of a GPU: the file is loaded again and put on a device by its name."""
    gguf = export(model, tmp_path / "f16.gguf", "f16")
    opened = OpenReference(reference)
    with Engine(gguf, 256, threads=2) as engine:
        measured = measure(engine, opened, silent).positions()
        passed = check_runtime(engine, opened, measured, 1.0, silent, ["CPU", "CUDA9"])
        failed = check_runtime(engine, opened, measured, -1.0, silent, ["CPU"])
        assert engine.runtime.threads == 2
    names = [f"CPU, {name}" for name in GPU_RUNTIMES]
    assert (passed.status, list(passed.figures)[-4:]) == ("pass", [*names, "CUDA9"])
    assert passed.figures[names[0]]["mean_nll_change"] < 1e-6  # the same arithmetic, with another number of threads
    assert passed.figures[names[2]]["mean_nll_change"] > 1e-6
    assert "no device CUDA9" in passed.figures["CUDA9"]["not_run"]
    # What 8 bits cost is told and fails nothing.
    assert [failure.where for failure in failed.failures][-2:] == names[:2]


def test_what_is_kept_gives_the_figures_of_the_whole(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    write_records(tmp_path / "test.jsonl", 5)
    records = dataset_records.read_records(tmp_path / "test.jsonl")
    config = CONFIG.model_copy(update={"kept_tokens": 0})
    whole = record_reference(model, None, records, config, "cpu", tmp_path / "whole.npz")
    smaller = quantize(export(model, tmp_path / "f16.gguf", "f16"), "Q4_0", tmp_path / "q4.gguf")
    full, kept = (checked(one, smaller, CONFIG)["logits"] for one in (whole, reference))
    assert kept["mean_kld"] <= full["mean_kld"] <= kept["mean_kld"] + kept["truncation"]
    assert kept["truncation"] > 0 == full["truncation"]
    for figure in ("top1", "ppl", "ppl_reference", "rms_delta_p"):  # float32 holds both references
        assert kept[figure] == pytest.approx(full[figure], rel=1e-5)


def test_a_template_with_the_date_is_rendered_as_of_the_recorded_day(model: Checkpoint, tmp_path: Path) -> None:
    dated = tmp_path / "model"
    shutil.copytree(model.path, dated)
    (dated / "chat_template.jinja").write_text("Today is {{ strftime_now('%d %B %Y') }}.\n" + CHATML)
    write_records(tmp_path / "test.jsonl", 2)
    records = dataset_records.read_records(tmp_path / "test.jsonl")
    made = record_reference(Checkpoint.open(dated), None, records, CONFIG, "cpu", tmp_path / "reference.npz")
    gguf = export(Checkpoint.open(dated), tmp_path / "model.gguf")
    assert checked(made, gguf, CONFIG)["verdict"] == "pass"
    later = tmp_path / "later.npz"
    with np.load(made.path) as arrays:
        kept = {name: arrays[name] for name in arrays}
    content = bytes(kept["content"]).decode()
    day = datetime.fromisoformat(json.loads(content)["rendered_at"]).strftime("%d %B %Y")
    content = content.replace(day, "03 May 2021")
    recorded = re.sub(r'"rendered_at": "[^"]*"', '"rendered_at": "2021-05-03T12:00:00"', content)
    np.savez(later, **{**kept, "content": np.frombuffer(recorded.encode(), dtype=np.uint8)})
    report = checked(Reference(later), gguf, CONFIG)
    found = {rung["name"]: rung["status"] for rung in report["rungs"]}
    assert found["chat template"] == "pass", report["failures"]


def test_a_report_is_json_with_every_rung(model: Checkpoint, reference: Reference, tmp_path: Path) -> None:
    report = checked(reference, export(model, tmp_path / "model.gguf"), CONFIG)
    assert [rung["name"] for rung in report["rungs"]] == list(RUNGS)
    assert json.loads(json.dumps(report)) == report

"""Before step 0: what works, what does not and what to do about it, how training is cut, how long it takes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_run import make_run

from edgeft.cli import main
from edgeft.config import load_config
from edgeft.doctor import Check, Gpu, LlamaCpp, Machine, check_configuration, check_machine
from edgeft.doctor.machine import DEVICE_LIBRARIES, TRAIN_LIBRARIES, llama_failure
from edgeft.graph import Graph

H100 = Gpu("NVIDIA H100 80GB HBM3", 85_000_000_000, 84_000_000_000, bfloat16=True)
GOOD = Machine(
    python=(3, 12),
    versions=dict.fromkeys((*TRAIN_LIBRARIES, *DEVICE_LIBRARIES), "1.0"),
    gpu=H100,
    cpu_features=frozenset({"avx2", "fma", "avx512f"}),
    cores=16,
    ram_bytes=128_000_000_000,
)
GOOD_LLAMA = LlamaCpp("", "llama-cpp-python 0.3.36 (CPU : AVX2 = 1 | FMA = 1 | AVX512 = 1)")
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "max_position_embeddings": 8192,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
CONFIG = """
[model]
base = "base"
[dataset]
train = "train.jsonl"
[train]
packing = true
token_budget = 8192
"""


def rate(*, cuda: bool) -> float:
    """FLOP/s of an H100, or of two cores."""
    return 760e12 if cuda else 150e9


@pytest.fixture
def large(tmp_path: Path) -> Graph:
    """A run of Llama-3.1-8B's shape without weights, on four million bytes of records."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / "train.jsonl").write_bytes(b" " * 4_000_000)
    (tmp_path / "edgeft.toml").write_text(CONFIG)
    return Graph(load_config(tmp_path / "edgeft.toml"))


def states(checks: list[Check]) -> dict[str, str]:
    for check in checks:
        assert (check.state == "ok") == (check.remedy == ""), check
    return {check.name: check.state for check in checks}


def test_a_good_machine_is_good() -> None:
    assert set(states(check_machine(GOOD, GOOD_LLAMA, training=True)).values()) == {"ok"}


@pytest.mark.parametrize(
    ("machine", "name", "state"),
    [
        (replace(GOOD, python=(3, 10)), "Python", "fail"),
        (replace(GOOD, versions=GOOD.versions | {"peft": None}), "training libraries", "fail"),
        (replace(GOOD, versions=GOOD.versions | {"gguf": None}), "libraries", "fail"),
        (replace(GOOD, gpu=None), "GPU", "warn"),
        (replace(GOOD, gpu=replace(H100, bfloat16=False)), "GPU", "warn"),
        (replace(GOOD, gpu=replace(H100, free_bytes=10**9)), "GPU", "warn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_machine_is_said_with_a_remedy(machine: Machine, name: str, state: str) -> None:
    found = states(check_machine(machine, GOOD_LLAMA, training=True))
    assert {key: value for key, value in found.items() if value != "ok"} == {name: state}


@pytest.mark.parametrize(
    ("llama", "state"),
    [
        (LlamaCpp("", "llama-cpp-python 0.3.36 (CPU : SSE3 = 1)"), "warn"),
        (None, "fail"),
        (LlamaCpp("SIGABRT", ""), "fail"),
    ],
)
def test_what_is_wrong_with_llama_cpp_is_said_with_a_remedy(llama: LlamaCpp | None, state: str) -> None:
    found = states(check_machine(GOOD, llama, training=True))
    assert {key: value for key, value in found.items() if value != "ok"} == {"llama.cpp": state}


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "an illegal instruction: it was compiled for"),
        ("import os; os.abort()", "SIGABRT"),
        ("import llama_cpp_of_another_name", "ModuleNotFoundError: No module named 'llama_cpp_of_another_name'"),
    ],
)
def test_how_a_trial_of_llama_cpp_ended_is_told(program: str, said: str) -> None:
    found = llama_failure([sys.executable, "-c", program])
    assert found.startswith(said) and bool(found) == bool(said)


def test_a_device_needs_no_training_libraries() -> None:
    device = replace(GOOD, versions=GOOD.versions | dict.fromkeys(TRAIN_LIBRARIES))
    assert states(check_machine(device, GOOD_LLAMA, training=False))["training libraries"] == "warn"


def test_an_8b_shape_on_an_h100(large: Graph) -> None:
    checks, expected = check_configuration(large, GOOD, rate)
    found = states(checks)
    assert (found.pop("sources"), set(found.values())) == ("fail", {"ok"})  # there are no weights
    assert expected is not None
    assert (expected.choice.strategy.recompute, expected.choice.strategy.resident) == (False, True)
    assert expected.tokens == 1_000_000
    # docs/benchmarks.md: 17,514 tokens/s, three epochs
    assert expected.seconds == pytest.approx(3_000_000 / 17_514, rel=0.1)


@pytest.mark.parametrize(("gigabytes", "state"), [(24, "ok"), (6, "fail")])
def test_smaller_cards(large: Graph, gigabytes: int, state: str) -> None:
    card = Gpu("card", gigabytes * 10**9, gigabytes * 10**9, bfloat16=True)
    checks, expected = check_configuration(large, replace(GOOD, gpu=card), rate)
    assert states(checks)["training memory"] == state
    assert states(checks)["GPU memory"] == "fail"  # the reference is in float32: 32 GB
    assert expected is not None
    assert expected.choice.strategy.recompute


def test_what_a_machine_lacks_room_for(large: Graph) -> None:
    checks, _ = check_configuration(large, replace(GOOD, gpu=None, ram_bytes=16 * 10**9), rate)
    assert states(checks)["RAM"] == "fail"


def test_a_model_that_cannot_be_converted(large: Graph) -> None:
    path = Path(large.config.base) / "config.json"
    path.write_text(json.dumps(LLAMA_8B | {"architectures": ["BertModel"]}))
    assert states(check_configuration(large, GOOD, rate)[0])["conversion"] == "fail"


def test_a_gpu_that_is_asked_for_and_absent(large: Graph) -> None:
    config = large.config.train.model_copy(update={"device": "cuda"})
    graph = Graph(large.config.model_copy(update={"train": config}))
    assert states(check_configuration(graph, replace(GOOD, gpu=None), rate)[0])["train.device"] == "fail"


def test_the_command_and_the_dry_run(tmp_path: Path) -> None:
    config = str(make_run(tmp_path, records=20))
    result = CliRunner().invoke(main, ["doctor", "-c", config, "--json"])
    content = json.loads(result.stdout)
    assert result.exit_code == 0, content
    assert content["forecast"]["counted"] is False
    dry = CliRunner().invoke(main, ["run", "--dry-run", "-c", config]).stdout
    assert "by the size of the files" in dry
    assert not (tmp_path / "run").exists()
    assert CliRunner().invoke(main, ["run", "tokens", "-c", config]).exit_code == 0
    counts = json.loads((tmp_path / "run" / "tokens" / "tokens.json").read_text())
    content = json.loads(CliRunner().invoke(main, ["doctor", "-c", config, "--json"]).stdout)
    assert (content["forecast"]["counted"], content["forecast"]["tokens"]) == (True, counts["tokens_in"])
    wrong = ["--set", "train.optimizer=paged_adamw_8bit", "--set", 'train.trained_tokens=["<nope>"]']
    result = CliRunner().invoke(main, ["doctor", "-c", config, *wrong])
    assert result.exit_code == 1
    assert "train.optimizer" in result.stdout and "train.trained_tokens" in result.stdout
    (tmp_path / "base" / "config.json").unlink()
    result = CliRunner().invoke(main, ["doctor", "-c", config])
    assert (result.exit_code, "FAIL" in result.stdout) == (1, True)

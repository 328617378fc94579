"""The command line: what is wrong is said in words, without a traceback, and nothing half-made stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result

import edgeft
from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.cli import main

RECORDS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
    for n in range(12)
]


def call(*arguments: str | Path, stdin: str = "") -> Result:
    """Runs a command; anything but a clean exit fails the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def refused(*arguments: str | Path, code: int = 1) -> str:
    """Runs a command that has to be refused and returns what it says."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def project(tmp_path: Path, tiny_checkpoint: Checkpoint) -> Path:
    """A folder with a base model, records, and a configuration."""
    shutil.copytree(tiny_checkpoint.path, tmp_path / "base")
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    (tmp_path / "edgeft.toml").write_text(
        '[model]\nbase = "./base"\n[dataset]\ntrain = "train.jsonl"\nevaluation_fraction = 0.5\n'
    )
    return tmp_path


def made(project: Path) -> list[str]:
    """Returns the names of the artifacts that a run holds."""
    return sorted(path.name for path in (project / "run").glob("*/") if path.suffix != ".partial")


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    """Yields the words of every command below a group."""
    for name, command in group.commands.items():
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


@pytest.mark.parametrize("words", [(), *commands(main)], ids=" ".join)
def test_every_command_and_option_has_help(words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_version() -> None:
    result = call("--version")
    assert (result.exit_code, result.output) == (0, f"edgeft, version {edgeft.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run", "--frobnicate"],
        ["quantize"],
        ["quantize", "x.gguf", "--type", "Q8_0", "--out", "y.gguf", "--threads", "-1"],
        ["convert", "m", "--out", "x.gguf", "--dtype", "q4"],
        ["parity", "check", "x.npz"],
        ["parity", "record", "m", "--data", "x.jsonl", "--out", "y.npz", "--records", "0"],
        ["parity", "check", "x.npz", "y.gguf", "--undecided-exit", "256"],
        ["chat"],
        ["chat", "x.gguf", "-c", "edgeft.toml"],
        ["chat", "x.gguf", "--n-ctx", "0"],
        ["chat", "x.gguf", "--threads", "-1"],
        ["chat", "x.gguf", "--max-tokens", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert "Usage:" in refused(*arguments, code=2)


@pytest.mark.parametrize("command", ["run", "show"])
def test_a_typo_in_the_configuration(project: Path, command: str) -> None:
    path = project / "edgeft.toml"
    path.write_text(path.read_text() + '[train]\nlerning_rate = 1\n[quantize]\ntypes = ["Q4_KM"]\n')
    said = refused(command, "-c", path)
    assert f"error {path}: train.lerning_rate: unknown key\n    -> did you mean learning_rate?" in said
    assert "unknown quantization type 'Q4_KM'\n    -> did you mean Q4_K_M?" in said


def test_a_missing_configuration(tmp_path: Path) -> None:
    for arguments in (["run", "-c"], ["show", "-c"], ["chat", "-c"]):
        assert "no such configuration file" in refused(*arguments, tmp_path / "nowhere.toml")


def test_an_unknown_stage(project: Path) -> None:
    said = refused("run", "trian", "-c", project / "edgeft.toml")
    assert "unknown stage 'trian'\n    -> did you mean train?" in said
    assert made(project) == []


def test_everything_that_is_missing_at_once(project: Path) -> None:
    shutil.rmtree(project / "base")
    said = refused(
        *("run", "-c", project / "edgeft.toml", "--set", "dataset.train=no.jsonl", "--set", "dataset.test=none.jsonl")
    )
    for words in (f"dataset.train: {project / 'no.jsonl'}: no such file", "none.jsonl: no such file"):
        assert words in said
    assert f"{project / 'base'}: no such model folder" in said
    assert not (project / "run").exists()


def test_a_gpu_that_is_not_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = refused("run", "train", "-c", project / "edgeft.toml", "--set", "train.device=cuda")
    assert "train.device: a CUDA GPU is asked for and torch sees none" in said
    assert made(project) == []
    said = refused(
        *("parity", "record", project / "base", "--data", project / "train.jsonl"),
        *("--out", project / "x.npz", "--device", "cuda"),
    )
    assert "a CUDA GPU is asked for" in said
    assert not (project / "x.npz").exists()


@pytest.mark.parametrize("pickled", [False, True])
def test_a_base_without_weights(project: Path, pickled: bool) -> None:
    weights = project / "base" / "model.safetensors"
    if pickled:
        weights.rename(weights.with_name("pytorch_model.bin"))
    else:
        weights.unlink()
    words = "the weights are pickles" if pickled else "this folder has no weights"
    assert words in refused("run", "-c", project / "edgeft.toml")
    assert words in refused("convert", project / "base", "--out", project / "x.gguf")
    assert words in refused("merge", project / "base", project / "base", "--out", project / "merged")
    assert made(project) == []
    assert sorted(path.name for path in project.iterdir()) == ["base", "edgeft.toml", "train.jsonl"]


def test_an_architecture_that_cannot_be_converted_is_refused_before_training(project: Path) -> None:
    path = project / "base" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["RecurrentGemmaForCausalLM"]}))
    for arguments in (
        ("run", "-c", project / "edgeft.toml"),
        ("convert", project / "base", "--out", project / "x.gguf"),
    ):
        said = refused(*arguments)
        assert "RecurrentGemmaForCausalLM" in said
        assert "LlamaForCausalLM" in said
    assert made(project) == []
    assert not (project / "x.gguf").exists()


@pytest.mark.parametrize(
    ("type_name", "words"),
    [("Q4_KM", "did you mean Q4_K_M?"), ("IQ2_XS", "IQ2_XS needs an importance matrix")],
)
def test_types_that_cannot_be_made(project: Path, tiny_f32: GgufFile, type_name: str, words: str) -> None:
    assert words in refused("quantize", tiny_f32.path, "--type", type_name, "--out", project / "q.gguf")
    said = refused("run", "-c", project / "edgeft.toml", "--set", f'quantize.types=["{type_name}"]')
    assert words in said
    assert "toml: quantize" in said
    assert not (project / "q.gguf").exists()
    assert not (project / "run").exists()


def test_a_pattern_that_matches_no_tensor_is_refused_before_training(project: Path) -> None:
    words = refused("run", "-c", project / "edgeft.toml", "--set", 'quantize.tensor_types={ ffn_downn = "Q8_0" }')
    assert "no tensor of the file has a match" in words and "ffn_down" in words
    assert made(project) == []


def test_malformed_records(project: Path) -> None:
    path = project / "train.jsonl"
    path.write_text(path.read_text() + '{"messages": [\n{"messages": []}\n')
    said = refused("run", "-c", project / "edgeft.toml")
    assert f"error {path}:13: not valid JSON at column 15" in said
    assert f"error {path}:14: messages: the roles are none" in said
    assert made(project) == []
    said = refused("parity", "record", project / "base", "--data", path, "--out", project / "x.npz")
    assert f"{path}:13: not valid JSON" in said
    assert not (project / "x.npz").exists()


@pytest.mark.parametrize("kind", ["missing", "no gguf", "truncated"])
def test_files_that_are_no_models(project: Path, tiny_f32: GgufFile, kind: str) -> None:
    path = project / "model.gguf"
    if kind != "missing":
        path.write_bytes(tiny_f32.path.read_bytes()[:5000] if kind == "truncated" else b"not a model")
    words = {"missing": "no such file", "no gguf": "this is not a GGUF file", "truncated": "llama.cpp c"}[kind]
    assert words in refused("quantize", path, "--type", "Q8_0", "--out", project / "q.gguf")
    assert words in refused("chat", path)
    assert sorted(p.name for p in project.glob("*.gguf*")) == ([] if kind == "missing" else ["model.gguf"])


def test_merge_refuses_what_exists_and_what_is_no_adapter(project: Path) -> None:
    (project / "merged").mkdir()
    said = refused("merge", project / "base", project / "base", "--out", project / "merged")
    assert "already exists" in said
    said = refused("merge", project / "base", project / "base", "--out", project / "new")
    assert "this folder has no adapter_config.json" in said
    assert not list(project.glob("new*"))


def test_an_output_that_cannot_be_written(project: Path, tiny_f32: GgufFile) -> None:
    out = project / "train.jsonl" / "q.gguf"
    said = refused("quantize", tiny_f32.path, "--type", "Q8_0", "--out", out)
    assert str(project / "train.jsonl") in said


def test_convert_and_quantize(project: Path) -> None:
    out, small = project / "models" / "m.gguf", project / "models" / "q.gguf"
    assert call("convert", project / "base", "--out", out, "--dtype", "f32").exit_code == 0
    result = call("quantize", out, "--type", "q8_0", "--out", small)
    assert result.exit_code == 0, result.output
    assert f"{small}: " in result.output
    assert 0 < small.stat().st_size < out.stat().st_size / 3
    assert sorted(path.name for path in out.parent.iterdir()) == ["m.gguf", "q.gguf"]
    straight = project / "models" / "s.gguf"
    result = call("convert", project / "base", "--out", straight, "--dtype", "f32", "--type", "q8_0")
    assert result.exit_code == 0, result.output
    assert straight.read_bytes() == small.read_bytes()
    assert "go with --type" in call("convert", project / "base", "--out", out, "--pure").output


def test_chat_through_a_pipe(tiny_f32: GgufFile) -> None:
    result = call("chat", tiny_f32.path, "--max-tokens", "4", "--n-ctx", "64", stdin="hi\n/quit\n")
    assert result.exit_code == 0
    assert "context of 64 tokens" in result.output
    assert ">" not in result.output.splitlines()[0]


def test_chat_with_a_run_that_has_no_file_yet(project: Path) -> None:
    said = refused("chat", "-c", project / "edgeft.toml")
    assert "this run has no GGUF file yet\n    -> make it: edgeft run quantize" in said


def test_a_dry_run_makes_nothing_and_shows_all(project: Path) -> None:
    result = call("run", "--dry-run", "-c", project / "edgeft.toml")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    names = [line.split()[0] for line in lines[1 : lines.index("")]]
    assert [line.split()[0] for line in lines[lines.index("") + 1 :]] == ["training", "memory", "time", "disk"]
    assert names == [
        *("tokens", "adapter", "gguf", "quantized/Q8_0", "quantized/Q4_K_M", "reference"),
        *("parity/F16", "parity/Q8_0", "parity/Q4_K_M", "eval/base", "eval/tuned", "eval/F16", "eval/Q8_0"),
        "eval/Q4_K_M",
    ]
    assert not (project / "run").exists()
    shown = call("show", "-c", project / "edgeft.toml")
    assert shown.exit_code == 0
    assert all(name in shown.output for name in names)


def test_one_stage_is_made_once(project: Path) -> None:
    first = call("run", "tokens", "-c", project / "edgeft.toml")
    assert first.exit_code == 0, first.output
    assert "12 records in" in first.output
    assert made(project) == ["tokens"]
    second = call("run", "tokens", "-c", project / "edgeft.toml")
    assert "tokens: up to date, nothing to do" in second.output
    why = call("run", "tokens", "--dry-run", "-c", project / "edgeft.toml", "--set", "dataset.max_tokens=77")
    assert "changed: max_tokens" in why.output

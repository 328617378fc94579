"""Patterns of tensors: what llama.cpp would read otherwise, or what would go nowhere, is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.cli import main
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.errors import EdgeftError
from edgeft.quantize import Recipe, plan_quantization, quantize
from edgeft.weights import CheckpointWeights

# Each with what it has that std::regex refuses or takes for something else.
ONLY_PYTHON = {
    "(?i)ffn": "(?i)",
    "(?i:FFN)": "(?i:FFN)",
    "(?P<part>ffn)_down": "(?P<part>ffn)",
    r"(?<=blk\.0\.)ffn": r"(?<=blk\.0\.)",
    "(?>ffn)": "(?>ffn)",
    r"\d++\.ffn": "++",
    "f{,2}n": "{",
    r"\Ablk": r"\A",
    r"weight\Z": r"\Z",
    "[]_]down": "[]_]",
    "[[:alpha:]]_down": "[[:alpha:]",
}
# All of these are found in blk.0.ffn_down.weight, as much of them as reads like one of the above.
BOTH = (
    *(r"^blk\.(0|1)\.ffn_(?:down|up)\.weight$", r"(?=blk)blk\.\d+\.(?!attn)", "blk.[0-9]{1,}.f{2}n_", r"\bweight\b"),
    *(r"(b)lk.*\d.*?\w+[^\]+(?]down", r"f+n_?\x64|\+\+", r"ffn[\w.]{5,20}"),
)


@pytest.mark.parametrize("pattern", ONLY_PYTHON)
def test_what_only_python_understands_is_refused(pattern: str) -> None:
    with pytest.raises(EdgeftError) as caught:
        Recipe("Q4_K_M", {pattern: "Q8_0"}).checked()
    (problem,) = caught.value.problems
    assert problem.what.endswith(f"have no {ONLY_PYTHON[pattern]!r}")
    assert problem.where == f"tensor pattern {pattern!r}"


@pytest.mark.parametrize("pattern", BOTH)
def test_what_both_understand_is_taken(pattern: str, tiny_f32: GgufFile) -> None:
    plan = plan_quantization(tiny_f32, Recipe("Q4_K_M", {pattern: "Q5_0"}))
    assert plan.types["blk.0.ffn_down.weight"] == "Q5_0"


def test_a_pattern_that_matches_no_tensor_is_refused_with_the_names(
    tiny_f32: GgufFile, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    recipe = Recipe("Q4_K_M", {"ffn_downn": "Q8_0", "attn_v": "Q8_0", r"blk\.7\.": "Q6_K"})
    config = ConvertConfig(dtype="f32", random_texts=0)
    straight = partial(convert, CheckpointWeights(tiny_checkpoint), tiny_checkpoint, config, tmp_path / "q.gguf")
    for make in (
        partial(quantize, tiny_f32, recipe, tmp_path / "q.gguf"),
        partial(straight, planner=partial(plan_quantization, recipe=recipe)),
    ):
        with pytest.raises(EdgeftError) as caught:
            make()
        first, second = caught.value.problems
        assert first.what == second.what == "no tensor of the file has a match"
        assert (first.where, second.where) == ("tensor pattern 'ffn_downn'", r"tensor pattern 'blk\\.7\\.'")
        assert "blk.0.ffn_down.weight" in first.remedy and first.remedy.endswith(", ...")
        assert list(tmp_path.iterdir()) == []


def test_the_command_says_it_once_for_all_types(tiny_f32: GgufFile, tmp_path: Path) -> None:
    types = ["--type", "Q4_K_M", "--type", "Q8_0"]
    command = ["quantize", str(tiny_f32.path), *types, "--tensor-type", "ffn_downn=Q8_0", "--out", str(tmp_path / "q")]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 1
    assert result.output.count("no tensor of the file has a match") == 1


def test_a_configuration_is_refused_before_anything_is_made(run: Path) -> None:
    command = [
        "run",
        "--dry-run",
        "-c",
        str(run / "edgeft.toml"),
        "--set",
        'quantize.tensor_types={"(?i)ffn" = "Q8_0"}',
    ]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 1
    assert "quantize.tensor_types: '(?i)ffn'" in result.output

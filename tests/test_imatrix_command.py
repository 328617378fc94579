"""`edgeft imatrix` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeft.artifacts import Checkpoint
from edgeft.cli import main
from edgeft.imatrix_file import read_imatrix


@pytest.mark.parametrize(
    ("option", "value", "least"), [("--most-tokens", 511, 512), ("--chunk-tokens", 15, 16), ("--chunk-tokens", 0, 16)]
)
def test_less_than_the_configuration_allows_is_a_usage_error(
    option: str, value: int, least: int, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "some.txt").write_text("turn on the light")
    files = ["--text", str(tmp_path / "some.txt"), "--out", str(tmp_path / "im.gguf")]
    command = ["imatrix", str(tiny_checkpoint.path), *files, option, str(value)]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 2
    assert f"{value} is not in the range x>={least}" in result.output


def test_the_least_is_enough_and_both_texts_are_measured(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "im.gguf"), "--most-tokens", "512", "--chunk-tokens", "16"]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.txt").write_text(f"turn on the light in room {folder}. " * 10)
        options += ["--text", str(tmp_path / folder / "t.txt")]
    result = CliRunner().invoke(main, ["imatrix", str(tiny_checkpoint.path), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made = read_imatrix(tmp_path / "im.gguf")
    assert [name.partition(":")[0] for name in made.datasets] == ["t.txt", "t.txt (2)"]

"""`edgeft fit` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeft.cli import fitting, main


def fit(run: Path, *options: str | Path) -> Result:
    """Calls the command with the file, the model and the records of a run, on few places."""
    source = [run / "base.gguf", "--model", run / "base", "--tokens", run / "run" / "tokens"]
    command = ["fit", *source, "--positions", "40", "--threads", "1", *options]
    return CliRunner().invoke(main, [str(word) for word in command], catch_exceptions=False)


def test_a_file_within_a_size_and_its_picture(run: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "q.gguf", tmp_path / "q.svg"
    result = fit(run, "--max-size", "0.4MB", "--out", out, "--svg", picture, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output)
    assert figures["size_bytes"] == out.stat().st_size <= 400_000
    assert figures["types"]["embedding"] is not None
    assert ">q.gguf<" in picture.read_text() and "<polyline" in picture.read_text()


def test_without_a_budget_it_shows_what_can_be_had(run: Path) -> None:
    lines = json.loads(fit(run, "--json").output)
    assert lines[0]["size_bytes"] < lines[-1]["size_bytes"] and lines[0]["kld"] > lines[-1]["kld"]
    assert "mean KLD, predicted" in fit(run).output


def test_a_fixed_type_beside_fitted_files(run: Path) -> None:
    result = fit(run, "--compare", "q4_k_m", "--json")
    assert result.exit_code == 0, result.output
    ((fixed, same_size, same_kld),) = json.loads(result.output)
    assert fixed["label"] == "Q4_K_M" and same_size["size_bytes"] <= fixed["size_bytes"]
    assert [one["kind"] for one in (fixed, same_size, same_kld)] == ["fixed", "fitted", "fitted"]
    assert sorted(path.name for path in run.glob("*.gguf")) == ["base.gguf"]


def test_missing_folders_are_made(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "no" / "dir" / "q.gguf"
    result = fit(run, "--max-size", "0.4MB", "--out", out)
    assert result.exit_code == 0, result.output
    assert [path.name for path in out.parent.iterdir()] == ["q.gguf"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "file/q.gguf"], "file/q.gguf: cannot be written"),
        (["--out", "q.gguf", "--svg", "file/q.svg"], "file/q.svg: cannot be written"),
        (["--out", "base.gguf"], "base.gguf: this is the file that is quantized"),
        (["--out", "q.gguf", "--svg", "base.gguf"], "base.gguf: this is the file that is quantized"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_measured(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("base.gguf").symlink_to(run / "base.gguf")
    monkeypatch.setattr(fitting, "_costs", None)
    result = fit(run, "--max-kld", "1", *options)
    assert result.exit_code == 1
    assert said in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.gguf", "file"]


def test_one_budget_at_a_time(run: Path, tmp_path: Path) -> None:
    for options in ([], ["--max-kld", "1", "--max-size", "1MB"]):
        result = fit(run, "--out", tmp_path / "q.gguf", *options)
        assert result.exit_code == 1
        assert "a file has one budget" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-kld", "1"], "a budget is for a file"),
        (["--out", "q", "--max-kld", "1", "--compare", "Q8_0"], "is kept"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(run: Path, options: list[str], said: str) -> None:
    result = fit(run, *options)
    assert result.exit_code == 1 and said in result.output


def test_what_is_no_size_is_a_usage_error(run: Path, tmp_path: Path) -> None:
    result = fit(run, "--out", tmp_path / "q.gguf", "--max-size", "much")
    assert result.exit_code == 2 and "'much' is no size; write it as 700MB" in result.output

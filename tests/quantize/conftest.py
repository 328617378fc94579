"""What the tests of quantization share."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_run import make_run

from edgeft.cli import main


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, its unquantized file, and its records in tokens."""
    folder = make_run(tmp_path_factory.mktemp("fit"), num_hidden_layers=1, intermediate_size=256).parent
    for command in (
        ("run", "tokens", "-c", folder / "edgeft.toml"),
        ("convert", folder / "base", "--out", folder / "base.gguf"),
    ):
        assert CliRunner().invoke(main, [str(word) for word in command]).exit_code == 0
    return folder

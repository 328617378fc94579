"""What a configuration's artifacts are made from."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from tiny_run import make_run

from edgeft.cli import main
from edgeft.config import load_config
from edgeft.graph import Graph


def test_plain_text_alone_is_trained_and_not_answered(tmp_path: Path) -> None:
    config = make_run(tmp_path, records=12, hidden_size=64, num_hidden_layers=1)
    texts = (json.dumps({"text": f"the light {number} is on"}) for number in range(40))
    (tmp_path / "train.jsonl").write_text("\n".join(texts))
    config.write_text(config.read_text().replace('test = "test.jsonl"\n', ""))
    command = ["-c", str(config)]
    assert CliRunner().invoke(main, ["run", "quantize", *command], catch_exceptions=False).exit_code == 0
    result = CliRunner().invoke(main, ["run", *command], catch_exceptions=False)
    assert result.exit_code == 1
    assert "all records are plain text" in result.output and "dataset.test" in result.output


def test_what_is_merged_into_decides_what_is_stale(tmp_path: Path) -> None:
    """Also for a base on the hub, whose id is part of what decides."""
    path = tmp_path / "edgeft.toml"
    path.write_text('[model]\nbase = "owner/name"\n[dataset]\ntrain = "train.jsonl"\n')
    made = {}
    for merge_base in ("original", "dequantized"):
        graph = Graph(load_config(path, [f"merge.base={merge_base}"]))
        made[merge_base] = {node.name: dict(node.config) for node in graph.nodes()}
    unset = {node.name: dict(node.config) for node in Graph(load_config(path)).nodes()}
    assert unset == made["dequantized"]
    differing = {name for name, config in made["original"].items() if config != made["dequantized"][name]}
    assert {"merged", "gguf", "reference"} <= differing
    assert not differing & {"tokens", "adapter", "eval/base", "eval/tuned"}

"""`edgeft doctor`: whether everything will work, before anything is started."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from edgeft.cli.options import FILE, set_option
from edgeft.config import load_config
from edgeft.console import Output
from edgeft.doctor import check_configuration, check_machine, examine, examine_llama_cpp
from edgeft.graph import Graph

_DEFAULT = Path("edgeft.toml")


@click.command()
@click.option("-c", "--config", "config_path", type=FILE, help="what is to be run  [default: edgeft.toml, if there]")
@set_option
@click.option("--json", "as_json", is_flag=True, help="one JSON object, for machines")
@click.pass_context
def doctor(ctx: click.Context, config_path: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Checks machine and configuration: libraries, GPU, conversion, memory, disk, time. Exits 1 when one fails."""
    output = Output()
    if config_path is None and (_DEFAULT.is_file() or overrides):
        config_path = _DEFAULT
    graph = None if config_path is None else Graph(load_config(config_path, overrides))
    machine = examine()
    checks = check_machine(machine, examine_llama_cpp(machine), training=graph is not None)
    expected = None
    if graph is not None:
        found, expected = check_configuration(graph, machine)
        checks += found
    if as_json:
        content = {
            "checks": [asdict(check) for check in checks],
            "forecast": None if expected is None else asdict(expected),
        }
        output.line(json.dumps(content, default=sorted))
    else:
        output.checks([(check.name, check.state, check.found, check.remedy) for check in checks])
    if any(check.state == "fail" for check in checks):
        ctx.exit(1)

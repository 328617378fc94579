"""`edgeft parity record` and `check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from edgeft.artifacts import GgufFile, Reference
from edgeft.cli.options import AT_LEAST_ONE, FILE, shown
from edgeft.config import ParityConfig
from edgeft.console import Output
from edgeft.errors import GateError, Problem
from edgeft.files import human_size


@click.group()
def parity() -> None:
    """Proves that a GGUF file is the model that was trained: record where it was trained, check on the device."""


@parity.command()
@click.argument("model", type=str)
@click.option("--data", "records_path", type=FILE, required=True, help="JSONL of chat records")
@click.option("--out", type=FILE, required=True, help="the reference file (.npz)")
@click.option("--records", type=AT_LEAST_ONE, default=64, show_default=True, help="how many of the records")
@click.option(
    "--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True, help="where it runs"
)
def record(model: str, records_path: Path, out: Path, records: int, device: Literal["auto", "cuda", "cpu"]) -> None:
    """Writes what MODEL (a merged checkpoint or a hub id) says, in float32, to one portable file."""
    from edgeft.dataset.records import read_records
    from edgeft.hf import pick_device, resolve_checkpoint
    from edgeft.parity.record import record_reference

    output = Output()
    config = ParityConfig(records=records)
    chosen = read_records(records_path)
    with output.progress("record") as progress:
        record_reference(resolve_checkpoint(model), None, chosen, config, pick_device(device), out, progress)
    output.line(f"{shown(out.absolute())}: {human_size(out.stat().st_size)}")


@parity.command()
@click.argument("reference", type=FILE)
@click.argument("ggufs", type=FILE, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="print the reports as JSON")
def check(reference: Path, ggufs: tuple[Path, ...], as_json: bool) -> None:
    """Holds GGUFS to a REFERENCE. Exits 3 when one fails."""
    from edgeft.parity.check import compare

    output = Output()
    reports = []
    for path in ggufs:
        with output.progress(path.name) as progress:
            reports.append(compare(Reference(reference), GgufFile.open(path), ParityConfig(), progress))
    if as_json:
        click.echo(json.dumps(reports, indent=2, ensure_ascii=False))
    else:
        output.verdicts(reports)
    failed = [report for report in reports if report["verdict"] == "fail"]
    if failed:
        raise GateError(Problem(f"{r['rung']}: {r['cause']}", r["file"], r["where"]) for r in failed)

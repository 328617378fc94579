"""`edgeft parity record` and `check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgeft.artifacts import Adapter, GgufFile, Reference
from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, require_pass, shown, threads_option, undecided_option
from edgeft.config import ParityConfig, load_config
from edgeft.console import Output
from edgeft.errors import EdgeftError, Problem
from edgeft.files import human_size, json_text, require_writable, sha256_file, write_text

if TYPE_CHECKING:
    from edgeft.parity.scored import Checked

_DEFAULTS = ParityConfig()


@click.group()
def parity() -> None:
    """Proves that a GGUF file is the model that was trained: record where it was trained, check on the device."""


@parity.command()
@click.argument("model", type=str)
@click.option("--data", "records_path", type=FILE, help="JSONL of chat records; unset: built-in conversations")
@click.option("--out", type=FILE, required=True, help="the reference file (.npz)")
@click.option(
    "--records", type=AT_LEAST_ONE, default=_DEFAULTS.records, show_default=True, help="how many of the records"
)
@click.option(
    "--positions",
    type=click.IntRange(min=64),
    default=_DEFAULTS.positions,
    show_default=True,
    help="how many tokens of them",
)
@click.option("--full", is_flag=True, help="keep the whole distribution of every token, not the 64 likeliest")
@click.option("--layers", is_flag=True, help="keep hidden states, too: a check then says in which layer a file differs")
@click.option("--base", type=str, help="what MODEL was tuned from, a folder or a hub id; with --adapter")
@click.option("--adapter", type=FOLDER, help="what was merged into it: measures what merging cost")
@click.option(
    "--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True, help="where it runs"
)
def record(
    model: str,
    records_path: Path | None,
    out: Path,
    records: int,
    positions: int,
    full: bool,
    layers: bool,
    base: str | None,
    adapter: Path | None,
    device: Literal["auto", "cuda", "cpu"],
) -> None:
    """Writes what MODEL (a merged checkpoint or a hub id) says and is, in float32, to one portable file.

    Records of what the model is for show most. Without any, built-in conversations are taken, so that a file that
    others made can be checked against its model.
    """
    from edgeft.dataset.records import read_records
    from edgeft.hf import pick_device, resolve_checkpoint
    from edgeft.parity.record import record_reference

    if (base is None) != (adapter is None):
        raise EdgeftError("one of --base and --adapter is given", remedy="give both, or none")
    output = Output()
    require_writable([out])
    config = ParityConfig(records=records, positions=positions, kept_tokens=0 if full else 64, layers=layers)
    chosen = None if records_path is None else read_records(records_path)
    live = None if base is None or adapter is None else (resolve_checkpoint(base), Adapter.open(adapter))
    with output.progress("record") as progress:
        record_reference(
            resolve_checkpoint(model), live, chosen, config, pick_device(device, "--device"), out, progress
        )
    output.line(f"{shown(out.absolute())}: {human_size(out.stat().st_size)}")


@parity.command()
@click.argument("reference", type=FILE)
@click.argument("ggufs", type=FILE, nargs=-1, required=True)
@click.option("-c", "--config", "config_path", type=FILE, help="configuration whose [parity] has the thresholds")
@threads_option
@click.option("--gpu/--no-gpu", default=True, show_default=True, help="hold llama.cpp's GPUs, if any, to the CPU")
@click.option("--json", "as_json", is_flag=True, help="print the reports as JSON")
@click.option("--markdown", type=FILE, help="also write them as Markdown, for a pull request")
@click.option("--junit", "junit_path", type=FILE, help="also write them as JUnit's XML, for CI")
@click.option("--html", "html_path", type=FILE, help="also write them as one HTML page with pictures, for people")
@undecided_option
def check(
    reference: Path,
    ggufs: tuple[Path, ...],
    config_path: Path | None,
    threads: int,
    gpu: bool,
    as_json: bool,
    markdown: Path | None,
    junit_path: Path | None,
    html_path: Path | None,
    undecided_exit: int,
) -> None:
    """Holds GGUFS to a REFERENCE. Exits 3 when one fails, and 4 when none does and one is undecided."""
    from edgeft.parity import formats
    from edgeft.parity.check import check_file

    output = Output()
    require_writable(path for path in (markdown, junit_path, html_path) if path is not None)
    config = load_config(config_path).checking if config_path else ParityConfig()
    opened = _opened(reference, ggufs)
    checked = []
    for gguf in opened:
        with output.progress(gguf.path.name) as progress:
            checked.append(check_file(Reference(reference), gguf, config, progress, threads, gpu))
    reports = [one.report for one in checked]
    if as_json:
        click.echo(json_text(reports))
    else:
        output.verdicts(reports)
    if markdown:
        write_text(markdown, formats.markdown(reports))
    if junit_path:
        write_text(junit_path, formats.junit(reports))
    if html_path:
        write_text(html_path, _page(checked, [reference, *(part for gguf in opened for part in gguf.parts)]))
    require_pass(reports, undecided_exit)


def _opened(reference: Path, ggufs: Sequence[Path]) -> list[GgufFile]:
    """Opens all that is asked for before any of it is checked, so that all that cannot be opened is said at once."""
    from edgeft.parity.reference import OpenReference

    opened: list[GgufFile] = []
    problems: list[Problem] = []
    try:
        OpenReference(Reference(reference))
    except EdgeftError as error:
        problems += error.problems
    for path in ggufs:
        try:
            opened.append(GgufFile.open(path))
        except EdgeftError as error:
            problems += error.problems
    if problems:
        raise EdgeftError(problems)
    return opened


def _page(checked: Sequence[Checked], paths: Sequence[Path]) -> str:
    """Returns the page; files go by the paths that were given, since those of two folders may share a name."""
    from edgeft.parity.page import origin_here, page

    hashes = {str(path): sha256_file(path) for path in paths}
    return page(checked, origin_here(hashes, {str(path): path.stat().st_size for path in paths}))

"""Options and arguments that several commands share, and how a path is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgeft.artifacts import Checkpoint
from edgeft.errors import EdgeftError, GateError, Problem, UndecidedError
from edgeft.files import parse_size


class _Size(click.ParamType[int]):
    """A number of bytes in decimal units: 500M, 700MB, 1.2GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the bytes."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except EdgeftError as error:
            self.fail(f"{error.problems[0].what}; {error.problems[0].remedy}", param, ctx)


SIZE = _Size()
AT_LEAST_ONE = click.IntRange(min=1)
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True, help="where it computes"
)
merge_base_option = click.option(
    "--merge-base",
    type=click.Choice(["original", "dequantized"]),
    help="weights to merge into: the base's own, or rounded to 4 bits as training saw them; unset: what suits it",
)
config_option = click.option(
    "-c", "--config", "config_path", type=FILE, default=Path("edgeft.toml"), show_default=True, help="configuration"
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="threads of llama.cpp; 0: as many as there are cores",
)
undecided_option = click.option(
    "--undecided-exit",
    type=click.IntRange(0, 255),
    default=UndecidedError.exit_code,
    show_default=True,
    help="exit code when a file is undecided and none fails: 0 lets it pass, 3 lets it fail",
)
set_option = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="as train.lora.rank=8")


def checkpoint_named(name: str) -> Checkpoint:
    """Returns the checkpoint of a folder, or of a hub id; what the latter needs takes seconds to import."""
    if Path(name).exists():
        return Checkpoint.open(Path(name))
    from edgeft.hf import resolve_checkpoint

    return resolve_checkpoint(name)


def require_pass(reports: Sequence[Mapping[str, Any]], undecided_exit: int) -> None:
    """Raises GateError where one of the parity reports fails, and else UndecidedError where one is undecided.

    With the exit code 0 for it, what is undecided passes.
    """
    failed = [_problem(report, "") for report in reports if report["verdict"] == "fail"]
    undecided = [_problem(report, "undecided at ") for report in reports if report["verdict"] == "undecided"]
    if failed:
        raise GateError(failed)
    if undecided and undecided_exit:
        raise UndecidedError(undecided, undecided_exit)


def _problem(report: Mapping[str, Any], state: str) -> Problem:
    where = ": ".join(filter(None, (report["file"], report["where"])))
    return Problem(f"{state}{report['rung']}: {report['cause']}", where, report["remedy"])


def shown(path: Path) -> str:
    """A path as short as it can be: relative to the working directory when it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

"""`edgeft run` and `edgeft show`: a configuration's whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import click

from edgeft.cli import ranks
from edgeft.cli.options import FOLDER, config_option, require_pass, set_option, shown, undecided_option
from edgeft.config import load_config
from edgeft.config_text import to_toml
from edgeft.console import Output
from edgeft.doctor import check_configuration, examine, survival_checks
from edgeft.files import human_size, write_text
from edgeft.graph import Graph
from edgeft.pipeline import Pipeline, Step
from edgeft.summary import describe, doubts, summarize, trade_offs, write_summary


@click.command()
@click.argument("stages", nargs=-1)
@config_option
@set_option
@click.option("--dry-run", is_flag=True, help="show what would be made, and why, and make nothing")
@click.option("--force", is_flag=True, help="make the named stages again though they are up to date")
@undecided_option
def run(
    stages: tuple[str, ...],
    config_path: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    force: bool,
    undecided_exit: int,
) -> None:
    """Runs the named STAGES and whatever they need that is missing or stale; by default all but merge.

    The stages: import (where the base is a GGUF file), tokens, train, merge, convert, imatrix, quantize, reference,
    parity, eval. Exits 3 when a file fails its parity, and 4 when none does and one is undecided.
    """
    output = Output()
    pipeline = Pipeline(Graph(load_config(config_path, overrides)))
    graph = pipeline.graph
    steps = pipeline.plan(stages, force)
    if dry_run:
        output.states([(step.node.name, step.why, "") for step in steps])
        stages_to_run = {step.node.stage for step in steps if step.why}
        if stages_to_run:
            _forecast(graph, stages_to_run, output)
        return
    pipeline.require_possible(steps)
    ranks.require_training_alone(steps, force)
    if ranks.rank() > 0:
        ranks.train_along(pipeline, steps)
        return
    with graph.run.lock():
        _keep_config(graph)
        made = _execute(pipeline, steps, output)
    written = write_summary(graph)
    rows = summarize(graph)
    if not made:
        output.line(f"{', '.join(stages) or 'everything'}: up to date, nothing to do ({shown(graph.run.root)})")
    elif any(step.node.stage in ("parity", "eval") for step in steps):
        output.summary(rows, doubts(graph))
        pages = [shown(path) for path in (written, _write_report(graph, rows)) if path is not None]
        output.line("\n" + "\n".join(pages))
    if any(step.node.stage == "parity" for step in steps):
        checked = [row["name"] for row in rows if row["verdict"]]
        require_pass([graph.parity_report(name).content() for name in checked], undecided_exit)


def _write_report(graph: Graph, rows: Sequence[Mapping[str, Any]]) -> Path | None:
    from edgeft.run_report import write_run_report

    return write_run_report(graph, trade_offs(graph, rows))


def _forecast(graph: Graph, stages: set[str], output: Output) -> None:
    """Says how training would be cut, what memory and time it would take, and what would be written to the disk."""
    machine = examine()
    checks, expected = check_configuration(graph, machine)
    rows: list[tuple[str, str, str, str]] = []
    if expected is not None:
        written = sum(need.disk for need in expected.stages if need.stage in stages)
        if "train" in stages:
            rows += zip(("training", "memory", "time"), repeat(""), expected.lines(), repeat(""), strict=False)
        rows.append(("disk", "", f"at most {human_size(written)} to write", ""))
    told = (check for check in checks if check.state == "fail" or check.name.startswith("training in "))
    rows += [(check.name, check.state, check.found, check.remedy) for check in told]
    output.line("")
    output.checks(rows)


def _keep_config(graph: Graph) -> None:
    """Writes the configuration beside what it makes; a run with nothing new leaves the file as it is."""
    path, text = graph.run.root / "edgeft.toml", to_toml(graph.config, graph.run.root)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _execute(pipeline: Pipeline, steps: Sequence[Step], output: Output) -> bool:
    """Makes what has to be made, a line for each; returns whether there was anything."""
    todo = [step for step in steps if step.why]
    quantizes = any(step.node.name.startswith("quantized/") for step in todo)
    trains = any(step.node.name == "adapter" for step in todo)
    imports = any(step.node.name == "base" for step in todo)
    if quantizes and not imports:
        _warn_of_rounding(pipeline.graph, output, trained=not trains)
    for step in todo:
        with output.progress(step.node.name) as progress:
            seconds = pipeline.execute(step, progress)
        if seconds is None:
            output.line(f"{step.node.name:<18} unchanged")
        else:
            output.line(f"{step.node.name:<18} {seconds:6.1f} s  {describe(pipeline.graph, step.node.name)}")
        if quantizes and step.node.name in ("base", "adapter"):
            _warn_of_rounding(pipeline.graph, output, trained=step.node.name == "adapter" or not trains)
    return bool(todo)


def _warn_of_rounding(graph: Graph, output: Output, *, trained: bool) -> None:
    """Says which files will lack much of the training, before they are made."""
    output.checks(
        [
            (check.name, check.state, check.found, check.remedy)
            for check in survival_checks(graph, trained=trained)
            if check.state == "warn"
        ]
    )


@click.command()
@click.argument("run_folder", metavar="[RUN]", type=FOLDER, required=False)
@config_option
def show(run_folder: Path | None, config_path: Path) -> None:
    """Shows what the folder RUN, or the run of a configuration, holds, and what in it is stale and why."""
    output = Output()
    if run_folder is not None:
        config_path = run_folder / "edgeft.toml"
    pipeline = Pipeline(Graph(load_config(config_path)))
    graph = pipeline.graph
    rows = []
    for step in pipeline.plan():
        manifest = graph.run.manifest(step.node.name)
        detail = ""
        if manifest and not step.why.startswith("damaged"):
            detail = f"{manifest['finished']}  {describe(graph, step.node.name)}"
        rows.append((step.node.name, step.why, detail))
    output.states(rows)
    output.summary(summarize(graph), doubts(graph))

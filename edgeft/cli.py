"""The command line: opens inputs, calls one function, prints, and maps errors to exit codes."""

from __future__ import annotations

import errno
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import click

from edgeft import __version__
from edgeft.artifacts import Adapter, GgufFile, Reference
from edgeft.config import Config, ConvertConfig, ParityConfig, load_config, to_toml
from edgeft.console import Output
from edgeft.errors import EdgeftError, GateError, Problem
from edgeft.files import human_size, making_folder, write_text
from edgeft.graph import Graph
from edgeft.pipeline import Pipeline, Step
from edgeft.summary import describe, summarize, write_summary

# What `pip install edgeft` leaves out, so that a device needs no torch.
_TRAIN_LIBRARIES = {
    *("accelerate", "bitsandbytes", "huggingface_hub", "peft", "safetensors", "tokenizers", "torch", "transformers")
}
_DISK_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}
_AT_LEAST_ONE = click.IntRange(min=1)
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_config_option = click.option(
    "-c", "--config", "config_path", type=_FILE, default=Path("edgeft.toml"), show_default=True, help="configuration"
)
_set_option = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="as train.lora.rank=8")


class _Cli(click.Group):
    """Prints what a user can fix without a traceback: exit 1, or 3 for a gate; usage errors exit 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeftError as error:
            Output().problems(error)
            ctx.exit(error.exit_code)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library not in _TRAIN_LIBRARIES:
                raise
            Output().problems(EdgeftError(f"this needs {library}", remedy="pip install 'edgeft[train]'"))
            ctx.exit(EdgeftError.exit_code)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            Output().problems(EdgeftError(error.strerror or str(error), where=str(error.filename or "")))
            ctx.exit(EdgeftError.exit_code)
        except KeyboardInterrupt:
            Output().err.print("stopped: the same command goes on from here")
            ctx.exit(130)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeft")
def main() -> None:
    """Fine-tunes a small language model, runs it on the edge with llama.cpp, and proves that both are the same."""
    # bitsandbytes and torch advise on optional kernels and deprecations of their own; a user can act on none of it.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|peft|bitsandbytes|accelerate)\b.*")


@main.command()
@click.argument("stages", nargs=-1)
@_config_option
@_set_option
@click.option("--dry-run", is_flag=True, help="show what would be made, and why, and make nothing")
@click.option("--force", is_flag=True, help="make the named stages again though they are up to date")
def run(stages: tuple[str, ...], config_path: Path, overrides: tuple[str, ...], dry_run: bool, force: bool) -> None:
    """Runs the named STAGES and whatever they need that is missing or stale; all of them by default.

    The stages: tokens, train, merge, convert, quantize, reference, parity, eval.
    """
    output = Output()
    pipeline = Pipeline(Graph(load_config(config_path, overrides)))
    graph = pipeline.graph
    steps = pipeline.plan(stages, force)
    if dry_run:
        output.states([(step.node.name, step.why, "") for step in steps])
        return
    pipeline.require_possible(steps)
    with graph.run.lock():
        _keep_config(graph)
        made = _execute(pipeline, steps, output)
    written = write_summary(graph)
    rows = summarize(graph)
    if not made:
        output.line(f"{', '.join(stages) or 'everything'}: up to date, nothing to do ({_shown(graph.run.root)})")
    elif any(step.node.stage in ("parity", "eval") for step in steps):
        output.summary(rows)
        output.line(f"\n{_shown(written)}")
    failed = [row["name"] for row in rows if row["verdict"] == "fail"]
    if failed and any(step.node.stage == "parity" for step in steps):
        causes = [graph.parity_report(name).content() for name in failed]
        raise GateError(Problem(f"{c['rung']}: {c['cause']}", f"parity of {c['type']}", c["where"]) for c in causes)


def _keep_config(graph: Graph) -> None:
    """Writes the configuration beside what it makes; a run with nothing new leaves the file as it is."""
    path, text = graph.run.root / "edgeft.toml", to_toml(graph.config, graph.run.root)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _execute(pipeline: Pipeline, steps: Sequence[Step], output: Output) -> bool:
    """Makes what has to be made, a line for each; returns whether there was anything."""
    todo = [step for step in steps if step.why]
    for step in todo:
        with output.progress(step.node.name) as progress:
            seconds = pipeline.execute(step, progress)
        if seconds is None:
            output.line(f"{step.node.name:<18} unchanged")
        else:
            output.line(f"{step.node.name:<18} {seconds:6.1f} s  {describe(pipeline.graph, step.node.name)}")
    return bool(todo)


def _shown(path: Path) -> str:
    """A path as short as it can be: relative to the working directory when it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@main.command()
@click.argument("run_folder", metavar="[RUN]", type=_FOLDER, required=False)
@_config_option
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
        detail = f"{manifest['finished']}  {describe(graph, step.node.name)}" if manifest else ""
        rows.append((step.node.name, step.why, detail))
    output.states(rows)
    output.summary(summarize(graph))


@main.command()
@click.argument("base", type=str)
@click.argument("adapter", type=_FOLDER)
@click.option("--out", type=_FOLDER, required=True, help="folder of the merged checkpoint; must not exist")
def merge(base: str, adapter: Path, out: Path) -> None:
    """Folds the adapter folder ADAPTER into the checkpoint BASE (a folder or a hub id), tensor by tensor."""
    from edgeft.hf import resolve_checkpoint
    from edgeft.merge import merge as fold

    output = Output()
    with making_folder(out) as partial, output.progress("merge") as progress:
        fold(resolve_checkpoint(base), Adapter.open(adapter), partial, progress)
    output.line(f"{_shown(out.absolute())}: merged")


@main.command()
@click.argument("model", type=str)
@click.option("--out", type=_FILE, required=True, help="the GGUF file")
@click.option("--adapter", type=_FOLDER, help="an adapter to fold in on the way")
@click.option(
    "--dtype", type=click.Choice(["f32", "f16", "bf16"]), default="f16", show_default=True, help="type of the matrices"
)
def convert(model: str, out: Path, adapter: Path | None, dtype: Literal["f32", "f16", "bf16"]) -> None:
    """Converts MODEL (a checkpoint folder or a hub id) to a GGUF file."""
    from edgeft.convert import convert as write_gguf
    from edgeft.hf import resolve_checkpoint
    from edgeft.weights import CheckpointWeights, MergedWeights, Weights

    output = Output()
    source = resolve_checkpoint(model)
    weights: Weights = CheckpointWeights(source)
    if adapter is not None:
        weights = MergedWeights(weights, Adapter.open(adapter))
    with output.progress("convert") as progress:
        gguf = write_gguf(weights, source, ConvertConfig(dtype=dtype), out, progress)
    output.line(f"{_shown(out.absolute())}: {human_size(gguf.size_bytes)}")


@main.command()
@click.argument("source", type=_FILE)
@click.option("--type", "type_name", required=True, help="one of llama.cpp's file types, as Q4_K_M")
@click.option("--out", type=_FILE, required=True, help="the quantized GGUF file")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0: all cores")
def quantize(source: Path, type_name: str, out: Path, threads: int) -> None:
    """Quantizes the GGUF file SOURCE."""
    from edgeft.quantize import quantize as shrink

    output = Output()
    gguf = GgufFile.open(source)
    with output.progress("quantize") as progress:
        smaller = shrink(gguf, type_name, out, threads, progress)
    output.line(f"{_shown(out.absolute())}: {human_size(gguf.size_bytes)} -> {human_size(smaller.size_bytes)}")


@main.group()
def parity() -> None:
    """Proves that a GGUF file is the model that was trained: record where it was trained, check on the device."""


@parity.command()
@click.argument("model", type=str)
@click.option("--data", "records_path", type=_FILE, required=True, help="JSONL of chat records")
@click.option("--out", type=_FILE, required=True, help="the reference file (.npz)")
@click.option("--records", type=_AT_LEAST_ONE, default=64, show_default=True, help="how many of the records")
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
    output.line(f"{_shown(out.absolute())}: {human_size(out.stat().st_size)}")


@parity.command()
@click.argument("reference", type=_FILE)
@click.argument("ggufs", type=_FILE, nargs=-1, required=True)
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


@main.command()
@click.argument("gguf", type=_FILE, required=False)
@click.option("-c", "--config", "config_path", type=_FILE, help="talk to the smallest file of this configuration's run")
@click.option("--system", help="a system message")
@click.option("--n-ctx", type=_AT_LEAST_ONE, default=2048, show_default=True, help="tokens of context")
@click.option("--max-tokens", type=_AT_LEAST_ONE, default=512, show_default=True, help="longest answer")
@click.option("--gpu-layers", default=0, show_default=True, help="layers on the GPU, where llama.cpp was built for one")
def chat(
    gguf: Path | None, config_path: Path | None, system: str | None, n_ctx: int, max_tokens: int, gpu_layers: int
) -> None:
    """Talks to a GGUF file in the terminal."""
    from edgeft.chat import HELP
    from edgeft.chat import chat as converse
    from edgeft.llamacpp import Engine

    output = Output()
    if (gguf is None) == (config_path is None):
        raise click.UsageError("give a GGUF file, or a configuration with -c")
    path = gguf if gguf is not None else _smallest_file(load_config(cast(Path, config_path)))
    with Engine(GgufFile.open(path), n_ctx, gpu_layers=gpu_layers) as engine:
        output.line(f"{_shown(path.absolute())}, context of {engine.n_ctx} tokens; {HELP}")
        converse(engine, output.terminal(), max_tokens, system)


def _smallest_file(config: Config) -> Path:
    from edgeft.graph import Graph

    graph = Graph(config)
    found = [graph.gguf(name).path for name in graph.file_types if graph.gguf(name).path.is_file()]
    if not found:
        raise EdgeftError("this run has no GGUF file yet", str(graph.run.root), "make it: edgeft run quantize")
    return min(found, key=lambda path: path.stat().st_size)

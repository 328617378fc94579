"""`edgeft imatrix` and `quantize`: plain tools on plain files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from edgeft.artifacts import Checkpoint, GgufFile, Tokens, open_trained
from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, checkpoint_named, shown, threads_option
from edgeft.cli.recipes import recipe_options, recipes, targets, warn_of_rounding
from edgeft.config import ImatrixConfig
from edgeft.console import Output
from edgeft.errors import EdgeftError, Problem
from edgeft.files import human_size, json_text

if TYPE_CHECKING:
    from edgeft.quantize import Recipe
    from edgeft.weights import TunedWeights

_ON_GRID: Final = 0.05
_NEAR_GRID: Final = 0.6
"""Times the rounding error of ordinary weights. A base on the grid of Q4_1 that a training has moved has 0.3 to 0.6."""


def _at_least(key: str) -> click.IntRange:
    """The range of an option that is a key of the configuration's [imatrix], which says the least."""
    (least,) = (limit.ge for limit in ImatrixConfig.model_fields[key].metadata if hasattr(limit, "ge"))
    return click.IntRange(min=least)


@click.command()
@click.argument("model", type=str)
@click.option("--text", "texts", type=FILE, multiple=True, help="a text file to measure on; may be repeated")
@click.option("--tokens", "tokens_folder", type=FOLDER, help="the tokens/ folder of a run: measure on its records")
@click.option("--merge", "others", type=FILE, multiple=True, help="an importance matrix to add; may be repeated")
@click.option("--out", type=FILE, required=True, help="the file; .dat for the form before GGUF")
@click.option("--most-tokens", type=_at_least("tokens"), default=100_000, show_default=True, help="tokens of each text")
@click.option(
    "--chunk-tokens", type=_at_least("chunk_tokens"), default=512, show_default=True, help="tokens seen together"
)
@click.option("--output-matrix", is_flag=True, help="measure the output matrix, too")
def imatrix(
    model: str,
    texts: tuple[Path, ...],
    tokens_folder: Path | None,
    others: tuple[Path, ...],
    out: Path,
    most_tokens: int,
    chunk_tokens: int,
    output_matrix: bool,
) -> None:
    """Measures how large the inputs of MODEL's weights are (a checkpoint folder or a hub id), for `quantize`."""
    from edgeft import hf
    from edgeft.convert import tensor_names
    from edgeft.imatrix import make_imatrix, measured_texts
    from edgeft.imatrix_file import merge_imatrices, read_imatrix, write_imatrix, write_legacy_imatrix

    if not texts and tokens_folder is None:
        raise EdgeftError("nothing to measure on", remedy="give --text FILE, or --tokens FOLDER of a run, or both")
    output = Output()
    more = [read_imatrix(path) for path in others]
    config = ImatrixConfig(tokens=most_tokens, chunk_tokens=chunk_tokens, output=output_matrix)
    checkpoint = hf.resolve_checkpoint(model)
    names = tensor_names(checkpoint)
    chunks = measured_texts(checkpoint, None if tokens_folder is None else Tokens(tokens_folder), texts, config)
    device = hf.pick_device("auto")
    load = partial(hf.load_model, checkpoint, device, hf.compute_dtype(device))
    with output.progress("imatrix") as progress:
        made = make_imatrix(load, names, chunks, config, out, progress)
    if more:
        made = merge_imatrices([made, *more])
        write_imatrix(made, out)
    if out.suffix == ".dat":
        write_legacy_imatrix(made, out)
    output.line(f"{shown(out.absolute())}: {len(made.squares)} tensors, {made.chunk_count} chunks")


@click.command()
@click.argument("source", type=FILE)
@click.option("--type", "types", multiple=True, required=True, help="a file type of llama.cpp, as Q4_K_M; repeatable")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the file; a folder for several types")
@recipe_options
@click.option("--ctx", "n_ctx", type=AT_LEAST_ONE, default=4096, show_default=True, help="context that memory is for")
@click.option("--memory", metavar="GB", type=click.FloatRange(0, min_open=True), help="memory of the device")
@threads_option
@click.option("--base", help="the model that SOURCE was tuned from: with --adapter, measures what is left of it")
@click.option("--adapter", type=FOLDER, help="the adapter that is in SOURCE; figures go to OUT.survival.json")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def quantize(source: Path, types: tuple[str, ...], out: Path, threads: int, as_json: bool, **asked: Any) -> None:
    """Quantizes the GGUF file SOURCE, and tells what each file takes on a device."""
    if (asked["base"] is None) != (asked["adapter"] is None):
        raise click.UsageError("--base and --adapter go together")
    from edgeft.quantize import footprint, how_many_at_once, quantize_several, rounding_of_source

    output = Output()
    gguf = GgufFile.open(source)
    asked_for = recipes(types, asked)
    files = targets(out, source.stem, asked_for)
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    tuned = None if asked["base"] is None else _tuned(asked["base"], asked["adapter"])
    if not as_json and tuned is not None:
        warn_of_rounding(output, *tuned, asked_for)
    elif not as_json:
        output.checks(_on_grid(gguf, asked_for, rounding_of_source))
    with output.progresses([f"quantize {recipe.file_type}" for recipe in asked_for]) as progress:
        at_once = how_many_at_once(gguf, len(files))
        made = quantize_several(gguf, list(zip(asked_for, files, strict=True)), threads, progress, at_once)
    for recipe, target, smaller in zip(asked_for, files, made, strict=True):
        if isinstance(smaller, EdgeftError):
            problems += smaller.problems
            continue
        taken = asdict(footprint(smaller, asked["n_ctx"]))
        rows.append({"type": recipe.file_type, "file": str(target), **taken})
        if tuned is not None:
            left = _survival(output, *tuned, gguf, smaller)
            rows[-1] |= {"survival": left["overall"]}
    if as_json:
        click.echo(json_text(rows))
    else:
        _tell(output, gguf, rows, asked)
    if problems:
        raise EdgeftError(dict.fromkeys(problems))  # what is wrong for all types is said once


def _tell(output: Output, gguf: GgufFile, rows: list[dict[str, Any]], asked: dict[str, Any]) -> None:
    """Says what each file takes that was made."""
    from edgeft.summary import describe_survival

    if rows:
        output.footprints(rows, asked["n_ctx"], asked["memory"])
    for row in rows:
        place = shown(Path(row["file"]).absolute())
        output.line(f"{place}: {human_size(gguf.size_bytes)} -> {human_size(row['size_bytes'])}")
        if "survival" in row:
            output.line(f"{place}.survival.json: {describe_survival({'overall': row['survival']})}")


def _on_grid(
    gguf: GgufFile, recipes: Sequence[Recipe], measure: Callable[[GgufFile, Recipe], tuple[float, float]]
) -> list[tuple[str, str, str, str]]:
    """Returns a row for each type on whose grid a file of unknown origin lies already, or nearly."""
    rows = []
    for recipe in recipes:
        try:
            error, ordinary = measure(gguf, recipe)
        except (EdgeftError, ValueError, IndexError):
            continue  # quantizing says what is wrong
        name = f"rounding to {recipe.file_type}"
        if error < _ON_GRID * ordinary:
            what = f"changes the weights by {error:.2%}, where other models have {ordinary:.0%}: they lie on its grid"
            rows.append((name, "", f"{what}, so nothing is lost here; what a training has changed was lost before", ""))
        elif error < _NEAR_GRID * ordinary:
            what = f"changes the weights by {error:.2%}, where other models have {ordinary:.0%}: they lie near its grid"
            remedy = "measure how much survives: --base and --adapter; or take another type"
            rows.append((name, "warn", f"{what}, and if a training has moved them off, it is rounded away", remedy))
    return rows


def _tuned(base: str, adapter: Path) -> tuple[TunedWeights, Checkpoint]:
    """Returns what an adapter makes of its base, and the base."""
    from edgeft.merge import choose_merge_base, merged_weights

    checkpoint, trained = checkpoint_named(base), open_trained(adapter)
    return merged_weights(checkpoint, trained, choose_merge_base(trained)), checkpoint


def _survival(
    output: Output, weights: TunedWeights, checkpoint: Checkpoint, source: GgufFile, gguf: GgufFile
) -> dict[str, Any]:
    """Measures what a file has left of the training, and says so beside it."""
    from edgeft.convert.survival import measure_survival

    report = gguf.path.with_name(f"{gguf.path.name}.survival.json")
    with output.progress("survival") as progress:
        return measure_survival(weights, checkpoint, gguf, report, progress, unquantized=source)

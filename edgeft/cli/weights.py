"""`edgeft merge`, `convert` and `import`: plain tools on plain files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from edgeft.artifacts import open_trained
from edgeft.cli.options import FOLDER, SIZE, checkpoint_named, device_option, merge_base_option, shown
from edgeft.cli.recipes import recipe_options, recipes, targets, warn_of_rounding
from edgeft.config import ConvertConfig
from edgeft.console import Output
from edgeft.errors import Problem
from edgeft.files import human_size, json_text, making_folder, require_writable


@click.command()
@click.argument("base", type=str)
@click.argument("adapter", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="folder of the merged checkpoint; must not exist")
@merge_base_option
@device_option
def merge(
    base: str,
    adapter: Path,
    out: Path,
    merge_base: Literal["original", "dequantized"] | None,
    device: Literal["auto", "cuda", "cpu"],
) -> None:
    """Folds the adapter folder ADAPTER into the checkpoint BASE (a folder or a hub id), tensor by tensor.

    What was trained whole (train.method = "full") passes through and gets the base's tokenizer.
    """
    from edgeft.merge import choose_merge_base, merged_weights, merging_device, write_merged

    output = Output()
    with making_folder(out) as partial, output.progress("merge") as progress:
        source, trained = checkpoint_named(base), open_trained(adapter)
        into = choose_merge_base(trained, merge_base)
        weights = merged_weights(source, trained, into, merging_device(device, "--device", source))
        write_merged(weights, source, partial, progress)
    for doubt in weights.doubts:
        output.warning(doubt, shown(adapter))
    output.line(f"{shown(out.absolute())}: merged{_into(into)}")


def _into(merge_base: str) -> str:
    """Returns what was merged into, where that is not the base as it is."""
    return "" if merge_base == "original" else " into the base as 4 bits held it in training"


@click.command()
@click.argument("model", type=str)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the GGUF file; a folder for several types")
@click.option("--adapter", type=FOLDER, help="an adapter to fold in on the way")
@click.option(
    "--dtype", type=click.Choice(["f32", "f16", "bf16"]), default="f16", show_default=True, help="type of the matrices"
)
@click.option("--type", "types", multiple=True, help="quantize on the way, from --dtype, as Q4_K_M; repeatable")
@recipe_options
@click.option("--name", help="the model's name in the file")
@merge_base_option
@click.option("--split-max-size", type=SIZE, default=0, help="as 2G or 500M: several files, each up to this size")
@device_option
@click.option("--converter", help='a llama.cpp checkout whose converter to run, or "fetched"; for other architectures')
def convert(
    model: str,
    out: Path,
    adapter: Path | None,
    dtype: Literal["f32", "f16", "bf16"],
    types: tuple[str, ...],
    name: str | None,
    merge_base: Literal["original", "dequantized"] | None,
    split_max_size: int,
    device: Literal["auto", "cuda", "cpu"],
    converter: str | None,
    **asked: Any,
) -> None:
    """Converts MODEL (a checkpoint folder or a hub id) to a GGUF file, with --type to a quantized one at once."""
    if merge_base is not None and adapter is None:
        raise click.UsageError("--merge-base goes with --adapter")
    if not types and any(asked.values()):
        raise click.UsageError("options of quantization go with --type")
    from edgeft.convert import Origin, Planner
    from edgeft.convert import convert as write_gguf
    from edgeft.merge import choose_merge_base, merged_weights, merging_device
    from edgeft.quantize import plan_quantization
    from edgeft.weights import CheckpointWeights, TunedWeights, Weights

    output = Output()
    made = recipes(types, asked)
    if not made:
        require_writable([out])
    source = checkpoint_named(model)
    if adapter is None:
        weights: Weights = CheckpointWeights(source)
    else:
        chosen, trained = merging_device(device, "--device", source), open_trained(adapter)
        tuned = merged_weights(source, trained, choose_merge_base(trained, merge_base), chosen)
        for doubt in tuned.doubts:
            output.warning(doubt, shown(adapter))
        weights = tuned
    origin = None if adapter is None else Origin(model, source.path, adapter)
    config = ConvertConfig(dtype=dtype, name=name, converter=converter)
    planners: list[Planner | None] = [partial(plan_quantization, recipe=recipe) for recipe in made]
    files = targets(out, name or source.path.resolve().name, made) if made else [out]
    if isinstance(weights, TunedWeights) and made and converter is None:
        warn_of_rounding(output, weights, source, made, dtype)
    for target, planner in zip(files, planners or [None], strict=True):
        warnings: list[Problem] = []
        with output.progress("convert") as progress:
            gguf = write_gguf(
                weights,
                source,
                config,
                target,
                progress,
                origin=origin,
                split_max_bytes=split_max_size,
                planner=planner,
                warn=warnings.append,
            )
        parts = f" in {len(gguf.parts)} files" if len(gguf.parts) > 1 else ""
        output.line(f"{shown(gguf.path.absolute())}: {human_size(gguf.size_bytes)}{parts}")
        for warning in warnings:
            output.warning(f"{warning.what}\n    -> {warning.remedy}", shown(gguf.path.absolute()))


@click.command("import")
@click.argument("gguf", type=click.Path(path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="folder of the checkpoint; must not exist")
@click.option("--json", "as_json", is_flag=True, help="print what was written as JSON")
def import_checkpoint(gguf: Path, out: Path, as_json: bool) -> None:
    """Writes the Hugging Face checkpoint that the file GGUF was made of: of several parts name the first.

    Every value is held exactly: what was quantized as float32, so that the checkpoint is larger than the file.
    """
    from edgeft.convert.from_gguf import import_gguf, read_model

    output = Output()
    with making_folder(out) as partial, output.progress("import") as progress:
        imported = import_gguf(read_model(gguf), partial, progress)
    if as_json:
        click.echo(json_text({"folder": str(out), **imported.figures()}))
        return
    size, dtypes = human_size(imported.size_bytes), ", ".join(f"{n} {name}" for name, n in imported.dtypes.items())
    output.line(f"{shown(out.absolute())}: {imported.architecture}, {imported.parameters:,} weights, {size}")
    output.line(f"tensors: {dtypes}; every value of the file is held exactly, and {imported.dtype} holds them all")


@click.group()
def converter() -> None:
    """llama.cpp's own converter, for architectures that edgeft does not convert itself."""


@converter.command()
def fetch() -> None:
    """Unpacks it from llama-cpp-python's source distribution into ~/.cache/edgeft, for --converter fetched."""
    from edgeft.convert.upstream import default_cache, fetch_converter

    output = Output()
    with output.progress("converter") as progress:
        folder = fetch_converter(default_cache(), progress)
    output.line(f"{shown(folder)}: llama.cpp's converter; use it with --converter fetched")

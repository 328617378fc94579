"""`edgeft convert-adapter`, `extract-adapter` and `combine-adapters`: adapters that stay adapters."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.artifacts import Adapter
from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, checkpoint_named, shown
from edgeft.console import Output
from edgeft.errors import EdgeftError
from edgeft.files import human_size, json_text, making_folder

if TYPE_CHECKING:
    from edgeft.extract import Extraction

_NAMED = 5
_METHODS = (
    *("linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune"),
    *("ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"),
)


@click.command("convert-adapter")
@click.argument("base", type=str)
@click.argument("adapter", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="the GGUF LoRA")
@click.option(
    "--rank", type=AT_LEAST_ONE, help="rank of what is no LoRA already: the nearest of that rank, with its error"
)
def convert_adapter(base: str, adapter: Path, out: Path, rank: int | None) -> None:
    """Converts the adapter folder ADAPTER of BASE (a folder or a hub id) to a GGUF LoRA, to run beside BASE's file."""
    from edgeft.convert.adapter import convert_adapter as write_lora
    from edgeft.weights import CheckpointWeights, MergedWeights

    output = Output()
    source = checkpoint_named(base)
    weights = MergedWeights(CheckpointWeights(source), Adapter.open(adapter))
    for doubt in weights.doubts:
        output.warning(doubt, shown(adapter))
    with output.progress("convert-adapter") as progress:
        made = write_lora(weights, source, out, rank, progress)
    output.line(f"{shown(out.absolute())}: {human_size(out.stat().st_size)}, {len(made.errors)} tensors")
    inexact = {name: error for name, error in made.errors.items() if error}
    if inexact:
        worst = max(inexact, key=lambda name: inexact[name])
        output.line(f"{len(inexact)} extracted: they lack up to {inexact[worst]:.1%} of the update's norm ({worst})")


@click.command("extract-adapter")
@click.argument("base", type=str)
@click.argument("tuned", type=str)
@click.option("--rank", type=AT_LEAST_ONE, required=True, help="largest rank of a layer's update")
@click.option("--out", type=FOLDER, required=True, help="folder of the adapter; must not exist")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def extract_adapter(base: str, tuned: str, rank: int, out: Path, as_json: bool) -> None:
    """Writes a peft LoRA for BASE that gives the weights of TUNED (each a folder or a hub id), and what it lacks.

    Norms, embeddings and biases that differ are held whole.
    """
    from edgeft import hf
    from edgeft.extract import extract_adapter as extract

    output = Output()
    pair = checkpoint_named(base), checkpoint_named(tuned)
    name = str(pair[0].path.absolute()) if Path(base).is_dir() else base
    with making_folder(out) as partial, output.progress("extract-adapter") as progress:
        made = extract(*pair, rank, partial, hf.pick_device("auto"), progress, name)
    size_bytes = (out / "adapter_model.safetensors").stat().st_size
    if as_json:
        figures = {"adapter": str(out), "rank": rank, "size_bytes": size_bytes, "error": made.error}
        figures |= {"updates": [asdict(one) for one in made.updates], "saved": [asdict(one) for one in made.saved]}
        click.echo(json_text(figures))
        return
    output.errors(_by_layer(made))
    output.line(f"{shown(out.absolute())}: {human_size(size_bytes)}, lacks {made.error:.2%} of the changes' norm")
    if made.saved:
        whole = ", ".join(tensor.name for tensor in made.saved[:_NAMED])
        more = f" and {len(made.saved) - _NAMED} more" if len(made.saved) > _NAMED else ""
        output.line(f"held whole ({human_size(sum(tensor.size_bytes for tensor in made.saved))}): {whole}{more}")


@click.command("combine-adapters")
@click.argument("base", type=str)
@click.argument("adapters", type=FOLDER, nargs=-1, required=True)
@click.option("--weights", required=True, help="one for each adapter, as 0.7,0.3; negative ones take away")
@click.option("--how", type=click.Choice(_METHODS), required=True, help="peft's combination_type")
@click.option("--density", type=click.FloatRange(0, 1, min_open=True), help="share kept by ties, dare, magnitude_prune")
@click.option("--rank", type=AT_LEAST_ONE, help="rank for the methods that end in svd; unset: the adapters' largest")
@click.option("--seed", type=int, default=0, show_default=True, help="of what dare leaves out")
@click.option("--out", type=FOLDER, required=True, help="folder of the adapter; must not exist")
def combine_adapters(base: str, adapters: tuple[Path, ...], weights: str, out: Path, **asked: Any) -> None:
    """Combines the LoRA folders ADAPTERS of BASE (a folder or a hub id) into one, by peft's add_weighted_adapter.

    "cat" is the weighted sum of what they add, "svd" the nearest to it of a rank; "linear" sums their halves apart.
    """
    from edgeft import hf
    from edgeft.combine import combine_adapters as combine

    output = Output()
    combining = hf.Combining(weights=_numbers(weights), **asked)
    with making_folder(out) as partial, output.progress("combine-adapters") as progress:
        opened = [Adapter.open(folder) for folder in adapters]
        combine(checkpoint_named(base), opened, combining, partial, hf.pick_device("auto"), progress)
    size_bytes = (out / "adapter_model.safetensors").stat().st_size
    rank = Adapter.open(out).config()["r"]
    output.line(
        f"{shown(out.absolute())}: {human_size(size_bytes)}, rank {rank}, {len(adapters)} adapters by {asked['how']}"
    )


def _numbers(text: str) -> list[float]:
    """Returns the numbers of a list such as 0.7,0.3; raises EdgeftError for anything else."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise EdgeftError(f"{text!r} is no list of numbers", where="--weights", remedy="as 0.7,0.3")
    return numbers


def _by_layer(made: Extraction) -> list[tuple[str, int, float, float]]:
    """Returns by the last part of the names: how many updates there are, and the least and the most error of one."""
    errors: dict[str, list[float]] = {}
    for update in made.updates:
        errors.setdefault(update.name.split(".")[-2], []).append(update.error)
    return [(name, len(found), min(found), max(found)) for name, found in errors.items()]

"""`edgeft convert-adapter`: an adapter that stays an adapter."""

from __future__ import annotations

from pathlib import Path

import click

from edgeft.artifacts import Adapter
from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, checkpoint_named, shown
from edgeft.console import Output
from edgeft.files import human_size


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
    with output.progress("convert-adapter") as progress:
        made = write_lora(weights, source, out, rank, progress)
    output.line(f"{shown(out.absolute())}: {human_size(out.stat().st_size)}, {len(made.errors)} tensors")
    inexact = {name: error for name, error in made.errors.items() if error}
    if inexact:
        worst = max(inexact, key=lambda name: inexact[name])
        output.line(f"{len(inexact)} extracted: they lack up to {inexact[worst]:.1%} of the update's norm ({worst})")

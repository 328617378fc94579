"""`edgeft fit`: the type of each tensor chosen for a budget, by what it costs this model on its own records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.artifacts import GgufFile, Tokens
from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, shown
from edgeft.console import Output
from edgeft.errors import EdgeftError
from edgeft.files import human_size

if TYPE_CHECKING:
    from edgeft.quantize.assignment import Assignment
    from edgeft.quantize.sensitivity import TensorCosts

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_ROWS = 12


@click.command()
@click.argument("source", type=FILE)
@click.option("--model", required=True, help="the checkpoint that SOURCE was made from: a folder or a hub id")
@click.option("--tokens", "tokens_folder", type=FOLDER, required=True, help="the tokens/ folder of a run")
@click.option("--max-kld", type=click.FloatRange(0, min_open=True), help="mean divergence from SOURCE, nats a token")
@click.option("--max-size", help="size of the file, as 700MB")
@click.option("--out", type=FILE, help="the file; without it a table of what can be had")
@click.option("--imatrix", "imatrix_path", type=FILE, help="an importance matrix")
@click.option("--positions", type=AT_LEAST_ONE, default=1000, show_default=True, help="tokens to measure on")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0: all cores")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def fit(source: Path, model: str, tokens_folder: Path, out: Path | None, as_json: bool, **asked: Any) -> None:
    """Quantizes the GGUF file SOURCE within a budget, or shows which sizes cost how much.

    What each tensor costs at each type is measured on the records that MODEL was trained with. The file is built and
    measured with llama.cpp before it is called within the budget.
    """
    from edgeft import hf
    from edgeft.convert import tensor_names
    from edgeft.imatrix_file import read_imatrix
    from edgeft.quantize.assignment import frontier
    from edgeft.quantize.passages import trained_passages
    from edgeft.quantize.sensitivity import measure_sensitivity

    output = Output()
    limits = (asked["max_kld"], None if asked["max_size"] is None else _bytes(asked["max_size"]))
    if out is not None and (limits[0] is None) == (limits[1] is None):
        raise EdgeftError("a file has one budget", remedy="give --max-kld or --max-size with --out")
    gguf = GgufFile.open(source)
    checkpoint = hf.resolve_checkpoint(model)
    passages = trained_passages(Tokens(tokens_folder), asked["positions"])
    path = asked["imatrix_path"]
    importance = {} if path is None else read_imatrix(path).means()
    device = hf.pick_device("auto")
    with output.progress("sensitivity") as progress:
        costs = measure_sensitivity(checkpoint, tensor_names(checkpoint), passages, importance, device, progress)
    if out is None:
        _show(output, frontier(costs), as_json)
        return
    from edgeft.quantize.budget import Budget, FileDivergence, quantize_to_budget

    with output.progress("fit") as progress:
        measure = FileDivergence(gguf, passages)
        fitted = quantize_to_budget(gguf, costs, Budget(*limits), measure, out, path, asked["threads"], progress)
    figures = {
        "file": str(out),
        "size_bytes": fitted.gguf.size_bytes,
        "predicted_kld": fitted.predicted_kld,
        "measured_kld": fitted.measured_kld,
        "types": {**fitted.recipe.tensors, "embedding": fitted.recipe.embedding, "output": fitted.recipe.output},
    }
    if as_json:
        click.echo(json.dumps(figures, indent=2))
        return
    sizes = f"{human_size(gguf.size_bytes)} -> {human_size(fitted.gguf.size_bytes)}"
    klds = f"mean divergence {fitted.measured_kld:.2g} (predicted {fitted.predicted_kld:.2g})"
    output.line(f"{shown(out.absolute())}: {sizes}, {klds}; {_counted(costs, fitted.recipe.tensors)}")


def _show(output: Output, offered: list[Assignment], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"size_bytes": one.size_bytes, "kld": one.kld, "types": one.types} for one in offered]))
        return
    last = len(offered) - 1
    rows = [offered[round(i * last / (_ROWS - 1))] for i in range(min(_ROWS, last + 1))]
    output.trade_offs([(one.size_bytes, one.kld) for one in rows])


def _counted(costs: list[TensorCosts], tensors: dict[str, str] | Any) -> str:
    """Returns how many tensors have which type, from the smallest type to the largest."""
    order = list(dict.fromkeys(name for cost in costs for name in cost.size_bytes))
    counts = {name: list(tensors.values()).count(name) for name in order}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _bytes(text: str) -> int:
    """Returns the bytes of a size such as 700MB; raises EdgeftError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)b?\s*", text, flags=re.IGNORECASE)
    if found is None:
        raise EdgeftError(f"{text!r} is no size", where="--max-size", remedy="as 700MB or 1.2GB")
    return int(float(found[1]) * _UNITS[found[2].lower()])

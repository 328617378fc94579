"""`edgeft fit`: the type of each tensor chosen for a budget, by what it costs this model on its own records."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.artifacts import GgufFile, Tokens, open_trained
from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, SIZE, checkpoint_named, shown, threads_option
from edgeft.console import Output
from edgeft.errors import EdgeftError
from edgeft.files import human_size, json_text, require_writable, write_text
from edgeft.pareto import TradeOff, pareto_svg
from edgeft.parity.figures import MEAN_KLD, nats
from edgeft.quant_types import canonical_type

if TYPE_CHECKING:
    from edgeft.quantize.assignment import Assignment
    from edgeft.quantize.budget import Fitted
    from edgeft.quantize.comparison import Comparison
    from edgeft.quantize.costs import TensorCosts
    from edgeft.quantize.passages import Passage

_ROWS = 12
_ABOVE_ZERO = click.FloatRange(0, min_open=True)


@click.command()
@click.argument("source", type=FILE)
@click.option("--model", required=True, help="the checkpoint that SOURCE was made from: a folder or a hub id")
@click.option("--adapter", type=FOLDER, help="the adapter that is in SOURCE, if MODEL is its base")
@click.option("--tokens", "tokens_folder", type=FOLDER, required=True, help="the tokens/ folder of a run")
@click.option("--max-kld", type=_ABOVE_ZERO, help="mean divergence from SOURCE, nats a token")
@click.option("--max-size", type=SIZE, help="size of the file, as 700MB")
@click.option("--min-tokens-per-second", type=_ABOVE_ZERO, help="what this device generates with the file")
@click.option("--out", type=FILE, help="the file; without it a table of what can be had")
@click.option("--compare", multiple=True, metavar="TYPE", help="beside a fixed type, on held-out records; repeatable")
@click.option("--svg", "picture", type=FILE, help="a picture of size and divergence")
@click.option("--imatrix", "imatrix_path", type=FILE, help="an importance matrix")
@click.option("--positions", type=AT_LEAST_ONE, default=1000, show_default=True, help="tokens to measure on")
@threads_option
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def fit(
    source: Path, out: Path | None, compare: tuple[str, ...], picture: Path | None, as_json: bool, **asked: Any
) -> None:
    """Quantizes the GGUF file SOURCE within a budget, or shows which sizes cost how much.

    What each tensor costs at each type is measured on the records that MODEL was trained with. The file is built and
    measured with llama.cpp before it is called within the budget.
    """
    limits = [asked["max_kld"], asked["max_size"], asked["min_tokens_per_second"]]
    _require_one_purpose(out, limits, compare)
    from edgeft.quantize.assignment import frontier
    from edgeft.quantize.budget import matrix_bytes
    from edgeft.quantize.passages import passages
    from edgeft.quantize.run import require_apart

    output, gguf = Output(), GgufFile.open(source)
    made = [path for path in (out, picture) if path is not None]
    require_writable(made)
    for path in made:
        require_apart(gguf, path)
    types = [canonical_type(name) for name in compare]
    chosen = passages(Tokens(asked["tokens_folder"]), asked["positions"])
    costs = _costs(output, chosen, asked)
    offered = frontier(costs)
    rest_bytes = gguf.size_bytes - matrix_bytes(gguf, costs)
    drawn = [TradeOff("", one.size_bytes + rest_bytes, one.kld, "predicted") for one in offered]
    if out is not None:
        drawn.append(_fit(output, gguf, costs, chosen, limits, out, as_json, asked))
    elif types:
        # Without the curve, which is predicted for other records.
        drawn = _compare(output, gguf, costs, chosen, types, as_json, asked)
    else:
        _show(output, offered, as_json)
    if picture is not None:
        write_text(picture, pareto_svg(drawn, f"{source.name} quantized"))
        if not as_json:
            output.line(f"{shown(picture.absolute())}: size and divergence")


def _require_one_purpose(out: Path | None, limits: list[Any], compare: tuple[str, ...]) -> None:
    """A file within one budget, or types beside fitted files, or neither: the table of what can be had."""
    budgets = len(limits) - limits.count(None)
    if out is not None and budgets != 1:
        raise EdgeftError("a file has one budget", remedy="give --max-kld, --max-size or --min-tokens-per-second")
    if out is None and budgets:
        raise EdgeftError("a budget is for a file", remedy="say with --out where it goes")
    if out is not None and compare:
        raise EdgeftError("--compare makes no file that is kept", remedy="compare without --out, then make the file")


def _costs(output: Output, chosen: list[Passage], asked: dict[str, Any]) -> list[TensorCosts]:
    import torch

    from edgeft import hf
    from edgeft.convert import tensor_names
    from edgeft.imatrix_file import read_imatrix
    from edgeft.merge import choose_merge_base, load_merged
    from edgeft.quantize.sensitivity import measure_sensitivity

    checkpoint, device = checkpoint_named(asked["model"]), hf.pick_device("auto")
    load = partial(hf.load_model, checkpoint, device, torch.float32)
    if asked["adapter"] is not None:
        trained = open_trained(asked["adapter"])
        load = partial(load_merged, checkpoint, trained, choose_merge_base(trained), device)
    importance = {} if asked["imatrix_path"] is None else read_imatrix(asked["imatrix_path"]).means()
    with output.progress("sensitivity") as progress:
        return measure_sensitivity(load, tensor_names(checkpoint), chosen, importance, progress)


def _fit(
    output: Output,
    gguf: GgufFile,
    costs: list[TensorCosts],
    chosen: list[Passage],
    limits: list[Any],
    out: Path,
    as_json: bool,
    asked: dict[str, Any],
) -> TradeOff:
    from edgeft.quantize.budget import Budget, FileDivergence, quantize_to_budget

    threads = asked["threads"]
    with output.progress("fit") as progress:
        measure = FileDivergence(gguf, chosen, threads)
        others = (asked["imatrix_path"], threads, progress)
        fitted = quantize_to_budget(gguf, costs, Budget(*limits), measure, out, *others)
    if as_json:
        click.echo(json_text({"file": str(out), **fitted.figures()}))
    else:
        _say(output, gguf, fitted, costs)
    return TradeOff(out.name, fitted.gguf.size_bytes, fitted.measured_kld, "fitted")


def _say(output: Output, gguf: GgufFile, fitted: Fitted, costs: list[TensorCosts]) -> None:
    sizes = f"{human_size(gguf.size_bytes)} -> {human_size(fitted.gguf.size_bytes)}"
    klds = f"{MEAN_KLD} {nats(fitted.measured_kld)} (predicted {nats(fitted.predicted_kld)})"
    speed = "" if fitted.tokens_per_second is None else f", {fitted.tokens_per_second:.0f} tokens/s"
    counted = _counted(costs, fitted.recipe.tensors)
    output.line(f"{shown(fitted.gguf.path.absolute())}: {sizes}, {klds}{speed}; {counted}")


def _compare(
    output: Output,
    gguf: GgufFile,
    costs: list[TensorCosts],
    chosen: list[Passage],
    types: list[str],
    as_json: bool,
    asked: dict[str, Any],
) -> list[TradeOff]:
    """Compares on the evaluation records, which the types are not chosen by."""
    from edgeft.quantize.budget import FileDivergence
    from edgeft.quantize.comparison import compare
    from edgeft.quantize.passages import passages

    held_out = passages(Tokens(asked["tokens_folder"]), asked["positions"], "evaluation")
    measure, judge = (FileDivergence(gguf, texts, asked["threads"]) for texts in (chosen, held_out))
    rows: list[Comparison] = []
    for name in types:
        with output.progress(name) as progress:
            others = (asked["imatrix_path"], asked["threads"], progress)
            rows.append(compare(gguf, costs, name, measure, judge, gguf.path.parent, *others))
    if as_json:
        click.echo(json_text([[vars(one) for one in row] for row in rows]))
    else:
        output.comparisons([[(one.label, one.size_bytes, one.kld) for one in row] for row in rows])
    return [one if one.kind == "fixed" else replace(one, label="") for row in rows for one in row]


def _show(output: Output, offered: list[Assignment], as_json: bool) -> None:
    if as_json:
        click.echo(
            json_text([{"size_bytes": one.size_bytes, "kld": one.kld, "types": one.types} for one in offered], None)
        )
        return
    last = len(offered) - 1
    rows = [offered[round(i * last / (_ROWS - 1))] for i in range(min(_ROWS, last + 1))]
    output.trade_offs([(one.size_bytes, one.kld) for one in rows])


def _counted(costs: list[TensorCosts], tensors: dict[str, str] | Any) -> str:
    """Returns how many tensors have which type, from the smallest type to the largest."""
    order = list(dict.fromkeys(name for cost in costs for name in cost.size_bytes))
    counts = {name: list(tensors.values()).count(name) for name in order}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

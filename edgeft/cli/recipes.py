"""The options that say how a file is quantized, for the commands that do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import FILE
from edgeft.errors import EdgeftError, Problem
from edgeft.quant_types import canonical_type

if TYPE_CHECKING:
    from edgeft.artifacts import Checkpoint
    from edgeft.console import Output
    from edgeft.quantize import Recipe
    from edgeft.weights import TunedWeights

_OPTIONS = (
    click.option("--imatrix", "imatrix_path", type=FILE, help="an importance matrix"),
    click.option(
        "--tensor-type", "tensors", multiple=True, metavar="PATTERN=TYPE", help="as ffn_down=Q6_K, repeatable"
    ),
    click.option("--output-type", help="type of the output matrix"),
    click.option("--embedding-type", help="type of the embedding"),
    click.option("--pure", is_flag=True, help="no tensor in a larger type than the file's own"),
)


def recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that `recipes` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def recipes(types: Sequence[str], asked: dict[str, Any]) -> list[Recipe]:
    """Returns a checked recipe for each type; raises EdgeftError for a tensor type that is not PATTERN=TYPE."""
    from edgeft.quantize import Recipe

    wrong = [text for text in asked["tensors"] if "=" not in text]
    if wrong:
        raise EdgeftError(
            Problem(f"{text!r} is not PATTERN=TYPE", "--tensor-type", "as ffn_down=Q6_K") for text in wrong
        )
    tensors = {pattern: name for pattern, _, name in (text.rpartition("=") for text in asked["tensors"])}
    names = list(dict.fromkeys(canonical_type(name) for name in types))
    others = (asked["output_type"], asked["embedding_type"], asked["pure"], asked["imatrix_path"])
    return [Recipe(name, tensors, *others).checked() for name in names]


def targets(out: Path, stem: str, made: Sequence[Recipe]) -> list[Path]:
    """Returns the files of the recipes: `out`, or with several or where it is a folder, files in that folder."""
    found = (
        [out] if len(made) == 1 and not out.is_dir() else [out / f"{stem}-{recipe.file_type}.gguf" for recipe in made]
    )
    found[0].parent.mkdir(parents=True, exist_ok=True)
    return found


def warn_of_rounding(
    output: Output, weights: TunedWeights, source: Checkpoint, made: Sequence[Recipe], dtype: str = "f16"
) -> None:
    """Says which of the files will lack much of the training, before they are made; `source` is the base."""
    from edgeft.convert.sampled_survival import survival_warnings
    from edgeft.quantize import Recipe, plan_quantization

    by_name = {recipe.file_type: replace(recipe, imatrix=None) for recipe in made}
    with output.progress("rounding") as progress:
        found = survival_warnings(
            weights,
            source,
            list(by_name),
            lambda name: partial(plan_quantization, recipe=by_name.get(name, Recipe(name))),
            dtype,
            progress,
        )
    if found:
        output.checks([(f"training in {one.type_name}", "warn", one.what, one.remedy) for one in found])

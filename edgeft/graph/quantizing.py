"""The quantized files of a run, and the importance matrix before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifacts import GgufFile, open_trained
from edgeft.config import Config
from edgeft.errors import Problem
from edgeft.files import write_json
from edgeft.graph.importance import write_importance
from edgeft.graph.node import Node
from edgeft.graph.places import Places
from edgeft.progress import Progress
from edgeft.rundir import write_warnings

if TYPE_CHECKING:
    from edgeft.convert import Planner
    from edgeft.convert.sampled_survival import SurvivalWarning
    from edgeft.merge import MergeBase
    from edgeft.quantize import Recipe
    from edgeft.weights import BaseWeights, TunedWeights


_RECIPE = ("imatrix", "tensor_types", "output_type", "embedding_type", "pure")


def quantized_nodes(
    places: Places,
    merged_from: tuple[str, ...],
    merging: dict[str, Any],
    converting: dict[str, Any],
    base: dict[str, Path],
) -> Iterator[Node]:
    """Yields the quantized files, and the importance matrix before them if they are to have one.

    `merged_from` are the artifacts that the trained weights come from; `merging` and `converting` decide how they are
    merged and become GGUF. Raises EdgeftError for patterns of tensors that llama.cpp would refuse after the training.
    """
    config = places.config
    if config.quantize.tensor_types:
        from edgeft.quantize.patterns import require_patterns

        require_patterns(config.quantize.tensor_types, "quantize.tensor_types")
    needs = merged_from
    if config.quantize.imatrix:
        asked = config.imatrix.model_dump(exclude={"text", "batch_size"}) | merging
        of, sources = ("tokens", *merged_from), imatrix_text(config) | base
        yield Node("imatrix", "imatrix", partial(_make_imatrix, places), of, asked, sources, resumable=True)
        needs = ("imatrix", *merged_from)
    recipe = _recipe_keys(config)
    for name in places.quantized_types:
        node = places.gguf_node(name)
        asked = {"type": name, **recipe}
        if config.convert.unquantized:
            yield Node(node, "quantize", partial(_quantize, places, name), ("gguf", *needs), asked)
        else:
            yield Node(node, "quantize", partial(_convert, places, name), ("tokens", *needs), asked | converting, base)
    if places.budgets:
        measured = merging | {"positions": config.quantize.positions}
        of = ("tokens", *needs)
        yield Node("sensitivity", "quantize", partial(_measure, places), of, measured, base)
    for name, budget in places.budgets.items():
        of = ("tokens", "gguf", "sensitivity", *needs)
        yield Node(f"quantized/{name}", "quantize", partial(_fit, places, name), of, budget)


def imatrix_text(config: Config) -> dict[str, Path]:
    """Returns the text file that an importance matrix is measured on, if there is to be one."""
    text = config.imatrix.text if config.quantize.imatrix else None
    return {} if text is None else {"text": config.path(text)}


def recipes_of(config: Config, file_types: Sequence[str]) -> dict[str, Any]:
    """Returns what decides how the files of a merged model are made."""
    asked: dict[str, Any] = {"types": list(file_types), "converter": config.convert.converter}
    asked |= _recipe_keys(config)
    if config.quantize.imatrix:
        asked["imatrix"] = config.imatrix.model_dump(exclude={"text", "batch_size"})
    return asked


def _recipe_keys(config: Config) -> dict[str, Any]:
    """Returns what all files of fixed types have in common."""
    return config.quantize.model_dump(include=set(_RECIPE), exclude_defaults=True)


def _make_imatrix(places: Places, out: Path, progress: Progress) -> None:
    from edgeft import hf
    from edgeft.merge import load_merged

    device = hf.pick_device(places.config.train.device)
    load = partial(load_merged, places.base, open_trained(places.trained), places.merge_base, device)
    write_importance(places.config, places.base, places.tokens, load, out / "imatrix.gguf", progress)


def _quantize(places: Places, type_name: str, out: Path, progress: Progress) -> None:
    from edgeft.quantize import quantize

    source = GgufFile.open(places.gguf(places.unquantized).path)
    path, recipe = out / places.gguf_name(type_name), _recipe(places, type_name)
    _survival(places, quantize(source, recipe, path, places.config.run.threads, progress), out)


def _convert(places: Places, type_name: str, out: Path, progress: Progress) -> None:
    from edgeft.convert import convert
    from edgeft.quantize import plan_quantization

    path = out / places.gguf_name(type_name)
    planner = partial(plan_quantization, recipe=_recipe(places, type_name))
    warnings: list[Problem] = []
    made = convert(
        places.merged_weights(),
        places.base,
        places.convert_config,
        path,
        progress,
        origin=places.origin,
        planner=planner,
        records=places.own_records(),
        warn=warnings.append,
    )
    write_warnings(warnings, out)
    _survival(places, made, out)


def _measure(places: Places, out: Path, progress: Progress) -> None:
    from edgeft import hf
    from edgeft.convert import tensor_names
    from edgeft.imatrix_file import read_imatrix
    from edgeft.merge import load_merged
    from edgeft.quantize.costs import write_costs
    from edgeft.quantize.passages import passages
    from edgeft.quantize.sensitivity import measure_sensitivity

    device, imatrix = hf.pick_device(places.config.train.device), _imatrix(places)
    load = partial(load_merged, places.base, open_trained(places.trained), places.merge_base, device)
    chosen = passages(places.tokens, places.config.quantize.positions)
    importance = {} if imatrix is None else read_imatrix(imatrix).means()
    costs = measure_sensitivity(load, tensor_names(places.base), chosen, importance, progress)
    write_costs(costs, out / "costs.json")


def _fit(places: Places, name: str, out: Path, progress: Progress) -> None:
    from edgeft.quantize.budget import Budget, FileDivergence, quantize_to_budget
    from edgeft.quantize.costs import read_costs
    from edgeft.quantize.passages import passages

    settings, threads = places.config.quantize, places.config.run.threads
    source = GgufFile.open(places.gguf(places.unquantized).path)
    measure = FileDivergence(source, passages(places.tokens, settings.positions), threads)
    costs = read_costs(places.run.path("sensitivity") / "costs.json")
    path, budget = out / places.gguf_name(name), Budget(**places.budgets[name])
    fitted = quantize_to_budget(source, costs, budget, measure, path, _imatrix(places), threads, progress)
    write_json(out / "fit.json", fitted.figures())
    _survival(places, fitted.gguf, out)


def survival_warnings_of(places: Places, *, trained: bool) -> list[SurvivalWarning]:
    """Returns a warning for each type of this run that rounds its training away, before a file of it is made.

    Measured of what was `trained`; else of the base, for a training that is not made yet.
    """
    from edgeft.convert.sampled_survival import survival_warnings
    from edgeft.merge import merged_weights, untrained_weights
    from edgeft.quantize import Recipe, plan_quantization

    config = places.config
    if not places.quantized_types or config.converter is not None:
        return []
    # One that is going to be measured is not known yet.
    into: MergeBase = "dequantized" if config.merge_base == "dequantized" else "original"
    if trained:
        weights: TunedWeights | BaseWeights = merged_weights(places.base, open_trained(places.trained), into)
    else:
        weights = untrained_weights(places.base, config.train, into)

    def planner_of(type_name: str) -> Planner:
        return partial(plan_quantization, recipe=Recipe.configured(type_name, config.quantize, None))

    return survival_warnings(weights, places.base, places.quantized_types, planner_of, config.convert.dtype)


def _recipe(places: Places, type_name: str) -> Recipe:
    from edgeft.quantize import Recipe

    return Recipe.configured(type_name, places.config.quantize, _imatrix(places))


def _imatrix(places: Places) -> Path | None:
    return places.run.path("imatrix") / "imatrix.gguf" if places.config.quantize.imatrix else None


def _survival(places: Places, made: GgufFile, out: Path) -> None:
    from edgeft.convert.survival import measure_survival

    dtype = places.config.convert.dtype
    measure_survival(places.merged_weights(), places.base, made, out / "survival.json", unquantized=dtype)

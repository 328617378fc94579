"""Several adapters of one base -> one adapter, by weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeft import hf
from edgeft.artifacts import BASE_RECORD, Adapter, Checkpoint
from edgeft.errors import EdgeftError, Problem
from edgeft.files import read_object, write_json
from edgeft.progress import Progress, silent
from edgeft.weights import CheckpointWeights, MergedWeights
from edgeft.weights.adapter import AdapterTensors

# What add_weighted_adapter would pass over without a word, or cannot do.
_NO_PLAIN_LORA = {
    "use_dora": "its magnitudes (DoRA)",
    "modules_to_save": "modules saved whole",
    "trainable_token_indices": "trained tokens",
    "target_parameters": "updates of experts' parameters",
    "lora_bias": "trained biases",
}


def combine_adapters(
    base: Checkpoint,
    adapters: Sequence[Adapter],
    combining: hf.Combining,
    out: Path,
    device: hf.Device = "cpu",
    progress: Progress = silent,
) -> Adapter:
    """Writes the folder `out`: a peft LoRA of several, by peft's `add_weighted_adapter`.

    `cat` and `svd` combine what the adapters add to the weights: the sum of the updates times their weights, exactly
    (`cat`, of the sum of the ranks) or as its nearest product. `linear` combines the As and the Bs apart, as peft does,
    which gives products of one adapter's A with another's B, too. TIES: Yadav et al. 2023; DARE: Yu et al. 2023.
    Raises EdgeftError, with everything that is wrong: adapters of other bases or that are no plain LoRA, ranks that the
    method cannot combine, settings that it lacks or does not use.
    """
    weights = CheckpointWeights(base)
    problems = list(_setting_problems(adapters, combining))
    tensors: list[AdapterTensors] = []
    for adapter in adapters:
        try:
            MergedWeights(weights, adapter)
            tensors.append(AdapterTensors(adapter))
            adapter.require_named_as_peft(tensors[-1].keys)
            problems += _not_plain(tensors[-1])
        except EdgeftError as error:
            problems += error.problems
    problems += _rank_problems(tensors, combining)
    if problems:
        raise EdgeftError(problems)
    pairs = [(adapter, set(found.modules)) for adapter, found in zip(adapters, tensors, strict=True)]
    layers = hf.model_layers(base.config())
    hf.combine_lora(base.config(), pairs, layers, combining, device, out, progress)
    _name_base(adapters, weights, out)
    combined = Adapter.open(out)
    MergedWeights(weights, combined)  # it fits, as every adapter has to
    return combined


def _setting_problems(adapters: Sequence[Adapter], combining: hf.Combining) -> Iterator[Problem]:
    how = combining.how
    if len(adapters) < 2:
        yield Problem("one adapter is nothing to combine", "", "give two or more")
    if len(combining.weights) != len(adapters):
        yield Problem(f"{len(combining.weights)} weights for {len(adapters)} adapters", "--weights", "one for each")
    prunes = how.startswith(("ties", "dare", "magnitude"))
    if prunes and combining.density is None:
        yield Problem(f"{how} needs the share of values that it keeps", "--density", "as 0.5")
    if not prunes and combining.density is not None:
        yield Problem(f"{how} keeps every value", "--density", "leave it out")
    if combining.rank is not None and not how.endswith("svd"):
        yield Problem(f"{how} has no rank to choose", "--rank", "leave it out, or take a method that ends in svd")


def _not_plain(tensors: AdapterTensors) -> Iterator[Problem]:
    where, config = str(tensors.path.parent), tensors.config
    found = [what for key, what in _NO_PLAIN_LORA.items() if config.get(key)]
    if config.get("peft_type") != "LORA":
        found.append(f"type {config.get('peft_type')}")
    elif not found and any(set(module.keys) != {"lora_A", "lora_B"} for module in tensors.modules.values()):
        found.append("tensors beside its LoRA")
    if found:
        remedy = "merge it and take a LoRA of the merged model (`edgeft extract-adapter`)"
        yield Problem(f"it is no plain LoRA, and cannot be combined: {', '.join(found)}", where, remedy)


def _rank_problems(adapters: Sequence[AdapterTensors], combining: hf.Combining) -> Iterator[Problem]:
    if combining.how not in hf.HALVES_METHODS:
        return
    ranks = {
        str(found.path.parent): {found.rank(module) for module in found.modules}
        for found in adapters
        if found.config.get("peft_type") == "LORA"
    }
    if len({rank for several in ranks.values() for rank in several}) > 1:
        shown = ", ".join(f"{folder}: {', '.join(map(str, sorted(several)))}" for folder, several in ranks.items())
        remedy = f"take {combining.how}_svd" if combining.how != "linear" else "take cat or svd"
        yield Problem(f"{combining.how} combines the halves, which need one rank: {shown}", "--how", remedy)


def _name_base(adapters: Sequence[Adapter], weights: CheckpointWeights, out: Path) -> None:
    """Records the base where an adapter does; each record was held to this base."""
    if any(read_object(adapter.path / BASE_RECORD) for adapter in adapters):
        write_json(out / BASE_RECORD, {"fingerprint": weights.fingerprint()})

"""What a method needs of its options, its device and its base, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.config import MOVED_STARTS, Ia3Config, TrainConfig
from edgeft.errors import EdgeftError, Problem
from edgeft.weights import Weights


def require_method(base: Checkpoint, config: TrainConfig, merge_base: str = "original") -> None:
    """Raises EdgeftError, with every problem, for a method and options that do not go together, for a device that is
    not there or has no such optimizer, and for trained tokens that the model has not; and for a merge base
    (`merge.base`) where no merged model can have the weights that training computed with."""
    device = hf.pick_device(config.device)
    problems = [*_start_problems(config), *_row_problems(config), *_ia3_problems(config)]
    if merge_base != "original" and not config.keeps_rounded_base:
        what = f'"{merge_base}" is for adapters over a base in 4 bits that start as nothing'
        problems.append(Problem(what, "merge.base", 'set it to "original", or leave it out'))
    if config.optimizer.startswith("paged") and device == "cpu":
        what = "paged optimizers move their state between a GPU and its host, and this device is a CPU"
        unpaged = config.optimizer.removeprefix("paged_").replace("adamw_32bit", "adamw_torch_fused")
        problems.append(Problem(what, "train.optimizer", f'set it to "{unpaged}"'))
    try:
        hf.token_ids(base.path, config.trained_tokens)
    except EdgeftError as error:
        problems += error.problems
    if problems:
        raise EdgeftError(problems)


def stored_dtype(weights: Weights) -> torch.dtype:
    """Returns the type of the largest tensor."""
    return max(weights.specs.values(), key=lambda spec: spec.size_bytes).dtype


def _start_problems(config: TrainConfig) -> Iterator[Problem]:
    lora, where = config.lora, "train.lora.init"
    if lora.init == "default":
        return
    if config.method in ("ia3", "full"):
        yield Problem(f'"{config.method}" trains no low-rank adapter that could start so', where, "leave it out")
    elif lora.init in MOVED_STARTS and config.method in ("dora", "qdora"):
        what = "DoRA's magnitudes make it impossible to save what was learned since such a start for the base as it is"
        plain = "qlora" if config.quantized else "lora"
        yield Problem(what, where, f'set it to "default", or train.method to "{plain}"')
    elif lora.init == "loftq" and not config.quantized:
        what = f'LoftQ makes up for what quantization loses, and "{config.method}" does not quantize'
        yield Problem(what, where, 'set train.method to "qlora", or this to "default"')


def _row_problems(config: TrainConfig) -> Iterator[Problem]:
    if not config.trained_tokens:
        return
    where = "train.trained_tokens"
    if config.method == "full":
        yield Problem('"full" trains every token', where, "leave it out")
    elif config.method == "ia3":
        yield Problem("peft's IA3 cannot train tokens besides", where, 'set train.method to "lora", or leave it out')


def _ia3_problems(config: TrainConfig) -> Iterator[Problem]:
    """The default of `feedforward` is none: it may stand in a file of all keys, and counts where it is a target."""
    names, targets = config.ia3.feedforward, config.ia3.targets
    if config.method != "ia3" or names == Ia3Config.model_fields["feedforward"].default:
        return
    if others := [name for name in names if name not in targets]:
        remedy = "leave them out, or name them in train.ia3.targets, too"
        yield Problem(f"no targets: {', '.join(others)}", "train.ia3.feedforward", remedy)

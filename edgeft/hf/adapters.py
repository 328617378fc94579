"""What is trained of a model: an adapter that peft puts on it, or all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from edgeft.config import Ia3Config, LoraConfig
from edgeft.errors import EdgeftError, Problem
from edgeft.hf.starts import PEFT_STARTS

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def add_lora(
    model: PreTrainedModel,
    config: LoraConfig,
    *,
    dora: bool = False,
    trained_ids: Sequence[int] = (),
    gradient_checkpointing: bool = False,
    prepare: bool = True,
) -> PeftModel:
    """Wraps a model with a fresh LoRA adapter, or DoRA's (Liu et al. 2024); the rows of `trained_ids` are trained too.

    `prepare` is peft's preparation of quantized models: what is not quantized becomes float32, and recomputation is
    switched on if asked. Raises EdgeftError when a target or a pattern names no layer.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model, prepare_model_for_kbit_training

    targets = sorted(_linear_names(model)) if config.targets is None else list(config.targets)
    _require_layers(model, targets, "train.lora.targets")
    _require_patterns(model, config, targets)
    if prepare:
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    lora = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        exclude_modules=_beside_the_text(model),
        use_rslora=config.use_rslora,
        use_dora=dora,
        init_lora_weights=PEFT_STARTS.get(config.init, True),
        rank_pattern=dict(config.rank_pattern),
        alpha_pattern=dict(config.alpha_pattern),
        trainable_token_indices=_rows(model, trained_ids) if trained_ids else None,
        task_type="CAUSAL_LM",
    )
    return _in_float32(get_peft_model(model, lora))


def add_ia3(model: PreTrainedModel, config: Ia3Config) -> PeftModel:
    """Wraps a model with fresh factors of one (Liu et al. 2022); raises EdgeftError when a target names no layer.

    Of `config.feedforward` those count that are targets: peft refuses others.
    """
    from peft import IA3Config as PeftIa3Config
    from peft import get_peft_model

    _require_layers(model, config.targets, "train.ia3.targets")
    feedforward = [name for name in config.feedforward if name in config.targets]
    ia3 = PeftIa3Config(target_modules=list(config.targets), feedforward_modules=feedforward, task_type="CAUSAL_LM")
    return _in_float32(get_peft_model(model, ia3))


def set_all_trainable(model: PreTrainedModel) -> PreTrainedModel:
    """Makes every weight of a model trained."""
    model.requires_grad_(True)
    return model


def _rows(model: PreTrainedModel, ids: Sequence[int]) -> dict[str, list[int]]:
    """Which rows of which matrices are trained: those of the output matrix too, where it is not the embedding."""
    embedding: Any = model.get_input_embeddings()
    output: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    names = {module: name.rpartition(".")[2] for name, module in model.named_modules()}
    ends = [embedding] if embedding.weight is output.weight else [embedding, output]
    return {names[end]: list(ids) for end in ends}


def _in_float32(model: Any) -> PeftModel:
    # peft keeps some kinds in the base's type; AdamW's steps would be lost in the rounding of bfloat16.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return cast("PeftModel", model)


def _require_layers(model: PreTrainedModel, targets: Iterable[str], where: str) -> None:
    last_names = {name.rpartition(".")[2] for name, _ in _text_modules(model)}
    missing = [target for target in targets if target not in last_names]
    if missing:
        what = f"the model has no layers named {', '.join(missing)}"
        raise EdgeftError(what, where, f"its linear layers: {', '.join(sorted(_linear_names(model)))}")


def _linear_names(model: PreTrainedModel) -> set[str]:
    """Returns the last part of the name of every linear layer but the output matrix."""
    output: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return {
        name.rpartition(".")[2]
        for name, module in _text_modules(model)
        if isinstance(module, torch.nn.Linear) and module is not output
    }


def _text_modules(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yields the modules by name, without the eyes and ears of a model that has them."""
    beside = _beside_the_text(model)
    named = model.named_modules()
    yield from ((name, module) for name, module in named if beside is None or not re.fullmatch(beside, name))


def _beside_the_text(model: PreTrainedModel) -> str | None:
    """Returns what matches the names of all layers but the text model's; None where there are no others."""
    decoder, output = model.get_decoder(), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    own = [re.escape(f"{name}.") for name, module in model.named_modules() if module is decoder and name]
    own += [f"{re.escape(name)}$" for name, module in model.named_modules() if module is output]
    beside = f"(?!{'|'.join(own)}).*"
    return beside if own and any(re.fullmatch(beside, name) for name in linear) else None


def _require_patterns(model: PreTrainedModel, config: LoraConfig, last_names: Sequence[str]) -> None:
    """A pattern that matches nothing, which peft passes over, is a typing error."""
    targets = [name for name, _ in _text_modules(model) if name.rpartition(".")[2] in last_names]
    patterns: Mapping[str, Mapping[str, Any]] = {
        "rank_pattern": config.rank_pattern,
        "alpha_pattern": config.alpha_pattern,
    }
    problems = [
        Problem(f"{pattern!r} matches no adapted layer", f"train.lora.{key}", f"a layer's name: {targets[0]}")
        for key, table in patterns.items()
        for pattern in table
        if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in targets)
    ]
    if problems:
        raise EdgeftError(problems)

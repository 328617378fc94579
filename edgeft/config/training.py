"""How an adapter is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeft.config.section import Section


class LoraConfig(Section):
    """The low-rank adapter (Hu et al. 2021, LoRA)."""

    rank: int = Field(16, ge=1, description="rank of each update")
    alpha: float = Field(32, gt=0, description="updates are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of each update; see docs/benchmarks.md")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        strict=False,
        min_length=1,
        description="names of the linear layers that get an adapter",
    )


class TrainConfig(Section):
    """QLoRA training (Dettmers et al. 2023): a 4-bit NF4 base with double quantization under a trained adapter."""

    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto takes CUDA where there is one")
    epochs: float = Field(3, gt=0, description="passes over the training records")
    batch_size: int = Field(8, ge=1, description="records in one forward pass")
    accumulation: int = Field(1, ge=1, description="forward passes in one optimizer step, of all processes together")
    learning_rate: float = Field(2e-4, gt=0, description="peak of the cosine schedule")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of the adapter")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    evaluations: int = Field(10, ge=1, description="evaluations (and checkpoints) over the whole training")
    patience: int = Field(3, ge=1, description="evaluations without improvement before training stops")
    best_by: Literal["loss", "exact_match", "field_f1"] = Field(
        "loss", description="what the best adapter is chosen by: the evaluation's loss, or answers to its records"
    )
    answers: int = Field(32, ge=1, description="evaluation records answered each time, unless `best_by` is the loss")
    keep: int = Field(1, ge=1, description="best checkpoints kept while training, besides the last")
    rate_from_step: dict[Annotated[int, Field(strict=False, ge=1)], Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="another peak rate from a step on, `{120 = 5e-5}`: a training that was cut short goes on with it",
    )
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        (), strict=False, description="where else figures go while training: `tensorboard`, `wandb`, `trackio`"
    )
    seed: int = Field(0, ge=0, description="seed of shuffling, dropout and initialisation")
    packing: bool = Field(False, description="records one behind another, not padded: for CUDA")
    token_budget: int | None = Field(
        None, ge=8, description="most tokens in one forward pass when packing; unset: `batch_size` records"
    )
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations; unset: where memory needs it when packing, else on CUDA"
    )
    lora: LoraConfig = Field(default_factory=LoraConfig)

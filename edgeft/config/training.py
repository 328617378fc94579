"""What is trained, and how."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from edgeft.config.section import Section

MOVED_STARTS: Final = ("pissa", "pissa_niter_4", "pissa_niter_16", "olora", "loftq")
"""Values of `train.lora.init` whose adapter is not nothing at the start, and whose base is another for it."""


class QuantizationConfig(Section):
    """How `qlora` and `qdora` keep the base's linear layers: 4 bits a weight (Dettmers et al. 2023)."""

    type: Literal["nf4", "fp4"] = Field("nf4", description="the 16 values of a weight: NF4 for normal ones, FP4")
    double: bool = Field(True, description="the blocks' scales are quantized, too: 0.37 bits a weight less")


class LoraConfig(Section):
    """The low-rank adapter (Hu et al. 2021, LoRA)."""

    rank: int = Field(16, ge=1, description="rank of each update")
    alpha: float = Field(32, gt=0, description="updates are scaled by alpha / rank")
    use_rslora: bool = Field(False, description="by alpha / sqrt(rank) instead (Kalajdzievski 2023), for high ranks")
    init: Literal["default", "gaussian", "pissa", "pissa_niter_4", "pissa_niter_16", "olora", "loftq"] = Field(
        "default", description="what A and B start as; see docs/methods.md"
    )
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="other ranks, by the layer's name or the end of it, a regular expression"
    )
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = Field({}, description="other alphas, likewise")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of each update; see docs/benchmarks.md")
    targets: tuple[str, ...] | None = Field(
        None,
        strict=False,
        min_length=1,
        description="names of the linear layers that get an adapter; unset: all but the output matrix",
    )


class Ia3Config(Section):
    """The learned factors of `ia3` (Liu et al. 2022)."""

    targets: tuple[str, ...] = Field(
        ("k_proj", "v_proj", "down_proj"), strict=False, min_length=1, description="names of the layers that are scaled"
    )
    feedforward: tuple[str, ...] = Field(
        ("down_proj",), strict=False, description="those of them whose inputs are scaled instead of their outputs"
    )


class TrainConfig(Section):
    """What is trained, and how. The methods: docs/methods.md."""

    method: Literal["qlora", "qdora", "lora", "dora", "ia3", "full"] = Field(
        "qlora", description="an adapter over a 4-bit base (q...), an adapter over the base as it is, or every weight"
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto takes CUDA where there is one")
    epochs: float = Field(3, gt=0, description="passes over the training records")
    batch_size: int = Field(8, ge=1, description="records in one forward pass")
    accumulation: int = Field(1, ge=1, description="forward passes in one optimizer step, of all processes together")
    learning_rate: float = Field(2e-4, gt=0, description="peak of the cosine schedule")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up")
    optimizer: Literal[
        "adamw_torch_fused",
        "adamw_torch",
        "adamw_8bit",
        "paged_adamw_32bit",
        "paged_adamw_8bit",
        "adafactor",
        "lion_32bit",
        "lion_8bit",
        "paged_lion_8bit",
        "ademamix",
        "ademamix_8bit",
        "sgd",
    ] = Field("adamw_torch_fused", description="transformers' name of it; paged ones need CUDA")
    weight_decay: float = Field(0.0, ge=0, description="the optimizer's decay of what is trained")
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
    neftune_alpha: float | None = Field(
        None, gt=0, description="noise on the embeddings while training (Jain et al. 2023), 5 to 15; unset: none"
    )
    trained_tokens: tuple[str, ...] = Field(
        (), strict=False, description="tokens of the vocabulary whose embeddings are trained, too, as `<|im_end|>`"
    )
    seed: int = Field(0, ge=0, description="seed of shuffling, dropout and initialisation")
    packing: bool | None = Field(
        None, description="records one behind another, not padded; unset: on CUDA, where it changes no gradient"
    )
    token_budget: int | None = Field(
        None, ge=8, description="most tokens in one forward pass when packing; unset: `batch_size` records"
    )
    gradient_checkpointing: bool | None = Field(
        None,
        description="recompute activations; unset: where the GPU's memory needs it, or cannot be predicted; "
        "see docs/memory.md",
    )
    shard_weights: bool = Field(
        False, description="processes of torchrun share the base's 4-bit weights out; see docs/multi-gpu.md"
    )
    quantization: QuantizationConfig = Field(default_factory=QuantizationConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    ia3: Ia3Config = Field(default_factory=Ia3Config)

    @property
    def quantized(self) -> bool:
        """Whether the base's linear layers are kept in 4 bits."""
        return self.method in ("qlora", "qdora")

    @property
    def keeps_rounded_base(self) -> bool:
        """Whether what is trained is an update of the base as 4 bits hold it, so that it can be merged into that."""
        return self.quantized and self.lora.init not in MOVED_STARTS

"""The configuration: strict pydantic models, loaded from TOML, every mistake reported at once with its dotted key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from edgeft.errors import EdgeftError, Problem, nearest
from edgeft.quant_types import canonical_type, makable_type


def _for_pydantic(check: Callable[[str], str]) -> AfterValidator:
    """Wraps a check so that its EdgeftError is one of the problems that pydantic gathers."""

    def validate(name: str) -> str:
        try:
            return check(name)
        except EdgeftError as error:
            raise ValueError(f"{error.problems[0].what}; {error.problems[0].remedy}") from error

    return AfterValidator(validate)


FileType = Annotated[str, _for_pydantic(canonical_type)]
QuantType = Annotated[str, _for_pydantic(makable_type)]


_DATASET_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?(@[\w.-]+)?")


class Section(BaseModel):
    """A table of the configuration file. Unknown keys are errors, and values are never coerced from other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The model to start from."""

    base: str = Field(description="a checkpoint folder (relative to this file) or a Hugging Face hub id")


class SourceConfig(Section):
    """One of several sources of training records."""

    path: str = Field(description="a file, a folder, or a Hugging Face dataset id")
    weight: float = Field(
        1.0, gt=0, description="passes over it in one epoch: 2 takes each record twice, 0.5 every other"
    )


class DatasetConfig(Section):
    """Where the records are and how they become tokens."""

    train: str | Annotated[tuple[SourceConfig, ...], Field(strict=False, min_length=1)] = Field(
        description="a file, a folder or a dataset id; or several, as `[{ path = ..., weight = 2 }]`",
    )
    evaluation: str | None = Field(None, description="records for evaluation loss; unset: split off `train`")
    test: str | None = Field(None, description="records held out from training: evaluated and checked for parity")
    evaluation_fraction: float = Field(0.1, gt=0, lt=1, description="share of `train` kept for evaluation loss")
    max_tokens: int = Field(1024, ge=8, description="longest record in tokens, template included")
    over_length: Literal["error", "drop", "truncate"] = Field(
        "error",
        description="what happens to a longer record; truncate removes its oldest exchanges, and cuts plain text",
    )

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The training sources."""
        return (SourceConfig(path=self.train),) if isinstance(self.train, str) else self.train


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
    accumulation: int = Field(1, ge=1, description="forward passes in one optimizer step")
    learning_rate: float = Field(2e-4, gt=0, description="peak of the cosine schedule")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of the adapter")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    evaluations: int = Field(10, ge=1, description="evaluations (and checkpoints) over the whole training")
    patience: int = Field(3, ge=1, description="evaluations without improvement before training stops")
    seed: int = Field(0, ge=0, description="seed of shuffling, dropout and initialisation")
    packing: bool = Field(False, description="records one behind another, not padded: for CUDA")
    token_budget: int | None = Field(
        None, ge=8, description="most tokens in one forward pass when packing; unset: `batch_size` records"
    )
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations; unset: where memory needs it when packing, else on CUDA"
    )
    lora: LoraConfig = Field(default_factory=LoraConfig)


class ConvertConfig(Section):
    """Checkpoint to GGUF."""

    dtype: Literal["f32", "f16", "bf16"] = Field("f16", description="type of the matrices in the unquantized file")
    name: str | None = Field(None, description="the model's name in the file; unset: the model card's, or the folder's")


class QuantizeConfig(Section):
    """GGUF to smaller GGUF."""

    types: tuple[QuantType, ...] = Field(
        ("Q8_0", "Q4_K_M"), strict=False, min_length=1, description="llama.cpp's file types to make"
    )
    threads: int = Field(0, ge=0, description="0: as many as there are cores")


class ParityThresholds(Section):
    """The most a file may differ from the reference. The defaults are budgets for one kind of file; see docs."""

    mean_kld: float = Field(gt=0, description="mean Kullback-Leibler divergence per token, nats")
    top1: float = Field(ge=0, le=1, description="least share of positions with the same most likely token")
    ppl_ratio: float = Field(gt=1, description="perplexity over the reference's, at most this and at least 1/this")


class ParityConfig(Section):
    """How the file on the device is held to the model that was trained."""

    records: int = Field(64, ge=1, description="test records whose logits and greedy answers are compared")
    positions: int = Field(2048, ge=64, description="most positions whose logits are kept in the reference")
    max_new_tokens: int = Field(128, ge=1, description="longest greedy answer")
    conversion: ParityThresholds = Field(
        ParityThresholds(mean_kld=1e-4, top1=0.99, ppl_ratio=1.001),
        description="F32 and F16 files: a difference above the arithmetic's noise is a bug",
    )
    quantization: ParityThresholds = Field(
        ParityThresholds(mean_kld=0.1, top1=0.9, ppl_ratio=1.1), description="quantized files: a budget"
    )
    thresholds: dict[FileType, ParityThresholds] = Field(
        # llama.cpp rounds activations to bfloat16 where weights are: a mean KLD of 5e-4 and more without any fault.
        {"BF16": ParityThresholds(mean_kld=5e-3, top1=0.9, ppl_ratio=1.02)},
        description="for single types, as parity.thresholds.Q4_K_M",
    )


class EvalConfig(Section):
    """The task metric: exact match, and field-level F1 where answers are JSON objects."""

    records: int = Field(0, ge=0, description="test records to answer; 0: all of them")
    max_new_tokens: int = Field(128, ge=1, description="longest answer")
    batch_size: int = Field(32, ge=1, description="records answered together by the torch models")


class RunConfig(Section):
    """Where a run's artifacts go."""

    directory: str = Field("run", description="folder of the run (relative to this file)")


class Config(Section):
    """A whole configuration file. Paths are relative to the file's folder, `root`."""

    root: Path = Field(Path(), exclude=True, description="folder of the configuration file")
    model: ModelConfig
    dataset: DatasetConfig
    train: TrainConfig = Field(default_factory=TrainConfig)
    convert: ConvertConfig = Field(default_factory=ConvertConfig)
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig)
    parity: ParityConfig = Field(default_factory=ParityConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    def path(self, relative: str) -> Path:
        """Returns a path of the configuration, resolved against the configuration file's folder."""
        return (self.root / Path(relative).expanduser()).resolve()

    def local_source(self, source: str) -> Path | None:
        """Returns the file or folder that a source of records names; None for a dataset on the hub, as owner/name.

        What follows an "@" is the split of a folder that holds a dataset.
        """
        path = self.path(source)
        folder = self.path(source.partition("@")[0])
        if not path.exists() and folder.is_dir():
            return folder
        is_id = _DATASET_ID.fullmatch(source) is not None and not path.suffix and not path.exists()
        return None if is_id else path

    @property
    def base(self) -> str:
        """The base model: the resolved folder when it looks like one, else the hub id as written."""
        looks_like_path = self.model.base.startswith((".", "/", "~")) or (self.root / self.model.base).is_dir()
        return str(self.path(self.model.base)) if looks_like_path else self.model.base


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads TOML, applies `overrides` such as "train.lora.rank=8"; raises EdgeftError naming every mistake."""
    if not path.is_file():
        raise EdgeftError("no such configuration file", where=str(path), remedy="name one with -c FILE")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EdgeftError(f"not valid TOML: {error}", where=str(path)) from error
    problems = [problem for override in overrides if (problem := _apply_override(tables, override)) is not None]
    if "root" in tables:
        problems.append(Problem("unknown key", f"{path}: root", nearest("root", _known_keys(()))))
    try:
        config = Config.model_validate({**tables, "root": path.parent.resolve()})
    except ValidationError as error:
        # A list whose entries are wrong is also called too short, which helps nobody.
        faults = [details for details in error.errors() if details["type"] != "too_short" or not details["input"]]
        raise EdgeftError([*problems, *(_problem(path, details) for details in faults)]) from error
    if problems:
        raise EdgeftError(problems)
    return config


def _apply_override(tables: dict[str, Any], override: str) -> Problem | None:
    """Sets one key; returns what is wrong with the override instead, if anything is."""
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not key:
        return Problem(f"{override!r} is not KEY=VALUE", "--set", "as in --set train.lora.rank=8")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    table = tables
    for parent in parents:
        child = table.setdefault(parent, {})
        if not isinstance(child, dict):
            return Problem(f"{parent!r} holds a value and has no keys under it", f"--set {override}")
        table = child
    table[last] = value
    return None


def _problem(path: Path, details: Any) -> Problem:
    location = [str(part) for part in details["loc"] if part != "[key]"]  # pydantic's mark of a bad key of a mapping
    where = f"{path}: {'.'.join(location)}"
    if details["type"] == "extra_forbidden":
        return Problem("unknown key", where, nearest(location[-1], _known_keys(location[:-1])))
    if details["type"] == "missing":
        return Problem("this key is required", where, _description(location))
    if details["type"] == "value_error":
        what, _, remedy = str(details["ctx"]["error"]).partition("; ")
        return Problem(what, where, remedy)
    return Problem(f"{details['msg'][0].lower()}{details['msg'][1:]}, not {details['input']!r}", where)


def _section(location: Sequence[str]) -> type[Section]:
    """Returns the model of the table at a dotted key."""
    section: type[Section] = Config
    for name in location:
        field = section.model_fields.get(name)
        table: Any = None if field is None else field.annotation
        # The one mapping among the tables is that from type names to thresholds.
        section = table if isinstance(table, type) and issubclass(table, Section) else ParityThresholds
    return section


def _known_keys(location: Sequence[str]) -> list[str]:
    return [name for name in _section(location).model_fields if name != "root"]


def _description(location: Sequence[str]) -> str:
    field = _section(location[:-1]).model_fields[location[-1]]
    if field.description is not None:
        return field.description
    return "a table with the keys " + ", ".join(_known_keys(location))

"""The tables of the configuration, and the whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from edgeft.config.quantizing import FileType, ImatrixConfig, QuantizeConfig
from edgeft.config.section import Section
from edgeft.config.training import TrainConfig

_DATASET_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?(@[\w.-]+)?")
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")
"""Names of files of records end so, or so and then in one of `COMPRESSED_SUFFIXES`."""
COMPRESSED_SUFFIXES = (".gz", ".zst")


PREFERRED_MERGE_BASE: Final[Literal["original", "dequantized"]] = "dequantized"
"""What an adapter that was trained over 4 bits is merged into where nothing else is said. docs/merging.md has why."""


class ModelConfig(Section):
    """The model to start from."""

    base: str = Field(
        description="a checkpoint folder or a GGUF file (relative to this file), or a Hugging Face hub id; see "
        "docs/import.md"
    )


class SourceConfig(Section):
    """One of several sources of training records."""

    path: str = Field(description="a file, a folder, or a Hugging Face dataset id")
    weight: float = Field(
        1.0, gt=0, description="passes over it in one epoch: 2 takes each record twice, 0.5 every other"
    )


_Sources = Annotated[
    Annotated[str, Tag("[text]")]
    | Annotated[tuple[SourceConfig, ...], Field(strict=False, min_length=1), Tag("[list]")],
    # So that what is wrong in a list is not called no string besides.
    Discriminator(lambda value: "[list]" if isinstance(value, list | tuple) else "[text]"),
]


class DatasetConfig(Section):
    """Where the records are and how they become tokens."""

    train: _Sources = Field(
        description="a file, a folder or a dataset id; or several, as `[{ path = ..., weight = 2 }]`; see "
        "docs/records.md",
    )
    evaluation: str | None = Field(None, description="records for evaluation loss; unset: split off `train`")
    test: str | None = Field(
        None,
        description="records held out from training: evaluated and checked for parity; unset: the evaluation's",
    )
    evaluation_fraction: float = Field(0.1, gt=0, lt=1, description="share of `train` kept for evaluation loss")
    near_duplicate: float = Field(
        0.85,
        ge=0.7,
        le=1,
        description="prompts that are at least so similar (Jaccard similarity of their 4-grams of characters) are "
        "near-duplicates: kept on one side of the split, and reported by the check",
    )
    max_tokens: int = Field(1024, ge=8, description="longest record in tokens, template included")
    over_length: Literal["error", "drop", "truncate"] = Field(
        "error",
        description="what happens to a longer record; truncate removes its oldest exchanges, and cuts plain text",
    )

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The training sources."""
        return (SourceConfig(path=self.train),) if isinstance(self.train, str) else self.train

    def named_sources(self) -> Iterator[tuple[str, str]]:
        """Yields the configuration's key of each source of records, and its name."""
        if isinstance(self.train, str):
            yield "train", self.train
        else:
            yield from ((f"train[{number}]", source.path) for number, source in enumerate(self.train))
        others = (("evaluation", self.evaluation), ("test", self.test))
        yield from ((key, name) for key, name in others if name is not None)


class MergeConfig(Section):
    """Which weights the adapter is merged into."""

    base: Literal["original", "dequantized", "auto"] | None = Field(
        None,
        description="`original`: the base's own; `dequantized`: rounded to 4 bits, as training saw them; `auto`: the "
        "one that is measured to be nearer to the model as trained in the files that are asked for; unset: "
        f"`{PREFERRED_MERGE_BASE}` for `qlora` and `qdora`, unless the start changes the base, otherwise `original`",
    )


class ConvertConfig(Section):
    """Checkpoint to GGUF."""

    # In bf16, llama.cpp rounds the activations, too: a mean KLD of 5e-4 where f16 has 5e-8, in which a fault hides.
    # Every weight is looked at, and one that f16 cannot hold is an error.
    dtype: Literal["f32", "f16", "bf16"] = Field(
        "f16",
        description="type of the matrices in the unquantized file; f16 is the type in which parity sees most, and a "
        "weight that it cannot hold is an error that says so",
    )
    unquantized: bool = Field(
        True,
        description="make the unquantized file, too; false: quantized files are made straight from the weights, with "
        "the same bytes, and parity cannot tell what conversion lost from what quantization did",
    )
    name: str | None = Field(None, description="the model's name in the file; unset: that of the run's folder")
    random_texts: int = Field(
        10_000,
        ge=0,
        description="random strings of many scripts whose token ids are compared with the trained tokenizer's",
    )
    differing_texts: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of ordinary texts (prose, digits, code) that may have other ids, for rules that llama.cpp "
        "has nearly; your own records never may, and texts of rare signs are a warning however many differ",
    )
    author: str | None = Field(None, description="who made the model; unset: as the model card says")
    license: str | None = Field(None, description="its licence, as an SPDX id; unset: the base model's")
    tags: tuple[str, ...] = Field((), strict=False, description="tags to find it by; unset: the base model's")
    quantized_by: str | None = Field(None, description="who quantized it")
    converter: str | None = Field(
        None,
        description="for architectures that edgeft does not convert itself: a checkout of llama.cpp, whose converter is"
        ' then run, or "fetched", what `edgeft converter fetch` unpacked',
    )

    @model_validator(mode="after")
    def _converts_itself(self) -> ConvertConfig:
        if self.converter is not None and not self.unquantized:
            raise ValueError("llama.cpp's converter writes no quantized file; set convert.unquantized = true")
        return self


class ParityThresholds(Section):
    """The most a file may differ from the reference. The defaults are budgets for one kind of file; see docs."""

    mean_kld: float = Field(gt=0, description="mean Kullback-Leibler divergence per token, nats")
    top1: float = Field(ge=0, le=1, description="least share of positions with the same most likely token")
    ppl_ratio: float = Field(gt=1, description="perplexity over the reference's, at most this and at least 1/this")


class ParityConfig(Section):
    """How the file on the device is held to the model that was trained."""

    records: int = Field(64, ge=1, description="test records whose distributions and greedy answers are compared")
    positions: int = Field(8192, ge=64, description="most positions whose distributions are kept in the reference")
    kept_tokens: int = Field(64, ge=0, description="likeliest tokens kept of each position; 0: the whole vocabulary")
    max_new_tokens: int = Field(128, ge=1, description="longest greedy answer")
    layers: bool = Field(False, description="keep hidden states of every layer, too: where a difference begins")
    conversion: ParityThresholds = Field(
        ParityThresholds(mean_kld=1e-4, top1=0.99, ppl_ratio=1.001),
        description="F32 and F16 files: a difference above the arithmetic's noise is a bug",
    )
    merge: ParityThresholds = Field(
        ParityThresholds(mean_kld=0.2, top1=0.8, ppl_ratio=1.2),
        description="the model as trained, 4-bit base and adapter, against the merged one",
    )
    quantization: ParityThresholds | None = Field(
        None, description="quantized files: a budget; unset: by type, as in docs/parity.md"
    )
    thresholds: dict[FileType, ParityThresholds] = Field(
        {}, description="for single types, as parity.thresholds.Q4_K_M"
    )
    runtime_kld: float = Field(
        5e-3, gt=0, description="most that flash attention, F16 KV or another number of threads may add to the mean KLD"
    )
    differing_texts: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of ordinary texts that may have other token ids; unset: convert.differing_texts",
    )
    task_lost: float = Field(
        0.05, ge=0, le=1, description="largest share of exactly right answers that a file may lose, beyond chance"
    )


class EvalConfig(Section):
    """The task metric: exact match, and field-level F1 where answers are JSON objects."""

    records: int = Field(0, ge=0, description="test records to answer; 0: all of them")
    max_new_tokens: int = Field(128, ge=1, description="longest answer")
    batch_size: int = Field(32, ge=1, description="records answered together by the torch models")


class RunConfig(Section):
    """Where a run's artifacts go, and what of the machine it takes."""

    directory: str = Field("run", description="folder of the run (relative to this file)")
    threads: int = Field(
        0,
        ge=0,
        description="threads of llama.cpp, which quantizes, checks for parity and evaluates; 0: as many as there are "
        "cores",
    )


class Config(Section):
    """A whole configuration file. Paths are relative to the file's folder, `root`."""

    root: Path = Field(Path(), exclude=True, description="folder of the configuration file")
    model: ModelConfig
    dataset: DatasetConfig
    train: TrainConfig = Field(default_factory=TrainConfig)
    merge: MergeConfig = Field(default_factory=MergeConfig)
    convert: ConvertConfig = Field(default_factory=ConvertConfig)
    imatrix: ImatrixConfig = Field(default_factory=ImatrixConfig)
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig)
    parity: ParityConfig = Field(default_factory=ParityConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    @model_validator(mode="after")
    def _has_what_budgets_are_measured_against(self) -> Config:
        if (self.quantize.max_kld or self.quantize.max_size) and not self.convert.unquantized:
            raise ValueError("a budget is measured against the unquantized file; set convert.unquantized = true")
        return self

    @property
    def checking(self) -> ParityConfig:
        """How a file is checked: `parity`, with what it takes from other sections where it is unset."""
        if self.parity.differing_texts is not None:
            return self.parity
        return self.parity.model_copy(update={"differing_texts": self.convert.differing_texts})

    @property
    def merge_base(self) -> Literal["original", "dequantized", "auto"]:
        """What the adapter is merged into: as `merge.base` says, or unset what suits the training."""
        if self.merge.base is not None:
            return self.merge.base
        return PREFERRED_MERGE_BASE if self.train.keeps_rounded_base else "original"

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
        # What ends otherwise, as teknium/OpenHermes-2.5 does, may be a dataset on the hub.
        is_file_name = path.name.lower().endswith((*RECORD_SUFFIXES, *COMPRESSED_SUFFIXES))
        is_id = _DATASET_ID.fullmatch(source) is not None and not is_file_name and not path.exists()
        return None if is_id else path

    @property
    def converter(self) -> str | None:
        """llama.cpp's converter, where one is to be used: the resolved folder, or "fetched"."""
        named = self.convert.converter
        return named if named in (None, "fetched") else str(self.path(str(named)))

    @property
    def base(self) -> str:
        """The base model: the resolved folder or GGUF file when it looks like one, else the hub id as written."""
        named = self.model.base
        looks_like_path = named.startswith((".", "/", "~")) or named.endswith(".gguf") or (self.root / named).is_dir()
        return str(self.path(self.model.base)) if looks_like_path else self.model.base

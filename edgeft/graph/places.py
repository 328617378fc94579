"""Where the artifacts of a run are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifacts import Checkpoint, EvalReport, GgufFile, ParityReport, Reference, Tokens, open_trained
from edgeft.config import Config, ConvertConfig
from edgeft.dataset.records import Record, read_records
from edgeft.files import parse_size, read_object
from edgeft.rundir import RunDir

if TYPE_CHECKING:
    from edgeft.convert import Origin
    from edgeft.merge import MergeBase
    from edgeft.weights import TunedWeights


class Places:
    """Where the artifacts of one run are, and the weights that come out of its training."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.run = RunDir(config.path(config.run.directory))
        self._checkpoint: Checkpoint | None = None

    @property
    def base(self) -> Checkpoint:
        """The base model; a hub id is downloaded once, a GGUF file must have been imported."""
        if self._checkpoint is None:
            if self.base_folder is not None:
                self._checkpoint = Checkpoint.open(self.base_folder)
            else:
                from edgeft import hf

                self._checkpoint = hf.resolve_checkpoint(self.config.base)
        return self._checkpoint

    @property
    def base_folder(self) -> Path | None:
        """The folder of the base, existing or not: that of an imported GGUF file lies in the run. None for a hub id."""
        if self.base_gguf is not None:
            return self.run.path("base")
        return Path(self.config.base) if Path(self.config.base).is_absolute() else None

    @property
    def base_gguf(self) -> GgufFile | None:
        """The GGUF file that the base is imported from, existing or not."""
        path = Path(self.config.base)
        return GgufFile(path) if path.is_absolute() and path.suffix == ".gguf" else None

    @property
    def base_imported(self) -> bool:
        """Whether the base is there as a checkpoint."""
        return self.base_gguf is None or self.run.manifest("base") is not None

    @property
    def tokens(self) -> Tokens:
        """The tokenized records."""
        return Tokens(self.run.path("tokens"))

    @property
    def trained(self) -> Path:
        """What was trained: an adapter, or with train.method = "full" a checkpoint."""
        return self.run.path("adapter")

    @property
    def reference(self) -> Reference:
        """The parity reference."""
        return Reference(self.run.path("reference") / "reference.npz")

    @property
    def unquantized(self) -> str:
        """The type of the file that conversion writes, and that quantized files are rounded from."""
        return self.config.convert.dtype.upper()

    @property
    def fixed_types(self) -> list[str]:
        """The types of files that llama.cpp has names for, the unquantized one first."""
        first = [self.unquantized] if self.config.convert.unquantized else []
        return list(dict.fromkeys([*first, *self.config.quantize.types]))

    @property
    def quantized_types(self) -> list[str]:
        """Those of them that the quantizer makes."""
        return [name for name in self.fixed_types if self.gguf_node(name) != "gguf"]

    @property
    def budgets(self) -> dict[str, dict[str, Any]]:
        """What the files within a budget may be, by the names that they have in place of a type."""
        asked = self.config.quantize
        found: dict[str, dict[str, Any]] = {f"max-kld-{most:g}": {"max_kld": most} for most in asked.max_kld}
        found |= {f"max-{size.replace(' ', '')}": {"max_size_bytes": parse_size(size)} for size in asked.max_size}
        return found

    @property
    def file_types(self) -> list[str]:
        """The types of all GGUF files of this run, and the names of those within budgets."""
        return [*self.fixed_types, *self.budgets]

    def gguf(self, type_name: str) -> GgufFile:
        """The file of a type, as it is named there: a run's folder may have been renamed since it was made."""
        folder = self.run.path(self.gguf_node(type_name))
        made = (self.run.manifest(self.gguf_node(type_name)) or {"files": []})["files"]
        names = [entry["path"] for entry in made if entry["path"].endswith(".gguf")]
        return GgufFile(folder / (names[0] if names else self.gguf_name(type_name)))

    def gguf_name(self, type_name: str) -> str:
        """What the file of a type is called when it is made."""
        return f"{self.run.root.name}-{type_name}.gguf"

    def parity_report(self, type_name: str) -> ParityReport:
        """The parity report on the file of a type."""
        return ParityReport(self.run.path(f"parity/{type_name}"))

    def is_checked(self, type_name: str) -> bool:
        """Whether there is a parity report on the file of a type that lies there now."""
        return self.run.tells(f"parity/{type_name}", "parity.json")

    def eval_report(self, engine: str) -> EvalReport:
        """The evaluation of "base", "tuned", or the file of a type."""
        return EvalReport(self.run.path(f"eval/{engine}"))

    def gguf_node(self, type_name: str) -> str:
        """The artifact that holds the file of a type."""
        from_conversion = self.config.convert.unquantized and type_name == self.unquantized
        return "gguf" if from_conversion else f"quantized/{type_name}"

    @property
    def merge_base(self) -> MergeBase:
        """The base that the adapter is merged into, measured where it is to be."""
        wanted = self.config.merge_base
        return read_object(self.run.path("merge_base") / "merge.json")["base"] if wanted == "auto" else wanted

    def own_records(self) -> list[Record]:
        """Returns test records, as many as parity compares: what the user's texts are like. None where all are text."""
        path = self.tokens.path / "test.jsonl"
        return read_records(path)[: self.config.parity.records] if path.stat().st_size else []

    def merged_weights(self) -> TunedWeights:
        """The trained model's weights, an adapter folded in on the way."""
        from edgeft.merge import merged_weights, merging_device

        device = merging_device(self.config.train.device, "train.device", self.base)
        return merged_weights(self.base, open_trained(self.trained), self.merge_base, device)

    @property
    def convert_config(self) -> ConvertConfig:
        """How weights become GGUF; a model without a name has the run's. A converter's path is resolved."""
        config = self.config.convert
        changes = {"name": config.name or self.run.root.name, "converter": self.config.converter}
        return config.model_copy(update=changes)

    @property
    def origin(self) -> Origin:
        """Where the trained model comes from."""
        from edgeft.convert import Origin

        datasets = [source.path for source in self.config.dataset.sources]
        return Origin(self.config.base, self.base.path, self.trained, datasets)

"""`merge.base = "auto"`: each base merged into, as it is and as the files that the run asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from edgeft.artifacts import Checkpoint, GgufFile, Tokens, Trained
from edgeft.config import Config
from edgeft.graph.importance import write_importance
from edgeft.progress import Progress

if TYPE_CHECKING:
    from edgeft.merge import MergeBase


@dataclass(frozen=True)
class MergeBases:
    """What the candidates are made from; `types` are those of the quantized files."""

    config: Config
    base: Checkpoint
    trained: Trained
    tokens: Tokens
    types: Sequence[str]

    def measure(self, out: Path, progress: Progress) -> None:
        """Writes merge.json into `out`. The files of the candidates are made there one by one, and removed."""
        from edgeft import hf
        from edgeft.dataset.tokens import TokenizedExamples
        from edgeft.merge import load_merged
        from edgeft.parity.merge_base import Candidate, measure_merge_bases

        hf.quiet()
        device = hf.pick_device(self.config.train.device)
        live = partial(hf.load_adapted, self.base, self.trained, device)
        bases: tuple[MergeBase, ...] = ("original", "dequantized")
        with TemporaryDirectory(dir=out) as work:
            candidates: dict[str, Candidate] = {
                name: Candidate(
                    partial(load_merged, self.base, self.trained, name, device),
                    partial(self._files, name, Path(work)) if self.types else None,
                )
                for name in bases
            }
            examples = TokenizedExamples(self.tokens.path / "evaluation")
            measure_merge_bases(live, candidates, examples, out, progress, self.config.run.threads)

    def _files(self, name: MergeBase, work: Path) -> Iterator[tuple[str, GgufFile]]:
        """Yields each type with its file, by the run's own recipe; a file lasts until the next is asked for."""
        from edgeft.quantize import Recipe, quantize

        settings = self.config.quantize
        imatrix = self._imatrix(work) if settings.imatrix else None
        source = self._unquantized(name, work)
        for type_name in self.types:
            recipe = Recipe.configured(type_name, settings, imatrix)
            made = quantize(source, recipe, work / f"{type_name}.gguf", self.config.run.threads)
            yield type_name, made
            made.path.unlink()

    def _unquantized(self, name: MergeBase, work: Path) -> GgufFile:
        from edgeft.convert import convert
        from edgeft.merge import merged_weights, merging_device, write_merged
        from edgeft.weights import CheckpointWeights

        device = merging_device(self.config.train.device, "train.device", self.base)
        weights = merged_weights(self.base, self.trained, name, device)
        config = self.config.convert.model_copy(update={"random_texts": 0, "converter": self.config.converter})
        if config.converter is None:
            return convert(weights, self.base, config, work / "unquantized.gguf")
        merged = write_merged(weights, self.base, work / f"merged-{name}")
        return convert(CheckpointWeights(merged), merged, config, work / "unquantized.gguf")

    def _imatrix(self, work: Path) -> Path:
        """Returns the importance matrix of both: what the inputs' sizes are hardly depends on the base."""
        from edgeft import hf
        from edgeft.merge import load_merged

        path = work / "imatrix.gguf"
        if not path.is_file():
            device = hf.pick_device(self.config.train.device)
            load = partial(load_merged, self.base, self.trained, "original", device)
            write_importance(self.config, self.base, self.tokens, load, path)
        return path

"""llama.cpp's fixed recipes beside files fitted to their sizes and to their divergences, all measured alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeft.artifacts import GgufFile
from edgeft.pareto import TradeOff
from edgeft.progress import Progress, silent
from edgeft.quantize.budget import Budget, quantize_to_budget
from edgeft.quantize.costs import TensorCosts
from edgeft.quantize.recipe import Recipe
from edgeft.quantize.run import quantize

Divergence = Callable[[GgufFile], float]


@dataclass(frozen=True)
class Comparison:
    """A fixed recipe, the best file within its size, and the smallest within its divergence."""

    fixed: TradeOff
    same_size: TradeOff
    same_kld: TradeOff

    def __iter__(self) -> Iterator[TradeOff]:
        return iter((self.fixed, self.same_size, self.same_kld))


def compare(
    source: GgufFile,
    costs: Sequence[TensorCosts],
    type_name: str,
    measure: Divergence,
    judge: Divergence,
    folder: Path,
    imatrix: Path | None = None,
    threads: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Makes three files in `folder`, one after another, and tells what each costs; none of them is kept.

    Types are chosen by `measure`; the divergences that are told are those of `judge`, which should see other records.
    Raises EdgeftError where no file is within the budget.
    """
    with TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        fixed = quantize(source, Recipe(type_name, imatrix=imatrix), work / "fixed.gguf", threads, progress)

        def fitted(budget: Budget, label: str) -> TradeOff:
            path = work / "fitted.gguf"
            made = quantize_to_budget(source, costs, budget, measure, path, imatrix, threads, progress).gguf
            return TradeOff(label, made.size_bytes, judge(made), "fitted")

        return Comparison(
            TradeOff(type_name, fixed.size_bytes, judge(fixed), "fixed"),
            fitted(Budget(max_size_bytes=fixed.size_bytes), f"size of {type_name}"),
            fitted(Budget(max_kld=measure(fixed)), f"KLD of {type_name}"),
        )

"""What a quantized file is made of: a file type, types of single tensors, and an importance matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeft.config import QuantizeConfig
from edgeft.errors import EdgeftError, Problem
from edgeft.quant_types import NEEDS_IMATRIX, canonical_tensor_type, canonical_type
from edgeft.quantize.patterns import pattern_problems


@dataclass(frozen=True)
class Recipe:
    """How llama.cpp is to quantize a file.

    Attributes:
        file_type: llama.cpp's name of the whole, which chooses the type of each tensor that nothing else names.
        tensors: types by pattern, a regular expression searched in the tensor's name; the first that matches holds. It
            is one for Python and for llama.cpp alike.
        output: type of `output.weight`, which wins over `tensors`; None leaves it to the file type.
        embedding: type of `token_embd.weight`, likewise.
        pure: every tensor gets the file type's own, none a larger one.
        imatrix: an importance matrix, as llama.cpp's tool or `edgeft imatrix` writes it.
    """

    file_type: str
    tensors: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    embedding: str | None = None
    pure: bool = False
    imatrix: Path | None = None

    @classmethod
    def configured(cls, type_name: str, config: QuantizeConfig, imatrix: Path | None) -> Recipe:
        """Returns the recipe of one of the types of a configuration."""
        return cls(type_name, config.tensor_types, config.output_type, config.embedding_type, config.pure, imatrix)

    def checked(self) -> Recipe:
        """Returns the recipe with llama.cpp's spelling of each type; raises EdgeftError with everything wrong in it."""
        problems: list[Problem] = []
        name = _or_problem(canonical_type, self.file_type, "type", problems)
        tensors = {}
        for pattern, type_name in self.tensors.items():
            tensors[pattern] = _or_problem(canonical_tensor_type, type_name, f"tensor type of {pattern}", problems)
            problems += pattern_problems(pattern, f"tensor pattern {pattern!r}")
        output, embedding = (
            None if value is None else _or_problem(canonical_tensor_type, value, key, problems)
            for key, value in (("output type", self.output), ("embedding type", self.embedding))
        )
        if name in NEEDS_IMATRIX and self.imatrix is None:
            problems.append(Problem(f"{name} needs an importance matrix", "type", IMATRIX_REMEDY))
        if self.imatrix is not None and not self.imatrix.is_file():
            problems.append(Problem("no such file", f"imatrix: {self.imatrix}", "make one with `edgeft imatrix`"))
        if problems:
            raise EdgeftError(problems)
        return Recipe(name, tensors, output, embedding, self.pure, self.imatrix)


IMATRIX_REMEDY = "make one with `edgeft imatrix` and name it with --imatrix, or choose Q2_K or larger"


def _or_problem(canonical: Callable[[str], str], name: str, where: str, problems: list[Problem]) -> str:
    try:
        return canonical(name)
    except EdgeftError as error:
        problems += [Problem(problem.what, where, problem.remedy) for problem in error.problems]
        return name

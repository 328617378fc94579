"""How the unquantized file becomes smaller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from edgeft.config.section import Section
from edgeft.errors import EdgeftError
from edgeft.files import parse_size
from edgeft.quant_types import NEEDS_IMATRIX, canonical_tensor_type, canonical_type


def _for_pydantic(check: Callable[[str], str]) -> AfterValidator:
    """Wraps a check so that its EdgeftError is one of the problems that pydantic gathers."""

    def validate(name: str) -> str:
        try:
            return check(name)
        except EdgeftError as error:
            raise ValueError(f"{error.problems[0].what}; {error.problems[0].remedy}") from error

    return AfterValidator(validate)


def _sized(text: str) -> str:
    parse_size(text)
    return text.strip()


FileType = Annotated[str, _for_pydantic(canonical_type)]
FileSize = Annotated[str, _for_pydantic(_sized)]
TensorType = Annotated[str, _for_pydantic(canonical_tensor_type)]


class ImatrixConfig(Section):
    """The importance matrix: how large the input of each weight column is, on the records that were trained."""

    records: bool = Field(True, description="measure on the training records, as the model sees them")
    text: str | None = Field(None, description="a text file to measure on, too (relative to this file)")
    tokens: int = Field(100_000, ge=512, description="most tokens of the records, and of the text")
    chunk_tokens: int = Field(512, ge=16, description="tokens that are seen together")
    batch_size: int = Field(8, ge=1, description="chunks in one forward pass")
    output: bool = Field(False, description="measure the input of the output matrix, too")


class QuantizeConfig(Section):
    """GGUF to smaller GGUF."""

    types: tuple[FileType, ...] = Field(
        ("Q8_0", "Q4_K_M"), strict=False, min_length=1, description="llama.cpp's file types to make"
    )
    max_kld: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        strict=False,
        description="also the smallest file within each of these divergences from the unquantized one, mean, in nats a "
        "token, with a type for each tensor",
    )
    max_size: tuple[FileSize, ...] = Field(
        (), strict=False, description='also the best file within each of these sizes, as "700MB"'
    )
    positions: int = Field(
        1000, ge=1, description="tokens of the training records' answers that types are chosen on for a budget"
    )
    imatrix: bool = Field(
        False, description="quantize with an importance matrix of this run: nearer to the model; some types need one"
    )
    tensor_types: dict[str, TensorType] = Field(
        default_factory=dict, description="types of the tensors whose name has a regular expression's match"
    )
    output_type: TensorType | None = Field(None, description="type of the output matrix; unset: by the file type")
    embedding_type: TensorType | None = Field(None, description="type of the embedding; unset: by the file type")
    pure: bool = Field(False, description="every tensor in the file type's own type, none in a larger one")

    @model_validator(mode="after")
    def _has_imatrix(self) -> QuantizeConfig:
        needing = [name for name in self.types if name in NEEDS_IMATRIX]
        if needing and not self.imatrix:
            verb = "needs" if len(needing) == 1 else "need"
            raise ValueError(f"{', '.join(needing)} {verb} an importance matrix; set quantize.imatrix = true")
        return self

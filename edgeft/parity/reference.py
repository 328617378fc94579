"""The parity reference: what the trained model says, in one portable .npz without pickles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import Message, Reference
from edgeft.errors import EdgeftError
from edgeft.files import replacing
from edgeft.parity.statistics import Floats

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ReferenceRecord:
    """One conversation as the trained model sees and continues it.

    `ids` are those of the whole conversation; logits are kept for the positions from `first_scored` on that predict
    the answer and its end token, `n_scored` of them. `greedy_ids` is the model's own answer to the prompt.
    """

    messages: list[Message]
    rendered_prompt: str
    prompt_ids: list[int]
    ids: list[int]
    first_scored: int
    n_scored: int
    greedy_ids: list[int]
    tools: list[dict[str, Any]] = field(default_factory=list)

    @property
    def targets(self) -> list[int]:
        """The tokens that the scored positions predict."""
        return self.ids[self.first_scored + 1 : self.first_scored + 1 + self.n_scored]


@dataclass(frozen=True)
class ReferenceContent:
    """Everything a check needs; `merge` is the divergence of the live model (base + adapter) from the merged one."""

    records: list[ReferenceRecord]
    probe_ids: dict[str, list[int]]
    end_ids: list[int]
    control_ids: list[int]
    bos_id: int | None
    max_new_tokens: int
    made_by: dict[str, str]
    merge: dict[str, float] | None = None
    format_version: int = field(default=FORMAT_VERSION)


def save_reference(content: ReferenceContent, logits: Sequence[Floats], path: Path) -> Reference:
    """Writes a reference atomically; `logits` holds (n_scored, n_vocab) float32 for each record."""
    fields = asdict(content)
    for record in fields["records"]:
        if not record["tools"]:
            del record["tools"]  # earlier versions of edgeft know no tools: they can read what has none
    encoded = np.frombuffer(json.dumps(fields, ensure_ascii=False).encode(), dtype=np.uint8)
    arrays = {f"logits_{i}": rows for i, rows in enumerate(logits)}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, content=encoded, **arrays)  # type: ignore[arg-type]
    return Reference(path)


class OpenReference:
    """A reference being read: `content`, and each record's logits as they are asked for."""

    def __init__(self, reference: Reference) -> None:
        try:
            self._arrays = np.load(reference.path, allow_pickle=False)
            fields: dict[str, Any] = json.loads(bytes(self._arrays["content"]).decode())
            version = fields["format_version"]
            if version == FORMAT_VERSION:
                records = [ReferenceRecord(**record) for record in fields.pop("records")]
                self.content = ReferenceContent(records=records, **fields)
        except (OSError, ValueError, LookupError, TypeError, BadZipFile) as error:
            what = f"not a parity reference: {error}"
            raise EdgeftError(what, str(reference.path), "make one: edgeft parity record") from error
        if version != FORMAT_VERSION:
            what = f"a reference of format {version}, and this edgeft reads {FORMAT_VERSION}"
            raise EdgeftError(what, str(reference.path), "record it again with this version")

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """Returns a record's logits, (n_scored, n_vocab)."""
        rows: npt.NDArray[np.float32] = self._arrays[f"logits_{index}"]
        return rows

"""The parity reference: what the trained model says and is, in one portable .npz without pickles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeft.artifacts import Message, Reference
from edgeft.errors import EdgeftError
from edgeft.files import replacing
from edgeft.parity.distributions import Distributions
from edgeft.parity.fingerprint import Fingerprint, pack, unpack
from edgeft.parity.reference_file import ReferenceFile
from edgeft.parity.states import STATE_ARRAYS, LayerStates, pack_states, unpack_states

FORMAT_VERSION = 3
_DISTRIBUTION_ARRAYS = ("ids", "log_p", "log_rest", "target_log_p")
_WEIGHT_ARRAYS = ("cells", "local_rms", "directions")
BUILT_IN: Final = "built-in"
"""What `made_by["texts"]` says of a reference that was recorded without records of its own."""


@dataclass(frozen=True)
class ReferenceRecord:
    """One conversation as the trained model sees and continues it.

    `ids` are those of the whole conversation; distributions are kept for the positions from `first_scored` on that
    predict the answer and its end token, `n_scored` of them. `greedy_ids` is the model's own answer to the prompt, and
    `greedy_margins` tells for each of its tokens by how many nats the model preferred it to the next likeliest.
    """

    messages: list[Message]
    rendered_prompt: str
    prompt_ids: list[int]
    ids: list[int]
    first_scored: int
    n_scored: int
    greedy_ids: list[int]
    greedy_margins: list[float]
    tools: list[dict[str, Any]] = field(default_factory=list)

    @property
    def targets(self) -> list[int]:
        """The tokens that the scored positions predict."""
        return self.ids[self.first_scored + 1 : self.first_scored + 1 + self.n_scored]

    @property
    def answer_ids(self) -> list[int]:
        """The answer that the record holds, its end token included."""
        return self.ids[len(self.prompt_ids) :]

    def scored_within(self, n_ctx: int) -> int:
        """Returns how many of the scored positions, which are the first, a context of so many tokens holds."""
        return max(0, min(self.n_scored, n_ctx - self.first_scored))


@dataclass(frozen=True)
class ModelFacts:
    """What the checkpoint says of the model: `config` as transformers completes it, and the tokenizer's sizes.

    `frequencies` are the rotary embedding's in radians a position, under "" or the kind of layer that they are for.
    """

    config: dict[str, Any]
    frequencies: dict[str, list[float]]
    tokenizer_size: int
    merges: int | None
    has_template: bool


@dataclass(frozen=True)
class ReferenceContent:
    """Everything a check needs but the large arrays.

    `probe_ids` has the ids of rendered probes, as prompts, and `rare_probes` names those of rare signs; `added_ids` is
    what the tokenizer adds to a text of its own accord; `pieces` gives the bytes of every token that occurs, as
    Latin-1. `rendered_at` is when the chat template was rendered, for those that show the date. `merge` is how far the
    model as it was trained (base and adapter) is from the merged one, `served` the merged model in bfloat16 from itself
    in float32. `layers` says what the hidden states are, where they were recorded. `expected_shares` has, by quantized
    type, what rounding to it leaves of the training merged at each of `fingerprint.EXPECTED_SCALES`.
    """

    records: list[ReferenceRecord]
    probe_ids: dict[str, list[int]]
    added_ids: list[int]
    pieces: dict[str, str]
    end_ids: list[int]
    control_ids: list[int]
    bos_id: int | None
    max_new_tokens: int
    rendered_at: str
    model: ModelFacts
    weights: list[dict[str, Any]]
    made_by: dict[str, str]
    merge: dict[str, float] | None = None
    served: dict[str, float] | None = None
    layers: dict[str, Any] | None = None
    rare_probes: list[str] = field(default_factory=list)
    expected_shares: dict[str, list[float]] = field(default_factory=dict)
    format_version: int = field(default=FORMAT_VERSION)

    @property
    def now(self) -> datetime:
        """When the chat template was rendered."""
        return datetime.fromisoformat(self.rendered_at)


def save_reference(
    content: ReferenceContent,
    distributions: Sequence[Distributions],
    weights: Sequence[Fingerprint],
    path: Path,
    layers: LayerStates | None = None,
) -> Reference:
    """Writes a reference atomically; `distributions` holds those of each record."""
    rows, arrays = pack(weights)
    fields = asdict(content) | {"weights": rows}
    del fields["layers"]
    if layers is not None:
        fields["layers"], states = pack_states(layers)
        arrays |= states
    for record in fields["records"]:
        if not record["tools"]:
            del record["tools"]
    encoded = np.frombuffer(json.dumps(fields, ensure_ascii=False).encode(), dtype=np.uint8)
    for name in _DISTRIBUTION_ARRAYS:
        arrays[name] = np.concatenate([getattr(one, name) for one in distributions])
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, content=encoded, **arrays)  # type: ignore[arg-type]
    return Reference(path)


class OpenReference:
    """A reference being read: `content`, and the large arrays as they are asked for."""

    def __init__(self, reference: Reference) -> None:
        self._arrays = ReferenceFile(reference.path)
        try:
            fields: dict[str, Any] = json.loads(bytes(self._arrays["content"]).decode())
            version = fields["format_version"]
            if version == FORMAT_VERSION:
                records = [ReferenceRecord(**record) for record in fields.pop("records")]
                model = ModelFacts(**fields.pop("model"))
                self.content = ReferenceContent(records=records, model=model, **fields)
        except (ValueError, LookupError, TypeError) as error:
            what = f"not a parity reference: {error}"
            raise EdgeftError(what, str(reference.path), "make one: edgeft parity record") from error
        if version != FORMAT_VERSION:
            what = f"a reference of format {version}, and this edgeft reads {FORMAT_VERSION}"
            raise EdgeftError(what, str(reference.path), "record it again with this version")

    @cached_property
    def _all_distributions(self) -> Distributions:
        return Distributions(*(self._arrays[name] for name in _DISTRIBUTION_ARRAYS))

    def distributions(self, index: int) -> Distributions:
        """Returns those of a record's scored positions."""
        counts = [record.n_scored for record in self.content.records]
        start = sum(counts[:index])
        return self._all_distributions.slice(start, start + counts[index])

    @cached_property
    def weights(self) -> dict[str, Fingerprint]:
        """The fingerprint of each of the checkpoint's tensors, by its name."""
        arrays = {name: self._arrays[name] for name in _WEIGHT_ARRAYS}
        return {one.name: one for one in unpack(self.content.weights, arrays)}

    @cached_property
    def layers(self) -> LayerStates | None:
        """The hidden states, None where they were not recorded."""
        if self.content.layers is None:
            return None
        return unpack_states(self.content.layers, *(self._arrays[name] for name in STATE_ARRAYS))

"""Checkpoint -> reference: runs where the model was trained."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch

from edgeft import hf
from edgeft.artifacts import Checkpoint, Reference, Trained
from edgeft.config import ParityConfig
from edgeft.dataset.mask import tokenize_last_turn
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError
from edgeft.files import write_json
from edgeft.given_template import given_template
from edgeft.parity.conversations import PLAIN_TEMPLATE, built_in_records
from edgeft.parity.distributions import Distributions, Floats, truncated
from edgeft.parity.record_layers import record_layers
from edgeft.parity.record_model import control_ids, model_facts, pieces_of, probe_prompts
from edgeft.parity.record_weights import ExpectedShares, fingerprints
from edgeft.parity.reference import BUILT_IN, ReferenceContent, ReferenceRecord, save_reference
from edgeft.parity.statistics import DivergenceMeter
from edgeft.probe_texts import ORDINARY_PROBES, RARE_PROBES
from edgeft.progress import Progress, silent
from edgeft.weights import CheckpointWeights, Weights

_LOGITS_BYTES = 256_000_000
"""Most that a reference's distributions take where they are kept whole: 500 positions of a vocabulary of 128,256."""


@dataclass(frozen=True)
class MergedModel:
    """A merged model that is in no folder: what loads it in float32, and its tensors as they are converted.

    `merge_base` is what an adapter trained over 4 bits was merged into; None for what was trained otherwise.
    """

    load: Callable[[], hf.PreTrainedModel]
    weights: Weights
    merge_base: str | None = None


def record_reference(
    merged: Checkpoint,
    live: tuple[Checkpoint, Trained] | None,
    records: Sequence[Record] | None,
    config: ParityConfig,
    device: hf.Device,
    out: Path,
    progress: Progress = silent,
    model: MergedModel | None = None,
) -> Reference:
    """Runs the merged model in float32 over `records` and writes what it says, and what it is, to the file `out`.

    Without records it is run over the built-in conversations, as plain text where it has no chat template of its own.

    `merged` gives tokenizer and chat template, and everything else too unless `model` is given. The same tokens are run
    through the merged model in bfloat16, as it is served, and with `live` (base, and what was trained) through the
    model as it was trained, 4-bit base and all. How far these are from float32 is kept in the reference, the latter as
    merge.json beside it. Answers end where the model's context does, and records whose prompts fill it are left out.
    Raises EdgeftError when a record's last turn could not be trained, and when no record has room for an answer.
    """
    hf.quiet()
    chosen = (built_in_records() if records is None else list(records))[: config.records]
    steps = len(chosen) * (3 if live else 2)
    source = model or MergedModel(partial(hf.load_model, merged, device, torch.float32), CheckpointWeights(merged))
    recording = _Recording(_tokenizer(merged, records is None), merged, source.load(), config, progress, steps)
    now = datetime.now().replace(microsecond=0)
    recording.add_all(chosen)
    layers = record_layers(recording.model, recording.records, progress) if config.layers else None
    facts, tokenizer = model_facts(recording.model, recording.tokenizer), recording.tokenizer
    served = recording.measured(_in_bfloat16(recording.model), "merged model, bfloat16")
    del recording.model
    merge = recording.measured(hf.load_adapted(*live, device), "model as trained, 4-bit base") if live else None
    expected = ExpectedShares()
    weights = list(fingerprints(source.weights, CheckpointWeights(live[0]) if live else None, progress, expected))
    rare = probe_prompts(recording.view, RARE_PROBES)
    probes = [*probe_prompts(recording.view, ORDINARY_PROBES), *rare]
    probe_ids = {text: recording.view.encode(text) for text in probes}
    content = ReferenceContent(
        records=recording.records,
        probe_ids=probe_ids,
        added_ids=tokenizer("")["input_ids"],
        pieces=pieces_of(recording.view, [*probe_ids.values(), *(record.ids for record in recording.records)]),
        end_ids=recording.end_ids,
        control_ids=control_ids(tokenizer, recording.records),
        bos_id=tokenizer.bos_token_id,
        max_new_tokens=config.max_new_tokens,
        rendered_at=now.isoformat(),
        model=facts,
        weights=[],
        made_by={"torch": torch.__version__, "device": device, "dtype": "float32", "machine": platform.machine()}
        | ({"texts": BUILT_IN} if records is None else {})
        | ({} if source.merge_base is None else {"merge_base": source.merge_base}),
        merge=merge,
        served=served,
        expected_shares=expected.result(),
        rare_probes=rare,
    )
    if merge is not None:
        write_json(out.with_name("merge.json"), merge)
    return save_reference(content, recording.distributions, weights, out, layers)


def _tokenizer(merged: Checkpoint, is_for_any_text: bool) -> hf.Tokenizer:
    """Loads the tokenizer. A model without a template has been given none where others made the file."""
    tokenizer = hf.load_tokenizer(merged.path)
    if is_for_any_text and given_template(merged.path) is not None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


class _Recording:
    """The merged model in float32, and what it has said so far."""

    def __init__(
        self,
        tokenizer: hf.Tokenizer,
        merged: Checkpoint,
        model: hf.PreTrainedModel,
        config: ParityConfig,
        progress: Progress,
        steps: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.view: TokenizerView = hf.tokenizer_view(self.tokenizer, merged.path)
        self.end_ids = sorted(self.view.end_ids)
        self.model = model
        self.records: list[ReferenceRecord] = []
        self.distributions: list[Distributions] = []
        self._config, self._progress, self._steps, self._done = config, progress, steps, 0
        self._kept = config.kept_tokens
        text_config = self.model.config.get_text_config(decoder=True)
        self._where, self._n_ctx = str(merged.path), getattr(text_config, "max_position_embeddings", None)
        self._budget = config.positions
        if self._kept == 0:
            self._budget = min(self._budget, _LOGITS_BYTES // (4 * self.model.config.get_text_config().vocab_size))

    def add_all(self, records: Sequence[Record]) -> None:
        """Runs the model over records, as many as are wanted; raises EdgeftError where none has room for an answer."""
        for record in records:
            if not self._add(record):
                break
        if not self.records:
            what = f"no record's prompt leaves room for an answer in the model's context of {self._n_ctx} tokens"
            raise EdgeftError(what, self._where, "record shorter conversations")

    def _add(self, record: Record) -> bool:
        """Runs the model over one record as far as its context goes; returns whether another one is wanted."""
        self._advance("merged model, float32")
        rendered, prompt_ids, turn_ids = tokenize_last_turn(record, self.view)
        most = self._config.max_new_tokens
        if self._n_ctx is not None:  # torch does not stop there, llama.cpp does
            room = self._n_ctx - len(prompt_ids)
            if room < 1:
                return True
            most, turn_ids = min(most, room), turn_ids[:room]
        greedy = hf.generate(self.model, self.tokenizer, [prompt_ids], self.end_ids, most)[0]
        logits = hf.logits(self.model, prompt_ids + turn_ids)
        over_greedy = logits if greedy == turn_ids else hf.logits(self.model, prompt_ids + greedy)
        entry = ReferenceRecord(
            messages=record.prompt,
            rendered_prompt=rendered,
            prompt_ids=prompt_ids,
            ids=prompt_ids + turn_ids,
            first_scored=len(prompt_ids) - 1,
            n_scored=min(len(turn_ids), self._budget),
            greedy_ids=greedy,
            greedy_margins=_margins(over_greedy[len(prompt_ids) - 1 : -1]),
            tools=list(record.tools),
        )
        self.records.append(entry)
        self.distributions.append(truncated(_scored(logits, entry), entry.targets, self._kept))
        self._budget -= entry.n_scored
        return self._budget > 0

    def measured(self, model: hf.PreTrainedModel, what: str) -> dict[str, float]:
        """Returns how far another model is from what was recorded, on the same tokens."""
        meter = DivergenceMeter()
        for number, (record, kept) in enumerate(zip(self.records, self.distributions, strict=True)):
            self._advance(what)
            meter.add(kept, _scored(hf.logits(model, record.ids), record), record.targets, number)
        return meter.result().to_json()

    def _advance(self, what: str) -> None:
        self._progress(self._done, self._steps, what)
        self._done += 1


def _in_bfloat16(model: hf.PreTrainedModel) -> hf.PreTrainedModel:
    """Rounds a model's weights in place. Its buffers, the rotary frequencies, stay float32, as loading leaves them."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return model


def _scored(logits: torch.Tensor, record: ReferenceRecord) -> Floats:
    rows: Floats = logits[record.first_scored : record.first_scored + record.n_scored].numpy().astype(np.float32)
    return rows


def _margins(logits: torch.Tensor) -> list[float]:
    """Returns by how much the likeliest token of each position is likelier than the next, in nats."""
    best = logits.topk(2, dim=-1).values
    return [round(float(margin), 5) for margin in best[:, 0] - best[:, 1]]

"""Checkpoint -> reference: runs where the model was trained."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edgeft import hf
from edgeft.artifacts import Checkpoint, Reference, Trained
from edgeft.config import ParityConfig
from edgeft.dataset.mask import tokenize_last_turn
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.files import write_json
from edgeft.parity.reference import ReferenceContent, ReferenceRecord, save_reference
from edgeft.parity.statistics import DivergenceMeter, Floats
from edgeft.probe_texts import PROBES
from edgeft.progress import Progress, silent

_LOGITS_BYTES = 256_000_000
"""Most that a reference's logits take: 500 positions of a vocabulary of 128,256."""


def record_reference(
    merged: Checkpoint,
    live: tuple[Checkpoint, Trained] | None,
    records: Sequence[Record],
    config: ParityConfig,
    device: hf.Device,
    out: Path,
    progress: Progress = silent,
    load: Callable[[], hf.PreTrainedModel] | None = None,
) -> Reference:
    """Runs the merged model in float32 over `records` and writes what it says to the file `out`.

    `merged` gives tokenizer and chat template, and the weights too unless `load` loads the model from elsewhere.
    With `live` (base, and what was trained) the model as it was trained, 4-bit base and all, is run over the same
    tokens, and how far the merged model is from it is kept in the reference and as merge.json beside it. Raises
    EdgeftError when a record's last turn could not be trained.
    """
    hf.quiet()
    tokenizer = hf.load_tokenizer(merged.path)
    view = hf.tokenizer_view(tokenizer, merged.path)
    end_ids = sorted(view.end_ids)
    model = hf.load_model(merged, device, torch.float32) if load is None else load()
    chosen = list(records[: config.records])
    steps = len(chosen) * (2 if live else 1)
    budget = min(config.positions, _LOGITS_BYTES // (4 * model.config.vocab_size))
    kept, logits = [], []
    for done, record in enumerate(chosen):
        progress(done, steps, "merged model, float32")
        entry = _reference_record(record, view, budget, _greedy(model, tokenizer, end_ids, config))
        kept.append(entry)
        logits.append(_scored(hf.logits(model, entry.ids), entry))
        budget -= entry.n_scored
        if budget <= 0:
            break
    del model
    merge = _merge_divergence(live, device, kept, logits, progress, steps) if live else None
    content = ReferenceContent(
        records=kept,
        probe_ids={text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROBES},
        end_ids=end_ids,
        control_ids=_control_ids(tokenizer, kept),
        bos_id=tokenizer.bos_token_id,
        max_new_tokens=config.max_new_tokens,
        made_by={"torch": torch.__version__, "device": device, "dtype": "float32", "machine": platform.machine()},
        merge=merge,
    )
    progress(steps, steps)
    if merge is not None:
        write_json(out.with_name("merge.json"), merge)
    return save_reference(content, logits, out)


def _greedy(
    model: hf.PreTrainedModel, tokenizer: hf.Tokenizer, end_ids: Sequence[int], config: ParityConfig
) -> Callable[[list[int]], list[int]]:
    return lambda prompt: hf.generate(model, tokenizer, [prompt], end_ids, config.max_new_tokens)[0]


def _reference_record(
    record: Record,
    tokenizer: TokenizerView,
    most_scored: int,
    greedy: Callable[[list[int]], list[int]],
) -> ReferenceRecord:
    rendered, prompt_ids, turn_ids = tokenize_last_turn(record, tokenizer)
    return ReferenceRecord(
        messages=record.prompt,
        rendered_prompt=rendered,
        prompt_ids=prompt_ids,
        ids=prompt_ids + turn_ids,
        first_scored=len(prompt_ids) - 1,
        n_scored=min(len(turn_ids), most_scored),
        greedy_ids=greedy(prompt_ids),
        tools=list(record.tools),
    )


def _scored(logits: torch.Tensor, record: ReferenceRecord) -> Floats:
    rows: Floats = logits[record.first_scored : record.first_scored + record.n_scored].numpy().copy()
    return rows


def _merge_divergence(
    live: tuple[Checkpoint, Trained],
    device: hf.Device,
    records: Sequence[ReferenceRecord],
    logits: Sequence[Floats],
    progress: Progress,
    steps: int,
) -> dict[str, float]:
    """How far the merged model is from the model that was trained, which takes the place of the reference here."""
    model = hf.load_adapted(*live, device)
    meter = DivergenceMeter()
    for done, (record, merged_logits) in enumerate(zip(records, logits, strict=True)):
        progress(steps // 2 + done, steps, "model as trained")
        meter.add(_scored(hf.logits(model, record.ids), record), merged_logits, record.targets)
    return meter.result().to_json()


def _control_ids(tokenizer: hf.Tokenizer, records: Sequence[ReferenceRecord]) -> list[int]:
    """Returns the special tokens that the chat template puts into the records: the device must know them as CONTROL."""
    special = {int(token) for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return sorted(special & {token for record in records for token in record.ids})

"""Reference x GGUF -> verdict: runs on the device, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.artifacts import GgufFile, ParityReport, Reference
from edgeft.config import ParityConfig, ParityThresholds
from edgeft.files import write_json
from edgeft.llamacpp import Engine, build_description
from edgeft.parity.reference import OpenReference, ReferenceContent
from edgeft.parity.statistics import Divergence, DivergenceMeter
from edgeft.progress import Progress, silent
from edgeft.quant_types import UNQUANTIZED

_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Failure:
    """The first thing found wrong on a rung: what, in one sentence, and where."""

    rung: str
    cause: str
    where: str = ""


def check_parity(
    reference: Reference, gguf: GgufFile, config: ParityConfig, out: Path, progress: Progress = silent
) -> ParityReport:
    """Compares a GGUF file with a reference and writes `out`/parity.json. A failure is a verdict, no exception."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "parity.json", compare(reference, gguf, config, progress))
    return ParityReport(out)


def compare(reference: Reference, gguf: GgufFile, config: ParityConfig, progress: Progress = silent) -> dict[str, Any]:
    """Holds a GGUF file to a reference; returns the report: `verdict` pass|fail, `rung`, `cause`, `where`, figures.

    The rungs, in order: token types and end tokens, token ids (probe set and every record), chat template, logits
    (thresholds by the file's type), greedy answers (do they end). An unquantized file runs with F32 KV, where only a
    fault of the conversion can exceed the noise; a quantized one as a user runs it.
    """
    opened = OpenReference(reference)
    content = opened.content
    n_ctx = max(max(len(r.ids), len(r.prompt_ids) + content.max_new_tokens) for r in content.records) + 8
    with Engine(gguf, n_ctx, exact_kv=True) as engine:
        limits = thresholds_for(engine.file_type, config)
        divergence = _divergence(engine, opened, progress)
        greedy = _greedy(engine, content, progress)
        failures = [*_type_failures(engine, content), *_token_failures(engine, content)]
        failures += [*_template_failures(engine, content), *_logit_failures(divergence, limits)]
        failures += _greedy_failures(greedy)
        file_type = engine.file_type
    first = failures[0] if failures else Failure("", "")
    return {
        "file": gguf.path.name,
        "type": file_type,
        "verdict": "fail" if failures else "pass",
        **vars(first),
        "failures": [vars(failure) for failure in failures],
        "logits": divergence.to_json(),
        "thresholds": limits.model_dump(),
        "greedy": greedy,
        "merge": content.merge,
        "reference": content.made_by,
        "runtime": build_description(),
    }


def thresholds_for(type_name: str, config: ParityConfig) -> ParityThresholds:
    """Returns the thresholds that a file of this type has to meet."""
    if type_name in config.thresholds:
        return config.thresholds[type_name]
    return config.conversion if type_name in UNQUANTIZED else config.quantization


def _token_failures(engine: Engine, content: ReferenceContent) -> Iterator[Failure]:
    texts = [(text, ids, engine.encode(text, special=True)) for text, ids in content.probe_ids.items()]
    texts += [(r.rendered_prompt, r.prompt_ids, engine.encode_prompt(r.rendered_prompt)) for r in content.records]
    wrong = [(text, theirs, ours) for text, theirs, ours in texts if theirs != ours]
    for text, theirs, ours in wrong[:_MAX_EXAMPLES]:
        place = next(
            (i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours))
        )
        yield Failure(
            "token ids",
            f"{len(wrong)} of {len(texts)} texts are tokenized differently: the device feeds the model other tokens",
            f"{text!r} at token {place}: "
            f"trained with {theirs[place : place + 8]}, the file gives {ours[place : place + 8]}",
        )


def _template_failures(engine: Engine, content: ReferenceContent) -> Iterator[Failure]:
    for record in content.records:
        rendered = engine.render(record.messages, tools=record.tools)
        if rendered != record.rendered_prompt:
            yield Failure(
                "chat template",
                "the file's chat template renders another prompt than the one that was trained",
                f"trained {record.rendered_prompt!r}, the file gives {rendered!r}",
            )
            return


def _type_failures(engine: Engine, content: ReferenceContent) -> Iterator[Failure]:
    for token in content.end_ids:
        if not engine.ends(token):
            text = engine.piece(token, special=True).decode(errors="replace")
            yield Failure("end token", "a trained end token does not stop llama.cpp", f"token {token} {text!r}")
    for token in content.control_ids:
        if not engine.is_control(token):
            text = engine.piece(token, special=True).decode(errors="replace")
            yield Failure(
                "token types", "a special token of the template is no CONTROL token", f"token {token} {text!r}"
            )


def _divergence(engine: Engine, opened: OpenReference, progress: Progress) -> Divergence:
    meter = DivergenceMeter()
    records = opened.content.records
    for index, record in enumerate(records):
        rows = engine.logits(record.ids[:-1])
        scored = rows[record.first_scored : record.first_scored + record.n_scored]
        meter.add(opened.logits(index), scored, record.targets)
        progress(index + 1, 2 * len(records), "logits")
    return meter.result()


def _logit_failures(divergence: Divergence, limits: ParityThresholds) -> Iterator[Failure]:
    # Written so that NaN, which compares false with everything, fails.
    if not divergence.mean_kld <= limits.mean_kld:
        yield Failure("logits", f"mean KLD is {divergence.mean_kld:.2e}, the limit {limits.mean_kld:.2e}")
    if not divergence.top1 >= limits.top1:
        yield Failure(
            "logits", f"the same top token at {divergence.top1:.1%} of positions, the limit {limits.top1:.1%}"
        )
    if not 1 / limits.ppl_ratio <= divergence.ppl_ratio <= limits.ppl_ratio:
        yield Failure(
            "logits", f"perplexity is {divergence.ppl_ratio:.4f} of the reference's, limit {limits.ppl_ratio}"
        )


def _greedy(engine: Engine, content: ReferenceContent, progress: Progress) -> dict[str, Any]:
    same = ended = expected_end = 0
    n_records = len(content.records)
    for index, record in enumerate(content.records):
        ids = list(engine.generate(record.prompt_ids, content.max_new_tokens))
        same += ids == record.greedy_ids
        if record.greedy_ids and record.greedy_ids[-1] in content.end_ids:
            expected_end += 1
            ended += bool(ids) and engine.ends(ids[-1])
        progress(n_records + index + 1, 2 * n_records, "greedy answers")
    return {"records": n_records, "same": same, "expected_end": expected_end, "ended": ended}


def _greedy_failures(greedy: dict[str, Any]) -> Iterator[Failure]:
    # One answer in twenty may take another way after a near-tie and run on; more is a model that does not stop.
    if greedy["ended"] < 0.95 * greedy["expected_end"]:
        where = f"{greedy['ended']} of {greedy['expected_end']} answers end"
        yield Failure("greedy answers", "answers that ended in the reference run on in the file", where)

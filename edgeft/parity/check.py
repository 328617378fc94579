"""Reference x GGUF -> verdict: runs on the device, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeft.artifacts import GgufFile, ParityReport, Reference
from edgeft.config import ParityConfig, ParityThresholds
from edgeft.errors import EdgeftError
from edgeft.files import write_json
from edgeft.gguf_header import GgufHeader, read_header
from edgeft.llamacpp import Engine, build_description, gpu_names
from edgeft.parity.ladder import RUNGS, Failure, Rung, listed, rung, verdict
from edgeft.parity.reference import BUILT_IN, OpenReference, ReferenceContent
from edgeft.parity.rungs.answers import answers_of, check_answers, check_ending, check_task
from edgeft.parity.rungs.layers import check_layers, explained
from edgeft.parity.rungs.logits import check_conversion, check_merge, check_quantization, measure, unmeasured
from edgeft.parity.rungs.metadata import check_metadata
from edgeft.parity.rungs.runtime import check_runtime
from edgeft.parity.rungs.tokens import check_template, check_token_ids, check_token_types
from edgeft.parity.rungs.weights import check_weights
from edgeft.parity.scored import Checked, ScoredRecord, scored_records, write_records
from edgeft.parity.thresholds import allowed_ranges, thresholds_for
from edgeft.progress import Progress, silent
from edgeft.quant_types import UNQUANTIZED

_COPY_AGAIN = "copy or convert the file again"


def check_parity(
    reference: Reference,
    gguf: GgufFile,
    config: ParityConfig,
    out: Path,
    progress: Progress = silent,
    threads: int = 0,
) -> ParityReport:
    """Compares a GGUF file with a reference and writes `out`/parity.json, and what it rests on to positions.json.

    A failure is a verdict, no exception.
    """
    out.mkdir(parents=True, exist_ok=True)
    checked = check_file(reference, gguf, config, progress, threads)
    write_records(checked.records, out / "positions.json")
    write_json(out / "parity.json", checked.report)
    return ParityReport(out)


def compare(
    reference: Reference, gguf: GgufFile, config: ParityConfig, progress: Progress = silent, threads: int = 0
) -> dict[str, Any]:
    """Holds a GGUF file to a reference and returns the report: see `check_file`."""
    return check_file(reference, gguf, config, progress, threads).report


def check_file(
    reference: Reference,
    gguf: GgufFile,
    config: ParityConfig,
    progress: Progress = silent,
    threads: int = 0,
    gpu: bool = True,
) -> Checked:
    """Holds a GGUF file to a reference, with so many threads, 0 for a thread a core.

    All is computed on the CPU; with `gpu` the rung on runtimes holds the GPUs of this build of llama.cpp to it.

    Returns the report, and the scored positions that it rests on; none of a file that cannot be run. In the report,
    `verdict` is pass, fail or undecided; `rung`, `cause`, `where` and `remedy` are those of the first broken rung of
    `edgeft.parity.ladder.RUNGS`; `warnings` decide nothing; `rungs` has the figures of each. `logits` and `greedy`
    repeat the most asked for, and are None for a file that cannot be run. An unquantized file runs with F32 KV, where
    only a fault of the conversion can exceed the noise; a quantized one as a user runs it.
    """
    opened = OpenReference(reference)
    climb = _Climb(opened, gguf, config, progress, threads, gpu)
    rungs = list(climb.rungs())
    rungs = explained(rungs)
    done = {one.name for one in rungs}
    rungs += [Rung(name, "skipped") for name in RUNGS if name not in done]
    rungs.sort(key=lambda one: RUNGS.index(one.name))
    state, first = verdict(rungs)
    report = {
        "file": gguf.path.name,
        "type": climb.file_type,
        "size_bytes": sum(part.stat().st_size for part in gguf.parts if part.is_file()),
        "verdict": state,
        **vars(first),
        "failures": [vars(failure) for one in rungs for failure in one.failures],
        "warnings": [vars(warning) for one in rungs for warning in one.warnings],
        "rungs": [one.to_json() for one in rungs],
        "logits": climb.logits,
        "allowed": allowed_ranges(climb.limits) if climb.limits else None,
        "greedy": climb.greedy,
        "merge": opened.content.merge,
        "served": opened.content.served,
        "reference": opened.content.made_by,
        "runtime": build_description(),
    }
    return Checked(report, climb.records)


class _Climb:
    """One file's way up the ladder, and what was seen on it."""

    def __init__(
        self,
        reference: OpenReference,
        gguf: GgufFile,
        config: ParityConfig,
        progress: Progress,
        threads: int,
        gpu: bool,
    ) -> None:
        self._reference, self._gguf, self._config = reference, gguf, config
        self._progress, self._threads, self._gpu = progress, threads, gpu
        self.file_type = "unknown"
        self.limits: ParityThresholds | None = None
        self.logits: dict[str, float] | None = None
        self.greedy: dict[str, Any] | None = None
        self.records: list[ScoredRecord] = []

    @property
    def _content(self) -> ReferenceContent:
        return self._reference.content

    def rungs(self) -> Iterator[Rung]:
        """Yields each rung that can be stood on: a file that is damaged has one, a file that cannot be run a few."""
        try:
            header = read_header(self._gguf)
        except EdgeftError as error:
            yield rung("file", [Failure("file", one.what, Path(one.where).name, one.remedy) for one in error.problems])
            return
        if cut := list(_cut(header)):
            yield rung("file", cut)
            return
        metadata = check_metadata(header, self._content.model)
        yield metadata
        weights = check_weights(
            header, self._reference.weights, self._content.model, self._progress, self._content.expected_shares
        )
        yield weights
        yield from self._running(header, metadata, weights)

    def _running(self, header: GgufHeader, metadata: Rung, weights: Rung) -> Iterator[Rung]:
        content = self._content
        longest = max(max(len(r.ids), len(r.prompt_ids) + content.max_new_tokens) for r in content.records)
        # llama.cpp repacks quantized weights: mapped, a file of 0.8 GB took 1.5 GB of memory, read 1.1 GB.
        mapped = all(tensor.type.name in UNQUANTIZED for tensor in header.tensors.values())
        try:
            engine = Engine(self._gguf, longest + 8, exact_kv=True, threads=self._threads, mapped=mapped)
        except EdgeftError as error:
            # Where keys or tensors are wrong, that they cannot be loaded is what follows.
            if metadata.status == weights.status == "pass":
                yield rung("file", [Failure("file", error.problems[0].what, self._gguf.path.name, "convert it again")])
            return
        with engine:
            yield rung("file", [], {"size_bytes": sum(header.sizes.values()), "tensors": len(header.tensors)})
            self.file_type = engine.file_type
            yield check_token_types(engine, content)
            yield check_token_ids(engine, header, content, self._config.differing_texts or 0.0)
            yield check_template(engine, content)
            yield from self._predictions(engine, header, weights)
            yield from self._answers(engine)

    def _predictions(self, engine: Engine, header: GgufHeader, weights: Rung) -> Iterator[Rung]:
        if max(max(record.ids) for record in self._content.records) >= engine.n_vocab:
            return  # llama.cpp ends the process on a token that it does not have
        if not any(record.scored_within(engine.n_ctx) for record in self._content.records):
            yield unmeasured(engine.n_ctx, engine.file_type)
            return
        meter = measure(engine, self._reference, self._progress)
        divergence = meter.result()
        self.logits = divergence.to_json()
        self.records = scored_records(meter.positions(), self._content.records, engine)
        self.limits = thresholds_for(engine.file_type, header.n_weights, self._config)
        if engine.file_type in UNQUANTIZED:
            yield check_conversion(meter.positions(), divergence, self.limits)
        else:
            built_in = self._content.made_by.get("texts") == BUILT_IN
            yield check_quantization(
                meter.positions(), divergence, self.limits, weights.figures, engine.file_type, built_in
            )
        yield check_merge(self._content.merge, self._config.merge, self._content.made_by.get("merge_base"))
        yield check_layers(engine, header, self._reference, weights.figures, self._progress)
        measured, most, gpus = meter.positions(), self._config.runtime_kld, gpu_names() if self._gpu else []
        yield check_runtime(engine, self._reference, measured, most, self._progress, gpus)

    def _answers(self, engine: Engine) -> Iterator[Rung]:
        if self.logits is None:
            return
        answers = answers_of(engine, self._content, self._progress)
        told = check_answers(answers, self._content.records)
        ending = check_ending(answers, engine, self._content)
        self.greedy = {key: told.figures[key] for key in ("records", "same", "near_ties")} | ending.figures
        yield told
        yield ending
        yield check_task(answers, self._content, self._config.task_lost)


def _cut(header: GgufHeader) -> Iterator[Failure]:
    """Yields the files that do not hold all of their tensors' bytes; of several, each is named."""
    for path in header.sizes:
        tensors = header.of_file(path)
        lost = [tensor.name for tensor in tensors if not header.is_whole(tensor)]
        if lost:
            what = f"the file is truncated: {len(lost)} of {len(tensors)} tensors lie beyond its end"
            where = listed(lost) if len(header.sizes) == 1 else f"{path.name}: {listed(lost)}"
            yield Failure("file", what, where, _COPY_AGAIN)

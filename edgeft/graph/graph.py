"""Every artifact that a configuration asks for: what it is made from, by which stage, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.artifacts import Checkpoint, GgufFile, open_trained
from edgeft.dataset.records import Record, read_records
from edgeft.errors import EdgeftError, Problem
from edgeft.files import count_lines
from edgeft.graph.merge_bases import MergeBases
from edgeft.graph.node import Node
from edgeft.graph.places import Places
from edgeft.graph.quantizing import imatrix_text, quantized_nodes, recipes_of
from edgeft.progress import Progress
from edgeft.rundir import write_warnings

if TYPE_CHECKING:
    from edgeft.dataset.tokens import TokenSource
    from edgeft.hf import PreTrainedModel

_RECORDED = {"records", "positions", "kept_tokens", "max_new_tokens", "layers"}


class Graph(Places):
    """The artifacts of one run. Heavy libraries are imported by the stage that needs them, when it runs."""

    def _tests(self, most: int = 0) -> list[Record]:
        path = self.tokens.path / "test.jsonl"
        if not path.stat().st_size:
            what = "there is no conversation to answer: all records are plain text"
            raise EdgeftError(
                what, remedy="name conversations as dataset.test, or make the files alone: edgeft run quantize"
            )
        return read_records(path)[: most or None]

    @property
    def _n_ctx(self) -> int:
        return self.config.dataset.max_tokens + max(self.config.eval.max_new_tokens, self.config.parity.max_new_tokens)

    @property
    def _merging(self) -> dict[str, str]:
        """What is merged into, where it is not the base as it is."""
        return {} if self.config.merge_base == "original" else {"merge_base": self.config.merge_base}

    # What they are made from

    def nodes(self) -> Iterator[Node]:
        """Yields every artifact, after those it needs."""
        gguf = self.base_gguf
        if gguf is None:
            yield from self._nodes()
            return
        parts = {f"part {number}": path for number, path in enumerate(gguf.parts, start=1)}
        yield Node("base", "import", self._make_base, sources=parts if len(parts) > 1 else {"file": gguf.path})
        for node in self._nodes():
            if "base" in node.sources:
                outside = {name: path for name, path in node.sources.items() if name != "base"}
                yield replace(node, needs=("base", *node.needs), sources=outside)
            else:
                yield node

    def _nodes(self) -> Iterator[Node]:
        """Yields every artifact but the imported base, which is among their sources as a folder is."""
        config = self.config
        base = {} if self.base_folder is None else {"base": self.base_folder}
        named = {"base": config.base} if self.base_folder is None else {}
        local = {key: config.local_source(name) for key, name in config.dataset.named_sources()}
        files = {key: path for key, path in local.items() if path is not None}
        dataset = config.dataset.model_dump(exclude={"train", "evaluation", "test"}) | named
        dataset |= {"weights": [source.weight for source in config.dataset.sources]}
        # A dataset on the hub, or the split of one in a folder, is known by its name.
        dataset |= {key: name for key, name in config.dataset.named_sources() if key not in files or "@" in name}
        yield Node("tokens", "tokens", self._make_tokens, (), dataset, {**files, **base})
        # Where it computes, which checkpoints are kept, and who watches is no part of what is trained.
        aside = {"device", "keep", "report_to", "shard_weights"}
        training = config.train.model_dump(mode="json", exclude=aside) | named
        unused = ("rate_from_step",)
        yield Node(
            "adapter", "train", self._make_adapter, ("tokens",), training, base, resumable=True, open_until_used=unused
        )
        merged_from: tuple[str, ...] = ("adapter",)
        merging = self._merging | named
        if config.merge_base == "auto":
            measured, texts = named | recipes_of(config, self.fixed_types), base | imatrix_text(config)
            yield Node("merge_base", "merge", self._make_merge_base, ("tokens", "adapter"), measured, texts)
            merged_from = ("adapter", "merge_base")
        yield Node("merged", "merge", self._make_merged, merged_from, merging, base, on_request=True)
        # Its token ids are held to the run's own records.
        made_from = (*merged_from, "tokens" if config.convert.converter is None else "merged")
        converting = config.convert.model_dump(mode="json", exclude={"unquantized"}) | merging
        if config.convert.unquantized:
            yield Node("gguf", "convert", self._make_gguf, made_from, converting, base)
        yield from quantized_nodes(self, merged_from, merging, converting, base)
        yield from self._checks(base, named, ("tokens", *merged_from))

    def _checks(self, base: dict[str, Path], named: dict[str, str], recorded_from: tuple[str, ...]) -> Iterator[Node]:
        parity, evaluation = self.config.parity, self.config.eval
        recorded = parity.model_dump(include=_RECORDED) | named | self._merging
        yield Node("reference", "reference", self._make_reference, recorded_from, recorded, base)
        limits = self.config.checking.model_dump(mode="json", exclude=_RECORDED)
        for name in self.file_types:
            yield Node(f"parity/{name}", "parity", self._checker(name), ("reference", self.gguf_node(name)), limits)
        asked = evaluation.model_dump(include={"records", "max_new_tokens"})
        yield Node("eval/base", "eval", self._make_eval_base, ("tokens",), asked | named, base)
        yield Node("eval/tuned", "eval", self._make_eval_tuned, ("tokens", "adapter"), asked | named, base)
        for name in self.file_types:
            yield Node(f"eval/{name}", "eval", self._evaluator(name), ("tokens", self.gguf_node(name)), asked)

    # How they are made

    def _make_base(self, out: Path, progress: Progress) -> None:
        from edgeft.convert.from_gguf import import_gguf, read_model

        import_gguf(read_model(Path(self.config.base)), out, progress)

    def _make_tokens(self, out: Path, progress: Progress) -> None:
        from edgeft import hf
        from edgeft.dataset.check.near import near_groups
        from edgeft.dataset.tokens import TokenInputs, build_tokens

        hf.quiet()
        dataset = self.config.dataset
        inputs = TokenInputs(
            [self._token_source(source.path, source.weight) for source in dataset.sources],
            None if dataset.evaluation is None else self._token_source(dataset.evaluation),
            None if dataset.test is None else self._token_source(dataset.test),
        )
        opener = hf.tokenizer_opener(self.base.path)
        grouping = partial(near_groups, threshold=dataset.near_duplicate)
        build_tokens(inputs, opener, dataset, out, progress, grouping=grouping)

    def _token_source(self, name: str, weight: float = 1.0) -> TokenSource:
        from edgeft.dataset.sources import stream
        from edgeft.dataset.tokens import TokenSource

        path = self.config.local_source(name)
        located = name if path is None or "@" in name else str(path)
        expected = count_lines(path) if path is not None and path.is_file() else 0
        return TokenSource(located, partial(stream, located, self.config.root), weight, expected)

    def _make_adapter(self, out: Path, progress: Progress) -> None:
        from edgeft.convert import require_convertible
        from edgeft.train import train

        # What would stop the conversion stops it before hours of training.
        require_convertible(self.base, self.convert_config, self.own_records())
        train(self.tokens, self.base, self.config.train, out, progress)

    def _make_merged(self, out: Path, progress: Progress) -> None:
        from edgeft.merge import write_merged

        write_merged(self.merged_weights(), self.base, out, progress)

    def _make_merge_base(self, out: Path, progress: Progress) -> None:
        trained = open_trained(self.trained)
        MergeBases(self.config, self.base, trained, self.tokens, self.quantized_types).measure(out, progress)

    def _make_gguf(self, out: Path, progress: Progress) -> None:
        from edgeft.convert import convert
        from edgeft.weights import CheckpointWeights

        path, config = out / self.gguf_name(self.unquantized), self.convert_config
        if config.converter is not None:
            merged = Checkpoint.open(self.run.path("merged"))
            convert(CheckpointWeights(merged), merged, config, path, progress)
            return
        warnings: list[Problem] = []
        convert(
            self.merged_weights(),
            self.base,
            config,
            path,
            progress,
            origin=self.origin,
            records=self.own_records(),
            warn=warnings.append,
        )
        write_warnings(warnings, out)

    def _make_reference(self, out: Path, progress: Progress) -> None:
        from edgeft import hf
        from edgeft.merge import load_merged
        from edgeft.parity.record import MergedModel, record_reference

        parity, device = self.config.parity, hf.pick_device(self.config.train.device)
        live = (self.base, open_trained(self.trained))
        path = out / self.reference.path.name
        merged_into = self.merge_base if self.config.train.keeps_rounded_base else None
        load = partial(load_merged, *live, self.merge_base, device)
        model = MergedModel(load, self.merged_weights(), merged_into)
        record_reference(self.base, live, self._tests(parity.records), parity, device, path, progress, model)

    def _checker(self, type_name: str) -> Callable[[Path, Progress], object]:
        def make(out: Path, progress: Progress) -> None:
            from edgeft.parity.check import check_parity

            gguf = GgufFile.open(self.gguf(type_name).path)
            check_parity(self.reference, gguf, self.config.checking, out, progress, self.config.run.threads)

        return make

    def _make_eval_base(self, out: Path, progress: Progress) -> None:
        from edgeft import hf

        device = hf.pick_device(self.config.train.device)
        self._evaluate_torch(hf.load_model(self.base, device, hf.compute_dtype(device)), out, progress)

    def _make_eval_tuned(self, out: Path, progress: Progress) -> None:
        from edgeft import hf

        device = hf.pick_device(self.config.train.device)
        self._evaluate_torch(hf.load_adapted(self.base, open_trained(self.trained), device), out, progress)

    def _evaluate_torch(self, model: PreTrainedModel, out: Path, progress: Progress) -> None:
        from edgeft import hf
        from edgeft.evaluate.on_torch import evaluate_model

        hf.quiet()
        tokenizer = hf.load_tokenizer(self.base.path)
        end_ids = hf.end_token_ids(tokenizer, self.base.path)
        config = self.config.eval
        evaluate_model(model, tokenizer, end_ids, self._tests(config.records), config, out, progress)

    def _evaluator(self, type_name: str) -> Callable[[Path, Progress], object]:
        def make(out: Path, progress: Progress) -> None:
            from edgeft.evaluate.on_edge import evaluate_gguf

            config = self.config.eval
            gguf = GgufFile.open(self.gguf(type_name).path)
            records, threads = self._tests(config.records), self.config.run.threads
            evaluate_gguf(gguf, records, self._n_ctx, config, out, progress, threads)

        return make

"""Every artifact that a configuration asks for: what it is made from, by which stage, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.artifacts import Checkpoint, GgufFile, open_trained
from edgeft.dataset.records import Record, read_records
from edgeft.errors import EdgeftError
from edgeft.files import count_lines
from edgeft.graph.merge_bases import MergeBases
from edgeft.graph.node import Node
from edgeft.graph.places import Places
from edgeft.graph.quantizing import imatrix_text, quantized_nodes, recipes_of
from edgeft.progress import Progress

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

    # What they are made from

    def nodes(self) -> Iterator[Node]:
        """Yields every artifact, after those it needs."""
        config = self.config
        base = {"base": Path(config.base)} if self.base_is_folder else {}
        named = {} if self.base_is_folder else {"base": config.base}
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
        merging = config.merge.model_dump(exclude_defaults=True) | named
        if config.merge.base == "auto":
            measured, texts = named | recipes_of(config, self.fixed_types), base | imatrix_text(config)
            yield Node("merge_base", "merge", self._make_merge_base, ("tokens", "adapter"), measured, texts)
            merged_from = ("adapter", "merge_base")
        yield Node("merged", "merge", self._make_merged, merged_from, merging, base, on_request=True)
        made_from = merged_from if config.convert.converter is None else (*merged_from, "merged")
        converting = config.convert.model_dump(mode="json", exclude={"unquantized"}) | merging
        if config.convert.unquantized:
            yield Node("gguf", "convert", self._make_gguf, made_from, converting, base)
        yield from quantized_nodes(self, merged_from, merging, converting, base)
        yield from self._checks(base, named, ("tokens", *merged_from))

    def _checks(self, base: dict[str, Path], named: dict[str, str], recorded_from: tuple[str, ...]) -> Iterator[Node]:
        parity, evaluation = self.config.parity, self.config.eval
        recorded = parity.model_dump(include=_RECORDED) | named
        recorded |= self.config.merge.model_dump(exclude_defaults=True)
        yield Node("reference", "reference", self._make_reference, recorded_from, recorded, base)
        limits = parity.model_dump(mode="json", exclude=_RECORDED)
        for name in self.file_types:
            yield Node(f"parity/{name}", "parity", self._checker(name), ("reference", self.gguf_node(name)), limits)
        asked = evaluation.model_dump(include={"records", "max_new_tokens"})
        yield Node("eval/base", "eval", self._make_eval_base, ("tokens",), asked | named, base)
        yield Node("eval/tuned", "eval", self._make_eval_tuned, ("tokens", "adapter"), asked | named, base)
        for name in self.file_types:
            yield Node(f"eval/{name}", "eval", self._evaluator(name), ("tokens", self.gguf_node(name)), asked)

    # How they are made

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
        from edgeft.train import train

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
        convert(self.merged_weights(), self.base, config, path, progress, origin=self.origin)

    def _make_reference(self, out: Path, progress: Progress) -> None:
        from edgeft import hf
        from edgeft.merge import load_merged
        from edgeft.parity.record import MergedModel, record_reference

        parity, device = self.config.parity, hf.pick_device(self.config.train.device)
        live = (self.base, open_trained(self.trained))
        path = out / self.reference.path.name
        model = MergedModel(partial(load_merged, *live, self.merge_base, device), self.merged_weights())
        record_reference(self.base, live, self._tests(parity.records), parity, device, path, progress, model)

    def _checker(self, type_name: str) -> Callable[[Path, Progress], object]:
        def make(out: Path, progress: Progress) -> None:
            from edgeft.parity.check import check_parity

            gguf = GgufFile.open(self.gguf(type_name).path)
            check_parity(self.reference, gguf, self.config.parity, out, progress, self.config.run.threads)

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

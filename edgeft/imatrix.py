"""Checkpoint + text -> importance matrix: the mean squared input of every column of every weight matrix.

The same figures as llama.cpp's tools/imatrix, from hooks on the model in torch, so on the GPU where there is one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from edgeft import hf
from edgeft.artifacts import Checkpoint, Tokens, plain_name
from edgeft.config import ImatrixConfig
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.errors import EdgeftError
from edgeft.files import sha256_json
from edgeft.hf.experts import ExpertInputs, column_squares
from edgeft.imatrix_file import Imatrix, Squares, merge_imatrices, read_imatrix, write_imatrix
from edgeft.progress import Progress, silent

_SAVE_SECONDS = 60
_OUTPUT = "output.weight"
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Chunk = Sequence[int]


def chunk_tokens(ids: Sequence[int], n_tokens: int, bos_id: int | None) -> Iterator[list[int]]:
    """Yields whole chunks of `n_tokens`; `bos_id`, where given, takes the place of each chunk's first token.

    As llama.cpp's tools cut a text: what is left over at the end is not seen.
    """
    for start in range(0, len(ids) - n_tokens + 1, n_tokens):
        chunk = list(ids[start : start + n_tokens])
        if bos_id is not None:
            chunk[0] = bos_id
        yield chunk


def measured_texts(
    checkpoint: Checkpoint, tokens: Tokens | None, files: Sequence[Path], config: ImatrixConfig
) -> dict[str, list[list[int]]]:
    """Returns the chunks of every text by its name: of the records that were trained, and of text files.

    Records stand one behind another, as the model saw them; a chunk of a file begins with the model's BOS where it
    has one. A file that is named twice counts once; others of one name are numbered. Raises EdgeftError for files that
    are missing or no UTF-8.
    """
    hf.quiet()
    texts: dict[str, list[list[int]]] = {}
    if tokens is not None:
        ids = TokenizedExamples(tokens.path / "train").ids[: config.tokens].tolist()
        texts["training records"] = list(chunk_tokens(ids, config.chunk_tokens, None))
    for path in {path.resolve(): path for path in files}.values():
        tokenizer = hf.load_tokenizer(checkpoint.path)
        ids = hf.encode(tokenizer, _read(path))
        bos_id = tokenizer.bos_token_id if ids[:1] == [tokenizer.bos_token_id] else None
        numbered = (f"{path.name} ({number})" for number in itertools.count(2))
        name = next(name for name in itertools.chain([path.name], numbered) if name not in texts)
        texts[name] = list(chunk_tokens(ids[: config.tokens], config.chunk_tokens, bos_id))
    return texts


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise EdgeftError("no such file", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise EdgeftError(f"not UTF-8: {error}", where=str(path)) from error


def make_imatrix(
    load: Callable[[], hf.PreTrainedModel],
    names: Mapping[str, str],
    texts: Mapping[str, Sequence[Chunk]],
    config: ImatrixConfig,
    out: Path,
    progress: Progress = silent,
) -> Imatrix:
    """Runs a model over chunks of tokens and writes what went into its weights to the file `out`, in GGUF form.

    `load` gives the model, `names` are the GGUF names of its tensors, `texts` the chunks of each text. A file
    `out`.partial of the same model and the same tokens, which a killed run left, is gone on from. Raises EdgeftError
    when there is no chunk, and when an activation is not finite.
    """
    hf.quiet()
    chunks = [chunk for part in texts.values() for chunk in part]
    if not chunks:
        what = f"the text is shorter than one chunk of {config.chunk_tokens} tokens"
        raise EdgeftError(what, "imatrix.chunk_tokens", "give more text, or make chunks smaller")
    datasets = [f"{name}: {len(part)} chunks" for name, part in texts.items()]
    model, partial = load(), out.with_name(out.name + ".partial")
    measured = sha256_json([_fingerprint(model), list(texts.items()), config.output])
    before = _resumable(partial, measured)
    done = before.chunk_count if before else 0
    squares = _Collector(model, names, output=config.output)
    saved = time.monotonic()
    for start in range(done, len(chunks), config.batch_size):
        progress(start, len(chunks), "chunks of text")
        batch = chunks[start : start + config.batch_size]
        squares.run(batch)
        if time.monotonic() - saved > _SAVE_SECONDS:
            so_far = _joined(before, squares.imatrix(datasets, start + len(batch) - done, config))
            write_imatrix(replace(so_far, measured=measured), partial)
            saved = time.monotonic()
    imatrix = _joined(before, squares.imatrix(datasets, len(chunks) - done, config))
    write_imatrix(imatrix, out)
    partial.unlink(missing_ok=True)
    progress(len(chunks), len(chunks), f"{len(imatrix.squares)} tensors")
    return imatrix


def _resumable(partial: Path, measured: str) -> Imatrix | None:
    """Returns what a killed run left, if it measured the same."""
    try:
        left = read_imatrix(partial)
    except EdgeftError:  # there is none, or it is something else
        return None
    return left if left.measured == measured else None


def _fingerprint(model: hf.PreTrainedModel) -> str:
    """Returns a SHA-256 of a model's configuration and of sums of its weights' bits, in which every weight counts.

    Sums of whole numbers are exact, whatever their order.
    """
    said = json.loads(model.config.to_json_string())
    said.pop("_name_or_path", None)  # a model may be moved
    digest = hashlib.sha256(sha256_json(said).encode())
    for name, weight in model.state_dict().items():
        bits = weight.view(_BITS[weight.element_size()]).cpu().numpy()
        sums = bits.reshape(-1, *bits.shape[-1:]).sum(0, dtype=np.int64)
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode() + sums.tobytes())
    return digest.hexdigest()


def _joined(before: Imatrix | None, now: Imatrix) -> Imatrix:
    return now if before is None else merge_imatrices([before, now])


class _Collector:
    """Sums the squares of what goes into each weight of a model, while it runs.

    Sums are (n_matrices, n_columns) in double precision, counts (n_matrices,): a matrix, or one for each expert.
    """

    def __init__(self, model: hf.PreTrainedModel, names: Mapping[str, str], *, output: bool) -> None:
        self._model = model
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, npt.NDArray[np.float32]] = {}
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None
        self._output = output
        head = cast(Any, model).get_output_embeddings()
        for module_name, module in model.named_modules():
            name = names.get(plain_name(f"{module_name}.weight"), "")
            if module is head:  # which has no tensor of its own where it shares the embedding's
                name = _OUTPUT if output else ""
            if isinstance(module, torch.nn.Linear) and (name.startswith("blk.") or name == _OUTPUT):
                module.register_forward_pre_hook(self._hook(name))
        self._experts = ExpertInputs(model, names, self._add)
        for router, name in self._experts.routers.items():
            router.register_forward_pre_hook(self._hook(name))

    def _add(self, name: str, matrix: int, n_matrices: int, squares: torch.Tensor, count: int) -> None:
        """Adds the squares of `count` rows, (n_columns,), that went into one matrix of several."""
        if name not in self._sums:
            self._sums[name] = torch.zeros((n_matrices, len(squares)), dtype=torch.float64, device=squares.device)
            self._counts[name] = np.zeros(n_matrices, dtype=np.float32)
        self._sums[name][matrix] += squares
        self._counts[name][matrix] += count

    def _hook(self, name: str) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def add(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            values = cast(torch.Tensor, inputs[0])
            # Query, key and value are given one tensor, and so are gate and up.
            if self._last is None or self._last[0] is not values:
                self._last = (values, column_squares(values))
            self._add(name, 0, 1, self._last[1], values.numel() // values.shape[-1])

        return add

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> None:
        """Runs the model over chunks of one length."""
        ids = torch.tensor([list(chunk) for chunk in chunks], device=self._model.device)
        model: Any = self._model
        with self._experts:
            (model if self._output else model.get_decoder())(input_ids=ids, use_cache=False)
        self._last = None

    def imatrix(self, datasets: Sequence[str], chunk_count: int, config: ImatrixConfig) -> Imatrix:
        """Returns what has been seen; raises EdgeftError naming the tensors whose input was not finite."""
        squares = {
            name: Squares(sums.cpu().numpy().astype(np.float32), self._counts[name].copy())
            for name, sums in self._sums.items()
        }
        broken = [name for name, of_one in squares.items() if not np.isfinite(of_one.sums).all()]
        if broken:
            raise EdgeftError(
                f"activations that are not finite go into {', '.join(broken)}",
                remedy="the model is broken, or overflows bfloat16: check the training",
            )
        return Imatrix(squares, list(datasets), chunk_count, config.chunk_tokens)

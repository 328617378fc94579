"""How much each tensor matters: the divergence of the whole model when that tensor alone is quantized.

The divergence is measured with llama.cpp's own codes in torch, on the GPU where there is one. For small errors it
grows with the square of what a layer's output is off by, so from one measurement for each tensor follow all its types:
by the squared error of their codes, weighted by the importance matrix, which costs no run of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeft import hf
from edgeft.artifacts import plain_name
from edgeft.cores import available_cores
from edgeft.errors import EdgeftError
from edgeft.hf.experts import expert_matrices
from edgeft.llamacpp.blocks import block_columns, dequantize_rows, quantize_rows, row_bytes
from edgeft.progress import Progress, silent
from edgeft.quantize.costs import TensorCosts
from edgeft.quantize.passages import Passage

CANDIDATES = ("Q2_K", "IQ3_XXS", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
"""Types of 256-value blocks that a tensor may get, and Q8_0."""
NARROW_CANDIDATES = ("Q4_0", "IQ4_NL", "Q5_0", "Q8_0")
"""For rows that are no multiple of 256."""
_ONLY_WEIGHTED = frozenset({"IQ3_XXS"})
# The divergence of one tensor at this type is far above float32's noise and still small.
_PROBE = {256: "Q4_K", 32: "Q4_0"}
_TIED = ("token_embd.weight", "output.weight")
# llama.cpp leaves the choice of experts as it is.
_ROUTER = "ffn_gate_inp.weight"
# Rows are coded one by one. The ratio of two types' errors over so many of a matrix's rows, up to twice as many, is
# within 2% of that over all (a tuned model, with an importance matrix), and types with codebooks are slow to code.
_ROWS = 512
_BATCH = 16

Importance = Mapping[str, npt.NDArray[np.float32]]
Floats = npt.NDArray[np.float32]


def measure_sensitivity(
    load: Callable[[], hf.PreTrainedModel],
    names: Mapping[str, str],
    passages: Sequence[Passage],
    importance: Importance,
    progress: Progress = silent,
) -> list[TensorCosts]:
    """Returns the costs of every matrix of a model, by its name in GGUF.

    `load` gives the model in float32; `names` are the GGUF names of its tensors, `importance` the mean squares of an
    importance matrix, or empty. One run of the model over the passages for each matrix, and for the experts of a block
    together, which are one tensor in the file. Raises EdgeftError when there are no passages.
    """
    if not passages:
        raise EdgeftError("no record has a trained token", remedy="give the tokens/ folder of a run")
    hf.quiet()
    model = load()
    predictions = _Predictions(model, passages)
    matrices = list(_matrices(model, names))
    costs = []
    for done, (name, weight) in enumerate(matrices):
        progress(done, len(matrices), name)
        costs.append(_costs(name, weight, importance.get(name), predictions.divergence))
    progress(len(matrices), len(matrices), f"{len(costs)} tensors")
    return costs


def _matrices(model: hf.PreTrainedModel, names: Mapping[str, str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the weights that llama.cpp quantizes, (n_matrices, n_rows, n_columns), of which experts have several.

    A head that shares the embedding's is the embedding.
    """
    for module_name, module in model.named_modules():
        name = names.get(plain_name(f"{module_name}.weight"), "")
        wanted = (name.startswith("blk.") and not name.endswith(_ROUTER)) or name in _TIED
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding) and wanted:
            yield name, module.weight.data[None]
    yield from expert_matrices(model, names)


def _costs(name: str, weight: torch.Tensor, importance: Floats | None, divergence: Callable[[], float]) -> TensorCosts:
    values = weight.float().cpu().numpy()
    columns = values.shape[2]
    wide = columns % 256 == 0
    if columns % 32:
        return TensorCosts(name, {"F16": 2 * values.size}, {"F16": 0.0})
    probe = _PROBE[256 if wide else 32]
    some = np.s_[:, :: max(1, values.shape[1] // _ROWS)]
    kept = weight.clone()
    errors: dict[str, float] = {}
    at_probe = 0.0
    for type_name in CANDIDATES if wide else NARROW_CANDIDATES:
        if importance is None and type_name in _ONLY_WEIGHTED:
            continue
        coded = as_coded(values if type_name == probe else values[some], type_name, importance)
        if type_name == probe:
            weight.copy_(torch.from_numpy(coded))
            at_probe = divergence()
            weight.copy_(kept)
            coded = coded[some]
        squares = np.square(coded - values[some], dtype=np.float64).sum(1)
        errors[type_name] = float((squares if importance is None else squares * importance).sum())
    scale = at_probe / errors[probe] if errors[probe] else 0.0
    rows = values.size // columns
    size_bytes = {type_name: rows * row_bytes(type_name, columns) for type_name in errors}
    return TensorCosts(name, size_bytes, {type_name: error * scale for type_name, error in errors.items()})


def as_coded(values: Floats, type_name: str, importance: Floats | None) -> Floats:
    """Returns matrices as a type holds them, each with the weights of its own columns."""
    threads, columns = available_cores(), values.shape[2]
    assert columns % block_columns(type_name) == 0
    coded = np.empty_like(values)
    for number, matrix in enumerate(values):
        weights = None if importance is None else importance[number]
        coded[number] = dequantize_rows(quantize_rows(matrix, type_name, weights, threads), type_name, columns, threads)
    return coded


class _Predictions:
    """What a model predicts at the places that count, and how far it goes from that when its weights are changed."""

    def __init__(self, model: hf.PreTrainedModel, passages: Sequence[Passage]) -> None:
        self._model: Any = model
        by_length = sorted(passages, key=lambda passage: len(passage.ids))
        self._batches = [by_length[start : start + _BATCH] for start in range(0, len(by_length), _BATCH)]
        self._wanted = list(self._log_probabilities())

    def divergence(self) -> float:
        """Returns the mean of sum p log(p / q) over all places, p what the model predicted at first, q what now."""
        total, count = 0.0, 0
        for log_p, log_q in zip(self._wanted, self._log_probabilities(), strict=True):
            total += float((log_p.exp() * (log_p - log_q)).sum(dtype=torch.float64))
            count += log_p.shape[0]
        return total / count

    @torch.inference_mode()
    def _log_probabilities(self) -> Iterator[torch.Tensor]:
        """Yields (n_scored, n_vocab) float32 for each batch; the head runs for the places that count alone."""
        head = self._model.get_output_embeddings()
        for batch in self._batches:
            width = max(len(passage.ids) for passage in batch)
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            seen = torch.zeros_like(ids)
            for row, passage in enumerate(batch):
                ids[row, : len(passage.ids)] = torch.tensor(passage.ids)
                seen[row, : len(passage.ids)] = 1
            device = self._model.device
            hidden = self._model.get_decoder()(
                input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False
            ).last_hidden_state
            rows = np.repeat(np.arange(len(batch)), [len(passage.places) for passage in batch])
            places = np.concatenate([passage.places for passage in batch])
            yield torch.log_softmax(head(hidden[rows, places]).float(), dim=-1)

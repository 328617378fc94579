"""llama.cpp's quantizer."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from edgeft.imatrix_file import Imatrix, read_imatrix
from edgeft.llamacpp.log import LOG, start_llama_cpp

_LONGEST_TEXT = 127


@dataclass(frozen=True)
class QuantizationPlan:
    """What `llama_model_quantize` makes of a file.

    Attributes:
        types: of every tensor by its name, in the order in which it writes them.
        keys: what it writes behind the file's own keys, in place of those of the same names.
        importance: mean squares of the columns by tensor name, (n_matrices, n_columns); empty without an imatrix.
        note: what is worth saying of it.
    """

    types: Mapping[str, str]
    keys: Mapping[str, int | str]
    importance: Mapping[str, npt.NDArray[np.float32]]
    note: str


def imatrix_keys(imatrix: Imatrix, path: Path) -> dict[str, int | str]:
    """Returns the keys that name an importance matrix in a file, as llama.cpp's tools/quantize writes them."""
    keys: dict[str, int | str] = {
        "quantize.imatrix.file": _cut(path.name),
        "quantize.imatrix.dataset": _cut(", ".join(imatrix.datasets)),
        "quantize.imatrix.entries_count": len(imatrix.squares),
        "quantize.imatrix.chunks_count": imatrix.chunk_count,
    }
    return keys


def _cut(text: str) -> str:
    """Returns as much of a text as llama.cpp has room for."""
    return text.encode()[:_LONGEST_TEXT].decode(errors="ignore")


def quantize_here(job: Mapping[str, Any]) -> None:
    """Runs `llama_model_quantize` in this process, printing one JSON object for each line of llama.cpp's log.

    `job` has the paths `source` and `target`; `file_type`, a llama_ftype; `threads`; `tensors`, pairs of a pattern and
    a ggml_type; `output` and `embedding`, a ggml_type or None; `pure`; `imatrix`, a path or None; and `dry_run`, with
    which nothing is read but the header, and nothing written. Call it in a subprocess: a failed assertion in llama.cpp
    ends the process, and there is no way to cancel.
    """
    start_llama_cpp()
    LOG.on_line = lambda line: _say({"log": line})
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = job["file_type"]
    parameters.nthread = job["threads"]
    parameters.pure = job["pure"]
    parameters.dry_run = job["dry_run"]
    if job["output"] is not None:
        parameters.output_tensor_type = job["output"]
    if job["embedding"] is not None:
        parameters.token_embedding_type = job["embedding"]
    held = [_overrides(parameters, job["tensors"])]  # llama.cpp reads them while it runs
    if job["imatrix"] is not None:
        held.append(_importance(parameters, Path(job["imatrix"])))
    status = llama_cpp.llama_model_quantize(job["source"].encode(), job["target"].encode(), parameters)
    if status != 0:
        reasons = [line for line in LOG.errors if line]
        _say({"error": reasons[-1].rpartition("failed to quantize: ")[2] if reasons else f"status {status}"})
        raise SystemExit(1)


def _say(message: Mapping[str, str]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 (the parent reads this)


def _overrides(parameters: Any, tensors: Sequence[tuple[str, int]]) -> Any:
    """Sets the types of tensors by pattern; returns what must live until llama.cpp is done."""
    rows = (llama_cpp.llama_model_tensor_override * (len(tensors) + 1))()
    for row, (pattern, type_number) in zip(rows, tensors, strict=False):
        row.pattern, row.type = pattern.encode(), type_number
    if tensors:
        parameters.tt_overrides = rows
    return rows


def _importance(parameters: Any, path: Path) -> Any:
    """Sets the importance matrix, and the keys that name it in the file; returns what must live until the end."""
    imatrix = read_imatrix(path)
    means = imatrix.means()
    rows = (llama_cpp.llama_model_imatrix_data * (len(means) + 1))()
    for row, (name, values) in zip(rows, means.items(), strict=False):
        row.name, row.size = name.encode(), values.size
        row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    parameters.imatrix = rows
    keys = imatrix_keys(imatrix, path)
    named = (llama_cpp.llama_model_kv_override * (len(keys) + 1))()
    for (key, value), row in zip(keys.items(), named, strict=False):
        row.key = key.encode()
        if isinstance(value, int):
            row.tag, row.value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
        else:
            row.tag, row.value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()
    parameters.kv_overrides = named
    return rows, means, named

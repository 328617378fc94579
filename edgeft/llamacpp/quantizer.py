"""llama.cpp's quantizer."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp

from edgeft.imatrix_file import read_imatrix
from edgeft.llamacpp.log import LOG, start_llama_cpp


def quantize_here(job: Mapping[str, Any]) -> None:
    """Runs `llama_model_quantize` in this process, printing one JSON object for each line of llama.cpp's log.

    `job` has the paths `source` and `target`; `file_type`, a llama_ftype; `threads`; `tensors`, pairs of a pattern and
    a ggml_type; `output` and `embedding`, a ggml_type or None; `pure`; and `imatrix`, a path or None. Call it in a
    subprocess: a failed assertion in llama.cpp ends the process, and there is no way to cancel.
    """
    start_llama_cpp()
    LOG.on_line = lambda line: _say({"log": line})
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = job["file_type"]
    parameters.nthread = job["threads"]
    parameters.pure = job["pure"]
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
    keys: dict[str, str | int] = {
        "file": path.name,
        "dataset": ", ".join(imatrix.datasets),
        "entries_count": len(means),
        "chunks_count": imatrix.chunk_count,
    }
    named = (llama_cpp.llama_model_kv_override * (len(keys) + 1))()
    for key, row in zip(keys, named, strict=False):
        row.key, value = f"quantize.imatrix.{key}".encode(), keys[key]
        if isinstance(value, int):
            row.tag, row.value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
        else:
            row.tag, row.value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()[:127]
    parameters.kv_overrides = named
    return rows, means, named

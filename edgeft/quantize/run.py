"""Runs llama.cpp's quantizer in a process of its own, with progress, and tells what it made."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_VERSION

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError, Problem
from edgeft.files import replacing, require_free_disk
from edgeft.imatrix_file import read_imatrix
from edgeft.llamacpp.blocks import PLAIN_TYPES, dequantize_rows, ordinary_error, quantize_rows
from edgeft.llamacpp.dequantize import dequantize
from edgeft.llamacpp.quantizer import QuantizationPlan, imatrix_keys
from edgeft.processes import python_command
from edgeft.progress import Progress, silent
from edgeft.quant_types import FTYPE, NEEDS_IMATRIX, TENSOR_TYPE, canonical_tensor_type
from edgeft.quantize.patterns import require_matches
from edgeft.quantize.recipe import IMATRIX_REMEDY, Recipe

_TENSOR_LINE = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")
# "type =    f16, size =     0.25 MiB ->     0.07 MiB (q4_K)", or without the arrow where the tensor stays as it is.
_PLANNED = re.compile(r"type =\s*(\w+), size = [^(]*(?:\((\w+)\))?")
# "warning: blk.0.attn_q.weight - ncols 288 not divisible by 256 (required for type q4_K) " and what it becomes.
_FALLBACK_LINE = re.compile(r"warning: (\S+)\s+- ncols\s+(\d+) not divisible")


# `tensor_requires_imatrix` in llama.cpp's src/llama-quant.cpp asks none of these.
_NEVER_WEIGHTED = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")


_WEIGHTS_SAMPLED = 1 << 12
"""Of each tensor, to tell whether a file lies on a type's grid."""


@dataclass
class _Seen:
    """What the worker has said so far."""

    error: str = ""
    total: int = 0
    fallbacks: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)


def quantize(
    source: GgufFile, recipe: Recipe | str, out: Path, threads: int = 0, progress: Progress = silent
) -> GgufFile:
    """Writes `source` as the file `out` by a recipe, or in one of llama.cpp's file types.

    `threads` 0 takes all cores. Tensors whose row size is no multiple of the type's block (256 for K-types) become a
    larger type; the count goes to the last progress line. Raises EdgeftError for an unknown type, one that needs an
    imatrix, an imatrix of another model, a pattern that matches no tensor, an `out` that is the source, too little
    disk, or when llama.cpp fails; nothing is then written.
    """
    recipe = (Recipe(recipe) if isinstance(recipe, str) else recipe).checked()
    require_apart(source, out)
    if recipe.tensors and (names := _tensor_names(source)):
        require_matches(recipe.tensors, names)
    require_free_disk(out.parent, source.size_bytes, f"quantizing to {recipe.file_type}")
    with replacing(out) as partial:
        _run_worker(_job(source, recipe, partial, threads), recipe.file_type, progress)
        if not partial.is_file():
            raise EdgeftError("llama.cpp wrote no file", where=str(source.path))
    return GgufFile.open(out)


def require_apart(source: GgufFile, out: Path) -> None:
    """Raises EdgeftError where a file `out` would take the place of the source or of one of its parts."""
    if any(part.exists() and out.exists() and part.samefile(out) for part in source.parts):
        raise EdgeftError("this is the file that is quantized", str(out), "name another file: this one would be lost")


def _tensor_names(source: GgufFile) -> list[str]:
    """Returns the names of a file's tensors; none for a broken file, of which llama.cpp will say what is wrong."""
    try:
        return [tensor.name for tensor in source.tensors()]
    except (ValueError, IndexError):
        return []


def rounding_of_source(source: GgufFile, recipe: Recipe) -> tuple[float, float]:
    """Returns the norm of what quantizing adds to the weights of a file, over theirs, and what ordinary ones have.

    Measured on some rows of each tensor whose type changes; both are 0 where there is none, or none that can be
    quantized without an importance matrix. Raises EdgeftError as `plan_quantization` does.
    """
    types = plan_quantization(source, recipe).types
    squares = error_squares = ordinary_squares = 0.0
    for tensor in source.tensors():
        kind = types.get(tensor.name, "")
        if kind not in PLAIN_TYPES or kind == tensor.tensor_type.name or tensor.name in _NEVER_WEIGHTED:
            continue
        rows = tensor.data.reshape(-1, tensor.data.shape[-1])
        width = int(tensor.shape[0])
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), max(1, _WEIGHTS_SAMPLED // width))).astype(int)
        values = dequantize(rows[chosen], tensor.tensor_type).astype(np.float32).reshape(-1, width)
        error = dequantize_rows(quantize_rows(values, kind), kind, width) - values
        square = float(np.square(values, dtype=np.float64).sum())
        squares += square
        error_squares += float(np.square(error, dtype=np.float64).sum())
        ordinary_squares += square * ordinary_error(kind) ** 2
    if not squares:
        return 0.0, 0.0
    return math.sqrt(error_squares / squares), math.sqrt(ordinary_squares / squares)


def plan_quantization(source: GgufFile, recipe: Recipe) -> QuantizationPlan:
    """Returns what `quantize` would make of a file, as llama.cpp itself says; the file need have no weights.

    Raises EdgeftError as `quantize` does, and for tensors whose type needs an importance matrix that lacks them.
    """
    recipe = recipe.checked()
    seen = _run_worker(_job(source, recipe, None, 1), recipe.file_type, silent)
    require_matches(recipe.tensors, seen.types)
    keys: dict[str, int | str] = {"general.quantization_version": GGML_QUANT_VERSION}
    keys["general.file_type"] = FTYPE[recipe.file_type]
    importance = {}
    if recipe.imatrix is not None:
        imatrix = read_imatrix(recipe.imatrix)
        keys |= imatrix_keys(imatrix, recipe.imatrix)
        importance = imatrix.means()
    weighted = NEEDS_IMATRIX | ({"Q2_K"} if recipe.file_type == "Q2_K_S" else set())
    lacking = [
        name for name, kind in seen.types.items() if kind in weighted and name not in {*importance, *_NEVER_WEIGHTED}
    ]
    if lacking:
        raise EdgeftError(
            Problem(f"{seen.types[name]} needs an importance matrix with this tensor", name, IMATRIX_REMEDY)
            for name in lacking
        )
    return QuantizationPlan(seen.types, keys, importance, _status(recipe.file_type, seen.fallbacks, seen.total))


def _run_worker(job: dict[str, Any], name: str, progress: Progress) -> _Seen:
    """Runs a job to its end; raises EdgeftError when llama.cpp fails."""
    seen = _Seen()
    command = python_command("-m", "edgeft.quantize.worker")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            _follow(process, name, seen, progress)
            status = process.wait()
        except BaseException:
            process.kill()
            raise
    if status != 0:
        reason = seen.error or (f"killed by signal {-status}" if status < 0 else f"exit status {status}")
        raise EdgeftError(f"llama.cpp could not quantize to {name}: {reason}", where=job["source"])
    return seen


def _job(source: GgufFile, recipe: Recipe, target: Path | None, threads: int) -> dict[str, Any]:
    """Returns what the worker is told; without a `target` it only says what it would do."""
    if recipe.imatrix is not None:
        read_imatrix(recipe.imatrix)  # refuses what is none, before a process is started
    return {
        "source": str(source.path),
        "target": "" if target is None else str(target),
        "dry_run": target is None,
        "file_type": FTYPE[recipe.file_type],
        "threads": threads,
        "tensors": [[pattern, TENSOR_TYPE[name]] for pattern, name in recipe.tensors.items()],
        "output": None if recipe.output is None else TENSOR_TYPE[recipe.output],
        "embedding": None if recipe.embedding is None else TENSOR_TYPE[recipe.embedding],
        "pure": recipe.pure,
        "imatrix": None if recipe.imatrix is None else str(recipe.imatrix),
    }


def _follow(process: subprocess.Popen[str], name: str, seen: _Seen, progress: Progress) -> None:
    """Turns the worker's lines into progress and into what has been seen."""
    assert process.stdout is not None
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        seen.error = message.get("error", seen.error)
        log = message.get("log", "")
        if tensor := _TENSOR_LINE.search(log):
            seen.total = int(tensor[2])
            progress(int(tensor[1]) - 1, seen.total, f"{name}: {tensor[3]}")
            if planned := _PLANNED.search(log):
                seen.types[tensor[3]] = canonical_tensor_type(planned[2] or planned[1])
        if fallback := _FALLBACK_LINE.search(log):
            seen.fallbacks.append(fallback[1])
    progress(seen.total, seen.total, _status(name, seen.fallbacks, seen.total))


def _status(name: str, fallbacks: Sequence[str], total: int) -> str:
    if not fallbacks:
        return name
    return f"{name}: {len(set(fallbacks))} of {total} tensors have row sizes that need a larger type"

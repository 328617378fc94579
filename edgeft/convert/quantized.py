"""Straight to a quantized file: by what llama.cpp would make of the unquantized one, which is never written.

It is asked with that file's header in front of a hole of the right length, which takes no room on the disk.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGUFWriter

from edgeft.artifacts import GgufFile
from edgeft.convert.coding import Coding, unquantized
from edgeft.convert.plan import FoundTensor, Plan
from edgeft.convert.tensors import F32, StoredType, stored_type, value_type
from edgeft.errors import EdgeftError, Problem
from edgeft.llamacpp.quantizer import QuantizationPlan

Planner = Callable[[GgufFile], QuantizationPlan]
"""Tells what a file becomes, from its header alone."""

_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")


def ask(planner: Planner, writer: GGUFWriter) -> QuantizationPlan:
    """Returns the plan for the file that a writer is ready for."""
    header = GGUFWriter(None, "")
    header.kv_data = [dict(writer.kv_data[0])]
    header.tensors = [{name: info for infos in writer.tensors for name, info in infos.items()}]
    # Not beside the file to be: what that is written to may be a stick that has no files with holes.
    with TemporaryDirectory(prefix="edgeft-") as name:
        path = Path(name) / "header.gguf"
        write_header(header, path)
        sizes = [GGUFWriter.ggml_pad(info.nbytes, header.data_alignment) for info in header.tensors[0].values()]
        os.truncate(path, GGUFWriter.ggml_pad(path.stat().st_size, header.data_alignment) + sum(sizes))
        return planner(GgufFile(path))


def add_tensor_infos(writer: GGUFWriter, plan: Plan, tensors: Sequence[tuple[FoundTensor, Coding]]) -> None:
    """Adds to a writer what it has to know of each tensor before there is a weight."""
    for name, tensor in plan.generated.items():
        writer.add_tensor_info(name, tuple(tensor.shape), np.dtype(F32.numpy), tensor.nbytes, F32.ggml)
    for found, coding in tensors:
        name, shape = found.planned.name, found.planned.shape
        size_bytes = coding.size_bytes(math.prod(shape))
        writer.add_tensor_info(name, shape, np.dtype(coding.rounded.numpy), size_bytes, coding.ggml_type)


def planned_types(
    plan: Plan, tensors: Sequence[FoundTensor], matrix_type: StoredType, planner: Planner
) -> Mapping[str, str]:
    """Returns the type of each tensor in a quantized file, by its name; raises EdgeftError as the planner does."""
    writer = GGUFWriter(None, "")
    writer.arch = MODEL_ARCH_NAMES[plan.arch]
    writer.add_architecture()
    for key, value in plan.keys.items():
        writer.add_key_value(key, value, value_type(value))
    codings = (unquantized(stored_type(one.planned.name, one.planned.shape, matrix_type)) for one in tensors)
    add_tensor_infos(writer, plan, list(zip(tensors, codings, strict=True)))
    return ask(planner, writer).types


def write_header(writer: GGUFWriter, path: Path) -> None:
    """Writes keys and tensor infos to a file, or to several if the writer splits."""
    writer.write_header_to_file(path)
    try:
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def quantized_writer(
    writer: GGUFWriter, plan: QuantizationPlan, tensors: Sequence[tuple[FoundTensor, Coding]]
) -> GGUFWriter:
    """Returns a writer of the quantized file, with llama.cpp's order of keys and of tensors."""
    made = GGUFWriter(None, "", split_max_size=writer.split_max_size)
    made.kv_data = [{key: value for key, value in writer.kv_data[0].items() if key not in plan.keys}]
    for key, value in plan.keys.items():
        made.add_key_value(key, value, value_type(value))
    infos = {name: info for held in writer.tensors for name, info in held.items()}
    codings = {found.planned.name: coding for found, coding in tensors}
    for name in plan.types:
        info, coding = infos[name], codings.get(name)
        size_bytes = info.nbytes if coding is None else coding.size_bytes(math.prod(info.shape))
        kind = info.dtype if coding is None else coding.ggml_type
        # ggml counts no outermost dimensions of one.
        shape = tuple(itertools.dropwhile(lambda length: length == 1, info.shape)) or (1,)
        made.add_tensor_info(name, shape, np.dtype(np.float32), size_bytes, kind)
    return made


def recoded(tensors: Sequence[tuple[FoundTensor, Coding]], plan: QuantizationPlan) -> list[tuple[FoundTensor, Coding]]:
    """Returns the tensors with their types by the plan; raises EdgeftError for an imatrix of another model."""
    problems: list[Problem] = []
    found_again = []
    for found, coding in tensors:
        name, shape = found.planned.name, found.planned.shape
        kind, importance = plan.types[name], plan.importance.get(name)
        if importance is not None and kind != coding.type_name:
            matrices, columns = math.prod(shape[:-2]), shape[-1]
            if importance.size == matrices * columns:
                importance = importance.reshape(matrices, columns)
            else:
                if name not in _EMBEDDINGS:  # which llama.cpp then quantizes without
                    what = f"the importance matrix has {importance.size} columns, the tensor {matrices * columns}"
                    problems.append(Problem(what, name, "make it from this model: edgeft imatrix"))
                importance = None
        found_again.append((found, replace(coding, type_name=kind, importance=importance)))
    if problems:
        raise EdgeftError(problems)
    return found_again

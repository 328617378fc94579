"""GGUF -> smaller GGUF, with llama.cpp's own quantizer in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError
from edgeft.files import replacing, require_free_disk
from edgeft.progress import Progress, silent
from edgeft.quant_types import FTYPE, NEEDS_IMATRIX, canonical_type

_TENSOR_LINE = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")
_FALLBACK_LINE = re.compile(r"(\d+) of (\d+) tensor\(s\) required fallback")


def quantize(source: GgufFile, type_name: str, out: Path, threads: int = 0, progress: Progress = silent) -> GgufFile:
    """Writes `source` as the file `out` in one of llama.cpp's file types.

    `threads` 0 takes all cores. Tensors whose row size is no multiple of the type's block (256 for K-types) become a
    larger type; the count goes to the last progress line. Raises EdgeftError for an unknown type, one that needs an
    imatrix, too little disk, or when llama.cpp fails; `out` then does not exist.
    """
    name = canonical_type(type_name)
    if name in NEEDS_IMATRIX:
        raise EdgeftError(f"{name} needs an importance matrix", where="quantize.types", remedy="choose Q2_K or larger")
    require_free_disk(out.parent, source.size_bytes, f"quantizing to {name}")
    with replacing(out) as partial:
        command = [
            sys.executable,
            "-m",
            "edgeft.quantize",
            str(source.path),
            str(partial),
            str(FTYPE[name]),
            str(threads),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                error = _follow(process, name, progress)
                status = process.wait()
            except BaseException:
                process.kill()
                raise
        if status != 0 or not partial.is_file():
            reason = error or (f"killed by signal {-status}" if status < 0 else f"exit status {status}")
            raise EdgeftError(f"llama.cpp could not quantize to {name}: {reason}", where=str(source.path))
    return GgufFile.open(out)


def _follow(process: subprocess.Popen[str], name: str, progress: Progress) -> str:
    """Turns the worker's lines into progress; returns its error, or "" ."""
    assert process.stdout is not None
    error, status, total = "", name, 0
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        error = message.get("error", error)
        log = message.get("log", "")
        if tensor := _TENSOR_LINE.search(log):
            total = int(tensor[2])
            progress(int(tensor[1]) - 1, total, f"{name}: {tensor[3]}")
        elif fallback := _FALLBACK_LINE.search(log):
            status = f"{name}: {fallback[1]} of {fallback[2]} tensors have row sizes that need a larger type"
    progress(total, total, status)
    return error


def _worker() -> None:
    from edgeft.llamacpp import quantize_here

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    source, target, ftype, threads = sys.argv[1:]
    quantize_here(Path(source), Path(target), int(ftype), int(threads))


def _leave_with_parent() -> None:
    """Ends this process when the parent, which holds the other end of stdin, is gone, however it went."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    _worker()

"""llama.cpp's quantizer."""

from __future__ import annotations

import json
from pathlib import Path

import llama_cpp

from edgeft.llamacpp.log import LOG, start_llama_cpp


def quantize_here(source: Path, target: Path, ftype: int, threads: int) -> None:
    """Runs `llama_model_quantize` in this process, printing one JSON object for each tensor as it is reached.

    Call it in a subprocess: a failed assertion in llama.cpp ends the process, and there is no way to cancel.
    """
    start_llama_cpp()
    LOG.on_line = lambda line: print(json.dumps({"log": line}), flush=True)  # noqa: T201 (the parent reads this)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = ftype
    parameters.nthread = threads
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters)
    if status != 0:
        reason = LOG.errors[-1] if LOG.errors else f"status {status}"
        print(json.dumps({"error": reason}), flush=True)  # noqa: T201 (the parent reads this)
        raise SystemExit(1)

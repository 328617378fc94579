"""llama.cpp's own converter, for architectures that are not native: found or fetched, run in its own process."""

from __future__ import annotations

import os
import subprocess
import tarfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from edgeft.artifacts import Checkpoint
from edgeft.config import ConvertConfig
from edgeft.convert.pretokenizer import has_known_rules, pretokenizer_names
from edgeft.convert.tokenizer_files import TokenizerFiles
from edgeft.errors import EdgeftError
from edgeft.processes import python_command
from edgeft.progress import Progress, silent

FETCHED = "fetched"
_SCRIPT = "convert_hf_to_gguf.py"
_NEEDED = (_SCRIPT, "conversion/", "gguf-py/gguf/")
_TIMEOUT_S = 600
# It knows byte-level vocabularies by a hash of a text's ids, which a toggled BOS, an added token or a new vocabulary
# changes. What splits text is in the tokenizer's rules: where the hash is unknown, they give the name.
# For some families it asks transformers to run code that lies in the model's folder: no such code is run.
_PROGRAM = """
import sys

import convert_hf_to_gguf as converter
import transformers

try:
    from conversion.base import TextModel
except ImportError:
    TextModel = converter.TextModel

name, by_hash = sys.argv.pop(1), TextModel.get_vocab_base_pre


def by_hash_or_rules(self, tokenizer):
    try:
        return by_hash(self, tokenizer)
    except NotImplementedError:
        if not name:
            raise
        return name


TextModel.get_vocab_base_pre = by_hash_or_rules


def with_its_own_code(load):
    def loaded(*arguments, **options):
        return load(*arguments, **options | {"trust_remote_code": False})

    return loaded


for auto in (transformers.AutoConfig, transformers.AutoTokenizer):
    auto.from_pretrained = with_its_own_code(auto.from_pretrained)
converter.main()
"""
_SHOWN_LINES = 3


def default_cache() -> Path:
    """Returns the folder of the user in which a fetched converter is kept."""
    return Path.home() / ".cache" / "edgeft"


def cached_converter(cache: Path) -> Path:
    """Returns where the converter of the llama-cpp-python that is installed lies once it is fetched."""
    return cache / f"llama_cpp_python-{version('llama-cpp-python')}"


def fetch_converter(cache: Path, progress: Progress = silent) -> Path:
    """Unpacks the converter out of llama-cpp-python's source distribution, fetched from pip's package index.

    It is of the version that is installed, so that what it writes is what this llama.cpp reads. Does nothing when it
    is there. Raises EdgeftError when pip cannot have it.
    """
    return fetch_parts(cache, cached_converter(cache), _NEEDED, progress)


def fetch_parts(cache: Path, target: Path, needed: tuple[str, ...], progress: Progress = silent) -> Path:
    """Unpacks what of llama.cpp's sources begins with one of `needed` into the folder `target`, and returns it.

    Does nothing when it is there. Raises EdgeftError when pip cannot have llama-cpp-python's source distribution.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):  # another process may want the same
        if not (target / "complete").exists():
            progress(0, 2, "downloading")
            archive = _download(cache)
            progress(1, 2, "unpacking")
            _unpack(archive, target, needed)
            archive.unlink()
    return target


def find_converter(named: str, cache: Path) -> Path:
    """Returns the folder of a converter, by its path or as "fetched"; raises EdgeftError when there is none."""
    folder = cached_converter(cache) if named == FETCHED else Path(named)
    if not (folder / _SCRIPT).is_file():
        remedy = "edgeft converter fetch" if named == FETCHED else "give a checkout of llama.cpp"
        raise EdgeftError(f"there is no {_SCRIPT}", where=str(folder), remedy=remedy)
    return folder


def require_known(converter: Path, source: Checkpoint) -> None:
    """Raises EdgeftError unless the converter knows the checkpoint's architecture."""
    architecture = str((source.config().get("architectures") or ["none"])[0])
    known = _run(converter, ["", "--print-supported-models"], str(converter)).split()
    if architecture not in known:
        where = str(source.path / "config.json")
        raise EdgeftError(f"llama.cpp's converter does not know {architecture}", where, "use a newer llama.cpp")


def run_converter(
    converter: Path, source: Checkpoint, config: ConvertConfig, partial: Path, split_max_bytes: int = 0
) -> None:
    """Converts a checkpoint to `partial`; raises EdgeftError with the converter's last words when it fails."""
    arguments = [_pretokenizer(source), str(source.path), "--outfile", str(partial), "--outtype", config.dtype]
    if config.name is not None:
        arguments += ["--model-name", config.name]
    if split_max_bytes:
        arguments += ["--split-max-size", f"{split_max_bytes // 1000}K"]
    _run(converter, arguments, str(source.path))


def _pretokenizer(source: Checkpoint) -> str:
    """Returns the name that the tokenizer's rules have in llama.cpp, "" where they are not known."""
    try:
        tokenizer = TokenizerFiles.read(source.path).tokenizer
        return pretokenizer_names(tokenizer, "", str(source.path))[0] if has_known_rules(tokenizer) else ""
    except EdgeftError:
        return ""


def _run(converter: Path, arguments: list[str], where: str) -> str:
    # Its own gguf goes first: the package index's differs though it bears the same version.
    path = os.pathsep.join([str(converter / "gguf-py"), str(converter)])
    command = python_command("-c", _PROGRAM, *arguments)
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = "\n".join(lines[-_SHOWN_LINES:]) or f"exit status {done.returncode}"
        raise EdgeftError(f"llama.cpp's converter failed: {reason}", where)
    return done.stdout + done.stderr


def _download(cache: Path) -> Path:
    number = version("llama-cpp-python")
    cache.mkdir(parents=True, exist_ok=True)
    command = python_command("-m", "pip", "download", "--no-binary", ":all:", "--no-deps", "--quiet")
    command += ["--dest", str(cache), f"llama-cpp-python=={number}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    archive = cache / f"llama_cpp_python-{number}.tar.gz"
    if done.returncode or not archive.is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        what = f"llama-cpp-python's source distribution cannot be downloaded: {reason}"
        raise EdgeftError(what, remedy="check the network, or give a checkout of llama.cpp")
    return archive


def _unpack(archive: Path, target: Path, needed: tuple[str, ...]) -> None:
    with tarfile.open(archive) as file:
        for member in file:
            inside = member.name.partition("/vendor/llama.cpp/")[2]
            source = file.extractfile(member) if inside.startswith(needed) and member.isfile() else None
            path = (target / inside).resolve()
            if source is not None and path.is_relative_to(target.resolve()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(source.read())
    (target / "complete").touch()

"""Files that are either complete or absent: hashes, atomic writes, disk space."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from errno import EISDIR
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from edgeft.errors import EdgeftError, Problem

_HASH_BLOCK_BYTES = 1 << 20
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def sha256_file(path: Path) -> str:
    """Returns the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def count_lines(path: Path) -> int:
    """Returns the newlines of a file, at the speed of the disk; 0 when there is no such file."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_HASH_BLOCK_BYTES), b""))


def sha256_json(value: object) -> str:
    """Returns the hex SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def list_files(root: Path) -> list[Path]:
    """Returns every regular file under a folder, sorted, hidden ones left out."""
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def flush(path: Path) -> None:
    """Waits until a file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed to disk and renamed over `path`, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def placing(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder in `folder`; on success its files are flushed and moved into `folder`, the first last.

    So whoever finds the first of several files finds them all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{os.getpid()}.partial"
    partial.mkdir()
    try:
        yield partial
        for path in sorted(list_files(partial), reverse=True):
            flush(path)
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """Yields a new temporary folder beside `path` and renames it on success; raises EdgeftError when `path` exists."""
    if path.exists():
        raise EdgeftError("already exists", where=str(path), remedy="name another folder, or remove it")
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in list_files(partial):
            flush(file)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Writes a JSON value atomically, as `json_text` has it, with a final newline."""
    write_text(path, json_text(value) + "\n")


def json_text(value: object, indent: int | None = 2) -> str:
    """Returns a value as JSON; NaN and infinities, for which JSON has no word, are null.

    What UTF-8 cannot hold, as a file's name in another encoding, is escaped, as JSON does it.
    """
    return printable(json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False))


def printable(text: str) -> str:
    """Returns a text with the halves of surrogate pairs escaped, which are no characters and cannot be written.

    JSON may hold them, and a byte of a file's name that is not UTF-8 is read as one.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_writable(paths: Iterable[Path]) -> None:
    """Raises EdgeftError, naming all, unless files can be made at these paths; what is there already stays."""
    problems = []
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=path.parent):
                pass
            if path.is_dir():
                raise IsADirectoryError(EISDIR, "it is a folder")
        except OSError as error:
            problems.append(Problem(f"cannot be written: {error.strerror}", str(path), "name another file"))
    if problems:
        raise EdgeftError(problems)


def read_object(path: Path) -> dict[str, Any]:
    """Returns a JSON object; an empty one for a file that is missing or holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def require_object(path: Path) -> dict[str, Any]:
    """Returns a JSON object, an empty one for a file that is missing; raises EdgeftError for a file without one."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EdgeftError(f"cannot be read as JSON: {error}", str(path)) from error
    if not isinstance(value, dict):
        raise EdgeftError("expected a JSON object", str(path))
    return value


def require_text(path: Path) -> str:
    """Returns the text of a file; raises EdgeftError for one that is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EdgeftError(f"not UTF-8: {error}", str(path), "save it as UTF-8") from error


def require_free_disk(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raises EdgeftError unless the file system of `folder`, which need not exist yet, has `needed_bytes` free."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise EdgeftError(
            f"{purpose} needs {human_size(needed_bytes)} and {human_size(free_bytes)} are free",
            where=str(folder),
            remedy="free some space, or name another folder",
        )


def human_size(size_bytes: float) -> str:
    """Returns a size in decimal units as disks and downloads state it: 812 B, 18.9 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def parse_size(text: str) -> int:
    """Returns the bytes of a size such as 700MB, 1.2 GB or 500M, in decimal units.

    Raises:
        EdgeftError: It is something else, has no unit, or is nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?b|[kmg])\s*", text, flags=re.IGNORECASE)
    size_bytes = 0 if found is None else round(float(found[1]) * _UNITS[found[2].lower().removesuffix("b")])
    if not size_bytes:
        raise EdgeftError(f"{text!r} is no size", remedy="write it as 700MB or 1.2GB")
    return size_bytes

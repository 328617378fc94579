"""Where a run's artifacts live, their manifests, and what is stale.

An artifact is a folder. It is made as `<name>.partial` and renamed when it is complete, so a folder under its final
name is never half-written. Its `manifest.json` says what it was made from; its *key* is a hash of the stage, the
stage's version, its slice of the configuration and the content of its inputs. An artifact is stale when the key that
its inputs and configuration give now differs from the one in its manifest.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgeft import __version__
from edgeft.errors import EdgeftError, Problem
from edgeft.files import flush, list_files, read_object, sha256_file, sha256_json, write_json

MANIFEST = "manifest.json"
_WARNINGS = "warnings.json"
SCHEMA_VERSION = 1
_PARTS = {"schema_version", "key", "config", "inputs", "files", "finished"}
"""What a manifest is read for."""
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "gguf", "numpy")


@dataclass(frozen=True)
class Recipe:
    """What decides an artifact's content. `inputs` maps a name to the SHA-256 of what it holds.

    `open_until_used` names the keys of `config` that an unfinished artifact may differ in and still be gone on with:
    the stage sees to it that the result is the same.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    open_until_used: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A hash of everything above."""
        return sha256_json([self.stage, self.version, dict(self.config), dict(self.inputs)])

    @property
    def partial_key(self) -> str:
        """A hash of what an unfinished artifact must agree in."""
        config = {key: value for key, value in self.config.items() if key not in self.open_until_used}
        return sha256_json([self.stage, self.version, config, dict(self.inputs)])


class RunDir:
    """The folder of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Returns where the artifact of that name is when it is complete."""
        return self.root / name

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Returns an artifact's manifest, or None when there is no complete artifact of that name and schema."""
        manifest = read_object(self.root / name / MANIFEST)
        whole = manifest.keys() >= _PARTS and manifest["schema_version"] == SCHEMA_VERSION
        return manifest if whole else None

    def why_stale(self, name: str, recipe: Recipe) -> str:
        """Returns why the artifact has to be made, in a few words, or "" when it is up to date."""
        manifest = self.manifest(name)
        if manifest is None:
            return "unfinished" if self._partial_key(name) == recipe.partial_key else "missing"
        if manifest["key"] == recipe.key:
            return self._damage(name, manifest)
        changed = [key for key in recipe.config if manifest["config"].get(key) != recipe.config[key]]
        changed += [key for key in manifest["config"] if key not in recipe.config]
        changed += [key for key, digest in recipe.inputs.items() if manifest["inputs"].get(key) != digest]
        return f"changed: {', '.join(changed)}" if changed else "made by another version"

    def _damage(self, name: str, manifest: dict[str, Any]) -> str:
        for entry in manifest["files"]:
            path = self.root / name / entry["path"]
            if not path.is_file() or path.stat().st_size != entry["size_bytes"]:
                return f"damaged: {entry['path']}"
        return ""

    def content_hash(self, name: str) -> str:
        """Returns the hash of an artifact's files, so that remaking it with equal bytes makes nothing below stale."""
        manifest = self.manifest(name)
        if manifest is None:
            raise EdgeftError("this artifact has not been made", where=str(self.path(name)))
        files = [entry for entry in manifest["files"] if not entry["path"].startswith("logs/")]
        return sha256_json([[entry["path"], entry["sha256"]] for entry in files])

    def is_of_what_is_there(self, name: str) -> bool:
        """Whether the artifacts that this one was made from are still those: else it tells of another file."""
        inputs = (self.manifest(name) or {"inputs": {}})["inputs"]
        return all(self.content_hash(one) == digest for one, digest in inputs.items() if self.manifest(one))

    def tells(self, name: str, report: str) -> bool:
        """Whether an artifact has a report of that file name, and of what is there."""
        return (self.path(name) / report).exists() and self.is_of_what_is_there(name)

    @contextmanager
    def produce(self, name: str, recipe: Recipe, *, resumable: bool = False) -> Iterator[Path]:
        """Yields the partial folder to write into; on success writes its manifest and renames it to its final name.

        What a killed attempt left is removed first; only a `resumable` stage is handed the partial folder of an
        earlier attempt at the *same* recipe as it is.
        """
        final, partial = self.path(name), self.partial(name)
        if not resumable or self._partial_key(name) != recipe.partial_key:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_json(partial / ".key.json", recipe.partial_key)
        started = time.monotonic()
        yield partial
        for path in list_files(partial):
            flush(path)
        write_json(partial / MANIFEST, self._new_manifest(partial, recipe, time.monotonic() - started))
        self._swap(partial, final)
        (final / ".key.json").unlink()  # last, so that a kill before the renaming loses nothing that can be resumed

    def _swap(self, partial: Path, final: Path) -> None:
        outgoing = final.with_name(f"{final.name}.outgoing.partial")
        shutil.rmtree(outgoing, ignore_errors=True)
        if final.exists():
            final.rename(outgoing)
        partial.rename(final)
        shutil.rmtree(outgoing, ignore_errors=True)

    def partial(self, name: str) -> Path:
        """Returns where the artifact of that name is made."""
        return self.root / f"{name}.partial"

    def _partial_key(self, name: str) -> str | None:
        try:
            key: str = json.loads((self.partial(name) / ".key.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return key

    def _new_manifest(self, folder: Path, recipe: Recipe, seconds: float) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "stage": recipe.stage,
            "stage_version": recipe.version,
            "key": recipe.key,
            "config": dict(recipe.config),
            "inputs": dict(recipe.inputs),
            "files": [
                {
                    "path": path.relative_to(folder).as_posix(),
                    "size_bytes": path.stat().st_size,
                    "sha256": sha256_file(path),
                }
                for path in list_files(folder)
                if path != folder / MANIFEST  # left by an attempt that was killed before its renaming
            ],
            "seconds": round(seconds, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "edgeft": __version__,
            "libraries": dict(_installed_versions()),
            "machine": {"system": platform.platform(), "processor": platform.machine()},
        }

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for this process; raises EdgeftError when another one is at work in it."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise EdgeftError(
                "another edgeft is at work in this run", str(self.root), "wait for it to finish"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def input_hash(self, path: Path) -> str:
        """Returns the SHA-256 of a file, or of all files of a folder, remembered by size and time of change.

        A folder's .md files do not count: a better model card makes no other model.
        """
        files = [path] if path.is_file() else [file for file in list_files(path) if file.suffix != ".md"]
        memory_path = self.root / ".hashes.json"
        memory = read_object(memory_path)
        digests = []
        changed = False
        for file in files:
            stamp = [file.stat().st_size, file.stat().st_mtime_ns]
            known = memory.get(str(file))
            if known is None or known[:2] != stamp:
                memory[str(file)] = known = [*stamp, sha256_file(file)]
                changed = True
            digests.append([file.name if path.is_file() else file.relative_to(path).as_posix(), known[2]])
        if changed and self.root.is_dir():
            write_json(memory_path, memory)
        return sha256_json(digests)


def write_warnings(warnings: Sequence[Problem], folder: Path) -> None:
    """Writes what a person has to weigh about an artifact beside it; nothing where there is nothing."""
    if warnings:
        write_json(folder / _WARNINGS, {"warnings": [vars(warning) for warning in warnings]})


def read_warnings(folder: Path) -> list[Problem]:
    """Returns what a person has to weigh about an artifact."""
    return [Problem(**warning) for warning in read_object(folder / _WARNINGS).get("warnings", [])]


def _installed_versions() -> Iterator[tuple[str, str]]:
    for library in _LIBRARIES:
        try:
            yield library, importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue

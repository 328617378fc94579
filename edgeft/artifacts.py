"""What stages hand to one another: typed paths. Opening one checks that it is what it claims to be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError, Problem

if TYPE_CHECKING:
    from gguf import ReaderTensor

Message = dict[str, Any]
"""One turn of a conversation: `role`, `content`, and for tools `tool_calls`, `tool_call_id`, `name`."""

METHOD_RECORD = "method.json"
"""In the folder of what was trained: how, so that it can be loaded as it was trained."""

BASE_RECORD = "base.json"
"""In an adapter's folder: the fingerprint of the base's weights that it was trained on."""

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_PEFT_NAME = re.compile(
    r"base_model\.model\.(?!.*\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)"
    r"(?!.*\.lora_(?:embedding_)?[AB]\.(?!weight$|bias$)).+"
)
_SINGLE_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Tokens:
    """A folder with `train/` and `evaluation/` (stores of token ids and loss mask), `test.jsonl` and `tokens.json`."""

    path: Path


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face model folder: config.json, safetensors (single or sharded), tokenizer."""

    path: Path

    @property
    def index_path(self) -> Path | None:
        """The index of the shards; None where one file holds the weights, which goes first, as in transformers.

        `save_pretrained` over a model in shards removes these, writes one file, and leaves the index.
        """
        return None if (self.path / _SINGLE_FILE).is_file() else self.path / _INDEX

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Raises EdgeftError unless `path` is a folder with a config.json and safetensors weights."""
        if path.suffix == ".gguf" and path.is_file():
            remedy = f"make one of it: edgeft import {path.name} --out {path.stem}"
            raise EdgeftError("this is a GGUF file, and a checkpoint is needed here", str(path), remedy)
        if not path.is_dir():
            raise EdgeftError("no such model folder", where=str(path), remedy="give a checkpoint folder or a hub id")
        if not (path / "config.json").is_file():
            raise EdgeftError("this folder has no config.json", where=str(path), remedy="is it a model folder?")
        if not any((path / name).is_file() for name in (_SINGLE_FILE, _INDEX)):
            pickled = any((path / name).exists() for name in _PICKLED_WEIGHTS)
            what = "the weights are pickles, which can run code" if pickled else "this folder has no weights"
            raise EdgeftError(what, where=str(path), remedy="it needs model.safetensors, or shards with their index")
        if (path / "adapter_config.json").is_file():
            what = "this folder holds a whole model and an adapter, adapter_config.json: transformers would add it"
            remedy = (
                "is it merged in already? then delete adapter_config.json and adapter_model.safetensors; else move "
                "both into a folder of their own, and name it as the adapter"
            )
            raise EdgeftError(what, str(path), remedy)
        return cls(path)

    def config(self) -> dict[str, Any]:
        """Returns config.json."""
        return _read_object(self.path / "config.json")


def plain_name(name: str) -> str:
    """Returns a tensor's name without the prefix of the text model, which models of several modalities have.

    They have it at one place in memory and at another on the disk: `model.language_model.layers.0` and
    `language_model.model.layers.0` are both `model.layers.0`.
    """
    return name.replace("language_model.", "")


@dataclass(frozen=True)
class Adapter:
    """An adapter folder, peft's or mlx-lm's: adapter_config.json and the weights as safetensors."""

    path: Path

    @property
    def weights_path(self) -> Path:
        """The file of the weights: adapter_model.safetensors, or mlx-lm's adapters.safetensors."""
        mlx = self.path / "adapters.safetensors"
        peft = self.path / "adapter_model.safetensors"
        return mlx if mlx.is_file() and not peft.is_file() else peft

    @property
    def is_peft(self) -> bool:
        """Whether peft wrote it."""
        return self.weights_path.name == "adapter_model.safetensors"

    def require_named_as_peft(self, names: Iterable[str]) -> None:
        """Raises EdgeftError unless peft itself would load tensors of these names: others it leaves out."""
        strange = next((name for name in names if not _PEFT_NAME.fullmatch(name)), None)
        if strange is not None:
            what = "peft would not load this tensor: another program, or a wrapper around the model, has named it"
            raise EdgeftError(what, f"{self.weights_path}: {strange}", "merge it, which reads it: edgeft merge")

    @classmethod
    def open(cls, path: Path) -> Adapter:
        """Raises EdgeftError unless `path` is a folder with an adapter's configuration and safetensors weights."""
        if (path / "adapter_model.bin").is_file() and not (path / "adapter_model.safetensors").is_file():
            what = "the adapter's weights are a pickle, which can run code"
            raise EdgeftError(what, str(path / "adapter_model.bin"), "save it as safetensors")
        opened = cls(path)
        for file in (path / "adapter_config.json", opened.weights_path):
            if not file.is_file():
                remedy = "give an adapter folder of peft or of mlx-lm"
                raise EdgeftError(f"this folder has no {file.name}", where=str(path), remedy=remedy)
        return opened

    def config(self) -> dict[str, Any]:
        """Returns adapter_config.json."""
        return _read_object(self.path / "adapter_config.json")


Trained = Adapter | Checkpoint
"""What a training gives: an adapter for the base, or a whole checkpoint."""


def open_trained(path: Path) -> Trained:
    """Opens an adapter, or a checkpoint that edgeft has trained whole; raises EdgeftError for any other folder."""
    whole = (path / METHOD_RECORD).is_file() and not (path / "adapter_config.json").is_file()
    return Checkpoint.open(path) if whole else Adapter.open(path)


@dataclass(frozen=True)
class GgufFile:
    """A complete GGUF file, or the first of several that hold one model, which llama.cpp reads together."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Raises EdgeftError unless `path` and its other parts are files that start with GGUF's magic number."""
        if not path.is_file():
            raise EdgeftError("no such file", where=str(path), remedy="give a .gguf file")
        opened = cls(path)
        problems = []
        if opened.parts[0] != path:
            problems.append(Problem("this is not the first part", str(path), f"give {opened.parts[0].name}"))
        for part in opened.parts:
            if not part.is_file():
                problems.append(Problem("this part is missing", str(part), "copy all parts into one folder"))
                continue
            with part.open("rb") as file:
                if file.read(4) != b"GGUF":
                    problems.append(Problem("this is not a GGUF file", str(part), "make one: edgeft convert"))
        if problems:
            raise EdgeftError(problems)
        return opened

    @property
    def parts(self) -> list[Path]:
        """All files of the model, in order."""
        match = _PART.fullmatch(self.path.name)
        if match is None:
            return [self.path]
        count = int(match[3])
        return [self.path.with_name(f"{match[1]}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]

    @property
    def size_bytes(self) -> int:
        """The size of all parts."""
        return sum(part.stat().st_size for part in self.parts)

    def tensors(self) -> Iterator[ReaderTensor]:
        """Yields the tensors of all parts, mapped from the files; raises ValueError or IndexError for a broken one."""
        from gguf import GGUFReader

        for part in self.parts:
            yield from GGUFReader(part).tensors


@dataclass(frozen=True)
class Reference:
    """A parity reference: one .npz with everything the check on the device needs."""

    path: Path


@dataclass(frozen=True)
class ParityReport:
    """A folder with `parity.json`: the verdict on one GGUF file and the figures behind it."""

    path: Path

    def content(self) -> dict[str, Any]:
        """Returns parity.json."""
        return _read_object(self.path / "parity.json")


@dataclass(frozen=True)
class EvalReport:
    """A folder with `eval.json`: the metrics of one engine, and `answers.jsonl`."""

    path: Path

    def content(self) -> dict[str, Any]:
        """Returns eval.json."""
        return _read_object(self.path / "eval.json")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EdgeftError(f"cannot be read as JSON: {error}", where=str(path)) from error
    if not isinstance(value, dict):
        raise EdgeftError("expected a JSON object", where=str(path))
    return value

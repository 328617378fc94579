"""Rows of datasets on the Hugging Face hub, and of those that the datasets library has saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.row import Row, without_nulls
from edgeft.errors import EdgeftError

_NAME = re.compile(r"(?P<name>[^:@]+)(?::(?P<config>[^:@/\\]+))?(?:@(?P<split>[^:@/\\]+))?")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_DEFAULT_SPLIT = "train"
_NAMED = "name it as owner/name, owner/name:config or owner/name@split; `hf auth login` opens a private one"
_UNREACHABLE = "see that the network is up and HF_HUB_OFFLINE unset, or save the dataset to a folder, and name that"
_SAVED_BY_DATASETS = ("dataset_dict.json", "state.json")


@dataclass(frozen=True)
class DatasetName:
    """A dataset as a source names it: `owner/name`, `owner/name:config`, `owner/name@split` or with both.

    `name` may be a folder instead, as `folder@test`.
    """

    name: str
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> DatasetName:
        """Splits a source into its parts; one that cannot be split is a name."""
        match = _NAME.fullmatch(text)
        return cls(text) if match is None else cls(match["name"], match["config"], match["split"])

    @property
    def is_hub_id(self) -> bool:
        """Whether the name has the shape of a hub id, `owner/name`."""
        return _HUB_ID.fullmatch(self.name) is not None


def is_saved_dataset(folder: Path) -> bool:
    """Returns whether the datasets library wrote a folder (`save_to_disk`)."""
    return any((folder / name).is_file() for name in _SAVED_BY_DATASETS)


def dataset_rows(dataset: DatasetName, source: str) -> Iterator[Row | Finding]:
    """Streams the rows of a dataset, numbered from 1: its split, else "train", else the only one that it has.

    A null is as if the key were absent. What the hub refuses comes out as an error. Raises EdgeftError without the
    datasets library.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise EdgeftError("reading this needs datasets", source, "pip install 'edgeft[train]'") from error
    number = 0
    try:
        if Path(dataset.name).is_dir() and is_saved_dataset(Path(dataset.name)):
            if dataset.config is not None:
                raise ValueError(f"there is no configuration {dataset.config!r}: a saved dataset has none")
            loaded: Any = datasets.load_from_disk(dataset.name)
        else:
            loaded = datasets.load_dataset(dataset.name, dataset.config, streaming=True)
        for row in _split(loaded, dataset.split):
            number += 1
            yield Row(Place(source, number), without_nulls(dict(row)))
    except Exception as error:
        unreachable = isinstance(error, ConnectionError) or _is_transport_error(error)
        if not unreachable and not isinstance(error, OSError | ValueError | datasets.exceptions.DatasetsError):
            raise
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = _UNREACHABLE if unreachable else _NAMED
        place = Place(source, number + 1 if number else 0)
        yield Finding("error", "dataset-unavailable", place, f"the dataset cannot be read: {first_line}", remedy)


def _is_transport_error(error: Exception) -> bool:
    """Whether the HTTP library of the hub gave up: its errors have no base in common with those of Python."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore")


def _split(loaded: Any, split: str | None) -> Iterable[Mapping[str, Any]]:
    """Returns one split; raises ValueError for one that there is not, and where it is not clear which is meant."""
    if not isinstance(loaded, dict):
        if split not in (None, str(loaded.split)):
            raise ValueError(f"there is no split {split!r}: it is {str(loaded.split)!r}")
        rows: Iterable[Mapping[str, Any]] = loaded
        return rows
    name = split or (_DEFAULT_SPLIT if len(loaded) > 1 else next(iter(loaded), _DEFAULT_SPLIT))
    if name not in loaded:
        raise ValueError(f"there is no split {name!r}: there are {', '.join(loaded)}")
    chosen: Iterable[Mapping[str, Any]] = loaded[name]
    return chosen

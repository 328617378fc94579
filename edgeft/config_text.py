"""A configuration as TOML again, with every default filled in, for another folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeft.config import Config


def to_toml(config: Config, folder: Path) -> str:
    """Returns a configuration with every default filled in, as TOML for a file in `folder`."""

    def moved(path: str) -> str:
        return Path(os.path.relpath(config.path(path), folder)).as_posix()

    def moved_source(source: str) -> str:
        return source if config.local_source(source) is None else moved(source)

    tables = config.model_dump(mode="json", exclude_none=True)
    if Path(config.base).is_absolute():
        tables["model"]["base"] = moved(config.model.base)
    dataset = tables["dataset"]
    for key in {"evaluation", "test"} & dataset.keys():
        dataset[key] = moved_source(dataset[key])
    if isinstance(dataset["train"], str):
        dataset["train"] = moved_source(dataset["train"])
    else:
        dataset["train"] = [{**source, "path": moved_source(source["path"])} for source in dataset["train"]]
    if config.imatrix.text is not None:
        tables["imatrix"]["text"] = moved(config.imatrix.text)
    if config.converter != config.convert.converter and config.convert.converter is not None:
        tables["convert"]["converter"] = moved(config.convert.converter)
    tables["run"]["directory"] = moved(config.run.directory)
    return "\n".join(_toml_lines(tables, ""))


def _toml_lines(table: Mapping[str, Any], name: str) -> Iterator[str]:
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if values and name:
        yield f"[{name}]"
    for key, value in values.items():
        yield f"{_toml_key(key)} = {_toml_value(value)}"
    if values:
        yield ""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _toml_lines(value, f"{name}.{_toml_key(key)}" if name else key)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # JSON's strings, numbers and truth values are TOML's too

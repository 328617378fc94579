"""Reading a configuration file, every mistake reported at once with its dotted key."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edgeft.config.section import Section
from edgeft.config.sections import Config, ParityThresholds, SourceConfig
from edgeft.errors import EdgeftError, Problem, nearest


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads TOML, applies `overrides` such as "train.lora.rank=8"; raises EdgeftError naming every mistake."""
    if not path.is_file():
        raise EdgeftError("no such configuration file", where=str(path), remedy="name one with -c FILE")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EdgeftError(f"not valid TOML: {error}", where=str(path)) from error
    problems = [problem for override in overrides if (problem := _apply_override(tables, override)) is not None]
    if "root" in tables:
        problems.append(Problem("unknown key", f"{path}: root", nearest("root", _known_keys(()))))
    try:
        config = Config.model_validate({**tables, "root": path.parent.resolve()})
    except ValidationError as error:
        # A list whose entries are wrong is also called too short, which helps nobody.
        faults = [details for details in error.errors() if details["type"] != "too_short" or not details["input"]]
        raise EdgeftError([*problems, *(_problem(path, details) for details in faults)]) from error
    if problems:
        raise EdgeftError(problems)
    return config


def _apply_override(tables: dict[str, Any], override: str) -> Problem | None:
    """Sets one key; returns what is wrong with the override instead, if anything is."""
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not key:
        return Problem(f"{override!r} is not KEY=VALUE", "--set", "as in --set train.lora.rank=8")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    table = tables
    for parent in parents:
        child = table.setdefault(parent, {})
        if not isinstance(child, dict):
            return Problem(f"{parent!r} holds a value and has no keys under it", f"--set {override}")
        table = child
    table[last] = value
    return None


_MARKS: Final = ("[key]", "[text]", "[list]")
"""pydantic's mark of a bad key of a mapping, and ours of what a value was taken for."""


_MOVED: Final = {"quantize.threads": "run.threads"}


def _problem(path: Path, details: Any) -> Problem:
    location = [str(part) for part in details["loc"] if part not in _MARKS]
    where = f"{path}: {'.'.join(location)}"
    if details["type"] == "extra_forbidden":
        moved = _MOVED.get(".".join(location))
        remedy = f"it is now {moved}" if moved else nearest(location[-1], _known_keys(location[:-1]))
        return Problem("unknown key", where, remedy)
    if details["type"] == "missing":
        return Problem("this key is required", where, _description(location))
    if details["type"] == "value_error":
        what, _, remedy = str(details["ctx"]["error"]).partition("; ")
        return Problem(what, where, remedy)
    return Problem(f"{details['msg'][0].lower()}{details['msg'][1:]}, not {details['input']!r}", where)


def _section(location: Sequence[str]) -> type[Section]:
    """Returns the model of the table at a dotted key."""
    section: type[Section] = Config
    for name in location:
        if field := section.model_fields.get(name):  # else an entry of a list or a mapping
            table: Any = field.annotation
            is_table = isinstance(table, type) and issubclass(table, Section)
            section = table if is_table else _ENTRIES.get(name, ParityThresholds)
    return section


_ENTRIES: Final[dict[str, type[Section]]] = {"train": SourceConfig}
"""What a list holds. The one mapping among the tables is that from type names to thresholds."""


def _known_keys(location: Sequence[str]) -> list[str]:
    return [name for name in _section(location).model_fields if name != "root"]


def _description(location: Sequence[str]) -> str:
    field = _section(location[:-1]).model_fields[location[-1]]
    if field.description is not None:
        return field.description
    return "a table with the keys " + ", ".join(_known_keys(location))

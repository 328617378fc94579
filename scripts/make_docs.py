"""Writes docs/configuration.md from the configuration's own models. A test holds the two together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edgeft.config import Config, Section

TARGET = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
_HEAD = """# Configuration

One TOML file describes a run. Paths in it are relative to the file. An unknown key, a wrong type or an impossible
value is an error that names the key. `--set train.lora.rank=8` on the command line overrides a key.
"""


def configuration_page() -> str:
    """Returns the whole page."""
    return "\n".join([_HEAD, *_sections(Config, "")])


def _sections(section: type[Section], path: str) -> Iterator[str]:
    tables: list[tuple[str, type[Section]]] = []
    rows: list[str] = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section) and _is_table(field):
            tables.append((name, field.annotation))
        elif name != "root":
            rows.append(f"| `{name}` | {_type_name(field)} | {_default(field)} | {field.description or ''} |")
    if rows:
        yield f"## `[{path}]`\n\n{section.__doc__}\n"
        yield "\n".join(["| key | type | default | |", "| --- | --- | --- | --- |", *rows]) + "\n"
    for name, table in tables:
        yield from _sections(table, f"{path}.{name}" if path else name)


def _is_table(field: FieldInfo) -> bool:
    """Whether the section is a table of its own, rather than a value such as a set of thresholds."""
    return field.default is PydanticUndefined


def _type_name(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    if annotation in names:
        return names[annotation]
    if get_origin(annotation) is tuple:
        return "list of strings"
    inner = [names[choice] for choice in get_args(annotation) if choice in names]
    return inner[0] if len(inner) == 1 else "table"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "unset"
    if isinstance(default, Section):
        return ", ".join(f"`{key} = {value}`" for key, value in default.model_dump().items())
    if isinstance(default, dict):
        return "; ".join(f"`{key}`: {', '.join(f'`{k} = {v}`' for k, v in value)}" for key, value in default.items())
    if isinstance(default, tuple):
        return ", ".join(f"`{entry}`" for entry in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    TARGET.write_text(configuration_page(), encoding="utf-8")
    print(f"{TARGET.name} written")

"""Writes the pages of docs/ that are made from the code: configuration.md from the configuration's own models, and
findings.md from the table of codes. A test holds them together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edgeft.config import Config, Section
from edgeft.dataset.codes import GROUPS

DOCS = Path(__file__).resolve().parent.parent / "docs"
_HEAD = """# Configuration

One TOML file describes a run. Paths in it are relative to the file. An unknown key, a wrong type or an impossible
value is an error that names the key. `--set train.lora.rank=8` on the command line overrides a key.
"""


_FINDINGS_HEAD = """# Findings

What can be said about records, by its code. `edgeft data check` finds most of them at once, and exits 1 when there is
an error; the tokens stage refuses records with errors, too. With `--json` each is an object of `severity`, `code`,
`file`, `line`, `field`, `message` and `remedy`. An *error* stops training, a *warning* does not, an *info* is worth
knowing.
"""


def findings_page() -> str:
    """Returns the page of all codes."""
    parts = [_FINDINGS_HEAD]
    for heading, codes in GROUPS.items():
        rows = [
            f"| `{code}` | {said.severity.replace(', ', ' or ')} | {said.meaning} | {said.remedy} |"
            for code, said in codes.items()
        ]
        table = "\n".join(["| code | severity | what it means | what to do |", "| --- | --- | --- | --- |", *rows])
        parts += [f"## {heading}\n", f"{table}\n"]
    return "\n".join(parts)


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
            rows.append(
                f"| `{name}` | {_type_name(field.annotation)} | {_default(field)} | {field.description or ''} |"
            )
    if rows:
        yield f"## `[{path}]`\n\n{section.__doc__}\n"
        yield "\n".join(["| key | type | default | |", "| --- | --- | --- | --- |", *rows]) + "\n"
    for name, table in tables:
        yield from _sections(table, f"{path}.{name}" if path else name)


def _is_table(field: FieldInfo) -> bool:
    """Whether the section is a table of its own, rather than a value such as a set of thresholds."""
    return field.default is PydanticUndefined


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        listed = "string" if get_origin(arguments[0]) is Literal else _type_name(arguments[0])
        return f"list of {listed}s"
    if origin in (Union, UnionType):
        return " or ".join(_type_name(choice) for choice in arguments if choice is not NoneType)
    return {str: "string", int: "integer", float: "number", bool: "boolean"}.get(annotation, "table")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "unset"
    if default in ((), {}):
        return "none"
    if isinstance(default, Section):
        return ", ".join(f"`{key} = {value}`" for key, value in default.model_dump().items())
    if isinstance(default, dict):
        return "; ".join(f"`{key}`: {', '.join(f'`{k} = {v}`' for k, v in value)}" for key, value in default.items())
    if isinstance(default, tuple):
        return ", ".join(f"`{entry}`" for entry in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


PAGES = {"configuration.md": configuration_page, "findings.md": findings_page}
"""The name of each page and what makes it."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"{name} written")

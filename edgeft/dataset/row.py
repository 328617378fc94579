"""A row of a file, before it is known what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeft.dataset.findings import Place


@dataclass(frozen=True)
class Row:
    """One decoded row: of JSON a value, of a table its columns by name, of plain text {"text": ...}."""

    place: Place
    value: Any


def without_nulls(value: Any) -> Any:
    """Returns a value of a table without the keys that are null, at any depth.

    A table gives every object every key that any of them has: an absent one comes out as null.
    """
    if isinstance(value, dict):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    return [without_nulls(child) for child in value] if isinstance(value, list) else value

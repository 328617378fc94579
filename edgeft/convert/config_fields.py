"""config.json read key by key, every problem kept until the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgeft.errors import EdgeftError, Problem
from edgeft.hf.configs import completed_config


class ConfigFields:
    """The keys of the text model in a config.json, with transformers' defaults for those that are left out.

    Reading notes what is wrong and goes on with 1, so that `check` can raise all problems together.
    """

    def __init__(self, config_json: Mapping[str, Any], where: str) -> None:
        self._where = where
        self._problems: list[Problem] = []
        self._refusal: EdgeftError | None = None
        nested = config_json.get("text_config")
        self._values: dict[str, Any] = {**config_json, **(nested if isinstance(nested, Mapping) else {})}
        try:
            self._values |= completed_config(config_json)
        except EdgeftError as error:
            self._refusal = error

    def value(self, key: str) -> Any:
        """Returns the value as it is; None when it is null or absent."""
        return self._values.get(key)

    def flag(self, key: str) -> bool:
        """Returns whether a key is set to true."""
        return bool(self._values.get(key))

    def entries(self, key: str) -> list[Any]:
        """Returns a list; null or absent means an empty one."""
        value = self._values.get(key)
        if isinstance(value, list | tuple):
            return list(value)
        if value is not None:
            self.reject(f"{value!r} is no list", key)
        return []

    def count(self, key: str, default: int | None = None) -> int:
        """Returns a positive whole number; null or absent means the default, which is None for a required key."""
        value = self._values.get(key)
        value = default if value is None else value
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.reject("missing" if value is None else f"{value!r} is no positive whole number", key)
        return 1

    def number(self, key: str, default: float | None = None, within: str = "") -> float:
        """Returns a positive finite number, from the table `within` or from the top."""
        value = (self.table(within) if within else self._values).get(key)
        value = default if value is None else value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
            return float(value)
        where = f"{within}.{key}" if within else key
        self.reject("missing" if value is None else f"{value!r} is no positive number", where)
        return 1.0

    def table(self, path: str) -> Mapping[str, Any]:
        """Returns a table, by its dotted path; null or absent means an empty one."""
        table: Mapping[str, Any] = self._values
        for name in path.split("."):
            inner = table.get(name) or {}
            if not isinstance(inner, Mapping):
                self.reject(f"{inner!r} is no table", path)
                return {}
            table = inner
        return table

    def require(self, key: str, wanted: object, why: str) -> None:
        """Notes a problem unless a key has the one value that llama.cpp computes with."""
        if self._values.get(key) != wanted:
            self.reject(f"{self._values.get(key)!r}: {why}", key)

    def reject(self, what: str, key: str, remedy: str = "") -> None:
        """Notes a problem with one key."""
        self._problems.append(Problem(what, f"{self._where}: {key}", remedy))

    def check(self) -> None:
        """Raises EdgeftError with every problem so far, or else with transformers' reason where it refuses the file."""
        problems = list(dict.fromkeys(self._problems))
        if self._refusal is not None and not problems:
            problems = [Problem(found.what, self._where, found.remedy) for found in self._refusal.problems]
        if problems:
            raise EdgeftError(problems)

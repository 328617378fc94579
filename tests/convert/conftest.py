"""Prints the matrix of families and options when the whole of it was run."""

from __future__ import annotations

import os
from typing import Any

_COLUMNS = ("tensors", "logits", "keys")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Writes a line for each model: what equals llama.cpp's converter, and the NMSE of logits against transformers."""
    if not os.environ.get("EDGEFT_WHOLE_MATRIX"):
        return
    rows: dict[tuple[str, str], dict[str, str]] = {}
    vocabularies: list[tuple[str, str]] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in report.user_properties:
                if name == "vocabulary":
                    vocabularies.append(value)
                if name == "matrix":
                    family, option, column, text = value
                    rows.setdefault((family, option), {})[column] = text if outcome == "passed" else "FAILED"
    if rows:
        _print_families(terminalreporter, rows)
    if vocabularies:
        terminalreporter.section("vocabularies of released models, llama.cpp against Hugging Face's tokenizers")
    for name, text in vocabularies:
        terminalreporter.write_line(f"{name:<16} {text}")


def _print_families(terminalreporter: Any, rows: dict[tuple[str, str], dict[str, str]]) -> None:
    terminalreporter.section("families x options, against llama.cpp's own converter and transformers")
    _line(terminalreporter, "family", "option", dict(zip(_COLUMNS, ("tensors", "logits: NMSE", "keys"), strict=True)))
    for (family, option), cells in rows.items():
        _line(terminalreporter, family, option, cells)


def _line(terminalreporter: Any, family: str, option: str, cells: dict[str, str]) -> None:
    tensors, logits, keys = (cells.get(column, "-") for column in _COLUMNS)
    terminalreporter.write_line(f"{family:<12} {option:<24} {tensors:<10} {logits:<16} {keys}")

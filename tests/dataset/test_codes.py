"""Every finding that can be made is in the table of codes, with its severity, and nothing else is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import edgeft.dataset
from edgeft.dataset.codes import CODES, GROUPS

SOURCES = sorted(Path(str(edgeft.dataset.__file__)).parent.rglob("*.py"))
SEVERITIES = ("error", "warning", "info")


def literal(node: ast.expr) -> str:
    """Returns a constant text, "" for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def made_findings() -> Iterator[tuple[str, str]]:
    """Yields severity and code of every finding that is written out, as far as they are: "" stands for the rest."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [literal(argument) for argument in node.args]
            if name == "Finding" and len(texts) > 1:
                yield texts[0], texts[1]
            elif name == "JsonError":
                yield "error", texts[0]
            elif name == "add" and len(texts) > 3:
                yield (texts[4] if len(texts) > 4 else "error"), texts[0]


def test_what_is_written_out_is_in_the_table_with_its_severity() -> None:
    made = {(severity, code) for severity, code in made_findings() if code}
    assert len(made) > 40
    for severity, code in made:
        assert code in CODES, code
        assert severity in CODES[code].severity.split(", ") or not severity, code


def test_every_code_of_the_table_is_in_the_sources() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name != "codes.py")
    told = {code for code in CODES if f'"{code}"' in texts}
    assert CODES.keys() - told == {"language-not-trained", "script-not-trained"}  # made as f"{what}-not-trained"
    assert sum(map(len, GROUPS.values())) == len(CODES)


def test_every_code_says_something() -> None:
    for code, said in CODES.items():
        assert set(said.severity.split(", ")) <= set(SEVERITIES), code
        assert said.meaning and said.remedy, code
        assert not said.meaning.endswith(".") and not said.remedy.endswith("."), code

"""What llama.cpp is compiled with: without AMX where the compiler breaks it, and only there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from check_machine import find_compiler
from llamacpp_options import ALWAYS, WITHOUT_AMX, native_macros, options

ROOT = Path(__file__).parents[2]


def gcc(major: int, minor: int, *others: str) -> dict[str, str]:
    return {"__GNUC__": str(major), "__GNUC_MINOR__": str(minor), **dict.fromkeys(others, "1")}


@pytest.mark.parametrize(
    ("macros", "left_out"),
    [
        (gcc(12, 2, "__AMX_INT8__"), True),
        (gcc(13, 2, "__AMX_INT8__"), True),
        (gcc(13, 3, "__AMX_INT8__"), False),
        (gcc(14, 0, "__AMX_INT8__"), False),
        (gcc(4, 2, "__AMX_INT8__", "__clang__"), False),
        (gcc(12, 2, "__AMX_TILE__"), False),
        ({}, False),
    ],
)
def test_amx_is_left_out_where_the_compiler_breaks_it(macros: dict[str, str], left_out: bool) -> None:
    assert options(macros) == ((*ALWAYS, *WITHOUT_AMX) if left_out else ALWAYS)


def test_the_compiler_is_asked() -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no compiler here")
    says = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    found = native_macros(compiler)
    if "clang" in says:
        assert "__clang__" in found
    else:
        version = re.search(r" (\d+)\.(\d+)\.\d+\b", says.splitlines()[0])
        assert version and (found["__GNUC__"], found["__GNUC_MINOR__"]) == (version[1], version[2])
    assert native_macros(None) == {}


def test_the_processor_is_what_the_compiler_compiles_for(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n[ \"$1\" = -march=native ] && printf '#define __AMX_INT8__ 1\\n'\n")
    compiler.chmod(0o755)
    assert native_macros(str(compiler)) == {"__AMX_INT8__": "1"}
    compiler.write_text("#!/bin/sh\necho 'unknown argument' >&2\nexit 1\n")
    assert native_macros(str(compiler)) == {}


def test_who_installs_without_make_is_told_the_same() -> None:
    assert f'`CMAKE_ARGS="{" ".join(WITHOUT_AMX)}"`' in (ROOT / "README.md").read_text(encoding="utf-8")

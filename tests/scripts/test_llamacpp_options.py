"""What llama.cpp is compiled with: without AMX where the compiler breaks it, and only there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))  # scripts are run from their folder, and import from it

from check_machine import find_compiler  # noqa: E402
from llamacpp_options import ALWAYS, WITHOUT_AMX, gcc_version, options, read_cpu_flags  # noqa: E402

AMX = frozenset({"avx512f", "amx_tile", "amx_int8"})


@pytest.mark.parametrize(
    ("cpu_flags", "gcc", "left_out"),
    [
        (AMX, (12, 2), True),
        (AMX, (13, 2), True),
        (AMX, (13, 3), False),
        (AMX, (14, 0), False),
        (AMX, None, False),
        (AMX - {"amx_int8"}, (12, 2), False),
        (frozenset[str](), (12, 2), False),
    ],
)
def test_amx_is_left_out_where_the_compiler_breaks_it(
    cpu_flags: frozenset[str], gcc: tuple[int, int] | None, left_out: bool
) -> None:
    assert options(cpu_flags, gcc) == ((*ALWAYS, *WITHOUT_AMX) if left_out else ALWAYS)


def test_the_processor_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu amx_int8 avx2\nvmx flags\t: ept\n")
    assert read_cpu_flags(tmp_path / "cpuinfo") == {"fpu", "amx_int8", "avx2"}
    assert read_cpu_flags(tmp_path / "none") == frozenset()


def test_the_compiler_is_asked(tmp_path: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no compiler here")
    says = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    found = gcc_version(compiler)
    if "clang" in says:
        assert found is None
    else:
        version = re.search(r"(\d+)\.(\d+)\.\d+$", says.splitlines()[0])
        assert version and found == (int(version[1]), int(version[2]))
    clang = tmp_path / "clang"
    clang.write_text("#!/bin/sh\nprintf '#define __GNUC__ 4\\n#define __GNUC_MINOR__ 2\\n#define __clang__ 1\\n'\n")
    clang.chmod(0o755)
    assert gcc_version(str(clang)) is None
    assert gcc_version(None) is None

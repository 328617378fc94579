"""Prints the CMake options that llama.cpp is compiled with on this machine, for CMAKE_ARGS; more can follow them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from check_machine import find_compiler

ALWAYS = ("-DLLAVA_BUILD=OFF",)
"""Without what it has for images and sound, which is not used: a third of the compilation."""
WITHOUT_AMX = ("-DCMAKE_C_FLAGS=-mno-amx-int8", "-DCMAKE_CXX_FLAGS=-mno-amx-int8")
GOOD_GCC = (13, 3)
"""Before it, `_tile_loadconfig` tells gcc that it reads 8 of the 64 bytes that llama.cpp sets AMX up with, and gcc
leaves the others out; the first product with a quantized matrix is then an illegal instruction. Seen with gcc 12.2.
Since 13.3 a builtin reads all (llama.cpp's pull request 26954 and issue 9473)."""


def options(cpu_flags: frozenset[str], gcc: tuple[int, int] | None) -> tuple[str, ...]:
    """Returns the options for a processor with these flags (Linux's names) and this gcc, or None for another one."""
    fails = "amx_int8" in cpu_flags and gcc is not None and gcc < GOOD_GCC
    return (*ALWAYS, *WITHOUT_AMX) if fails else ALWAYS


def read_cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Returns the flags of the processor, none where the system does not tell them."""
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"^flags\s*:(.*)$", text, flags=re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def gcc_version(compiler: str | None) -> tuple[int, int] | None:
    """Returns major and minor version of a compiler that is gcc's, by its macros."""
    if compiler is None:
        return None
    command = [compiler, "-dM", "-E", "-x", "c++", "/dev/null"]
    macros = dict(
        re.findall(r"^#define (\w+) (\S+)$", subprocess.run(command, capture_output=True, text=True).stdout, re.M)
    )
    if "__clang__" in macros or "__GNUC__" not in macros:
        return None
    return int(macros["__GNUC__"]), int(macros["__GNUC_MINOR__"])


if __name__ == "__main__":
    print(*options(read_cpu_flags(), gcc_version(find_compiler())))

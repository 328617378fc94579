"""Prints the CMake options that llama.cpp is compiled with on this machine, for CMAKE_ARGS; more can follow them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from check_machine import find_compiler

ALWAYS = ("-DLLAVA_BUILD=OFF",)
"""Without what it has for images and sound, which is not used: a third of the compilation."""
WITHOUT_AMX = ("-DCMAKE_C_FLAGS=-mno-amx-int8", "-DCMAKE_CXX_FLAGS=-mno-amx-int8")
GOOD_GCC = (13, 3)
"""Before it, `_tile_loadconfig` tells gcc that it reads 8 of the 64 bytes that llama.cpp sets AMX up with, and gcc
leaves the others out; the first product with a quantized matrix is then an illegal instruction. Seen with gcc 12.2.
Since 13.3 a builtin reads all (llama.cpp's pull request 26954 and issue 9473)."""


def options(macros: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the options for a compiler with these macros; llama.cpp goes by `__AMX_INT8__` too."""
    if "__AMX_INT8__" not in macros or "__clang__" in macros:
        return ALWAYS
    gcc = int(macros["__GNUC__"]), int(macros["__GNUC_MINOR__"])
    return ALWAYS if gcc >= GOOD_GCC else (*ALWAYS, *WITHOUT_AMX)


def native_macros(compiler: str | None) -> dict[str, str]:
    """Returns what a compiler defines when it compiles for this processor, nothing where it cannot or there is none."""
    if compiler is None:
        return {}
    command = [compiler, "-march=native", "-dM", "-E", "-x", "c++", "/dev/null"]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    return dict(re.findall(r"^#define (\w+) (\S+)$", said, flags=re.MULTILINE))


if __name__ == "__main__":
    print(*options(native_macros(find_compiler())))

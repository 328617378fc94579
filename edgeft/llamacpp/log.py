"""llama.cpp's start and its log, which by default is hundreds of lines on standard error."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import llama_cpp

# ggml_log_level (ggml.h). llama_cpp's own logger uses other numbers, so edgeft installs its own callback.
_LEVEL_WARN: Final = 3
_LEVEL_ERROR: Final = 4
_LEVEL_CONT: Final = 5


class _Log:
    """Collects llama.cpp's log: warnings and errors are kept, `on_line` sees every line."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.on_line: Any = None
        self._line = ""
        self._level = 0
        self.callback = llama_cpp.llama_log_callback(self._receive)

    def _receive(self, level: int, text: bytes, _user: object) -> None:
        if level != _LEVEL_CONT:
            self._level = level
        self._line += text.decode("utf-8", errors="replace")
        while "\n" in self._line:
            line, _, self._line = self._line.partition("\n")
            if self._level >= _LEVEL_ERROR:
                self.errors.append(line.strip())
            if self.on_line is not None:
                self.on_line(line)


LOG: Final = _Log()


def start_llama_cpp() -> None:
    """Initialises llama.cpp, once, with its log caught: by default it writes hundreds of lines to stderr."""
    llama_cpp.llama_log_set(LOG.callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    LOG.errors.clear()


def build_description() -> str:
    """Returns the version of llama-cpp-python and the processor features that its llama.cpp was built for."""
    features = llama_cpp.llama_print_system_info().decode()
    return f"llama-cpp-python {llama_cpp.__version__} ({features.strip(' |')})"

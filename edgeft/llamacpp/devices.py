"""The devices that this build of llama.cpp computes on."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, Final

import llama_cpp
from llama_cpp._ggml import libggml

from edgeft.errors import EdgeftError
from edgeft.llamacpp.log import start_llama_cpp

# ggml_backend_dev_type (ggml-backend.h)
_GPU: Final = 1
_INTEGRATED_GPU: Final = 2


def gpu_names() -> list[str]:
    """Returns the GPUs that llama.cpp takes, as it names them: CUDA0, Vulkan0; none where it was built for none."""
    start_llama_cpp()
    found = list(_devices())
    type_of = _function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    by_type = [[name for name, device in found if type_of(device) == kind] for kind in (_GPU, _INTEGRATED_GPU)]
    return by_type[0] or by_type[1]


def device_list(names: Sequence[str]) -> Any:
    """Returns `llama_model_params.devices`, which has to outlive the loading of the model.

    Without names a model runs on the CPU alone: llama.cpp's default takes a GPU for long prompts even where no layer
    lies there. Raises EdgeftError for a device that there is not.
    """
    found = dict(_devices())
    if missing := [name for name in names if name not in found]:
        raise EdgeftError(f"llama.cpp has no device {', '.join(missing)}", remedy=f"it has {', '.join(found)}")
    return (ctypes.c_void_p * (len(names) + 1))(*(found[name] for name in names), None)


def _devices() -> Iterator[tuple[str, int]]:
    get = _function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name_of = _function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    for number in range(_function("ggml_backend_dev_count", ctypes.c_size_t)()):
        device = get(number)
        yield name_of(device).decode(), device


def _function(name: str, returns: Any, *takes: Any) -> Any:
    # Of the ggml that libllama has loaded, which with LLAMA_CPP_LIB_PATH is not the package's own.
    library = llama_cpp.llama_cpp._lib
    found = getattr(library if hasattr(library, name) else libggml, name)
    found.restype, found.argtypes = returns, takes
    return found

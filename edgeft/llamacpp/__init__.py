"""Everything edgeft needs of llama.cpp, through llama-cpp-python's C bindings: the one room that imports llama_cpp."""

from edgeft.llamacpp.dequantize import dequantize
from edgeft.llamacpp.devices import gpu_names
from edgeft.llamacpp.engine import LOGITS, Engine, Runtime
from edgeft.llamacpp.log import build_description
from edgeft.llamacpp.observe import Point
from edgeft.llamacpp.quantizer import quantize_here
from edgeft.llamacpp.speed import Speed, file_speed, generation_speed
from edgeft.llamacpp.vocabulary import ENDS_BY_NAME, EOS_KEY, Vocabulary

__all__ = [
    "ENDS_BY_NAME",
    "EOS_KEY",
    "LOGITS",
    "Engine",
    "Point",
    "Runtime",
    "Speed",
    "Vocabulary",
    "build_description",
    "dequantize",
    "file_speed",
    "generation_speed",
    "gpu_names",
    "quantize_here",
]

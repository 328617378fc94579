"""Everything edgeft needs of llama.cpp, through llama-cpp-python's C bindings: the one room that imports llama_cpp."""

from edgeft.llamacpp.engine import Engine
from edgeft.llamacpp.log import build_description
from edgeft.llamacpp.quantizer import quantize_here
from edgeft.llamacpp.vocabulary import Vocabulary

__all__ = ["Engine", "Vocabulary", "build_description", "quantize_here"]

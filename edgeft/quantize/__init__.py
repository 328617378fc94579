"""GGUF -> smaller GGUF, with llama.cpp's own quantizer in a process of its own."""

from edgeft.quantize.footprint import Footprint, footprint
from edgeft.quantize.recipe import Recipe
from edgeft.quantize.run import plan_quantization, quantize

__all__ = ["Footprint", "Recipe", "footprint", "plan_quantization", "quantize"]

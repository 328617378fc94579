"""GGUF -> smaller GGUF, with llama.cpp's own quantizer in a process of its own."""

from edgeft.quantize.footprint import Footprint, footprint
from edgeft.quantize.recipe import Recipe
from edgeft.quantize.run import plan_quantization, quantize, rounding_of_source
from edgeft.quantize.several import how_many_at_once, quantize_several

__all__ = [
    "Footprint",
    "Recipe",
    "footprint",
    "how_many_at_once",
    "plan_quantization",
    "quantize",
    "quantize_several",
    "rounding_of_source",
]

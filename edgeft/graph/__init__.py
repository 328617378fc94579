"""Every artifact that a configuration asks for: what it is made from, by which stage, and how."""

from edgeft.graph.graph import Graph
from edgeft.graph.node import STAGES, Node
from edgeft.graph.preconditions import (
    require_importable,
    require_method_possible,
    require_sources,
    require_trainable,
)
from edgeft.graph.quantizing import survival_warnings_of

__all__ = [
    "STAGES",
    "Graph",
    "Node",
    "require_importable",
    "require_method_possible",
    "require_sources",
    "require_trainable",
    "survival_warnings_of",
]

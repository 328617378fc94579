"""What a run needs of a machine, by arithmetic alone: GPU memory, time, RAM and disk from a model's shape. No torch."""

from edgeft.resources.choice import Choice, Wish, choose, keep, step_down, usable_bytes
from edgeft.resources.memory import Job, Need, Strategy, predict
from edgeft.resources.shape import ModelShape, has_fast_layers

__all__ = [
    "Choice",
    "Job",
    "ModelShape",
    "Need",
    "Strategy",
    "Wish",
    "choose",
    "has_fast_layers",
    "keep",
    "predict",
    "step_down",
    "usable_bytes",
]

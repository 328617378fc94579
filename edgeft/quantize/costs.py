"""What each type costs each tensor, as it is measured once and read by whatever chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeft.files import read_object, write_json


@dataclass(frozen=True)
class TensorCosts:
    """What each type costs one tensor: bytes in the file, and mean divergence of the model's predictions, in nats."""

    name: str
    size_bytes: Mapping[str, int]
    kld: Mapping[str, float]


def write_costs(costs: Sequence[TensorCosts], path: Path) -> None:
    """Writes the costs as JSON."""
    write_json(path, {"tensors": [asdict(cost) for cost in costs]})


def read_costs(path: Path) -> list[TensorCosts]:
    """Returns the costs that were written."""
    return [TensorCosts(**cost) for cost in read_object(path)["tensors"]]

"""A whole run small enough for a test: a random base, records, a configuration."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tiny_model import make_model

CONFIG = """
[model]
base = "base"
[dataset]
train = "train.jsonl"
test = "test.jsonl"
max_tokens = 128
[train]
device = "cpu"
epochs = 1
learning_rate = 1e-3
evaluations = 4
[quantize]
types = ["Q8_0", "Q4_K_M"]
[eval]
max_new_tokens = 12
[parity]
records = 4
max_new_tokens = 12
# A random model's predictions are nearly flat: its top token changes with the smallest rounding.
quantization = { mean_kld = 1.0, top1 = 0.0, ppl_ratio = 3.0 }
merge = { mean_kld = 1.0, top1 = 0.0, ppl_ratio = 3.0 }
conversion = { mean_kld = 1e-4, top1 = 0.95, ppl_ratio = 1.001 }
[run]
directory = "run"
"""


def write_records(path: Path, count: int, seed: int = 0) -> None:
    """Writes `count` distinct records, a room and a state to JSON."""
    rng = random.Random(seed)
    lines = []
    for number in range(count):
        room, state = rng.choice(["kitchen", "garden", "cellar"]), rng.choice(["on", "off"])
        answer = json.dumps({"room": room, "state": state, "number": number})
        messages = [
            {"role": "user", "content": f"turn {state} light {number} in the {room}"},
            {"role": "assistant", "content": answer},
        ]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n")


def make_run(folder: Path, records: int = 60, extra: str = "", **shape: Any) -> Path:
    """Makes everything a run needs in `folder`; returns the configuration file."""
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder / "base", **shape)
    write_records(folder / "train.jsonl", records)
    write_records(folder / "test.jsonl", 6, seed=1)
    path = folder / "edgeft.toml"
    path.write_text(CONFIG + extra)
    return path

"""An importance matrix as a configuration asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.artifacts import Checkpoint, Tokens
from edgeft.config import Config
from edgeft.progress import Progress, silent

if TYPE_CHECKING:
    from edgeft.hf import PreTrainedModel


def write_importance(
    config: Config,
    base: Checkpoint,
    tokens: Tokens,
    load: Callable[[], PreTrainedModel],
    path: Path,
    progress: Progress = silent,
) -> None:
    """Measures the merged model that `load` gives on the run's records, a text, or both, and writes the file."""
    from edgeft.convert import tensor_names
    from edgeft.imatrix import make_imatrix, measured_texts

    asked = config.imatrix
    files = [] if asked.text is None else [config.path(asked.text)]
    texts = measured_texts(base, tokens if asked.records else None, files, asked)
    make_imatrix(load, tensor_names(base), texts, asked, path, progress)

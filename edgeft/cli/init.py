"""`edgeft init`: a configuration to start from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from edgeft.cli.options import FOLDER, shown
from edgeft.config import load_config
from edgeft.console import Output
from edgeft.errors import EdgeftError
from edgeft.files import read_object, replacing

_MOST_TOKENS = 2048
_TEXT = """\
# Every key, with its default: docs/configuration.md. Paths are relative to this file.
# `edgeft doctor` says whether it will work here, `edgeft run --dry-run` what it would do, `edgeft run` does it.

[model]
base = {model}

[dataset]
train = {data}
{test}
# The longest record in tokens{longest}. `edgeft data check -c edgeft.toml` tells how long yours are.
max_tokens = {max_tokens}

[train]
epochs = 3
learning_rate = 2e-4
# Records in one forward pass. What does not fit into the memory is cut, and accumulated to as many.
batch_size = 8

[train.lora]
rank = 16
alpha = 32

[quantize]
types = ["Q8_0", "Q4_K_M"]
# weighs rounding errors by what goes through the weights on your records: nearer to the model at the same size
imatrix = true

[run]
directory = "run"
"""


@click.command()
@click.argument("folder", metavar="[DIR]", type=FOLDER, default=Path(), required=False)
@click.option("--model", required=True, help="a checkpoint folder or hub id")
@click.option("--data", required=True, help="a file or folder of records, or a dataset's hub id")
@click.option("--test", help="records held out from training; without, those of the evaluation are answered")
def init(folder: Path, model: str, data: str, test: str | None) -> None:
    """Writes a commented edgeft.toml into DIR (here by default), for a model and records."""
    path = folder / "edgeft.toml"
    if path.exists():
        raise EdgeftError("already exists", where=str(path), remedy="edit it, or name another folder")
    context = read_object(Path(model) / "config.json").get("max_position_embeddings")
    known = context if isinstance(context, int) and context > 0 else None
    text = _TEXT.format(
        model=_quoted(model, folder),
        data=_quoted(data, folder),
        test="# test = records that are held out: answered by every file, and checked for parity"
        if test is None
        else f"test = {_quoted(test, folder)}",
        longest="" if known is None else f"; the model takes {known:,}",
        max_tokens=_MOST_TOKENS if known is None else min(_MOST_TOKENS, known),
    )
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
        load_config(partial)
    Output().line(f"{shown(path.absolute())}\nnext: edgeft doctor -c {shown(path.absolute())}")


def _quoted(source: str, folder: Path) -> str:
    """Returns a hub id as it is, and a path as seen from the folder, as a TOML string."""
    local = Path(source).expanduser()
    if local.exists():
        source = Path(os.path.relpath(local.absolute(), folder.absolute())).as_posix()
        if not source.startswith("."):
            source = f"./{source}"
    return json.dumps(source, ensure_ascii=False)

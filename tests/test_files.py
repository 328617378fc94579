"""Files are complete or absent."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

import pytest

from edgeft.errors import EdgeftError
from edgeft.files import (
    human_size,
    json_text,
    list_files,
    making_folder,
    parse_size,
    replacing,
    require_free_disk,
    require_writable,
    sha256_file,
    sha256_json,
    write_json,
)


class _FailedError(Exception):
    """Raised by the tests inside a block that writes."""


def test_replacing_renames_on_success(tmp_path: Path) -> None:
    target = tmp_path / "made" / "on" / "the" / "way" / "target.bin"
    with replacing(target) as partial:
        assert partial.parent == target.parent
        partial.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_replacing_leaves_the_target_untouched_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "target.bin"
    target.write_bytes(b"old")
    with pytest.raises(_FailedError), replacing(target) as partial:
        partial.write_bytes(b"half of the n")
        raise _FailedError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_replacing_without_a_target_leaves_nothing_on_failure(tmp_path: Path) -> None:
    with pytest.raises(_FailedError), replacing(tmp_path / "target.bin") as partial:
        partial.write_bytes(b"half")
        raise _FailedError
    assert list(tmp_path.iterdir()) == []


def test_replacing_fails_when_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "target.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_making_folder_renames_on_success(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "folder"
    with making_folder(target) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_text("text")
        assert not target.exists()
    assert (target / "inner" / "file").read_text() == "text"
    assert list(target.parent.iterdir()) == [target]


def test_making_folder_leaves_nothing_on_failure(tmp_path: Path) -> None:
    with pytest.raises(_FailedError), making_folder(tmp_path / "folder") as partial:
        (partial / "file").write_text("half")
        raise _FailedError
    assert list(tmp_path.iterdir()) == []


def test_making_folder_refuses_an_existing_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("keep")
    with pytest.raises(EdgeftError, match="already exists"), making_folder(tmp_path / "folder"):
        pytest.fail("the block must not run")
    assert [path.name for path in list_files(tmp_path)] == ["precious"]


def test_a_value_that_is_no_json_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"ä": [1]})
    with pytest.raises(TypeError):
        write_json(path, {"ä": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": [1]}
    assert list(tmp_path.iterdir()) == [path]


def test_sha256_of_a_file_longer_than_one_block(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192 + b"tail"
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_sha256_of_json_ignores_the_order_of_keys_only() -> None:
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": 1, "b": [1, 2]}) != sha256_json({"a": 1, "b": [2, 1]})


def test_list_files_leaves_out_hidden_ones(tmp_path: Path) -> None:
    for name in ("b", "a/c", ".hidden", ".git/config", "a/.cache/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_files(tmp_path)] == ["a/c", "b"]


def test_too_little_disk_is_said_before_work_starts(tmp_path: Path) -> None:
    require_free_disk(tmp_path / "not" / "yet", 1, "a byte")
    with pytest.raises(EdgeftError, match=r"the GGUF file needs 1000\.0 TB and .* are free"):
        require_free_disk(tmp_path / "not" / "yet", 10**15, "the GGUF file")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (18_900_000, "18.9 MB"),
        (1_200_000_000, "1.2 GB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_are_decimal(size_bytes: float, text: str) -> None:
    assert human_size(size_bytes) == text


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("700MB", 700_000_000), ("1.2 GB", 1_200_000_000), ("500M", 500_000_000), (" 3b", 3)]
)
def test_what_is_said_of_a_size_is_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "700", "0GB", "-1GB", "2T", "1,5 GB", "much"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(EdgeftError, match=r"is no size(.|\n)*write it as 700MB"):
        parse_size(text)


def test_a_name_that_is_no_utf8_is_kept_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jsonl")
    write_json(tmp_path / "names.json", {name: [name]})
    assert json.loads((tmp_path / "names.json").read_bytes()) == {name: [name]}
    assert sha256_json([name]) != sha256_json(["caf\u00e9.jsonl"])


def test_json_has_no_number_that_is_none() -> None:
    text = json_text({"a": [math.nan, (math.inf, 1.5)], "b": "NaN"}, None)
    assert text == '{"a": [null, [null, 1.5]], "b": "NaN"}'


def test_what_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    require_writable([tmp_path / "new" / "a.html", tmp_path / "file"])
    assert (tmp_path / "file").read_text() == "kept"
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(EdgeftError) as found:
        require_writable([tmp_path / "file" / "a.html", tmp_path / "new", tmp_path / "b.html"])
    assert [problem.where for problem in found.value.problems] == [
        str(tmp_path / "file" / "a.html"),
        str(tmp_path / "new"),
    ]

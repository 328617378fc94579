"""Artifacts in a run directory: complete or absent, stale for a reason, resumed only for the same recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import EdgeftError
from edgeft.rundir import MANIFEST, Recipe, RunDir

RECIPE = Recipe("convert", 1, {"dtype": "f16"}, {"merged": "aa", "tokens": "bb"})

_HOLD_THE_LOCK = """
import sys
from pathlib import Path
from edgeft.rundir import RunDir

with RunDir(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


class _KilledError(Exception):
    """Stands for whatever ends a stage in the middle."""


def make(run: RunDir, name: str = "gguf", recipe: Recipe = RECIPE, **files: str) -> None:
    """Makes an artifact of text files; "__" in a name stands for "/"."""
    with run.produce(name, recipe) as out:
        for file_name, text in (files or {"model": "weights"}).items():
            path = out / file_name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def changed(**fields: Any) -> Recipe:
    """Returns RECIPE with other fields."""
    return Recipe(**{**vars(RECIPE), **fields})


def test_a_made_artifact_is_complete_and_up_to_date(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    assert run.why_stale("gguf", RECIPE) == "missing"
    make(run, model="weights", inner__card="text")
    assert run.why_stale("gguf", RECIPE) == ""
    assert sorted(path.name for path in run.path("gguf").iterdir()) == ["inner", "manifest.json", "model"]
    assert [path.name for path in run.root.iterdir()] == ["gguf"]


def test_the_manifest_tells_what_was_made_from_what(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    make(run, model="weights", inner__card="text")
    manifest = run.manifest("gguf")
    assert manifest is not None
    assert (manifest["stage"], manifest["key"]) == ("convert", RECIPE.key)
    assert (manifest["config"], manifest["inputs"]) == (RECIPE.config, RECIPE.inputs)
    assert [(entry["path"], entry["size_bytes"]) for entry in manifest["files"]] == [("inner/card", 4), ("model", 7)]
    assert manifest["libraries"]["numpy"]


def test_the_manifest_of_a_nested_name(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    make(run, "quantized/Q4_K_M")
    assert run.why_stale("quantized/Q4_K_M", RECIPE) == ""


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        (changed(config={"dtype": "f32"}), "changed: dtype"),
        (changed(config={"dtype": "f16", "new": 1}), "changed: new"),
        (changed(config={}), "changed: dtype"),
        (changed(inputs={"merged": "other", "tokens": "bb"}), "changed: merged"),
        (changed(config={"dtype": "f32"}, inputs={"merged": "x", "tokens": "y"}), "changed: dtype, merged, tokens"),
        (changed(version=2), "made by another version"),
    ],
)
def test_why_an_artifact_is_stale(tmp_path: Path, recipe: Recipe, why: str) -> None:
    run = RunDir(tmp_path)
    make(run)
    assert run.why_stale("gguf", recipe) == why


def test_a_key_depends_on_everything_and_not_on_order() -> None:
    others = [
        changed(stage="x"),
        changed(version=2),
        changed(config={"dtype": "f32"}),
        changed(inputs={"merged": "aa"}),
    ]
    assert len({RECIPE.key, *(other.key for other in others)}) == 5
    assert changed(inputs={"tokens": "bb", "merged": "aa"}).key == RECIPE.key


@pytest.mark.parametrize("damage", ["remove", "shorten"])
def test_damage_is_seen(tmp_path: Path, damage: str) -> None:
    run = RunDir(tmp_path)
    make(run)
    if damage == "remove":
        (run.path("gguf") / "model").unlink()
    else:
        (run.path("gguf") / "model").write_text("weig")
    assert run.why_stale("gguf", RECIPE) == "damaged: model"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": 99}', "\ud800"])
def test_a_manifest_that_cannot_be_used_counts_as_missing(tmp_path: Path, text: str) -> None:
    run = RunDir(tmp_path)
    make(run)
    (run.path("gguf") / MANIFEST).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert run.manifest("gguf") is None
    assert run.why_stale("gguf", RECIPE) == "missing"


def test_a_stage_that_fails_leaves_the_finished_artifact(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    make(run, model="old")
    with pytest.raises(_KilledError), run.produce("gguf", changed(version=2)) as out:
        (out / "model").write_text("half")
        raise _KilledError
    assert (run.path("gguf") / "model").read_text() == "old"
    assert run.why_stale("gguf", RECIPE) == ""


def test_what_a_killed_attempt_left_is_not_mixed_in(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    with pytest.raises(_KilledError), run.produce("gguf", RECIPE) as out:
        (out / "leftover").write_text("half")
        raise _KilledError
    assert run.why_stale("gguf", RECIPE) == "unfinished"
    assert run.why_stale("gguf", changed(version=2)) == "missing"
    make(run)
    assert not (run.path("gguf") / "leftover").exists()


def test_a_resumable_stage_goes_on_from_the_same_recipe_only(tmp_path: Path) -> None:
    run = RunDir(tmp_path)

    def attempt(recipe: Recipe) -> list[str]:
        found: list[str] = []
        with pytest.raises(_KilledError), run.produce("adapter", recipe, resumable=True) as out:
            found += sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
            (out / f"checkpoint-{len(found) + 1}").touch()
            raise _KilledError
        return found

    assert attempt(RECIPE) == []
    assert attempt(RECIPE) == ["checkpoint-1"]
    assert attempt(RECIPE) == ["checkpoint-1", "checkpoint-2"]
    assert attempt(changed(config={"dtype": "f32"})) == []


def test_a_resumed_stage_ends_up_to_date(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    # As if the process was killed after the manifest was written and before the folder got its final name.
    with pytest.raises(_KilledError), run.produce("adapter", RECIPE, resumable=True) as out:
        (out / "weights").write_text("w")
        (out / MANIFEST).write_text("{}")
        raise _KilledError
    with run.produce("adapter", RECIPE, resumable=True) as out:
        assert (out / "weights").read_text() == "w"
    assert run.why_stale("adapter", RECIPE) == ""
    assert [entry["path"] for entry in (run.manifest("adapter") or {})["files"]] == ["weights"]
    assert sorted(path.name for path in run.path("adapter").iterdir()) == [MANIFEST, "weights"]


def test_content_hash_is_that_of_the_files_without_logs(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    make(run, "a", model="weights", logs__metrics="one")
    make(run, "b", changed(version=2), model="weights", logs__metrics="another, longer")
    make(run, "c", model="weights!", logs__metrics="one")
    make(run, "d", other_name="weights", logs__metrics="one")
    assert run.content_hash("a") == run.content_hash("b")
    assert len({run.content_hash(name) for name in "acd"}) == 3


def test_content_hash_of_what_has_not_been_made(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="has not been made"):
        RunDir(tmp_path).content_hash("gguf")


def test_input_hash_follows_the_content_of_a_file(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.root.mkdir()
    path = tmp_path / "train.jsonl"
    path.write_text("one")
    first = run.input_hash(path)
    path.touch()
    assert run.input_hash(path) == first
    path.write_text("three")
    assert run.input_hash(path) != first


def test_input_hash_follows_names_and_content_of_a_folder(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    base = tmp_path / "base"
    (base / ".cache").mkdir(parents=True)
    (base / "config.json").write_text("{}")
    first = run.input_hash(base)
    (base / ".cache" / "etag").touch()
    assert run.input_hash(base) == first
    (base / "config.json").rename(base / "renamed.json")
    assert run.input_hash(base) != first


@pytest.mark.parametrize("text", ["{", "[]", '{"x": 1}'])
def test_a_damaged_memory_of_hashes_is_made_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("one")
    expected = RunDir(tmp_path / "nowhere").input_hash(path)
    (tmp_path / ".hashes.json").write_text(text)
    assert RunDir(tmp_path).input_hash(path) == expected
    assert str(path) in json.loads((tmp_path / ".hashes.json").read_text())


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    command = [sys.executable, "-c", _HOLD_THE_LOCK, str(run.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(EdgeftError, match="another edgeft is at work"), run.lock():
            pytest.fail("the block must not run")
        other.communicate()
    with run.lock():
        pass

"""What is read: models in several files, references that are damaged, and several files of one command."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeft.artifacts import GgufFile, Reference
from edgeft.cli import main
from edgeft.errors import EdgeftError
from edgeft.files import sha256_file
from edgeft.gguf_header import read_header
from edgeft.parity.reference import OpenReference
from parity.exports import Export, checked, tuned_llama
from parity.gguf_edit import Key, Parts

_PART_BYTES = 3_000_000


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return tuned_llama(tmp_path_factory.mktemp("export"))


@pytest.fixture
def split(export: Export, tmp_path: Path) -> GgufFile:
    """The model in several files, its tensors in reverse, so that the factors of its RoPE are in the last one."""
    file = Parts(export.gguf.path)
    file.tensors = dict(reversed(file.tensors.items()))
    found = GgufFile(file.write(tmp_path / "model.gguf", _PART_BYTES))
    assert len(found.parts) >= 3
    return found


def check(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in ("parity", "check", *words, "--threads", "1")])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def figures(report: dict[str, Any], name: str) -> Any:
    return next(rung["figures"] for rung in report["rungs"] if rung["name"] == name)


def test_a_model_in_parts_is_checked_as_one(export: Export, split: GgufFile) -> None:
    header = read_header(split)
    assert header.tensors["rope_freqs.weight"].path == split.parts[-1]
    report, whole = (checked(export.reference, gguf) for gguf in (split, export.gguf))
    assert report["verdict"] == "pass", report["failures"]
    assert report["size_bytes"] == split.size_bytes
    assert figures(report, "weights")["relative_error"] == figures(whole, "weights")["relative_error"]
    assert figures(report, "file") == {"size_bytes": split.size_bytes, "tensors": len(header.tensors)}


def test_a_fault_in_a_later_part_is_found(export: Export, split: GgufFile) -> None:
    tensor = read_header(split).tensors["token_embd.weight"]
    assert tensor.path != split.path
    weights = np.memmap(tensor.path, dtype=np.float32, mode="r+", offset=tensor.start, shape=tensor.shape)
    weights[:] = 0
    weights.flush()
    report = checked(export.reference, split)
    assert (report["verdict"], report["rung"]) == ("fail", "weights")
    assert report["where"].startswith("token_embd.weight")


def cut_end(gguf: GgufFile) -> None:
    for part in gguf.parts[1:]:
        part.write_bytes(part.read_bytes()[:-1000])


def cut_header(gguf: GgufFile) -> None:
    gguf.parts[-1].write_bytes(gguf.parts[-1].read_bytes()[:16])


def remove(gguf: GgufFile) -> None:
    for part in gguf.parts[1:]:
        part.unlink()


def repeat(gguf: GgufFile) -> None:
    shutil.copyfile(gguf.parts[1], gguf.parts[2])


def take_another_model(gguf: GgufFile) -> None:
    """Makes the first part that of a model with a tensor more."""
    first = Parts(gguf.path)
    first.keys["split.tensors.count"].value += 1
    first.write(gguf.path)


@pytest.mark.parametrize(
    ("damage", "cause", "parts"),
    [
        (cut_end, r"^the file is truncated: \d+ of \d+ tensors lie beyond its end$", slice(1, None)),
        (cut_header, "^the header of this GGUF file cannot be read", slice(-1, None)),
        (remove, "^this file is missing$", slice(1, None)),
        (repeat, "^by its keys this is part 2, by its name part 3$", slice(2, 3)),
        (take_another_model, r"^the parts hold \d+ tensors, the model has \d+", slice(0, 1)),
    ],
)
def test_damaged_parts_are_named(
    export: Export, split: GgufFile, damage: Callable[[GgufFile], None], cause: str, parts: slice
) -> None:
    damage(split)
    report = checked(export.reference, split)
    assert (report["verdict"], report["rung"]) == ("fail", "file")
    failures = next(rung for rung in report["rungs"] if rung["name"] == "file")["failures"]
    assert all(re.search(cause, one["cause"]) and one["remedy"] for one in failures), failures
    assert [one["where"].split(":")[0] for one in failures] == [path.name for path in split.parts[parts]]


def test_a_part_under_another_name(export: Export, split: GgufFile) -> None:
    alone = GgufFile(split.path.rename(split.path.with_name("alone.gguf")))
    report = checked(export.reference, alone)
    assert (report["rung"], report["where"]) == ("file", "alone.gguf")
    assert re.fullmatch(r"by its keys this is one of \d parts, by its name one of 1", report["cause"])


def test_parts_that_were_merged_are_one_file(export: Export, split: GgufFile, tmp_path: Path) -> None:
    """llama.cpp's gguf-split leaves the keys of the first part, and a count of 0."""
    file, first = Parts(export.gguf.path), Parts(split.path)
    file.keys |= {name: key for name, key in first.keys.items() if name.startswith("split.")}
    file.keys["split.count"] = Key(0, file.keys["split.count"].type)
    merged = GgufFile(file.write(tmp_path / "merged.gguf"))
    assert checked(export.reference, merged)["verdict"] == "pass"


def damaged(reference: Reference, name: str, out: Path) -> Reference:
    """Flips a bit in the middle of an array's compressed bytes."""
    with ZipFile(reference.path) as archive:
        member = archive.getinfo(f"{name}.npy")
    data = bytearray(reference.path.read_bytes())
    data[member.header_offset + 30 + member.compress_size // 2] ^= 1
    out.write_bytes(data)
    return Reference(out)


@pytest.mark.parametrize("name", ["content", "cells", "directions", "ids", "log_p", "state_cells"])
def test_a_damaged_array_is_named(export: Export, tmp_path: Path, name: str) -> None:
    reference = damaged(export.reference, name, tmp_path / "damaged.npz")
    with pytest.raises(EdgeftError, match=rf"damaged\.npz(.|\n)*{name} cannot be read(.|\n)*record it again"):
        checked(reference, export.gguf)


def test_damage_that_shortens_an_array_is_found(export: Export, tmp_path: Path) -> None:
    """Its bytes up to there are right, so that what is read of them alone has no error."""
    with np.load(export.reference.path) as arrays:
        kept = {name: arrays[name] for name in arrays}
    rows, columns = kept["log_p"].shape
    np.savez(tmp_path / "shorter.npz", **kept)
    data = (tmp_path / "shorter.npz").read_bytes()
    shape = f"'shape': ({rows}, {columns})".encode()
    start = data.index(b"log_p.npy")
    assert data.index(shape, start) < data.index(b".npy", start + 10)
    shorter = data[:start] + data[start:].replace(shape, f"'shape': ({rows - 1}, {columns})".encode(), 1)
    assert len(shorter) == len(data)
    (tmp_path / "shorter.npz").write_bytes(shorter)
    with pytest.raises(EdgeftError, match="log_p cannot be read"):
        OpenReference(Reference(tmp_path / "shorter.npz")).distributions(0)


@pytest.mark.parametrize("held", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"no reference"])
def test_what_is_no_reference_names_the_file_and_the_remedy(export: Export, tmp_path: Path, held: bytes) -> None:
    (tmp_path / "empty.npz").write_bytes(held)
    result = check(tmp_path / "empty.npz", export.gguf.path)
    assert result.exit_code == 1
    assert f"{tmp_path / 'empty.npz'}: not a parity reference" in result.stderr
    assert "record it again" in result.stderr
    assert "Aborted" not in result.output


def test_another_file_of_arrays_is_no_reference(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", log_p=np.zeros(3))
    with pytest.raises(EdgeftError, match="not a parity reference"):
        OpenReference(Reference(tmp_path / "other.npz"))


def test_a_reference_that_is_damaged_further_on_ends_without_a_traceback(export: Export, tmp_path: Path) -> None:
    reference = damaged(export.reference, "log_p", tmp_path / "damaged.npz")
    result = check(reference.path, export.gguf.path)
    assert result.exit_code == 1
    assert f"{reference.path}: not a parity reference, or a damaged one: log_p cannot be read" in result.stderr


def test_all_that_cannot_be_opened_is_said_before_the_work(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeft.parity.check.check_file", lambda *_: pytest.fail("a file was checked"))
    missing = [tmp_path / name for name in ("one.gguf", "two.gguf")]
    result = check(export.reference.path, export.gguf.path, *missing)
    assert result.exit_code == 1
    assert all(f"{path}: no such file" in result.stderr for path in missing)
    result = check(tmp_path / "none.npz", export.gguf.path, missing[0])
    assert all(f"{path}: no such file" in result.stderr for path in (tmp_path / "none.npz", missing[0]))


def test_files_of_one_name_have_their_own_hashes(export: Export, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "m.gguf" for folder in ("d1", "d2")]
    for path in paths:
        path.parent.mkdir()
        file = Parts(export.gguf.path)
        file.keys["general.name"] = Key(path.parent.name, file.keys["general.architecture"].type)
        file.write(path)
    check(export.reference.path, *paths, "--html", tmp_path / "page.html")
    page = ElementTree.fromstring((tmp_path / "page.html").read_text().partition("\n")[2])
    cells = [["".join(cell.itertext()) for cell in row] for row in page.findall(".//*[@id='made']//tbody/tr")]
    wanted = (export.reference.path, *paths)
    assert {row[0]: row[2] for row in cells} == {str(path): sha256_file(path) for path in wanted}
    assert len(cells) == len(wanted)
    assert all(row[1] for row in cells)

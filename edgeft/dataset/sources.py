"""Sources -> records: a file, a folder of files or a dataset, each as often as its weight says."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.config import RECORD_SUFFIXES, SourceConfig
from edgeft.dataset.findings import Finding, Place, Severity
from edgeft.dataset.formats import Converted, convert
from edgeft.dataset.hub import DatasetName, dataset_rows, is_saved_dataset
from edgeft.dataset.record import Record
from edgeft.dataset.rows import Row, is_readable, read_rows
from edgeft.errors import EdgeftError

_HASH_SPACE = 2.0**64
_SPLIT_NAME = re.compile(r"(?:^|[-_./\\])(train|test|validation|valid|val|dev|eval|evaluation)(?=[-_./\\]|$)", re.I)
# Beside datasets, and no part of them.
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "package.json", "README.md", "LICENSE")
_TYPES = ", ".join(RECORD_SUFFIXES)
_UNLESS_RECORDS = f"nothing, unless it holds records: the types are {_TYPES}, and each as .gz and .zst"
_LINKED = "name the folder as a source of its own, or copy it here"


@dataclass
class Account:
    """What became of the rows, filled while they are streamed: rows = used + refused + the left out of every reason.

    `formats` has, for each file, how many rows were recognised as which format. `yielded` counts used records as often
    as they were.
    """

    rows: int = 0
    used: int = 0
    yielded: int = 0
    refused: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    formats: dict[str, Counter[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the account as a JSON object, with the rows of each format in all files together."""
        formats = sum(self.formats.values(), Counter[str]())
        return {
            "in": self.rows,
            "records": self.used,
            "refused": self.refused,
            "left_out": dict(self.left_out),
            "formats": dict(formats.most_common()),
        }


def stream(source: str | Path, root: Path = Path(), account: Account | None = None) -> Iterator[Record | Finding]:
    """Yields the records of a source and the findings among them, in their order.

    A source is a file or a folder, relative to `root`, else a dataset on the hub: `owner/name:config@split`, of which
    config and split may be absent. A folder with a split, `folder@test`, is read as a dataset, too. A weight is no
    matter of this: see `mix`.
    """
    account = Account() if account is None else account
    text = str(source)
    path = root / Path(text).expanduser()
    if _exists(path):
        yield from stream_path(path, account)
        return
    dataset = DatasetName.parse(text)
    folder = root / Path(dataset.name).expanduser()
    if _exists(folder) and folder.is_dir():
        named = DatasetName(str(folder), dataset.config, dataset.split)
        yield from _records(dataset_rows(named, str(path)), str(path), account)
    elif dataset.is_hub_id:
        yield from _records(dataset_rows(dataset, text), text, account)
    else:
        yield from stream_path(path, account)


def stream_path(path: Path, account: Account | None = None) -> Iterator[Record | Finding]:
    """Yields the records of a file or a folder, as `stream` does."""
    account = Account() if account is None else account
    if not _exists(path):
        yield Finding("error", "no-file", Place(str(path)), "no such file", "name a file or a folder of records")
    elif not path.is_dir():
        yield from _records(read_rows(path), str(path), account)
    elif is_saved_dataset(path):
        yield from _records(dataset_rows(DatasetName(str(path)), str(path)), str(path), account)
    else:
        yield from _folder(path, account)


def _exists(path: Path) -> bool:
    """Returns whether there is such a file or folder; nothing has a name that is too long for one."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def require_apart(source: str, out: Path) -> None:
    """Raises EdgeftError where writing to `out` would change what a source is read from.

    That is its file, by whatever name, a file that is read of its folder, and all that lies in the folder.
    """
    named = (Path(source).expanduser(), Path(DatasetName.parse(source).name).expanduser())
    path = next((path for path in named if _exists(path)), None)
    if path is None:
        return
    remedy = "name another place to write to"
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise EdgeftError(f"lies in the folder that is read, {path}", str(out), remedy)
    read = _listed(path)[0] if path.is_dir() else [path]
    if _exists(out) and any(_exists(file) and file.samefile(out) for file in read):
        raise EdgeftError("is the file that is read, and would be lost", str(out), remedy)


def mix(sources: Sequence[SourceConfig], root: Path, account: Account | None = None) -> Iterator[Record | Finding]:
    """Yields the records of several sources, each record as often as the weight of its source says.

    A weight of 2 gives each record twice, one after the other; 0.5 gives a half of them, 1.5 gives that half twice and
    the rest once. Whether a record is in it depends on its own content alone, so that more records change none. What
    is left out is told by an info at the end of its source, and counted in `account`.
    """
    account = Account() if account is None else account
    for source in sources:
        left_out, records = 0, 0
        for item in stream(source.path, root, account):
            if isinstance(item, Finding):
                yield item
                continue
            records += 1
            passes = passes_of(item, source.weight)
            left_out += passes == 0
            account.used -= passes == 0
            account.yielded += passes - 1
            yield from [item] * passes
        if left_out:
            account.left_out["weight"] += left_out
            message = f"{left_out:,} of {records:,} records are left out by the weight {source.weight:g}"
            yield Finding("info", "left-out", Place(source.path), message, "nothing, if that is meant; else weight = 1")


def passes_of(record: Record, weight: float) -> int:
    """Returns how often a source's weight takes a record: by the hash of its content, as the tokens stage does."""
    return int(weight) + (int(record.content_hash[:16], 16) / _HASH_SPACE < weight % 1)


def _folder(folder: Path, account: Account) -> Iterator[Record | Finding]:
    files, unread = _listed(folder)
    yield from unread
    names = {match[1].lower() for path in files if (match := _SPLIT_NAME.search(str(path.relative_to(folder))))}
    if "train" in names and len(names) > 1:
        message = f"files named {', '.join(sorted(names))} are all read"
        remedy = f"name one file, or one split as {folder.name}@train"
        yield Finding("warning", "several-splits", Place(str(folder)), message, remedy)
    found = False
    for path in files:
        for item in _records(read_rows(path), str(path), account, in_folder=True):
            found = found or isinstance(item, Record) or item.severity == "error"
            yield item
    if not found:
        yield Finding("error", "no-records", Place(str(folder)), "the folder holds no records", f"files: {_TYPES}")


def _listed(folder: Path) -> tuple[list[Path], list[Finding]]:
    """Returns the files to read, sorted, and a finding for each entry that is not read."""
    files: list[Path] = []
    unread: list[Finding] = []
    for here, folders, names in os.walk(folder):
        hidden = [name for name in (*folders, *names) if name.startswith(".")]
        unread += [_unread(Path(here, name), "hidden", "info") for name in hidden]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked = (path for path in (Path(here, name) for name in folders) if path.is_symlink())
        unread += [_unread(path, "a link to a folder", "warning", _LINKED) for path in linked]
        for path in (Path(here, name) for name in names if not name.startswith(".")):
            if path.name in _DESCRIPTIONS:
                unread.append(_unread(path, "a description, not records", "info"))
            elif not is_readable(path):
                unread.append(_unread(path, "of no known type", "warning"))
            else:
                files.append(path)
    return sorted(files), sorted(unread, key=lambda finding: finding.place)


def _unread(path: Path, why: str, severity: Severity, remedy: str = _UNLESS_RECORDS) -> Finding:
    return Finding(severity, "unread-file", Place(str(path)), f"not read: {why}", remedy)


def _records(
    rows: Iterator[Row | Finding], file: str, account: Account, *, in_folder: bool = False
) -> Iterator[Record | Finding]:
    """Turns the rows of one file into records; what is true of the file as a whole is told at its end."""
    formats = account.formats.setdefault(file, Counter())
    lost: Counter[str] = Counter()
    last: Place | None = None
    for row in rows:
        if isinstance(row, Finding):
            # Several findings on one row are one row.
            counted = int(row.place.line > 0 and row.place != last)
            account.rows, account.refused, last = account.rows + counted, account.refused + counted, row.place
            yield row
            continue
        converted = convert(row)
        formats[converted.format or "unknown"] += 1
        lost.update(converted.lost)
        _count(converted, account)
        last = row.place
        yield from converted.findings
        if converted.record is not None:
            yield converted.record
    yield from _whole_file(Place(file), formats, lost)
    if last is None:
        yield _empty(Place(file), in_folder)


def _count(converted: Converted, account: Account) -> None:
    account.rows += 1
    if converted.record is not None:
        account.used += 1
        account.yielded += 1
    elif any(finding.severity == "error" for finding in converted.findings):
        account.refused += 1
    else:
        account.left_out["empty text"] += 1


def _empty(place: Place, in_folder: bool) -> Finding:
    remedy = 'expected records, as {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}'
    if in_folder:
        return Finding("warning", "empty-file", place, "the file holds no records", "nothing, if that is meant")
    return Finding("error", "no-records", place, "the file holds no records", remedy)


def _whole_file(place: Place, formats: Counter[str], lost: Counter[str]) -> Iterator[Finding]:
    if lost:
        keys = ", ".join(f"{key!r} of {count:,}" for key, count in sorted(lost.items()))
        message = f"training does not use these keys of rows: {keys}"
        yield Finding("warning", "lost-keys", place, message, "nothing, if they are not for training")
    if len(known := sorted(formats.keys() - {"unknown"})) > 1:
        counts = ", ".join(f"{formats[name]:,} as {name}" for name in known)
        yield Finding("warning", "mixed-formats", place, f"rows are read as {counts}", "nothing, if that is meant")

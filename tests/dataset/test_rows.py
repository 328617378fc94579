"""Files of every type come out as the rows that an independent reader finds, at their exact lines."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.dataset.findings import Finding
from edgeft.dataset.rows import Row, is_readable, read_rows

LINE = '{"text": "one"}'


def found(path: Path, content: str | bytes) -> list[tuple[int, Any]]:
    """Returns (line, value) of rows and (line, code) of findings in a file of this content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(i.place.line, i.value if isinstance(i, Row) else i.code) for i in read_rows(path)]


def messages(path: Path) -> list[str]:
    """Returns the messages of the findings in a file."""
    return [item.message for item in read_rows(path) if isinstance(item, Finding)]


ONE, TWO = {"text": "one"}, {"text": "two"}


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.jsonl", f'{LINE}\n\n{{"text": "two"}}', [(1, ONE), (3, TWO)]),
        ("a.jsonl", f'\ufeff{LINE}\r\n \r\n{{"text": "two"}}\r\n', [(1, ONE), (3, TWO)]),
        ("a.json", f'{LINE}\n{{"text": "two"}}\n', [(1, ONE), (2, TWO)]),
        ("a.json", f'{{"text": \n{LINE}\n', [(1, "invalid-json"), (2, ONE)]),
        ("a.jsonl", f'[{LINE}, {{"text": "two"}}]', [(1, ONE), (1, TWO)]),
        ("a.jsonl", f'[\n  {LINE},\n\n  {{"text":\n "two"}}\n]', [(2, ONE), (4, TWO)]),
        ("a.jsonl", f'[{LINE},\n{{"text": "two"}}]', [(1, ONE), (2, TWO)]),
        ("a.json", f'\ufeff{{"version": 1, "data": [\n{LINE},\n{{"text": "two"}}]}}', [(2, ONE), (3, TWO)]),
        ("a.json", '\n{\n"text": "one"\n}\n', [(2, ONE)]),
        ("a.json", '{"messages": [\n{"role": "user"}]}', [(1, {"messages": [{"role": "user"}]})]),
        ("a.json", "[]", []),
        ("a.json", "", []),
        ("a.json", f"[{LINE}, 1]", [(1, ONE), (1, 1)]),
        ("a.txt", "one\r\n\r\n\r\ntwo\nlines\n", [(1, ONE), (4, {"text": "two\nlines"})]),
        ("a.txt", f"{LINE}\n{LINE}", [(1, ONE), (2, ONE)]),
        (
            "a.csv",
            'text,n\none,1\n\n"a ""b""\nc",2\ntwo,3\n',
            [
                (2, {"text": "one", "n": "1"}),
                (4, {"text": 'a "b"\nc', "n": "2"}),
                (6, {"text": "two", "n": "3"}),
            ],
        ),
        ("a.csv", "\ufefftext; n\r\none,;1\r\n", [(2, {"text": "one,", "n": "1"})]),
        ("a.tsv", "text\tn\none\t1", [(2, {"text": "one", "n": "1"})]),
        ("a.csv", "", []),
    ],
)
@pytest.mark.parametrize("compressed", ["", ".gz", ".zst"])
def test_rows(tmp_path: Path, name: str, content: str, rows: list[Any], compressed: str) -> None:
    pack: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }
    assert found(tmp_path / (name + compressed), pack[compressed](content.encode())) == rows


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.jsonl", f"{LINE}\n{{\n{LINE}", [(1, ONE), (2, "invalid-json"), (3, ONE)]),
        ("a.jsonl", b'{"text": "\xe4"}\n' + LINE.encode(), [(1, "not-utf8"), (2, ONE)]),
        ("a.jsonl", LINE.encode("utf-16"), [(1, "not-utf8")]),
        ("a.jsonl", f'{LINE}\n{{"text": NaN}}\n', [(1, ONE), (2, "not-a-number")]),
        (
            "a.jsonl",
            f'{LINE}\n{{"n": 1e999}}\n{{"n": {"9" * 5000}}}',
            [(1, ONE), *((n, "not-a-number") for n in (2, 3))],
        ),
        ("a.jsonl", f'{LINE}\n{{"a": {{"b": 1, "b": 1}}}}\n', [(1, ONE), (2, "duplicate-key")]),
        ("a.jsonl", f"{LINE}\n{'[' * 101}{']' * 101}\n{'[' * 9**5}", [(1, ONE), (2, "too-deep"), (3, "too-deep")]),
        ("a.json", f'[{LINE},\n{{"a": 1, "a": 2}},\n{LINE}]', [(1, ONE), (2, "duplicate-key"), (3, ONE)]),
        ("a.json", f"[\n{LINE},\n{{,\n{LINE}]", [(2, ONE), (3, "invalid-json")]),
        ("a.json", f"[\n{LINE}\n", [(2, ONE), (3, "invalid-json")]),
        ("a.json", f"[\n{LINE}]\n]", [(2, ONE), (3, "invalid-json")]),
        ("a.json", f'{{"data": [\n{LINE}\n', [(3, "invalid-json")]),
        ("a.json", b'[\n{"text": "\xe4"}]', [(2, "not-utf8")]),
        ("a.json", "7", [(1, "unknown-format")]),
        ("a.txt", b"one\n\n\xff\nlost\n\none", [(1, ONE), (3, "not-utf8"), (6, ONE)]),
        ("a.csv", b"text\none\n\xe4\none\n", [(2, ONE), (3, "not-utf8"), (4, ONE)]),
        (
            "a.csv",
            'text,n\none,1\none\n"a"b,1\n',
            [(2, {"text": "one", "n": "1"}), (3, "column-count"), (4, "invalid-csv")],
        ),
        ("a.csv", 'text,n\n"one,1\n', [(2, "invalid-csv")]),
        ("a.csv", "n,n\n1,2\n", [(1, "bad-header")]),
        ("a.parquet", b"PAR1 and so on", [(0, "corrupt-file")]),
        ("a.parquet", b"", [(0, "corrupt-file")]),
        ("a.jsonl.gz", gzip.compress(LINE.encode(), mtime=0)[:-9], [(0, "truncated")]),
        (
            "a.jsonl.gz",
            gzip.compress(f"{LINE}\n".encode(), mtime=0) + gzip.compress(LINE.encode(), mtime=0)[:-9],
            [(1, ONE), (2, "truncated")],
        ),
        ("a.jsonl.gz", gzip.compress(LINE.encode(), mtime=0)[:-8] + b"12345678", [(0, "corrupt-file")]),
        ("a.jsonl.zst", zstandard.compress(LINE.encode())[:-3], [(0, "truncated")]),
        (
            "a.jsonl.zst",
            zstandard.compress(f"{LINE}\n".encode()) + zstandard.compress(LINE.encode()),
            [(1, ONE), (2, ONE)],
        ),
        (
            "a.jsonl.zst",
            zstandard.compress(f"{LINE}\n".encode()) + b"rubbish and more",
            [(1, ONE), (2, "corrupt-file")],
        ),
    ],
)
def test_what_cannot_be_read_is_a_finding(tmp_path: Path, name: str, content: str | bytes, rows: list[Any]) -> None:
    path = tmp_path / name
    assert found(path, content) == rows
    assert all(item.remedy for item in read_rows(path) if isinstance(item, Finding))


def test_findings_say_where_in_the_line(tmp_path: Path) -> None:
    found(tmp_path / "a.jsonl", LINE.encode() + b'\n{"text": "a\xff"}\n{"text": }')
    assert messages(tmp_path / "a.jsonl") == ["not UTF-8 at byte 12", "not valid JSON at column 10: expecting value"]


def test_a_cut_gzip_file_gives_its_whole_rows_first(tmp_path: Path) -> None:
    lines = [json.dumps({"text": str(n) * 50}) for n in range(2000)]
    whole = gzip.compress("\n".join(lines).encode())
    rows = found(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2])
    assert len(rows) > 100
    assert rows[-1] == (len(rows), "truncated")
    assert [value for _, value in rows[:-1]] == [json.loads(line) for line in lines[: len(rows) - 1]]


@pytest.mark.parametrize("suffix", [".arrow", ".jsonl", ".arrow.gz"])
@pytest.mark.parametrize("form", ["stream", "file"])
def test_arrow_is_as_pyarrow_reads_it(form: str, suffix: str, tmp_path: Path) -> None:
    """`datasets` writes streams, other programs files; the content tells, whatever the name."""
    rows = [{"text": f"number {number}", "more": None if number % 2 else [number]} for number in range(600)]
    table = pyarrow.Table.from_pylist(rows)
    content = pyarrow.BufferOutputStream()
    new = pyarrow.ipc.new_stream if form == "stream" else pyarrow.ipc.new_file
    with new(content, table.schema) as writer:
        writer.write_table(table, max_chunksize=250)
    path, data = tmp_path / f"a{suffix}", content.getvalue().to_pybytes()
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    read = list(read_rows(path))
    assert [row.value for row in read if isinstance(row, Row)] == [
        {key: value for key, value in row.items() if value is not None} for row in rows
    ]
    path.write_bytes(data[: len(data) // 2])
    assert [item.code for item in read_rows(path) if isinstance(item, Finding)] == ["corrupt-file"]


def test_parquet_is_as_pyarrow_reads_it(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "n": n, "tags": [{"a": 1, "b": None}, {"a": None, "b": "x"}]} for n in range(600)]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)
    read = [item for item in read_rows(path) if isinstance(item, Row)]
    assert [row.place.line for row in read] == list(range(1, 601))
    assert read[0].value == {"text": "row 0", "n": 0, "tags": [{"a": 1}, {"b": "x"}]}
    assert [row.value["text"] for row in read] == pyarrow.parquet.read_table(path)["text"].to_pylist()
    for name, pack in ((".gz", gzip.compress), (".zst", zstandard.compress)):
        packed = tmp_path / f"a.parquet{name}"
        packed.write_bytes(pack(path.read_bytes()))
        assert [item.value for item in read_rows(packed) if isinstance(item, Row)] == [row.value for row in read]
    path.write_bytes(path.read_bytes()[:-100])
    assert [item.code for item in read_rows(path) if isinstance(item, Finding)] == ["corrupt-file"]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=6))
def test_csv_is_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b"), *cells])
    read = list(read_rows(path))
    assert [item.value for item in read if isinstance(item, Row)] == [{"a": a, "b": b} for a, b in cells]
    lines = [2 + sum(c.count("\n") for pair in cells[:n] for c in pair) + n for n in range(len(cells))]
    assert [item.place.line for item in read] == lines


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=5), st.sampled_from([None, 0, 2]))
def test_json_lists_are_as_json_reads_them(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps(values, indent=indent)
    path.write_text(text)
    assert [item.value for item in read_rows(path) if isinstance(item, Row)] == values


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("a.jsonl", True),
        ("A.JSONL.GZ", True),
        ("a.parquet.zst", True),
        ("a.md", False),
        ("a.gz", False),
        ("jsonl", False),
    ],
)
def test_names_of_known_types(name: str, readable: bool) -> None:
    assert is_readable(Path(name)) is readable


def test_a_large_cell_is_read(tmp_path: Path) -> None:
    assert found(tmp_path / "a.csv", f"text\n{'a' * 300_000}\n") == [(2, {"text": "a" * 300_000})]

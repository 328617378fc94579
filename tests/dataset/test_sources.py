"""Files, folders and datasets give all of their records, each as often as its weight says, and the account adds up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from edgeft.config import SourceConfig
from edgeft.dataset.findings import Finding
from edgeft.dataset.hub import DatasetName
from edgeft.dataset.record import Record
from edgeft.dataset.records import read_records
from edgeft.dataset.sources import Account, mix, passes_of, stream
from edgeft.errors import EdgeftError


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Returns rows of prompts and completions."""
    return [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(start, start + count)]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    """Writes JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answers(items: list[Record | Finding]) -> list[str]:
    """Returns the answers of the records among items."""
    return [item.answer for item in items if isinstance(item, Record)]


def codes(items: list[Record | Finding]) -> list[str]:
    """Returns the codes of the findings among items."""
    return [item.code for item in items if isinstance(item, Finding)]


def test_a_folder_gives_its_files_in_order_and_tells_what_it_does_not_read(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", rows(2))
    write(tmp_path / "a" / "deep.jsonl", rows(1, 7))
    (tmp_path / "c.csv").write_text("question,answer\nq,a\n")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "notes.docx").write_text("?")
    (tmp_path / "empty.jsonl").touch()
    write(tmp_path / ".cache" / "x.jsonl", rows(1))
    account = Account()
    items = list(stream(".", tmp_path, account))
    assert answers(items) == ["answer 7", "answer 0", "answer 1", "a"]
    unread = [
        (f.severity, Path(f.place.file).name) for f in items if isinstance(f, Finding) and f.code == "unread-file"
    ]
    assert unread == [("info", ".cache"), ("info", "README.md"), ("warning", "notes.docx")]
    assert codes(items)[3:] == ["empty-file"]
    assert [dict(counts) for _, counts in sorted(account.formats.items())] == [
        {"prompt-completion": 1},
        {"prompt-completion": 2},
        {"question-answer": 1},
        {},
    ]


def test_a_linked_folder_is_not_read_and_told(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", rows(1))
    write(tmp_path / "big" / "b.jsonl", rows(1, 7))
    (tmp_path / "data" / "big").symlink_to("../big")
    (tmp_path / "data" / "c.jsonl").symlink_to("../big/b.jsonl")
    items = list(stream("data", tmp_path))
    assert answers(items) == ["answer 0", "answer 7"]
    (finding,) = (item for item in items if isinstance(item, Finding))
    assert (finding.severity, finding.code) == ("warning", "unread-file")
    assert finding.place.file == str(tmp_path / "data" / "big")
    assert "a source of its own" in finding.remedy


def test_a_folder_of_training_and_test_files_is_told(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-00000.jsonl", rows(1))
    write(tmp_path / "data" / "test-00000.jsonl", rows(1))
    assert codes(list(stream(tmp_path))) == ["several-splits"]


@pytest.mark.parametrize("source", ["nowhere.jsonl", "./no/where", "/no/where"])
def test_what_does_not_exist(tmp_path: Path, source: str) -> None:
    assert codes(list(stream(source, tmp_path))) == ["no-file"]


def test_an_empty_folder(tmp_path: Path) -> None:
    assert codes(list(stream(tmp_path))) == ["no-records"]
    with pytest.raises(EdgeftError, match="holds no records"):
        read_records(tmp_path)


def test_the_account_adds_up(tmp_path: Path) -> None:
    lines = [*map(json.dumps, rows(50)), "{", '{"text": ""}', '{"text": "plain"}', '{"prompt": "", "completion": ""}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    account = Account()
    items = list(mix([SourceConfig(path="a.jsonl", weight=0.5)], tmp_path, account))
    kept = answers(items)
    assert (account.rows, account.refused, account.yielded) == (54, 2, len(kept))
    assert account.rows == account.used + account.refused + account.left_out.total()
    assert account.left_out["empty text"] == 1
    assert 15 < account.used < 36
    assert codes(items) == ["invalid-json", "empty-text", "empty-answer", "mixed-formats", "left-out"]
    assert account.formats[str(tmp_path / "a.jsonl")] == {"prompt-completion": 51, "text": 2}


def test_a_weight_is_how_often_each_record_comes(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(400))
    seen = {}
    for weight in (0.25, 0.5, 1.0, 2.0, 2.5):
        seen[weight] = Counter(answers(list(mix([SourceConfig(path="a.jsonl", weight=weight)], tmp_path))))
    assert set(seen[1.0].values()) == {1}
    assert set(seen[2.0].values()) == {2}
    assert 70 < len(seen[0.25]) < 130
    assert 160 < len(seen[0.5]) < 240
    assert seen[0.25].keys() < seen[0.5].keys() < seen[1.0].keys()
    assert {answer for answer, passes in seen[2.5].items() if passes == 3} == seen[0.5].keys()


def test_more_records_change_no_choice(tmp_path: Path) -> None:
    few = write(tmp_path / "few.jsonl", rows(50))
    many = write(tmp_path / "many.jsonl", rows(60, 20) + rows(20))
    chosen = {
        path: set(answers(list(mix([SourceConfig(path=str(path), weight=0.5)], tmp_path)))) for path in (few, many)
    }
    assert chosen[few] == {answer for answer in chosen[many] if int(answer.split()[1]) < 50}


def test_sources_are_mixed_in_their_order(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows(2))
    write(tmp_path / "b.jsonl", rows(1, 9))
    sources = [SourceConfig(path="a.jsonl"), SourceConfig(path="b.jsonl", weight=2)]
    assert answers(list(mix(sources, tmp_path))) == ["answer 0", "answer 1", "answer 9", "answer 9"]
    assert [passes_of(record, 1.0) for record in read_records(tmp_path / "a.jsonl")] == [1, 1]


def test_keys_that_are_lost_are_told_once_with_their_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{**row, "id": n} for n, row in enumerate(rows(3))] + rows(1))
    (finding,) = (item for item in stream(path) if isinstance(item, Finding))
    assert (finding.severity, finding.code, finding.place.line) == ("warning", "lost-keys", 0)
    assert "'id' of 3" in finding.message


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/name", DatasetName("owner/name")),
        ("owner/name:config", DatasetName("owner/name", "config")),
        ("owner/name@test", DatasetName("owner/name", None, "test")),
        ("owner/name:config@test", DatasetName("owner/name", "config", "test")),
        ("a@b@c", DatasetName("a@b@c")),
    ],
)
def test_names_of_datasets(text: str, name: DatasetName) -> None:
    assert DatasetName.parse(text) == name
    assert name.is_hub_id == text.startswith("owner/")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder as the hub has datasets: Parquet files of two splits."""
    folder = tmp_path / "repository"
    for name, start, count in (("train", 0, 3), ("test", 9, 1)):
        dataset = datasets.Dataset.from_list(rows(count, start))
        dataset.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def test_a_repository_of_parquet_files(repository: Path, tmp_path: Path) -> None:
    assert answers(list(stream("repository@train", tmp_path))) == ["answer 0", "answer 1", "answer 2"]
    items = list(stream("repository@test", tmp_path))
    assert answers(items) == ["answer 9"]
    assert [str(item.place) for item in items] == [f"{tmp_path / 'repository@test'}:1"]
    (finding,) = list(stream("repository@nowhere", tmp_path))
    assert isinstance(finding, Finding)
    assert (finding.code, "there are train, test" in finding.message) == ("dataset-unavailable", True)


def test_datasets_that_were_saved_are_as_the_library_reads_them(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "light"}}]
    calls = [{"type": "function", "function": {"name": "light", "arguments": "{}"}}]
    saved: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": []},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": calls}], "tools": tools},
    ]
    dataset = datasets.Dataset.from_list(saved)
    dataset.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=dataset, test=dataset.select([0])).save_to_disk(tmp_path / "several")
    (plain, calling) = read_records(tmp_path / "one")
    assert plain.messages == tuple(saved[0]["messages"])
    assert calling.messages[1]["tool_calls"][0]["function"] == {"name": "light", "arguments": {}}
    assert calling.tools == tuple(tools)
    assert [record.messages for record in read_records(tmp_path / "several")] == [plain.messages, calling.messages]
    assert len(list(stream("several@test", tmp_path))) == 1


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "\u0141"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CARD = """---
configs:
- config_name: plain
  default: true
  data_files: [{split: train, path: plain/train*}, {split: test, path: plain/test*}]
- config_name: tools
  data_files: [{split: train, path: tools/*}]
---
"""


def test_a_repository_with_configurations_and_nested_columns(tmp_path: Path) -> None:
    """As Arrow has them: lists of structs, in which every key is there and null where it has no value."""
    folder = tmp_path / "repository"
    calling = [
        {"role": "user", "content": "Cold?"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "assistant", "content": "3 degrees"},
    ]
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with_tools = [{"messages": calling, "tools": json.dumps([TOOL])}, {"messages": talk, "tools": None}]
    for path, made in (("plain/train", rows(2)), ("plain/test", rows(1, 9)), ("tools/0", with_tools)):
        datasets.Dataset.from_list(made).to_parquet(folder / f"{path}.parquet")
    (folder / "README.md").write_text(CARD)
    assert answers(list(stream("repository@train", tmp_path))) == ["answer 0", "answer 1"]
    assert answers(list(stream("repository:plain@test", tmp_path))) == ["answer 9"]
    for items in (list(stream("repository:tools", tmp_path)), list(stream(folder / "tools" / "0.parquet"))):
        called, plain = items
        assert isinstance(called, Record) and isinstance(plain, Record)
        assert called.tools == (TOOL,)
        assert called.messages[1]["tool_calls"][0]["function"]["arguments"] == {"place": "\u0141"}
        assert [sorted(message) for message in called.messages[2:]] == [
            ["content", "role", "tool_call_id"],
            ["content", "role"],
        ]
        assert (plain.tools, plain.messages) == ((), tuple(talk))
    (finding,) = list(stream("repository:colours", tmp_path))
    assert isinstance(finding, Finding) and "['plain', 'tools']" in finding.message


def test_a_saved_dataset_has_no_configuration(tmp_path: Path) -> None:
    datasets.Dataset.from_list(rows(1)).save_to_disk(tmp_path / "saved")
    (finding,) = list(stream("saved:small", tmp_path))
    assert isinstance(finding, Finding)
    assert finding.message.endswith("there is no configuration 'small': a saved dataset has none")


TRANSPORT_FAULT = type("ReadError", (Exception,), {"__module__": "httpx2"})("cut off")


@pytest.mark.parametrize("fault", [ConnectionError("Couldn't reach 'owner/name'"), TRANSPORT_FAULT])
def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception) -> None:
    def load(name: str, config: str | None, *, streaming: bool) -> Any:
        raise fault

    monkeypatch.setattr(datasets, "load_dataset", load)
    (finding,) = list(stream("owner/name", tmp_path))
    assert isinstance(finding, Finding)
    assert (finding.severity, finding.code) == ("error", "dataset-unavailable")
    assert "HF_HUB_OFFLINE" in finding.remedy


def test_a_dataset_of_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def load(name: str, config: str | None, *, streaming: bool) -> Any:
        asked.append((name, config, streaming))
        return datasets.IterableDatasetDict(train=datasets.Dataset.from_list(rows(2)).to_iterable_dataset())

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert answers(list(stream("owner/name:small", tmp_path))) == ["answer 0", "answer 1"]
    assert asked == [("owner/name", "small", True)]


def test_a_dataset_that_the_hub_refuses_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(name: str, config: str | None, *, streaming: bool) -> Any:
        raise datasets.exceptions.DatasetNotFoundError("no such dataset\nlong story")

    monkeypatch.setattr(datasets, "load_dataset", load)
    (finding,) = list(stream("owner/name", tmp_path))
    assert isinstance(finding, Finding)
    assert (finding.code, finding.message) == ("dataset-unavailable", "the dataset cannot be read: no such dataset")

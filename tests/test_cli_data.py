"""`edgeft data`: what a person types, what it prints, and how it exits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_run import make_run, write_records

from edgeft.cli import main


def edgeft(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    write_records(tmp_path / "train.jsonl", 200)
    return tmp_path / "train.jsonl"


def test_good_records_pass(records: Path) -> None:
    result = edgeft("data", "check", records)
    assert result.exit_code == 0, result.output
    assert "training  200 records" in result.output


def test_bad_records_exit_1_and_name_the_line(records: Path) -> None:
    with records.open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "hi"}]}\n{"oops\n')
    result = edgeft("data", "check", records, "--json")
    assert result.exit_code == 1
    found = {(finding["line"], finding["severity"]) for finding in json.loads(result.output)["findings"]}
    assert {(201, "error"), (202, "error")} <= found


def test_a_configuration_is_checked_with_its_model(tmp_path: Path) -> None:
    config = make_run(tmp_path)
    with (tmp_path / "train.jsonl").open("a") as file:
        messages = [{"role": "user", "content": "say <|im_end|>"}, {"role": "assistant", "content": '{"room": "x"}'}]
        file.write(json.dumps({"messages": messages}) + "\n")
    result = edgeft("data", "check", "-c", config, "--json")
    assert result.exit_code == 1
    codes = {finding["code"]: finding["line"] for finding in json.loads(result.output)["findings"]}
    assert codes["special-token-in-text"] == 61


def test_given_files_win_over_those_of_the_configuration(tmp_path: Path) -> None:
    config = make_run(tmp_path)
    write_records(tmp_path / "other.jsonl", 7, seed=2)
    for option, counts in (("--test", (60, None, 7)), ("--evaluation", (60, 7, 6))):
        result = edgeft("data", "check", "-c", config, option, tmp_path / "other.jsonl", "--json")
        records = json.loads(result.stdout)["counts"]["records"]
        assert tuple(map(records.get, ("training", "evaluation", "test"))) == counts
    named = json.loads(edgeft("data", "check", "-c", config, "--json").stdout)["counts"]["records"]
    assert named == {"training": 60, "test": 6}


def test_odd_keys_and_names_are_printed_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9.jsonl")).write_text('{"\\ud800": 1}\n')
    answer = json.dumps({"\ud800": "\udc00"})
    lines = [json.dumps({"prompt": f"question {n * 7919}", "completion": answer}) for n in range(8)]
    (folder / "labels.jsonl").write_text("\n".join(lines))
    plain, as_json = edgeft("data", "check", folder), edgeft("data", "check", folder, "--json")
    assert (plain.exit_code, as_json.exit_code) == (1, 1)
    assert "caf\\udce9.jsonl:1" in plain.stdout and "no format: \\ud800" in plain.stdout
    finding = json.loads(as_json.stdout)["findings"][0]
    assert finding["file"].endswith("caf\\udce9.jsonl") and finding["message"].endswith("\\ud800")


def test_a_name_that_is_too_long_is_told() -> None:
    result = edgeft("data", "check", "x" * 300)
    assert result.exit_code == 1
    assert "no such file" in result.stdout


def test_the_report_names_the_format_and_accounts_for_every_row(records: Path) -> None:
    with records.open("a") as file:
        file.write('{"prompt": "a", "completion": "b"}\n{"text": " "}\n{"oops\n')
    result = edgeft("data", "check", records)
    assert "203 rows in = 201 records + 1 refused + 1 empty text left out; " in result.output
    assert "; format: openai 200, prompt-completion 1, text 1\n" in result.output


def test_the_configuration_says_what_is_too_long_and_what_is_alike(tmp_path: Path) -> None:
    config = make_run(tmp_path)
    text = config.read_text().replace("[dataset]", '[dataset]\nover_length = "drop"\nnear_duplicate = 1.0')
    config.write_text(text)
    long = [{"role": "user", "content": "x " * 9000}, {"role": "assistant", "content": '{"room": "x"}'}]
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(json.dumps({"messages": long}) + "\n")
    report = json.loads(edgeft("data", "check", "-c", config, "--json").output)
    (finding,) = [finding for finding in report["findings"] if finding["code"] == "over-length"]
    assert (finding["severity"], finding["line"]) == ("warning", 61)
    assert "near-duplicate" not in {finding["code"] for finding in report["findings"]}


def test_all_places_on_request(records: Path) -> None:
    records.write_text('{"oops\n' * 9)
    few, all_of_them = (edgeft("data", "check", records, "--places", count).output for count in ("2", "9"))
    assert f"{records}:2\n" in few and f"{records}:9\n" not in few and "--places" in few
    assert f"{records}:9\n" in all_of_them and "--places" not in all_of_them


@pytest.mark.parametrize("command", ["check", "preview"])
def test_a_source_or_a_configuration_is_needed(command: str) -> None:
    assert edgeft("data", command).exit_code == 2
    assert edgeft("data", command, "a.jsonl", "-c", "edgeft.toml").exit_code == 2


def test_split_loses_nothing_and_overwrites_nothing(records: Path, tmp_path: Path) -> None:
    out = tmp_path / "split"
    assert edgeft("data", "split", records, "--out", out, "--fraction", "0.2").exit_code == 0
    parts = [(out / name).read_text().splitlines() for name in ("train.jsonl", "evaluation.jsonl")]
    assert all(parts)
    assert sorted(map(json.loads, parts[0] + parts[1]), key=str) == sorted(
        map(json.loads, records.read_text().splitlines()), key=str
    )
    assert edgeft("data", "split", records, "--out", out).exit_code == 1


def test_a_faulty_file_is_not_split(records: Path, tmp_path: Path) -> None:
    records.write_text("{\n")
    assert edgeft("data", "split", records, "--out", tmp_path / "split").exit_code == 1
    assert not (tmp_path / "split").exists()


def test_a_split_does_not_go_into_the_folder_that_it_reads(records: Path) -> None:
    result = edgeft("data", "split", records.parent, "--out", records.parent / "split")
    assert result.exit_code == 1
    assert "lies in the folder that is read" in result.stderr
    assert list(records.parent.iterdir()) == [records]


def test_a_split_tells_what_it_does_not_write(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"question {n * 7919}", "completion": f"{n}", "id": n} for n in range(40)] + [
        {"text": " "}
    ] * 130
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = edgeft("data", "split", source, "--out", tmp_path / "split", "--fraction", "0.3")
    assert result.exit_code == 0, result.output
    assert f"warning {source}:41: text: the text is blank" in result.stdout
    assert f"warning {source}: training does not use these keys of rows: 'id' of 40" in result.stdout
    assert "and 30 more: `edgeft data check` shows them" in result.stdout


@pytest.mark.parametrize(("count", "fraction"), [(0, "0.5"), (1, "0.5"), (6, "0.97")])
def test_a_split_has_two_sides(tmp_path: Path, count: int, fraction: str) -> None:
    source = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"question {n * 7919}", "completion": f"answer {n}"} for n in range(count)] + [{"text": ""}]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = edgeft("data", "split", source, "--out", tmp_path / "split", "--fraction", fraction)
    assert result.exit_code == 1
    assert f"error {source}: {count} record{'' if count == 1 else 's'} cannot be split" in result.stderr
    assert "the text is blank" in result.stdout
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("form", ["openai", "sharegpt", "alpaca"])
def test_what_is_exported_is_read_again(records: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"{form}.jsonl"
    result = edgeft("data", "export", records, "--to", form, "--out", out, "--price", "8")
    assert result.exit_code == 0, result.output
    assert "200 of 200 records" in result.output
    assert ("cost" in result.output) == (form == "openai")
    back = tmp_path / "back.jsonl"
    assert edgeft("data", "export", out, "--to", "openai", "--out", back).exit_code == 0
    assert [json.loads(line) for line in back.read_text().splitlines()] == [
        json.loads(line) for line in records.read_text().splitlines()
    ]


def test_a_run_takes_a_folder_of_another_format(tmp_path: Path) -> None:
    config = make_run(tmp_path, records=80)
    folder = tmp_path / "records"
    folder.mkdir()
    assert (
        edgeft("data", "export", tmp_path / "train.jsonl", "--to", "sharegpt", "--out", folder / "a.jsonl").exit_code
        == 0
    )
    result = edgeft("run", "tokens", "-c", config, "--set", "dataset.train=records")
    assert result.exit_code == 0, result.output
    assert "80 records in" in result.output


def test_what_cannot_be_read_says_why_it_is_not_exported(records: Path, tmp_path: Path) -> None:
    records.write_text('{"messages": [\n{"messages": []}\n')
    result = edgeft("data", "export", records, "--to", "openai", "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert f"{records}:1" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_an_export_does_not_overwrite_what_it_reads(records: Path) -> None:
    with records.open("a") as file:
        file.write("{oops\n")
    before = records.read_text()
    for source, out in ((records, records), (records.parent, records), (records.parent, records.parent / "out.jsonl")):
        result = edgeft("data", "export", source, "--to", "openai", "--out", out)
        assert result.exit_code == 1
        assert f"error {out}: " in result.stderr
    assert (records.read_text(), list(records.parent.iterdir())) == (before, [records])


def test_a_preview_shows_what_is_trained(tmp_path: Path) -> None:
    make_run(tmp_path)
    result = edgeft("data", "preview", tmp_path / "train.jsonl", "--model", tmp_path / "base", "--line", "2")
    assert result.exit_code == 0, result.output
    assert "train.jsonl:2" in result.output
    result = edgeft("data", "preview", tmp_path / "train.jsonl", "--model", tmp_path / "base", "--json")
    assert len(json.loads(result.stdout)) == 3


def test_a_preview_of_a_configuration(tmp_path: Path) -> None:
    config = make_run(tmp_path)
    result = edgeft("data", "preview", "-c", config, "--count", "1")
    assert result.exit_code == 0, result.output
    assert "train.jsonl:1  " in result.output
    assert edgeft("data", "preview", tmp_path / "train.jsonl").exit_code == 2


def test_rows_that_cannot_be_read_are_told_by_a_preview(tmp_path: Path) -> None:
    make_run(tmp_path)
    train = tmp_path / "train.jsonl"
    train.write_text('{"oops\n' + train.read_text())
    result = edgeft("data", "preview", train, "--model", tmp_path / "base")
    assert result.exit_code == 0
    assert "1 error among the rows" in result.stderr

"""A model is recorded without records of one's own, so that files that others made can be checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from convert.models import llama, llama_tokenizer, sentencepiece_model, to_gguf
from dataset.zoo import byte_level, view_with
from template_zoo import SHAPES
from tiny_model import make_model

from edgeft.artifacts import Checkpoint, GgufFile, Reference
from edgeft.cli import main
from edgeft.config import ParityConfig
from edgeft.dataset.mask import tokenize_last_turn
from edgeft.parity.conversations import built_in_records
from edgeft.parity.record import record_reference
from edgeft.parity.reference import OpenReference
from parity.exports import CONFIG as LOOSE
from parity.exports import checked
from parity.gguf_edit import Parts

CONFIG = ParityConfig(records=4, positions=2048, max_new_tokens=6)


def as_others_make_it(gguf: GgufFile) -> GgufFile:
    """Returns the file as llama.cpp's own converter makes it of a model without a template: with none of its own."""
    parts = Parts(gguf.path)
    parts.keys.pop("tokenizer.chat_template", None)
    if "tokenizer.ggml.add_space_prefix" in parts.keys:
        parts.keys["tokenizer.ggml.add_space_prefix"].value = True
    return GgufFile.open(parts.write(gguf.path.with_name("theirs.gguf")))


def statuses(report: dict[str, object]) -> dict[str, str]:
    return {rung["name"]: rung["status"] for rung in report["rungs"]}  # type: ignore[attr-defined]


def test_conversations_end_with_an_answer_and_are_many_things() -> None:
    records = built_in_records()
    assert len({record.messages[0]["content"] for record in records}) == len(records) >= 25
    for record in records:
        roles = [message["role"] for message in record.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message["content"].strip() == message["content"] != "" for message in record.messages)
    text = "".join(message["content"] for record in records for message in record.messages)
    assert {"\n", "{", "|", "é", "ä", "¿", "电", "х", "²"} <= set(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_template_shows_them(shape: str) -> None:
    tokenizer = byte_level()
    view = view_with(tokenizer, SHAPES[shape].plain, SHAPES[shape].end, *SHAPES[shape].other_ends)
    for record in built_in_records():
        prompt, prompt_ids, turn_ids = tokenize_last_turn(record, view)
        assert tokenizer.decode(prompt_ids) == prompt
        said = record.messages[-1]["content"]
        assert tokenizer.decode(turn_ids) == SHAPES[shape].shown(said) + SHAPES[shape].end


def test_a_chat_model_is_recorded_from_the_command_line(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    out = tmp_path / "reference.npz"
    command = ["parity", "record", str(model.path), "--out", str(out), "--records", "3", "--device", "cpu"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    content = OpenReference(Reference(out)).content
    assert [record.messages for record in content.records] == [one.prompt for one in built_in_records()[:3]]
    assert content.model.has_template
    assert content.made_by["texts"] == "built-in"
    report = checked(Reference(out), to_gguf(model.path, tmp_path / "m.gguf"), LOOSE)
    assert report["verdict"] == "pass", report["failures"]
    assert statuses(report)["chat template"] == "pass"


@pytest.mark.parametrize("kind", ["byte level", "sentencepiece"])
def test_a_model_without_a_template_is_read_as_text(tmp_path: Path, kind: str) -> None:
    """Neither the model nor the file that others made has a template: none is asked for, and none is made up."""
    folder = tmp_path / "model"
    if kind == "byte level":
        make_model(folder)
        (folder / "chat_template.jinja").unlink()
    else:
        llama_tokenizer(folder, sentencepiece_model(folder), chat=False)
        llama(folder, vocab_size=576, tie_word_embeddings=True)
    reference = record_reference(Checkpoint.open(folder), None, None, CONFIG, "cpu", tmp_path / "reference.npz")
    content = OpenReference(reference).content
    assert not content.model.has_template
    asked = [one.messages[0]["content"] for one in built_in_records()[:4]]
    assert [record.rendered_prompt for record in content.records] == [f"Question: {text}\nAnswer:" for text in asked]
    report = checked(reference, as_others_make_it(to_gguf(folder, tmp_path / "m.gguf")), LOOSE)
    assert report["verdict"] == "pass", report["failures"]
    assert statuses(report)["chat template"] == "skipped"
    assert statuses(report)["token ids"] == statuses(report)["logits"] == "pass"

"""A base model without a chat template: it is given one, trained with it, and carries it to the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dataset.zoo import TOOL_USE, WEATHER, byte_level, record_of, trained_texts, view_with
from test_merge import make_adapter
from tiny_model import make_model
from tiny_run import CONFIG
from transformers import AutoTokenizer

from edgeft import hf
from edgeft.artifacts import Checkpoint, GgufFile, Message
from edgeft.cli import main
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.dataset.mask import tokenize_record
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.given_template import CHATML, TURNS, given_template
from edgeft.llamacpp import Engine
from edgeft.merge import merge
from edgeft.weights import CheckpointWeights, MergedWeights

QUESTION: list[Message] = [{"role": "system", "content": ""}, {"role": "user", "content": "turn on light 3"}]
ANSWERED: list[Message] = [*QUESTION, {"role": "assistant", "content": "\n yes "}]
FIRST = "\n{%- if tools %}"


def bare_model(folder: Path, kind: str, **shape: Any) -> Checkpoint:
    """Writes a model without a chat template: its end token is ChatML's ("chatml"), another beside ChatML's ("other
    end"), or its vocabulary has none of ChatML's tokens ("no tokens")."""
    checkpoint = make_model(folder, **shape)
    (folder / "chat_template.jinja").unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        if kind == "no tokens":
            text = text.replace("<|im_start|>", "<|reserved|>").replace("<|im_end|>", "<|stop|>")
        elif kind == "other end":
            text = text.replace('"eos_token": "<|im_end|>"', '"eos_token": "<|endoftext|>"')
        (folder / name).write_text(text, encoding="utf-8")
    if kind == "other end":
        for name in ("config.json", "generation_config.json"):
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(content | {"eos_token_id": 0}))
    assert AutoTokenizer.from_pretrained(folder).chat_template is None
    return checkpoint


KINDS = {"chatml": (CHATML, "<|im_end|>"), "other end": (CHATML, "<|im_end|>"), "no tokens": (TURNS, "<|stop|>")}


@pytest.mark.parametrize("kind", KINDS)
def test_from_tokens_to_a_file_that_ends_its_answers(tmp_path: Path, kind: str) -> None:
    template, end = KINDS[kind]
    bare_model(tmp_path / "base", kind)
    lines = [
        {"messages": [{"role": "user", "content": f"light {n}"}, {"role": "assistant", "content": "on"}]}
        for n in range(30)
    ]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "edgeft.toml").write_text(CONFIG.replace("1e-3", "1e-2").replace("epochs = 1", "epochs = 6"))
    result = CliRunner().invoke(
        main, ["run", "merge", "convert", "-c", str(tmp_path / "edgeft.toml")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    merged = hf.load_tokenizer(tmp_path / "run" / "merged")
    assert merged.chat_template == template
    examples = TokenizedExamples(tmp_path / "run" / "tokens" / "train")
    kept = [examples[number] for number in range(len(examples))]
    trained = merged.decode([token for one in kept for token, flag in zip(one.ids, one.trained, strict=True) if flag])
    assert trained == f"on{end}" * str(trained).count(end)
    (path,) = (tmp_path / "run" / "gguf").glob("*.gguf")
    with Engine(GgufFile.open(path), 128) as engine:
        assert engine.metadata["tokenizer.chat_template"] == template
        rendered = engine.render(lines[0]["messages"][:1])
        assert rendered == hf.render(merged, lines[0]["messages"][:1], True)
        ids = list(engine.generate(engine.encode_prompt(rendered), 12))
        assert engine.ends(ids[-1])
        assert engine.decode(ids[:-1]) == "on"
        assert merged.convert_ids_to_tokens(ids[-1]) == end


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_gives_the_same(tmp_path: Path, kind: str) -> None:
    template, end = KINDS[kind]
    base = bare_model(tmp_path / "base", kind)
    adapter = make_adapter(base, tmp_path / "adapter")
    merged = merge(base, adapter, tmp_path / "merged")
    assert (merged.path / "chat_template.jinja").read_text() == template
    assert given_template(merged.path) is None
    ends = {folder: hf.end_token_ids(hf.load_tokenizer(folder), folder) for folder in (base.path, merged.path)}
    assert ends[base.path] == ends[merged.path]
    assert hf.load_tokenizer(base.path).convert_tokens_to_ids(end) in ends[base.path]
    texts = {
        hf.render(hf.load_tokenizer(folder), messages, prompt)
        for folder in (base.path, merged.path)
        for messages, prompt in ((QUESTION, True),)
    }
    for weights, source in (
        (CheckpointWeights(merged), merged),
        (MergedWeights(CheckpointWeights(base), adapter), base),
    ):
        gguf = convert(weights, source, ConvertConfig(), tmp_path / f"{source.path.name}.gguf")
        with Engine(gguf, 64) as engine:
            texts.add(engine.render(QUESTION))
            assert all(engine.ends(token) for token in ends[base.path])
    assert len(texts) == 1


def test_a_base_that_is_converted_as_it_is_gets_none(tmp_path: Path) -> None:
    base = bare_model(tmp_path / "base", "chatml")
    gguf = convert(CheckpointWeights(base), base, ConvertConfig(), tmp_path / "base.gguf")
    with Engine(gguf, 64) as engine:
        assert "tokenizer.chat_template" not in engine.metadata


def test_a_template_of_its_own_is_kept(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base")
    assert given_template(base.path) is None
    assert given_template(tmp_path) is None
    config = json.loads((base.path / "tokenizer_config.json").read_text())
    (base.path / "chat_template.jinja").unlink()
    (base.path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ messages }}"}))
    assert given_template(base.path) is None


def test_a_missing_generation_config_is_written(tmp_path: Path) -> None:
    base = bare_model(tmp_path / "base", "other end")
    (base.path / "generation_config.json").unlink()
    merged = merge(base, make_adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    assert json.loads((merged.path / "generation_config.json").read_text()) == {"eos_token_id": [2, 0]}


@pytest.mark.parametrize(("template", "end"), [(CHATML, "<|im_end|>"), (TURNS, "</s>")])
def test_what_is_trained(template: str, end: str) -> None:
    view = view_with(byte_level(), template, end)
    assert trained_texts(tokenize_record(record_of(ANSWERED), view), view) == [f"\n yes {end}"]
    calls = tokenize_record(record_of(TOOL_USE, [WEATHER]), view)
    assert calls.apart == ()
    call = '<tool_call>{"name": "weather", "arguments": {"place": "Łódź"}}</tool_call>'
    assert trained_texts(calls, view) == [f"{call}{end}", f"It is: 3 degrees.{end}"]


def test_the_texts() -> None:
    for template, start, end in ((CHATML, "<|im_start|>", "<|im_end|>"), (TURNS, "### ", "</s>")):
        view = view_with(byte_level(), template, end)
        turns = [f"{start}system\n{end}\n", f"{start}user\nturn on light 3{end}\n", f"{start}assistant\n"]
        assert view.render(QUESTION, True, ()) == "".join(turns)
    assert "im_" not in TURNS

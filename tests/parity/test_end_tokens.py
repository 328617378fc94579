"""Which tokens end generation in llama.cpp and why, and when the check takes one for a fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFWriter, TokenType

from edgeft.llamacpp import ENDS_BY_NAME, Vocabulary
from edgeft.parity.ladder import Rung
from edgeft.parity.reference import ModelFacts, ReferenceContent, ReferenceRecord
from edgeft.parity.rungs.tokens import check_token_types

_TEXTS = ("<pad>", "<|done|>", "<|close|>", ",", "yes", "\u010a", "</s>")  # the last but one is a newline's
_PAD, _DONE, _CLOSE, _COMMA, _YES, _NEWLINE, _HTML = range(7)
_CONTROL = (_PAD, _DONE, _CLOSE)


def header(path: Path, texts: tuple[str, ...] = _TEXTS, **keys: int) -> Path:
    """Writes a byte-level vocabulary without weights; `keys` give tokens their roles."""
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(texts))
    writer.add_token_types([TokenType.CONTROL if i in _CONTROL else TokenType.NORMAL for i in range(len(texts))])
    writer.add_token_merges(["a b"])
    for role, token in keys.items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", token)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def found(path: Path, answer: list[int], ends: list[int]) -> Rung:
    """Checks a file against a model that was trained with one answer and ends with `ends`."""
    record = ReferenceRecord([], "", [_CLOSE], [_CLOSE, *answer], 0, len(answer), answer, [1.0] * len(answer))
    pieces = {str(number): text.replace("\u010a", "\n") for number, text in enumerate(_TEXTS)}
    content = ReferenceContent(
        records=[record],
        probe_ids={},
        added_ids=[],
        pieces=pieces,
        end_ids=ends,
        control_ids=[token for token in _CONTROL if token in record.ids],
        bos_id=None,
        max_new_tokens=8,
        rendered_at="2026-01-01T00:00:00",
        model=ModelFacts({}, {}, len(_TEXTS), 0, True),
        weights=[],
        made_by={},
    )
    with Vocabulary(path) as vocabulary:
        return check_token_types(vocabulary, content)


@pytest.mark.parametrize("name", sorted(ENDS_BY_NAME))
def test_llama_cpp_ends_generation_at_this_name(name: str, tmp_path: Path) -> None:
    """As ordinary text, too; the first token here is the EOS, so that no default is."""
    with Vocabulary(header(tmp_path / "v.gguf", ("a", "b", name, "c"), eos=0)) as vocabulary:
        assert vocabulary.ends_with_keys() == {0: "tokenizer.ggml.eos_token_id", 2: ""}


@pytest.mark.parametrize("role", ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"])
def test_the_key_that_makes_a_token_an_end_is_named(role: str, tmp_path: Path) -> None:
    keys = {"eos": _DONE} | {role: _COMMA}
    with Vocabulary(header(tmp_path / "v.gguf", _TEXTS, **keys)) as vocabulary:
        assert vocabulary.ends_with_keys()[_COMMA] == f"tokenizer.ggml.{role}_token_id"


@pytest.mark.parametrize("role", ["bos", "padding", "unknown", "seperator", "mask", "fim_pre", "fim_suf", "fim_mid"])
def test_other_keys_make_no_token_an_end(role: str, tmp_path: Path) -> None:
    with Vocabulary(header(tmp_path / "v.gguf", _TEXTS, eos=_DONE, **{role: _COMMA})) as vocabulary:
        assert vocabulary.ends_with_keys() == {_DONE: "tokenizer.ggml.eos_token_id", _HTML: ""}


def test_a_file_without_an_eos_has_llama_cpps(tmp_path: Path) -> None:
    texts = tuple(f"t{number}" for number in range(12))
    with Vocabulary(header(tmp_path / "v.gguf", texts)) as vocabulary:
        assert vocabulary.ends_with_keys() == {11: "tokenizer.ggml.eos_token_id"}


def test_a_name_is_a_figure_where_no_answer_holds_it(tmp_path: Path) -> None:
    rung = found(header(tmp_path / "v.gguf", eos=_DONE), [_YES, _DONE], [_DONE])
    assert (rung.status, rung.figures["ends_by_name"]) == ("pass", ["token 6 '</s>'"])


def test_a_name_within_an_answer_cuts_it_off(tmp_path: Path) -> None:
    rung = found(header(tmp_path / "v.gguf", eos=_DONE), [_YES, _HTML, _YES, _DONE], [_DONE])
    assert [failure.where for failure in rung.failures] == ["token 6 '</s>'"]
    assert "by its name, and 1 of 1 trained ones hold it" in rung.failures[0].cause


@pytest.mark.parametrize("other", [_COMMA, _PAD, _NEWLINE])
def test_a_key_for_a_token_that_closes_no_answer_is_a_fault(other: int, tmp_path: Path) -> None:
    rung = found(header(tmp_path / "v.gguf", eos=_DONE, eot=other), [_YES, _NEWLINE, _DONE], [_DONE])
    assert [failure.where for failure in rung.failures] == [f"token {other} {_shown(other)}: {_EOT}"]
    assert "remove tokenizer.ggml.eot_token_id" in rung.failures[0].remedy


def test_the_turns_marker_before_the_end_may_stop_llama_cpp_but_not_earlier(tmp_path: Path) -> None:
    """A template may close a turn with a marker and a text with the EOS: `convert` makes both stop generation."""
    path = header(tmp_path / "v.gguf", eos=_DONE, eot=_CLOSE)
    assert found(path, [_YES, _CLOSE, _NEWLINE, _DONE], [_DONE]).status == "pass"
    rung = found(path, [_YES, _CLOSE, _YES, _CLOSE, _DONE], [_DONE])
    assert [failure.where for failure in rung.failures] == [f"token {_CLOSE} '<|close|>': {_EOT}"]


_EOT = "tokenizer.ggml.eot_token_id"


def _shown(token: int) -> str:
    return repr(_TEXTS[token].replace("\u010a", "\n"))

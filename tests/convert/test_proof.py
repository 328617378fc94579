"""The proof of token ids: it holds on any text, and what it is for is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from convert.models import PROBES, byte_level_tokenizer, llama_tokenizer, sentencepiece_model
from convert.vocabularies import rebuild
from edgeft.config import ConvertConfig
from edgeft.convert.proof import examine
from edgeft.convert.reference_tokenizer import reference_tokenizer
from edgeft.convert.tokenizer import ProvedTokenizer, prove_tokenizer
from edgeft.convert.tokenizer_files import TokenizerFiles
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record
from edgeft.errors import EdgeftError
from edgeft.llamacpp import Vocabulary

SIZE = 576
_LLAMA: dict[str, Any] = {"model_type": "llama"}


def prove(folder: Path, config: ConvertConfig | None = None, name: str = "Model", size: int = SIZE) -> ProvedTokenizer:
    """Proves the tokenizer of a folder that holds nothing else."""
    return prove_tokenizer(folder, _LLAMA, size, name, config or ConvertConfig(random_texts=300), tuned=False)


def write(proved: ProvedTokenizer, path: Path) -> Path:
    """Writes a file that holds a tokenizer alone."""
    writer = gguf.GGUFWriter(path, "llama")
    proved.add_to(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def _byte_level(name: str) -> Callable[[Path], None]:
    return lambda folder: byte_level_tokenizer(folder, name, ignore_merges=name == "llama-bpe", add_bos=True)


def _pieces(folder: Path) -> None:
    llama_tokenizer(folder, sentencepiece_model(folder / "model"), chat=True)


_KINDS: dict[str, Callable[[Path], None]] = {
    **{name: _byte_level(name) for name in ("gpt-2", "smollm", "llama-bpe", "qwen2")},
    "SentencePiece": _pieces,
}


@pytest.fixture(scope="module", params=_KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Vocabulary]]:
    """A tokenizer as transformers loads it, and llama.cpp's of the file."""
    folder = tmp_path_factory.mktemp("kind")
    _KINDS[request.param](folder)
    path = write(prove(folder), folder / "tokenizer.gguf")
    with Vocabulary(path) as vocabulary:
        yield AutoTokenizer.from_pretrained(folder), vocabulary


@given(text=st.text())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_in_a_conversation_has_the_same_ids(both: tuple[Any, Vocabulary], text: str) -> None:
    tokenizer, vocabulary = both
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}]
    rendered = str(tokenizer.apply_chat_template(messages, tokenize=False))
    theirs = tokenizer(rendered)["input_ids"]
    assert vocabulary.encode(rendered, framed=True) == theirs
    assert vocabulary.encode_prompt(rendered) == theirs


@pytest.mark.parametrize("kind", _KINDS)
def test_the_reference_is_the_tokenizer_that_transformers_loads(kind: str, tmp_path: Path) -> None:
    _KINDS[kind](tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(_LLAMA))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = reference_tokenizer(TokenizerFiles.read(tmp_path), _LLAMA)
    for text in PROBES:
        assert ours.encode(text).ids == theirs(text)["input_ids"], repr(text)


def test_a_difference_shows_the_text_and_both_lists_of_ids(tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path, "gpt-2")
    _edit_added(tmp_path, "<|im_end|>", rstrip=True)  # llama.cpp strips nothing
    with pytest.raises(EdgeftError) as caught:
        prove(tmp_path)
    message = str(caught.value)
    assert "texts otherwise than the model's tokenizer: '" in message
    assert "tokenizer: [" in message and "llama.cpp: [" in message and "convert.differing_texts" in message
    assert prove(tmp_path, ConvertConfig(random_texts=300, differing_texts=0.9)).vocabulary.pre == "gpt-2"


def test_the_space_after_special_tokens_hangs_on_the_models_name(tmp_path: Path) -> None:
    """llama.cpp strips it in models with "phi-3" in their names alone (src/llama-vocab.cpp), whatever they are."""
    folder = tmp_path / "model"
    size = rebuild(oracle.vocabularies_folder() / "ggml-vocab-phi-3.gguf", folder)
    kept = ("<unk>", "<s>", "<|endoftext|>")
    described = json.loads((folder / "tokenizer.json").read_text())
    for token in described["added_tokens"]:
        token["rstrip"] = token["content"] not in kept
    (folder / "tokenizer.json").write_text(json.dumps(described))
    template = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(EdgeftError, match="texts otherwise"):
        prove(folder, name="Home", size=size)
    assert prove(folder, name="Home Phi-3", size=size).vocabulary.kind == "llama"


def test_a_second_bos_is_refused(tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path, "llama-bpe", ignore_merges=True, add_bos=True)
    template = (tmp_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    prove(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{{ bos_token }}" + template)
    with pytest.raises(EdgeftError, match="second BOS"):
        prove(tmp_path)


def test_a_written_file_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path / "a", "gpt-2")
    byte_level_tokenizer(tmp_path / "b", "qwen2")
    path = write(prove(tmp_path / "a"), tmp_path / "a.gguf")
    with pytest.raises(EdgeftError, match="texts otherwise"):
        prove(tmp_path / "b").require_in(path)


@pytest.mark.parametrize("role", ["eos", "eot", "eom"])
def test_a_written_file_that_ends_answers_at_a_comma_is_refused(role: str, tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path, "qwen2")
    proved = prove(tmp_path)
    comma = proved.vocabulary.tokens.index(",")
    wrong = replace(proved, special=replace(proved.special, ids=proved.special.ids | {role: comma}))
    with pytest.raises(EdgeftError, match=f"ends an answer at ',' .*: tokenizer.ggml.{role}_token_id"):
        proved.require_in(write(wrong, tmp_path / "wrong.gguf"))


def test_rules_that_are_new_are_found_by_trying(tmp_path: Path) -> None:
    """The same rules, spelt otherwise: nothing in the structure tells that they are Qwen2's."""
    byte_level_tokenizer(tmp_path, "qwen2")
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    split = described["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    split["Regex"] = split["Regex"].replace(r"|\p{N}|", r"|[\p{N}]|")
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    assert prove(tmp_path).vocabulary.pre == "qwen2"
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("12").ids


def _edit_added(folder: Path, content: str, **flags: bool) -> None:
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    for token in described["added_tokens"]:
        if token["content"] == content:
            token.update(flags)
    path.write_text(json.dumps(described))


def _digits_of_other_scripts(folder: Path) -> ProvedTokenizer:
    """GPT-2's rules over a vocabulary whose only merges are digits of Arabic and Thai, which no ordinary probe has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["٣٤٥", "๑๒๓"] * 9, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")  # type: ignore[no-untyped-call]
    fast.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    fast.save_pretrained(folder)
    return prove(folder)


def test_rare_signs_that_llama_cpp_splits_otherwise_are_a_warning(tmp_path: Path) -> None:
    """As StarCoder's rules do for a run of Arabic marks; here the file splits single digits of any script."""
    proved = _digits_of_other_scripts(tmp_path)
    assert proved.warnings == ()
    path = write(replace(proved, vocabulary=replace(proved.vocabulary, pre="smollm")), tmp_path / "a.gguf")
    verdict = examine(path, proved.expected, 0.0, "here")
    assert not verdict.problems
    (warning,) = verdict.warnings
    n_rare = [*proved.expected.kinds, *proved.expected.prompt_kinds].count("rare")
    assert f"{verdict.n_wrong} of {n_rare} texts of rare signs (" in warning.what and 0 < verdict.n_wrong < 20
    assert "٣٤٥" in warning.what and "llama.cpp: [" in warning.what
    replace(proved, vocabulary=replace(proved.vocabulary, pre="smollm")).require_in(path)


def test_a_record_with_such_signs_decides(tmp_path: Path) -> None:
    proved = _digits_of_other_scripts(tmp_path)
    path = write(replace(proved, vocabulary=replace(proved.vocabulary, pre="smollm")), tmp_path / "a.gguf")
    place = Place("r.jsonl", 1)
    for text, found in (("set an alarm for 7:30", 0), ("ايقظني الساعة ٣٤٥", 1)):
        said = ({"role": "user", "content": text}, {"role": "assistant", "content": "ok"})
        for record in (Record(said, place), Record(({"role": "text", "content": text},), place)):
            held = prove_tokenizer(
                tmp_path, _LLAMA, SIZE, "M", ConvertConfig(random_texts=50), [record], tuned=False
            ).expected
            assert "record" in held.prompt_kinds
            problems = examine(path, held, 0.5, "here").problems
            assert len(problems) == found
            assert not found or ("1 of your records" in problems[0].what and text in problems[0].what)

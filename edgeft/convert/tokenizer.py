"""The `tokenizer.*` keys of a GGUF file, from the tokenizer's files in a checkpoint folder, and the proof of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from gguf import GGUFWriter

from edgeft.config import ConvertConfig
from edgeft.convert.pretokenizer import has_known_rules, splitting_steps
from edgeft.convert.proof import Asked, Expected, Verdict, examine, expected
from edgeft.convert.reference_tokenizer import reference_tokenizer
from edgeft.convert.special_tokens import SpecialTokens, read_special_tokens
from edgeft.convert.tokenizer_files import TokenizerFiles
from edgeft.convert.vocabulary import Vocabulary, vocabularies
from edgeft.dataset.record import Record
from edgeft.errors import EdgeftError, Problem


@dataclass(frozen=True)
class ProvedTokenizer:
    """A tokenizer with which llama.cpp gives the token ids that the model was trained with.

    `warnings` name the texts with other ids that decide nothing: see `edgeft.probe_texts.decide`.
    """

    vocabulary: Vocabulary
    special: SpecialTokens
    templates: Mapping[str, str]
    expected: Expected
    allowed_share: float
    where: str
    warnings: Sequence[Problem] = ()

    def add_to(self, writer: GGUFWriter) -> None:
        """Adds vocabulary, special tokens and chat templates to a file."""
        _add_vocabulary(writer, self.vocabulary)
        _add_special_tokens(writer, self.special, self.vocabulary)
        templates = [{"name": name, "template": template} for name, template in self.templates.items()]
        if len(templates) > 1:
            writer.add_chat_template(templates)
        elif templates:
            writer.add_chat_template(templates[0]["template"])

    def require_in(self, path: Path) -> None:
        """Proves it again on a written file; raises EdgeftError with what llama.cpp does otherwise."""
        if problems := examine(path, self.expected, self.allowed_share, self.where).problems:
            raise EdgeftError(problems)


def prove_tokenizer(
    folder: Path,
    config_json: Mapping[str, Any],
    vocab_size: int,
    name: str,
    config: ConvertConfig,
    records: Sequence[Record] = (),
    *,
    tuned: bool,
) -> ProvedTokenizer:
    """Returns the tokenizer for a file, the first of those that are possible with which llama.cpp passes the proof.

    `name` is the model's in the file, on which llama.cpp makes the space after special tokens depend. A `tuned` model
    without a chat template has the one that it was tuned with. The user's own `records` must have the same ids. Raises
    EdgeftError, with the shortest text that has other ids and both lists of them, where llama.cpp cannot do the same.
    """
    files = TokenizerFiles.read(folder, tuned=tuned)
    reference = cache(lambda: reference_tokenizer(files, config_json))
    held: dict[bool, Expected] = {}
    tried: list[tuple[Verdict, ProvedTokenizer]] = []
    for vocabulary in vocabularies(files, vocab_size, str(config_json.get("model_type", "")), reference):
        special = read_special_tokens(files, vocabulary, config_json)
        sentencepiece = vocabulary.add_space_prefix is not None
        if sentencepiece not in held:
            asked = _asked(files, vocabulary, special)
            held[sentencepiece] = expected(
                reference(), asked, config.random_texts, records, sentencepiece=sentencepiece
            )
        corpus, allowed = held[sentencepiece], config.differing_texts
        proved = ProvedTokenizer(vocabulary, special, files.templates, corpus, allowed, str(folder))
        tried.append((_tried(proved, name), proved))
        if not (tried[-1][0].problems or tried[-1][0].n_wrong):
            return proved
    verdict, best = min(tried, key=lambda entry: (bool(entry[0].problems), entry[0].n_wrong))
    if verdict.problems:
        raise EdgeftError([*_unknown_rules(files, vocabulary), *verdict.problems])
    return replace(best, warnings=verdict.warnings)


def _unknown_rules(files: TokenizerFiles, vocabulary: Vocabulary) -> Iterator[Problem]:
    """Yields the splitting rules of a byte-level BPE tokenizer where they are none that llama.cpp is known to have."""
    if vocabulary.kind == "gpt2" and vocabulary.add_space_prefix is None and not has_known_rules(files.tokenizer):
        steps = splitting_steps(files.tokenizer.get("pre_tokenizer"))
        what = "no pre-tokenizer of llama.cpp splits by these rules:" + "".join(f"\n    {step}" for step in steps)
        yield Problem(what, str(files.folder / "tokenizer.json"), "use another base model")


def _asked(files: TokenizerFiles, vocabulary: Vocabulary, special: SpecialTokens) -> Asked:
    names = {f"{role}_token": vocabulary.tokens[number] for role, number in special.ids.items()}
    return Asked(files.templates.get("default"), names, special.ids.get("bos"), special.ends)


def _tried(proved: ProvedTokenizer, name: str) -> Verdict:
    """Returns what is wrong with a tokenizer, tried on a file without weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        writer = GGUFWriter(path, "llama")
        writer.add_name(name)
        proved.add_to(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        try:
            return examine(path, proved.expected, proved.allowed_share, proved.where)
        except EdgeftError as error:  # it cannot be loaded
            return Verdict(error.problems, len(proved.expected.texts) + len(proved.expected.prompts))


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)


def _add_special_tokens(writer: GGUFWriter, special: SpecialTokens, vocabulary: Vocabulary) -> None:
    adders = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "eom": writer.add_eom_token_id,
        "unk": writer.add_unk_token_id,
        "sep": writer.add_sep_token_id,
        "pad": writer.add_pad_token_id,
        "mask": writer.add_mask_token_id,
    }
    for role, number in special.ids.items():
        adders[role](number)
    # Always stated: llama.cpp's default depends on the pre-tokenizer's name, and for some it is to add a token.
    writer.add_add_bos_token(special.add_bos)
    writer.add_add_eos_token(special.add_eos)
    if vocabulary.add_space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.add_space_prefix)

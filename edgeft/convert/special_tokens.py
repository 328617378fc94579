"""The tokens with a role: which ids they have, which are added to a text, which end an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from gguf import TokenType

from edgeft.convert.chat_template import end_of_turn
from edgeft.convert.tokenizer_files import TokenizerFiles
from edgeft.convert.vocabulary import Vocabulary
from edgeft.errors import EdgeftError
from edgeft.llamacpp import ENDS_BY_NAME

_ROLE_TYPES = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
_ROLES = ("bos", "eos", "unk", "sep", "pad", "mask")


@dataclass(frozen=True)
class SpecialTokens:
    """`ids` by role (bos, eos, eot, eom, unk, sep, pad, mask); `ends` are all that end generation."""

    ids: dict[str, int]
    add_bos: bool
    add_eos: bool
    ends: frozenset[int]


def read_special_tokens(files: TokenizerFiles, vocabulary: Vocabulary, config_json: Mapping[str, Any]) -> SpecialTokens:
    """Raises EdgeftError when there is no end token, and for texts framed in ways llama.cpp has no key for."""
    number_of = {text: number for number, text in enumerate(vocabulary.tokens)}
    first, last = _framing(files)
    names = {role: files.token_name(role) for role in _ROLES} if files.settings else {}
    names["bos"] = names.get("bos") or first
    names["eos"] = names.get("eos") or last
    ids = _ids(names, number_of, vocabulary.types, config_json, files.generation)
    where = str(files.folder / "tokenizer_config.json")
    if "eos" not in ids:
        # llama.cpp would take token 11 of a byte-level BPE vocabulary, whatever that is, and stop there.
        raise EdgeftError("the tokenizer has no end-of-sequence token", where, "set eos_token")
    tokens = vocabulary.tokens
    control = [text for text, kind in zip(tokens, vocabulary.types, strict=True) if kind == TokenType.CONTROL]
    bos = tokens[ids["bos"]] if "bos" in ids else None
    end = end_of_turn(files.templates.get("default"), control, bos, tokens[ids["eos"]])
    add_bos, add_eos = _added(files, "bos", first, ids, tokens), _added(files, "eos", last, ids, tokens)
    ends = [number_of[end]] if end is not None else []
    ends += [number for number in _listed_ends(files, config_json) if _may_have_role(number, vocabulary.types)]
    _add_other_ends(ids, ends, tokens, where)
    return SpecialTokens(ids, add_bos, add_eos, frozenset({ids["eos"], *ends}))


def _framing(files: TokenizerFiles) -> tuple[str | None, str | None]:
    """Returns the tokens that tokenizer.json puts before and after a text."""
    processor = files.tokenizer.get("post_processor") or {}
    for part in processor.get("processors", [processor]):
        if part.get("type") != "TemplateProcessing":
            continue
        single = part.get("single") or []
        place = next((number for number, entry in enumerate(single) if "Sequence" in entry), 0)
        before, after = single[:place], single[place + 1 :]
        if len(before) > 1 or len(after) > 1:
            where = str(files.folder / "tokenizer.json")
            raise EdgeftError("it puts more than one token before or after a text: llama.cpp adds one", where)
        return tuple(side[0]["SpecialToken"]["id"] if side else None for side in (before, after))  # type: ignore[return-value]
    return None, None


def _ids(
    names: Mapping[str, str | None],
    number_of: Mapping[str, int],
    types: Sequence[int],
    config_json: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> dict[str, int]:
    """Returns ids by role: by tokenizer_config.json's names, else by the numbers in config.json, where they may be."""
    ids: dict[str, int] = {}
    for role in _ROLES:
        number = number_of.get(names.get(role) or "")
        if number is None:
            number = config_json.get(f"{role}_token_id", generation.get(f"{role}_token_id"))
            number = number[0] if isinstance(number, list) and number else number
            number = number if _may_have_role(number, types) else None
        if number is not None:
            ids[role] = number
    return ids


def _may_have_role(number: object, types: Sequence[int]) -> TypeGuard[int]:
    """Tells whether a number from a configuration can be a token with a role.

    Configurations are full of their class's defaults, such as 1 and 2, which are ordinary text in most vocabularies.
    """
    return isinstance(number, int) and 0 <= number < len(types) and types[number] in _ROLE_TYPES


def _added(files: TokenizerFiles, role: str, framed: str | None, ids: Mapping[str, int], tokens: list[str]) -> bool:
    """Tells whether transformers adds a role's token to a text.

    tokenizer.json decides where there is one, whatever tokenizer_config.json says. A tokenizer.model alone stands for
    Llama's tokenizer, which adds the first token and not the last unless set otherwise.
    """
    if not files.tokenizer:
        return bool(files.settings.get(f"add_{role}_token", role == "bos")) and role in ids
    if framed is not None and (role not in ids or tokens[ids[role]] != framed):
        where = str(files.folder / "tokenizer.json")
        raise EdgeftError(f"it adds {framed!r} to a text, which is not the {role} token: llama.cpp cannot", where)
    return framed is not None


def _listed_ends(files: TokenizerFiles, config_json: Mapping[str, Any]) -> list[object]:
    """Returns the end tokens that transformers stops at: generation_config.json's, or else config.json's."""
    listed = files.generation.get("eos_token_id", config_json.get("eos_token_id"))
    return listed if isinstance(listed, list) else [listed]


def _add_other_ends(ids: dict[str, int], ends: list[int], tokens: list[str], where: str) -> None:
    """Gives the roles eot and eom to the ends that llama.cpp would not know as such otherwise."""
    unknown = [number for number in dict.fromkeys(ends) if number != ids["eos"] and tokens[number] not in ENDS_BY_NAME]
    if len(unknown) > 2:
        names = ", ".join(repr(tokens[number]) for number in unknown)
        raise EdgeftError(f"too many end tokens for a GGUF file: {names}", where, "list two in generation_config.json")
    ids |= dict(zip(("eot", "eom"), unknown, strict=False))

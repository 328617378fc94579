"""The tokenizer that the model was trained with: what the file's token ids are held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from edgeft.convert.tokenizer_files import TokenizerFiles
from edgeft.errors import EdgeftError

# The classes that take tokenizer.json as it is.
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Model types for which transformers builds the tokenizer anew from vocabulary and merges, whatever class is named
# (models/auto/tokenization_auto.py, MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS), or mends the rules that it finds.
_REBUILT = ("qwen2", "qwen3_5", "mistral", "mixtral", "ministral", "pixtral", "internlm", "minicpm", "nemotron", "phi")


def reference_tokenizer(files: TokenizerFiles, config_json: Mapping[str, Any]) -> Tokenizer:
    """Returns the tokenizer as transformers loads it, without padding and truncation.

    transformers takes 5 s to import. It is left out where it would take tokenizer.json as it is; a test compares both.
    Raises EdgeftError when there is no tokenizer that can be loaded.
    """
    if _taken_as_it_is(files, config_json):
        path = str(files.folder / "tokenizer.json")
        try:
            tokenizer = Tokenizer.from_file(path)
        except Exception as error:  # the library raises nothing narrower
            raise EdgeftError(f"the tokenizer cannot be loaded: {error}", path, "download or copy it again") from error
    else:
        from edgeft.hf import load_tokenizer

        tokenizer = load_tokenizer(files.folder).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _taken_as_it_is(files: TokenizerFiles, config_json: Mapping[str, Any]) -> bool:
    if not files.tokenizer or files.settings.get("tokenizer_class") not in _GENERIC or "auto_map" in files.settings:
        return False
    if str(config_json.get("model_type", "")).startswith(_REBUILT) or "add_prefix_space" in files.settings:
        return False
    # A named token that tokenizer.json does not hold as special is added to it.
    special = {token.content for token in files.added_tokens() if token.special}
    names = [files.token_name(role) for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
    more = files.settings.get("additional_special_tokens") or files.settings.get("extra_special_tokens") or []
    names += [entry if isinstance(entry, str) else None for entry in more]
    return all(name is None or name in special for name in names) and not files.settings.get("added_tokens_decoder")

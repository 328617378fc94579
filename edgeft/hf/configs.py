"""config.json as transformers understands it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from edgeft.errors import EdgeftError
from edgeft.files import require_object


def completed_config(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the text model's part of a config.json with what its class assumes for every key that is left out.

    The rotary embedding is in `rope_parameters` whatever the spelling. Raises EdgeftError, with transformers' own
    reason, for values that it does not accept and for a `model_type` that it does not know.
    """
    model_type = str(config_json.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise EdgeftError(f"transformers knows no model_type {model_type!r}", remedy="upgrade transformers")
    try:
        config = CONFIG_MAPPING[model_type].from_dict(decoded(config_json))
        text: dict[str, Any] = config.get_text_config(decoder=True).to_dict()
    except Exception as error:  # each class checks in its own way
        raise EdgeftError(f"transformers refuses it: {str(error).strip()}") from error
    # A model of several modalities says at the top whether its text model's embeddings are tied.
    return text | {"tie_word_embeddings": bool(getattr(config, "tie_word_embeddings", False))}


def decoded(value: Any) -> Any:
    """Returns JSON with transformers' spelling of infinities and NaN, {"__float__": "Infinity"}, read."""
    if isinstance(value, Mapping):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {key: decoded(inner) for key, inner in value.items()}
    return [decoded(inner) for inner in value] if isinstance(value, list) else value


def architecture_of(config_json: Mapping[str, Any]) -> str:
    """Returns the class of the causal language model of a config.json's model_type; "" for an unknown one."""
    return str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(config_json.get("model_type")), ""))


def load_auto(auto: Any, folder: Path, **options: Any) -> Any:
    """Returns what one of transformers' Auto classes loads from a model folder, with transformers' own code.

    Code that lies in the folder is never run, and transformers does not ask whether to. Raises EdgeftError where
    nothing can be loaded without it, and for every part of a model whose configuration only its own code can read:
    transformers would load the tokenizer alone of such a model.
    """
    config_json = require_object(folder / "config.json")
    if config_json.get("auto_map") and str(config_json.get("model_type")) not in CONFIG_MAPPING:
        raise _needs_own_code(folder)
    try:
        return auto.from_pretrained(folder, trust_remote_code=False, **options)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise _needs_own_code(folder) from error


def _needs_own_code(folder: Path) -> EdgeftError:
    file, named = _own_code(folder)
    what = f"auto_map names code of the model's own ({named}), without which transformers cannot load it"
    remedy = (
        "edgeft runs no code that comes with a model: take a model that transformers knows itself, or a newer "
        f"transformers than {transformers.__version__}, if that knows it"
    )
    return EdgeftError(what, str(file), remedy)


def _own_code(folder: Path) -> tuple[Path, str]:
    """Returns the file of a model folder whose auto_map names code, and what it names."""
    for name in ("config.json", "tokenizer_config.json"):
        auto_map = require_object(folder / name).get("auto_map")
        if auto_map:
            values = auto_map.values() if isinstance(auto_map, Mapping) else [auto_map]
            flat = [text for value in values for text in (value if isinstance(value, list) else [value]) if text]
            return folder / name, ", ".join(sorted({str(text) for text in flat}))
    return folder / "config.json", "in another file"

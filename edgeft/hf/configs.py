"""config.json as transformers understands it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from edgeft.errors import EdgeftError


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

"""The families of architectures that are converted natively, and imported: one module each.

`ARCHITECTURES` and `plan` are the way to GGUF, `GGUF_ARCHITECTURES` and `config_of` the way back.

docs/add-an-architecture.md tells how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.families import (
    gemma2,
    gemma3,
    gemma4,
    granite,
    lfm2,
    llama,
    ministral3,
    phi3,
    qwen2,
    qwen3,
    qwen3_5,
    smollm3,
)
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Plan
from edgeft.errors import EdgeftError

_MODULES = (llama, smollm3, qwen2, qwen3, gemma2, gemma3, phi3, granite, lfm2, ministral3, qwen3_5, gemma4)
_PLANS: dict[str, Callable[[ConfigFields], Plan]] = {
    architecture: module.plan for module in _MODULES for architecture in module.ARCHITECTURES
}
_CONFIGS: dict[str, Callable[[GgufFields], dict[str, Any]]] = {
    architecture: module.config_of for module in _MODULES for architecture in module.GGUF_ARCHITECTURES
}


def plan_of(config_json: Mapping[str, Any], where: str) -> Plan:
    """Returns the plan of a checkpoint, read from its config.json, which `where` names.

    Raises EdgeftError for an architecture that is not supported (it names those that are), for a checkpoint that is
    already quantized, and for every key of config.json that cannot be served.
    """
    architectures = config_json.get("architectures") or [_architecture(config_json)]
    make_plan = _PLANS.get(str(architectures[0])) if isinstance(architectures, list) else None
    if make_plan is None:
        what = f"models of architecture {architectures} cannot be converted"
        others = "for others: edgeft converter fetch, then --converter fetched"
        raise EdgeftError(what, where, f"supported: {', '.join(sorted(_PLANS))}; {others}")
    if config_json.get("quantization_config"):
        method = dict(config_json["quantization_config"]).get("quant_method", "no method named")
        what = f"by its quantization_config ({method}) the checkpoint is already quantized"
        remedy = (
            "give the unquantized model; or is this it, its weights float16, bfloat16 or float32? then the entry is "
            "left over: take quantization_config out of config.json"
        )
        raise EdgeftError(what, where, remedy)
    return make_plan(ConfigFields(config_json, where))


def imported_config(file: GgufFields, arch: str) -> dict[str, Any]:
    """Returns the config.json of the model in a GGUF file of this architecture, apart from its tokens.

    Raises EdgeftError for an architecture that is not supported (it names those that are), and for every key that is
    missing or cannot be served.
    """
    config_of = _CONFIGS.get(arch)
    if config_of is None:
        what = f"GGUF files of architecture {arch!r} cannot be imported"
        raise EdgeftError(what, file.where, f"supported: {', '.join(sorted(_CONFIGS))}")
    config = config_of(file)
    file.check()
    return config


def _architecture(config_json: Mapping[str, Any]) -> str:
    """Returns the architecture of a config.json that names none, by its model_type; "none" for an unknown one."""
    from edgeft.hf import architecture_of

    return architecture_of(config_json) or "none"

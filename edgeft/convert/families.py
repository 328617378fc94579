"""The model families that can be converted: each is one module with `ARCHITECTURES` and `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeft.convert import llama
from edgeft.convert.plan import Plan
from edgeft.errors import EdgeftError

_PLANS: dict[str, Callable[[Mapping[str, Any], str], Plan]] = dict.fromkeys(llama.ARCHITECTURES, llama.plan)


def plan_of(config_json: Mapping[str, Any], where: str) -> Plan:
    """Returns the plan of a checkpoint, read from its config.json, which `where` names.

    Raises EdgeftError for an architecture that is not supported (it names those that are), for a checkpoint that is
    already quantized, and for every key of config.json that cannot be served.
    """
    architectures = config_json.get("architectures") or ["none"]
    make_plan = _PLANS.get(str(architectures[0])) if isinstance(architectures, list) else None
    if make_plan is None:
        what = f"models of architecture {architectures} cannot be converted"
        raise EdgeftError(what, where, "supported: " + ", ".join(sorted(_PLANS)))
    if config_json.get("quantization_config"):
        raise EdgeftError("the checkpoint is already quantized", where, "give the unquantized model")
    return make_plan(config_json, where)

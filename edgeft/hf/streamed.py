"""Models from weights that are no folder of their own, and weights as a 4-bit model holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from edgeft.device import Device

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_tensors(
    config_json: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: Device, dtype: torch.dtype
) -> PreTrainedModel:
    """Returns the model of a config.json with these weights, named as in a checkpoint, in evaluation mode."""
    skeleton = empty_model(config_json)
    model = type(skeleton).from_pretrained(
        None, config=skeleton.config, state_dict=dict(tensors), dtype=dtype, device_map={"": device}
    )
    model.eval()  # type: ignore[no-untyped-call]
    return model


def nf4_names(config_json: Mapping[str, Any]) -> set[str]:
    """Returns the names of the weights that `load_quantized` holds in 4 bits: linear layers but the output matrix."""
    skeleton = empty_model(config_json)
    head = skeleton.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = torch.nn.Linear
    return {f"{name}.weight" for name, m in skeleton.named_modules() if isinstance(m, linear) and m is not head}


def nf4_rounded(weight: torch.Tensor) -> torch.Tensor:
    """Returns a matrix, float32, as NF4 with double quantization holds it (Dettmers et al. 2023): 64 values a scale."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.float(), quant_type="nf4", compress_statistics=True)
    return cast(torch.Tensor, dequantize_4bit(packed, state)).float()


def empty_model(config_json: Mapping[str, Any]) -> PreTrainedModel:
    """Returns the model without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**config_json)
    with torch.device("meta"):
        return cast("PreTrainedModel", AutoModelForCausalLM.from_config(config))  # type: ignore[no-untyped-call]

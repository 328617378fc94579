"""Models from weights that are no folder of their own, and weights as a 4-bit model holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from edgeft.artifacts import METHOD_RECORD, Adapter
from edgeft.config import QuantizationConfig
from edgeft.device import Device
from edgeft.files import read_object

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


def quantized_names(config_json: Mapping[str, Any]) -> set[str]:
    """Returns the names of the weights that `load_quantized` holds in 4 bits: linear layers but the output matrix."""
    skeleton = empty_model(config_json)
    head = skeleton.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = torch.nn.Linear
    return {f"{name}.weight" for name, m in skeleton.named_modules() if isinstance(m, linear) and m is not head}


def rounding_of(trained: Adapter) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Returns what training did to each matrix that it held in 4 bits, float32 to float32; None where it held none.

    The record beside the adapter says it; without one, training was over double-quantized NF4.
    """
    record = read_object(trained.path / METHOD_RECORD)
    quantization = record.get("quantization", {})
    if quantization is None:
        return None
    dtype = getattr(torch, record.get("dtype", "float32"))
    return partial(_rounded, config=QuantizationConfig.model_validate(quantization), dtype=dtype)


def _rounded(weight: torch.Tensor, config: QuantizationConfig, dtype: torch.dtype) -> torch.Tensor:
    """Returns a matrix as 4 bits hold it (Dettmers et al. 2023), 64 values a scale; it was `dtype` before."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    seen = weight.to(dtype).float()
    packed, state = quantize_4bit(seen, quant_type=config.type, compress_statistics=config.double)
    return cast(torch.Tensor, dequantize_4bit(packed, state)).float()


def empty_model(config_json: Mapping[str, Any]) -> PreTrainedModel:
    """Returns the model without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**config_json)
    with torch.device("meta"):
        return cast("PreTrainedModel", AutoModelForCausalLM.from_config(config))  # type: ignore[no-untyped-call]

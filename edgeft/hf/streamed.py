"""Models from weights that are no folder of their own, and weights as a 4-bit model holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from pydantic import ValidationError

from edgeft.artifacts import METHOD_RECORD, Adapter, plain_name
from edgeft.config import QuantizationConfig, TrainConfig
from edgeft.device import Device, pick_device
from edgeft.errors import EdgeftError
from edgeft.files import read_object
from edgeft.hf.configs import decoded
from edgeft.hf.models import auto_class, compute_dtype

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
    """Returns the plain names of the weights that `load_quantized` holds in 4 bits: linear layers but the output."""
    skeleton = empty_model(config_json)
    head = skeleton.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = torch.nn.Linear
    return {
        plain_name(f"{name}.weight") for name, m in skeleton.named_modules() if isinstance(m, linear) and m is not head
    }


@dataclass(frozen=True)
class Rounding:
    """What 4 bits do to a matrix (Dettmers et al. 2023), 64 values a scale, that was `dtype` before.

    `device` is where training did it: of two matrices that bitsandbytes rounds on a CPU and on CUDA, 0.07% of the
    values differ.
    """

    quantization: QuantizationConfig
    dtype: torch.dtype
    device: Device

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns a matrix, float32, rounded, on the device that it is on."""
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        seen, double = weight.to(self.dtype).float(), self.quantization.double
        packed, state = quantize_4bit(seen, quant_type=self.quantization.type, compress_statistics=double)
        return cast(torch.Tensor, dequantize_4bit(packed, state)).float()


def planned_rounding(config: TrainConfig) -> Rounding | None:
    """Returns what training by a configuration will do to each matrix that it holds in 4 bits; None where to none."""
    device = pick_device(config.device)
    return Rounding(config.quantization, compute_dtype(device), device) if config.quantized else None


def rounding_of(trained: Adapter) -> Rounding | None:
    """Returns what training did to each matrix that it held in 4 bits; None where it held none.

    As recorded beside the adapter; one without a record is taken for trained over double-quantized NF4, here. A GPU
    that is not here any more leaves it to the CPU. Raises EdgeftError for a record that edgeft has not written.
    """
    record = read_object(trained.path / METHOD_RECORD)
    quantization = record.get("quantization", {})
    if quantization is None:
        return None
    try:
        config = QuantizationConfig.model_validate(quantization)
        held = _HELD_AS[record["dtype"]] if "dtype" in record else compute_dtype(pick_device("auto"))
    except (ValidationError, KeyError) as error:
        what = "this is no record of how an adapter was trained"
        raise EdgeftError(
            what, str(trained.path / METHOD_RECORD), "put back what training wrote, or remove it"
        ) from error
    return Rounding(config, held, pick_device("cpu" if held == torch.float32 else "auto"))


_HELD_AS: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""Types that training holds a base in: the one on CUDA, the other on a CPU (`compute_dtype`)."""


def empty_model(config_json: Mapping[str, Any]) -> PreTrainedModel:
    """Returns the model without weights."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(**decoded(config_json))
    with torch.device("meta"):
        return cast("PreTrainedModel", auto_class(config).from_config(config))

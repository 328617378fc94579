"""Everything edgeft needs of transformers, peft and bitsandbytes: the one room that imports them.

Functions import what they need when they run: models, peft and bitsandbytes take seconds, and converting needs none of
them. transformers' Trainer, whose classes are inherited from, is in `edgeft.hf.training`.
"""

from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerFast as Tokenizer

from edgeft.device import Device, pick_device
from edgeft.hf.adapters import add_lora
from edgeft.hf.combining import COMBINE_METHODS, HALVES_METHODS, Combining, combine_lora
from edgeft.hf.configs import architecture_of
from edgeft.hf.layers import AdaptedLinear, adapted_linear, register_attention
from edgeft.hf.lora_files import Layers, model_layers, write_lora_config
from edgeft.hf.methods import load_adapted, load_for_training, save_trained
from edgeft.hf.models import (
    causal_model,
    compute_dtype,
    generate,
    hub_config,
    join_processes,
    load_model,
    load_quantized,
    logits,
    quiet,
    resolve_checkpoint,
    seed_everything,
)
from edgeft.hf.reporters import reporters, require_reporters
from edgeft.hf.starts import start_adapter
from edgeft.hf.streamed import load_tensors, planned_rounding, quantized_names, rounding_of
from edgeft.hf.tokenizers import (
    answer_form,
    decode,
    encode,
    encode_more,
    end_token_ids,
    load_tokenizer,
    open_tokenizer,
    piece_reader,
    render,
    special_texts,
    token_ids,
    tokenizer_opener,
    tokenizer_view,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "COMBINE_METHODS",
    "HALVES_METHODS",
    "AdaptedLinear",
    "Combining",
    "Device",
    "Layers",
    "PreTrainedModel",
    "Tokenizer",
    "adapted_linear",
    "add_lora",
    "answer_form",
    "architecture_of",
    "causal_model",
    "combine_lora",
    "compute_dtype",
    "decode",
    "encode",
    "encode_more",
    "end_token_ids",
    "generate",
    "hub_config",
    "join_processes",
    "load_adapted",
    "load_for_training",
    "load_model",
    "load_quantized",
    "load_tensors",
    "load_tokenizer",
    "logits",
    "model_layers",
    "open_tokenizer",
    "pick_device",
    "piece_reader",
    "planned_rounding",
    "quantized_names",
    "quiet",
    "register_attention",
    "render",
    "reporters",
    "require_reporters",
    "resolve_checkpoint",
    "rounding_of",
    "save_trained",
    "seed_everything",
    "special_texts",
    "start_adapter",
    "token_ids",
    "tokenizer_opener",
    "tokenizer_view",
    "write_lora_config",
]

"""Everything edgeft needs of transformers, peft and bitsandbytes: the one room that imports them."""

from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers import PreTrainedTokenizerFast as Tokenizer
from transformers.trainer_callback import EarlyStoppingCallback, PrinterCallback

from edgeft.hf.layers import AdaptedLinear, adapted_linear, register_attention
from edgeft.hf.models import (
    Device,
    add_lora,
    compute_dtype,
    generate,
    load_adapted,
    load_model,
    load_quantized,
    logits,
    pick_device,
    quiet,
    resolve_checkpoint,
    seed_everything,
)
from edgeft.hf.tokenizers import (
    encode,
    end_token_ids,
    load_tokenizer,
    open_tokenizer,
    render,
    special_texts,
    tokenizer_opener,
)

__all__ = [
    "AdaptedLinear",
    "Device",
    "EarlyStoppingCallback",
    "PreTrainedModel",
    "PrinterCallback",
    "Tokenizer",
    "Trainer",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
    "TrainingArguments",
    "adapted_linear",
    "add_lora",
    "compute_dtype",
    "encode",
    "end_token_ids",
    "generate",
    "load_adapted",
    "load_model",
    "load_quantized",
    "load_tokenizer",
    "logits",
    "open_tokenizer",
    "pick_device",
    "quiet",
    "register_attention",
    "render",
    "resolve_checkpoint",
    "seed_everything",
    "special_texts",
    "tokenizer_opener",
]

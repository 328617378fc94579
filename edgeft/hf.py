"""Everything edgeft needs of transformers, peft and bitsandbytes: the one file that imports them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
import transformers
from bitsandbytes.functional import QuantState, dequantize_4bit
from bitsandbytes.nn import Linear4bit
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jinja2 import TemplateError
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers import PreTrainedTokenizerFast as Tokenizer
from transformers.trainer_callback import EarlyStoppingCallback, PrinterCallback

from edgeft.artifacts import Adapter, Checkpoint, Message
from edgeft.config import LoraConfig
from edgeft.dataset.tokenizer import OpenTokenizer, PlainTokenizer, TokenizerView
from edgeft.errors import EdgeftError

__all__ = [
    "EarlyStoppingCallback",
    "PreTrainedModel",
    "PrinterCallback",
    "Tokenizer",
    "Trainer",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
    "TrainingArguments",
]

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class AdaptedLinear:
    """A 4-bit linear layer with its adapter, as the tensors that a fused computation needs.

    Attributes:
        packed: two 4-bit codes a byte, the first in the high half; uint8.
        state: bitsandbytes' description of `packed`, double-quantized scales in it.
        shape: (n_out, n_in).
        bias: (n_out,), or None.
        a: (rank, n_in) parameter, or None when the layer is not a target.
        b: (n_out, rank) parameter, or None.
        scaling: what B A x is multiplied by.
    """

    packed: torch.Tensor
    state: QuantState
    shape: tuple[int, int]
    bias: torch.Tensor | None
    a: torch.nn.Parameter | None
    b: torch.nn.Parameter | None
    scaling: float

    @property
    def rank(self) -> int:
        """Rank of the adapter, 0 without one."""
        return 0 if self.a is None else int(self.a.shape[0])

    def dequantize(self) -> torch.Tensor:
        """Returns the weights, (n_out, n_in), in the type that the model computes in."""
        return cast(torch.Tensor, dequantize_4bit(self.packed, self.state)).reshape(self.shape)


def adapted_linear(module: torch.nn.Module) -> AdaptedLinear | None:
    """Returns the tensors of a 4-bit layer with or without a plain LoRA adapter; None for any other layer."""
    base = module.base_layer if isinstance(module, LoraLayer) else module
    if not isinstance(base, Linear4bit) or base.weight.quant_state is None or not base.weight.quant_state.nested:
        return None
    state = base.weight.quant_state
    a = b = None
    scaling = 0.0
    if isinstance(module, LoraLayer):
        (name,) = module.active_adapters
        plain = not module.lora_variant and not module.merged and not module.lora_bias[name]
        if not plain or not isinstance(module.lora_dropout[name], torch.nn.Identity):
            return None
        a, b, scaling = module.lora_A[name].weight, module.lora_B[name].weight, float(module.scaling[name])
    return AdaptedLinear(base.weight.data, state, tuple(state.shape), base.bias, a, b, scaling)


def register_attention(name: str, attention: Callable[..., tuple[torch.Tensor, None]]) -> None:
    """Makes an attention function known to every model by a name; such a model builds no attention mask."""
    AttentionInterface.register(name, attention)


_HUB_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


def resolve_checkpoint(base: str) -> Checkpoint:
    """Returns the checkpoint of a folder or of a hub id (downloaded once into Hugging Face's cache).

    Raises EdgeftError for a folder without weights and for a hub id that cannot be had.
    """
    if Path(base).is_dir() or base.startswith((".", "/", "~")):
        return Checkpoint.open(Path(base))
    try:
        folder = snapshot_download(base, allow_patterns=_HUB_PATTERNS)
    except HFValidationError as error:
        raise EdgeftError("neither a folder nor a hub id", where=f"model.base: {base}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EdgeftError(
            f"the hub did not give this model: {str(error).splitlines()[0]}",
            where=f"model.base: {base}",
            remedy="check the name and the network, log in for a gated model, or give a local folder",
        ) from error
    return Checkpoint.open(Path(folder))


def pick_device(wanted: Literal["auto", "cuda", "cpu"]) -> Device:
    """Returns the device to use; raises EdgeftError when CUDA is asked for and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EdgeftError(
            "a CUDA GPU is asked for and torch sees none",
            where="train.device",
            remedy='set it to "auto" or "cpu", or install a CUDA build of torch and check nvidia-smi',
        )
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def compute_dtype(device: Device) -> torch.dtype:
    """bfloat16 on CUDA. float32 on a CPU: bfloat16 matmuls are emulated on most, and slower."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads a checkpoint's tokenizer; raises EdgeftError unless it has a chat template and an end token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise EdgeftError(f"no tokenizer can be loaded: {str(error).splitlines()[0]}", where=str(folder)) from error
    if tokenizer.chat_template is None:
        raise EdgeftError("the tokenizer has no chat template", str(folder), "start from a chat model")
    if tokenizer.eos_token_id is None:
        raise EdgeftError(
            "the tokenizer has no end-of-sequence token", str(folder), "set eos_token in its configuration"
        )
    return cast(Tokenizer, tokenizer)


def render(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool) -> str:
    """Renders a conversation with the tokenizer's own chat template; raises EdgeftError when it refuses."""
    try:
        return str(
            tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)
        )
    except TemplateError as error:
        raise EdgeftError(f"the chat template refuses this conversation: {error}") from error


def encode(tokenizer: Tokenizer, rendered: str) -> list[int]:
    """Returns the ids of a rendered conversation, with exactly one BOS where the tokenizer adds one of its own."""
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    return [bos, *ids] if _adds_bos(tokenizer) and ids[:1] != [bos] else ids


def end_token_ids(tokenizer: Tokenizer, folder: Path) -> list[int]:
    """Returns every id that ends generation: the tokenizer's eos, and those of generation_config.json."""
    ids = {int(tokenizer.eos_token_id)}
    path = folder / "generation_config.json"
    if path.is_file():
        eos = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        ids |= set(eos if isinstance(eos, list) else [] if eos is None else [eos])
    return sorted(ids)


# What a difference between transformers and its tokenizers library would show on.
_PROBE_TEXTS = ("", " a", "a\n\n b\t", "Café déjà vu 日本語 🙂 ﬁ", "a \u2028\r\n<0x41>", "1234567 x")


def tokenizer_opener(folder: Path) -> OpenTokenizer:
    """Returns what opens a checkpoint's tokenizer in a worker process: a function that pickles.

    It does without transformers, which takes seconds and 0.4 GB in each process, where rendering and encoding are the
    same without it on probes; and with it elsewhere. Raises EdgeftError as `load_tokenizer` does.
    """
    tokenizer = load_tokenizer(folder)
    view = _view(tokenizer, folder)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and isinstance(tokenizer.chat_template, str):
        plain = PlainTokenizer(
            model=backend.to_str(),
            template=tokenizer.chat_template,
            special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            bos_id=tokenizer.bos_token_id if _adds_bos(tokenizer) else None,
            end_ids=tuple(view.end_ids),
            text_end=int(tokenizer.eos_token_id),
        )
        if _probe(plain.open()) == _probe(view):
            return plain.open
    return partial(open_tokenizer, folder)


def open_tokenizer(folder: Path) -> TokenizerView:
    """Opens a checkpoint's tokenizer with transformers."""
    return _view(load_tokenizer(folder), folder)


def _view(tokenizer: Tokenizer, folder: Path) -> TokenizerView:
    return TokenizerView(
        render=lambda messages, prompt: render(tokenizer, messages, prompt),
        encode=lambda text: encode(tokenizer, text),
        end_ids=end_token_ids(tokenizer, folder),
        text_end=int(tokenizer.eos_token_id),
    )


def _adds_bos(tokenizer: Tokenizer) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _probe(view: TokenizerView) -> list[tuple[str, list[int]]]:
    """Returns what a tokenizer makes of texts and of conversations of every shape; "" for one it refuses."""
    question, answer = {"role": "user", "content": " hi\n"}, {"role": "assistant", "content": '{"a": 1} '}
    system = {"role": "system", "content": "Be brief."}
    shapes: list[list[Message]] = [[question], [question, answer], [system, question, answer], [question, answer] * 2]
    texts = list(_PROBE_TEXTS)
    for messages in shapes:
        try:
            texts += [view.render(messages, True), view.render(messages, False)]
        except EdgeftError:
            texts.append("")
    return [(text, view.encode(text)) for text in texts]


def special_texts(folder: Path) -> tuple[str, ...]:
    """Returns the special tokens of a checkpoint's tokenizer, as "<|im_end|>"."""
    added = load_tokenizer(folder).added_tokens_decoder.values()
    return tuple(sorted(token.content for token in added if token.special))


def load_model(checkpoint: Checkpoint, device: Device, dtype: torch.dtype) -> PreTrainedModel:
    """Loads a checkpoint unquantized, in evaluation mode."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=dtype, device_map={"": device})
    model.eval()  # type: ignore[no-untyped-call]
    return cast(PreTrainedModel, model)


def load_quantized(checkpoint: Checkpoint, device: Device) -> PreTrainedModel:
    """Loads a checkpoint with its linear layers in 4-bit NF4, double-quantized (Dettmers et al. 2023, QLoRA)."""
    dtype = compute_dtype(device)
    quantization = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.path, quantization_config=quantization, dtype=dtype, device_map={"": device}
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks the weights for good at the first evaluation and
            # rounds their block scales to bfloat16: training goes on from another base (loss 6.744 -> 6.749), and a
            # resumed one differs from one that was not interrupted.
            module.support_avx512bf16_for_cpu = False
    model.eval()  # type: ignore[no-untyped-call]
    return cast(PreTrainedModel, model)


def add_lora(
    model: PreTrainedModel, config: LoraConfig, *, gradient_checkpointing: bool = False, prepare: bool = True
) -> PeftModel:
    """Wraps a quantized model with a fresh LoRA adapter; raises EdgeftError when a target names no layer.

    `prepare` is peft's preparation: what is not quantized becomes float32, and recomputation is switched on if asked.
    """
    last_names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    missing = [target for target in config.targets if target not in last_names]
    if missing:
        linear = {
            name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
        }
        raise EdgeftError(
            f"the model has no layers named {', '.join(missing)}",
            where="train.lora.targets",
            remedy=f"its linear layers: {', '.join(sorted(linear - {'lm_head'}))}",
        )
    if prepare:
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    lora = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets),
        task_type="CAUSAL_LM",
    )
    return cast(PeftModel, get_peft_model(model, lora))


def load_adapted(checkpoint: Checkpoint, adapter: Adapter, device: Device) -> PreTrainedModel:
    """Loads the model as it was trained: the NF4 base with the adapter beside it, in evaluation mode."""
    model = PeftModel.from_pretrained(load_quantized(checkpoint, device), str(adapter.path))
    model.eval()
    return cast(PreTrainedModel, model)


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators."""
    transformers.set_seed(seed)


def quiet() -> None:
    """Silences transformers' own progress bars and advice; edgeft shows its own."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


@torch.inference_mode()
def generate(
    model: PreTrainedModel, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], max_new: int
) -> list[list[int]]:
    """Continues each prompt greedily, as one left-padded batch; returns the new ids, an end token included."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": max_new, "pad_token_id": pad}
    settings |= {"temperature": None, "top_p": None, "top_k": None, "eos_token_id": list(end_ids)}
    output: torch.Tensor = model.generate(input_ids=ids, attention_mask=attention, **settings)  # type: ignore[operator]
    return [_until_end(row, end_ids) for row in output[:, width:].tolist()]


def _until_end(ids: list[int], end_ids: Sequence[int]) -> list[int]:
    place = next((i for i, token in enumerate(ids) if token in end_ids), len(ids) - 1)
    return ids[: place + 1]


@torch.inference_mode()
def logits(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """Returns the logits of every position of one sequence, (n_tokens, n_vocab), float32, on the CPU."""
    output = model(input_ids=torch.tensor([list(ids)], device=model.device))
    return cast(torch.Tensor, output.logits[0].float().cpu())

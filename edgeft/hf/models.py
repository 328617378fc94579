"""Models of checkpoints: loading, quantizing, adapting, and running them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import transformers
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from edgeft.artifacts import Checkpoint
from edgeft.config import QuantizationConfig
from edgeft.device import Device
from edgeft.errors import EdgeftError
from edgeft.files import read_object
from edgeft.hf.configs import load_auto

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerFast as Tokenizer

_HUB_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


def resolve_checkpoint(base: str) -> Checkpoint:
    """Returns the checkpoint of a folder or of a hub id (downloaded once into Hugging Face's cache).

    Raises EdgeftError for a folder without weights and for a hub id that cannot be had.
    """
    if Path(base).exists() or base.startswith((".", "/", "~")):
        return Checkpoint.open(Path(base))
    with _asking_the_hub(base, "this model"):
        folder = snapshot_download(base, allow_patterns=_HUB_PATTERNS)
    return Checkpoint.open(Path(folder))


def hub_config(base: str) -> dict[str, Any]:
    """Returns the config.json of a hub id, from the hub or its cache; raises EdgeftError when it cannot be had."""
    with _asking_the_hub(base, "its config.json"):
        path = hf_hub_download(base, "config.json")
    return read_object(Path(path))


@contextmanager
def _asking_the_hub(base: str, what: str) -> Iterator[None]:
    """Turns what the hub's client raises into an EdgeftError."""
    try:
        yield
    except HFValidationError as error:
        raise EdgeftError("neither a folder nor a hub id", where=f"model.base: {base}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EdgeftError(
            f"the hub did not give {what}: {str(error).splitlines()[0]}",
            where=f"model.base: {base}",
            remedy="check the name and the network, log in for a gated model, or give a local folder",
        ) from error


def join_processes(device: Device) -> tuple[int, int]:
    """Joins the processes that torchrun has started, each on a GPU of its own; returns this one's number and how many.

    (0, 1) without torchrun. accelerate's state is the one that the Trainer goes on with.
    """
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return state.process_index, state.num_processes


def compute_dtype(device: Device) -> torch.dtype:
    """bfloat16 on CUDA. float32 on a CPU: bfloat16 matmuls are emulated on most, and slower."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def auto_class(config: transformers.PreTrainedConfig) -> Any:
    """Returns the loader: a few text models come only with the eyes of the model around them, as Ministral 3."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForImageTextToText


def _loaded(checkpoint: Checkpoint, **options: Any) -> PreTrainedModel:
    loader = auto_class(load_auto(transformers.AutoConfig, checkpoint.path))
    model = cast("PreTrainedModel", load_auto(loader, checkpoint.path, **options))
    model.eval()  # type: ignore[no-untyped-call]
    return model


def load_model(checkpoint: Checkpoint, device: Device, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    """Loads a checkpoint unquantized, in evaluation mode; "auto" is the type that it is stored in."""
    return _loaded(checkpoint, dtype=dtype, device_map={"": device})


def load_quantized(checkpoint: Checkpoint, device: Device, config: QuantizationConfig | None = None) -> PreTrainedModel:
    """Loads a checkpoint with its linear layers in 4 bits (Dettmers et al. 2023, QLoRA); double-quantized NF4, unless
    `config` says otherwise."""
    from bitsandbytes.nn import Linear4bit
    from transformers import BitsAndBytesConfig

    dtype = compute_dtype(device)
    config = config or QuantizationConfig()
    quantization = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=config.type,
        bnb_4bit_use_double_quant=config.double,
        bnb_4bit_compute_dtype=dtype,
    )
    model = _loaded(checkpoint, quantization_config=quantization, dtype=dtype, device_map={"": device})
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks the weights for good at the first evaluation and
            # rounds their block scales to bfloat16: training goes on from another base (loss 6.744 -> 6.749), and a
            # resumed one differs from one that was not interrupted.
            module.support_avx512bf16_for_cpu = False
    return model


def causal_model(model: torch.nn.Module) -> Any:
    """Returns the causal language model itself, without the adapter's wrapper where there is one."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators, and settles the number of threads."""
    transformers.set_seed(seed)
    # Until torch is told a number, MKL takes one by itself for each product. A stage before may have told it, and sums
    # in another order would train another adapter.
    torch.set_num_threads(torch.get_num_threads())


def quiet() -> None:
    """Silences transformers' own progress bars and advice; edgeft shows its own."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


@torch.inference_mode()
def generate(
    model: PreTrainedModel, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], max_new: int
) -> list[list[int]]:
    """Continues each prompt greedily, as one left-padded batch; returns the new ids, an end token included.

    What the base's generation_config.json says of sampling, penalties and beams does not count.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": max_new, "pad_token_id": pad}
    with _without_settings(model):
        output: torch.Tensor = model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=attention, eos_token_id=list(end_ids), **settings
        )
    return [_until_end(row, end_ids) for row in output[:, width:].tolist()]


@contextmanager
def _without_settings(model: PreTrainedModel) -> Iterator[None]:
    """Takes a model's own settings of generation away: transformers fills in from them what a call does not say."""
    models = (model, causal_model(model))  # an adapter's wrapper has a copy, which it hands on
    own = [one.generation_config for one in models]
    try:
        for one in models:
            one.generation_config = transformers.GenerationConfig()  # type: ignore[no-untyped-call]
        yield
    finally:
        for one, settings in zip(models, own, strict=True):
            one.generation_config = settings


def _until_end(ids: list[int], end_ids: Sequence[int]) -> list[int]:
    place = next((i for i, token in enumerate(ids) if token in end_ids), len(ids) - 1)
    return ids[: place + 1]


@torch.inference_mode()
def logits(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """Returns the logits of every position of one sequence, (n_tokens, n_vocab), float32, on the CPU."""
    output = model(input_ids=torch.tensor([list(ids)], device=model.device))
    return cast(torch.Tensor, output.logits[0].float().cpu())

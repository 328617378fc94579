"""Measures the training throughput of a peer, each in a process of its own: `bench_train.py` runs it.

    python scripts/bench_peers.py trl|trl-liger|unsloth 8b|1b|0.6b ROWS packed|padded keep|recompute CHECKPOINT

The same records, shape, adapter, learning rate and optimizer as edgeft's. The last line printed is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

if sys.argv[1:2] == ["unsloth"]:
    import unsloth  # has to come before what it replaces parts of

import torch
from bench_shapes import LEARNING_RATE, LINEARS, LONGEST, LORA, WARM_UP, record_ids
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

STEPS = 24


class Clock(TrainerCallback):
    """The time after each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Waits for the GPU."""
        torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def trainer_of(engine: str, folder: str, arguments: SFTConfig, dataset: Dataset) -> Any:
    """Returns the peer's trainer of a 4-bit model with an adapter."""
    options: dict[str, Any] = {"args": arguments, "train_dataset": dataset}
    options["processing_class"] = AutoTokenizer.from_pretrained(folder)
    if engine == "unsloth":
        model, _ = unsloth.FastLanguageModel.from_pretrained(
            folder, max_seq_length=LONGEST, load_in_4bit=True, dtype=torch.bfloat16, local_files_only=True
        )
        recompute = "unsloth" if arguments.gradient_checkpointing else False
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=LORA.rank,
            lora_alpha=LORA.alpha,
            lora_dropout=0,
            target_modules=list(LINEARS),
            use_gradient_checkpointing=recompute,
        )
        return SFTTrainer(model=model, **options)
    quantization = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantization, device_map={"": 0}, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    adapter = LoraConfig(
        r=LORA.rank,
        lora_alpha=int(LORA.alpha),
        lora_dropout=0.0,
        target_modules=list(LINEARS),
        task_type="CAUSAL_LM",
    )
    return SFTTrainer(model=model, peft_config=adapter, **options)


def measure(engine: str, shape: str, rows: int, *, packed: bool, recompute: bool, folder: str) -> dict[str, Any]:
    """Trains some steps; returns the figures."""
    dataset = Dataset.from_list([{"input_ids": ids} for ids in record_ids(shape)])
    arguments = SFTConfig(
        output_dir="/tmp/peer",
        per_device_train_batch_size=rows,
        max_steps=STEPS,
        max_length=LONGEST,
        packing=packed,
        bf16=True,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=recompute,
        optim="adamw_torch_fused",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": not packed},
        use_liger_kernel="liger" in engine,
    )
    trainer = trainer_of(engine, folder, arguments, dataset)
    clock, collate = Clock(), trainer.data_collator
    trainer.add_callback(clock)
    counts: list[int] = []

    def counting(examples: Any) -> Any:
        batch = collate(examples)
        counts.append(int(batch["labels"].ne(-100).sum()))
        return batch

    trainer.data_collator = counting
    torch.cuda.reset_peak_memory_stats()
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    seconds = clock.ends[-1] - clock.ends[WARM_UP - 1]
    timed = counts[WARM_UP : len(clock.ends)]
    return {
        "speed": sum(timed) / seconds,
        "step_seconds": seconds / len(timed),
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "losses": [history[0]["loss"], history[-1]["loss"]],
        "gradients": [history[0].get("grad_norm", 0.0), history[-1].get("grad_norm", 0.0)],
        "steps": len(clock.ends),
    }


if __name__ == "__main__":
    engine, shape, rows, batches, memory, folder = sys.argv[1:]
    figures = measure(
        engine, shape, int(rows), packed=batches == "packed", recompute=memory == "recompute", folder=folder
    )
    print(json.dumps(figures))

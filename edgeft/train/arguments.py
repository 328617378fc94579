"""The configuration of a training as transformers' Trainer takes it."""

from __future__ import annotations

import math
from pathlib import Path

from edgeft import hf
from edgeft.config import TrainConfig
from edgeft.hf.training import TrainingArguments


def training_arguments(
    config: TrainConfig, checkpoints: Path, device: hf.Device, n_batches: int, recompute: bool, processes: int
) -> TrainingArguments:
    """Returns the Trainer's arguments for `n_batches` forward passes an epoch, which `processes` share.

    Evaluations and checkpoints are spread evenly over the training.
    """
    steps_per_epoch = math.ceil(n_batches / config.accumulation)
    total_steps = max(1, math.ceil(config.epochs * steps_per_epoch))
    interval = max(1, total_steps // config.evaluations)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size * 2,
        gradient_accumulation_steps=config.accumulation // processes,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        # The first warming step has a rate of 0: a training of one step would learn nothing by it.
        warmup_steps=min(math.ceil(config.warmup_fraction * total_steps), total_steps - 1),
        optim=config.optimizer,
        # Packed rows hold many sequences, of which transformers' noise knows nothing: see neftune.py.
        neftune_noise_alpha=None if config.packing else config.neftune_alpha,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        use_cpu=device == "cpu",
        bf16=device == "cuda",
        gradient_checkpointing=recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps",
        eval_steps=interval,
        save_strategy="steps",
        save_steps=interval,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{config.best_by}",
        greater_is_better=config.best_by != "loss",
        logging_nan_inf_filter=False,
        logging_steps=max(1, min(10, interval)),
        disable_tqdm=True,
        report_to="none",
        seed=config.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        prediction_loss_only=True,
    )
    if arguments.world_size == 1 and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process trains on one GPU; the Trainer would take all, with torch's DataParallel
    return arguments

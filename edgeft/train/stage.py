"""Tokens + base -> what was trained, with transformers' Trainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch

from edgeft import hf
from edgeft.artifacts import Adapter, Checkpoint, Tokens, Trained
from edgeft.config import MOVED_STARTS, TrainConfig
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.errors import EdgeftError, Interrupted
from edgeft.hf.training import PrinterCallback
from edgeft.progress import Progress, silent
from edgeft.resources.packable import why_not_packed, with_packing
from edgeft.train.answers import Answers
from edgeft.train.arguments import training_arguments
from edgeft.train.batches import ExampleDataset
from edgeft.train.checkpoints import resumable
from edgeft.train.fast import accelerate_model, can_attend
from edgeft.train.fitting import Fitting
from edgeft.train.guard import Guard, Rates
from edgeft.train.limit import measure_limit
from edgeft.train.methods import require_method
from edgeft.train.outcome import checkpoints_of, is_finished, write_outcome
from edgeft.train.packing import TokenBudgetSampler
from edgeft.train.stopping import EarlyStop, StopRequest
from edgeft.train.together import of_the_first, together
from edgeft.train.trainers import PackedTrainer, PaddedTrainer
from edgeft.train.watching import Keeper, Watcher

_SHARDED = "train.shard_weights"


def train(tokens: Tokens, base: Checkpoint, config: TrainConfig, out: Path, progress: Progress = silent) -> Trained:
    """Trains into the folder `out`, going on from the checkpoints that an earlier attempt left there.

    What is best by `config.best_by` is kept: an adapter (adapter_config.json, adapter_model.safetensors), or with the
    method "full" a checkpoint without tokenizer. Beside it `out` gets method.json, training.json (figures of the whole
    training) and logs/ (metrics.jsonl and loss.svg). Where an earlier attempt at the same training has left all that,
    nothing is trained. Raises Interrupted when a signal stopped it with everything saved: also one that came when no
    step was left, after all that is written.
    Raises EdgeftError when CUDA is asked for and absent, for a method and options that do not go together, when targets
    name layers that the model has not, when `config.best_by` cannot be measured, and when the loss is no number or
    explodes.
    """
    hf.quiet()
    device = hf.pick_device(config.device)
    require_method(base, config)
    rank, processes = hf.join_processes(device)
    _require_possible(config, processes)
    trained: Trained = Checkpoint(out) if config.method == "full" else Adapter(out)
    if of_the_first(lambda: is_finished(out, config.rate_from_step)):
        return trained
    training = ExampleDataset(TokenizedExamples(tokens.path / "train"))
    evaluated = TokenizedExamples(tokens.path / "evaluation")
    data = (training, ExampleDataset(evaluated))
    lengths = [*training.lengths, *data[1].lengths]
    config = _packed(base, config, device, max(lengths))
    answers = None if config.best_by == "loss" else Answers(base, evaluated, config.answers, config.best_by)
    fitting = Fitting(base.config(), config, lengths, device, out / "logs" / "memory.json", processes)
    _require_sharded(fitting, config, processes)

    def attempt() -> tuple[PaddedTrainer, bool]:
        hf.seed_everything(config.seed)
        trainer = _trainer(base, fitting, device, out, data, answers, processes, progress)
        with together(processes):
            return trainer, _run(trainer, training, config, out, progress)

    trainer, stopped = fitting.train(attempt, progress)
    if rank == 0:
        write_outcome(trainer, base, fitting, device, training.lengths, out)
    if stopped:
        raise _interrupted(trainer)
    return trained


def _packed(base: Checkpoint, config: TrainConfig, device: hf.Device, longest: int) -> TrainConfig:
    """Returns the configuration with `packing` decided; raises EdgeftError where it is asked for and impossible."""
    config_json, attending = base.config(), can_attend(device)
    if not config.packing:
        return with_packing(config, config_json, longest, possible=device == "cuda" and attending)
    if not attending:
        raise EdgeftError(
            f"there is no attention over packed records with torch {torch.__version__} on this GPU",
            where="train.packing",
            remedy="set it to false, or take torch 2.10 or newer and a GPU of compute capability 8.0 or higher",
        )
    if (reason := why_not_packed(config_json, longest)) is not None:
        raise EdgeftError(reason, where="train.packing", remedy="leave it out or set it to false")
    return config


def _require_possible(config: TrainConfig, processes: int) -> None:
    if config.accumulation % processes:
        raise EdgeftError(
            f"{processes} processes cannot share {config.accumulation} forward passes of an optimizer step evenly",
            where="train.accumulation",
            remedy=f"set it to a multiple of {processes}, and train.batch_size to so much less",
        )
    if config.lora.init in MOVED_STARTS and processes > 1:
        what = f"{processes} processes would each compute a start of their own"
        raise EdgeftError(what, "train.lora.init", 'set it to "default", or train in one process')


def _require_sharded(fitting: Fitting, config: TrainConfig, processes: int) -> None:
    """Raises EdgeftError where weights were to be shared out and cannot be."""
    if not config.shard_weights or processes == 1:
        return
    if not fitting.sharded:
        raise _not_sharded()
    if config.best_by != "loss":
        what = "answers cannot be measured while weights are shared out"
        raise EdgeftError(what, _SHARDED, 'set train.best_by to "loss", or this to false')


def _not_sharded() -> EdgeftError:
    remedy = "it is for packed records, double-quantized NF4 without dropout, and Llama, Mistral, Qwen2 and Qwen3"
    return EdgeftError("these weights cannot be shared out among processes", _SHARDED, remedy)


def _run(trainer: PaddedTrainer, data: ExampleDataset, config: TrainConfig, out: Path, progress: Progress) -> bool:
    """Trains to the end, from the newest checkpoint on where there is one; the best weights are then in the model.

    Returns whether a signal asked to stop when there was no step left to leave out.
    """
    stop, end, guard = StopRequest(), EarlyStop(config.patience), Guard(trainer, data)
    watcher = Watcher(
        progress,
        out / "logs" / "metrics.jsonl",
        guard,
        trainer.steps,
        measure_limit(cast(torch.nn.Module, trainer.model), trainer.args.world_size),
    )
    if trainer.is_fsdp_enabled:
        what = "accelerate's FSDP does not hold 4-bit weights"
        raise EdgeftError(what, remedy="start with torchrun, and train.shard_weights = true to share them out")
    trainer.log_with = watcher.complete
    trainer.remove_callback(PrinterCallback)
    others = hf.reporters(config.report_to, out / "logs") if trainer.args.should_save else []
    for callback in (guard, end, Rates(config.rate_from_step), Keeper(config.keep), watcher, stop, *others):
        trainer.add_callback(callback)
    resumed = of_the_first(lambda: resumable(checkpoints_of(out), config.rate_from_step))
    if resumed is not None and end.over(trainer.args, trainer.saved_state(resumed)):
        trainer.finish(resumed)
        return False
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if stop.requested and not end.over(trainer.args, trainer.state):
        raise _interrupted(trainer)
    return stop.requested


def _interrupted(trainer: PaddedTrainer) -> Interrupted:
    return Interrupted(f"step {trainer.state.global_step} of {trainer.state.max_steps} of training")


def _trainer(
    base: Checkpoint,
    fitting: Fitting,
    device: hf.Device,
    out: Path,
    data: tuple[ExampleDataset, ExampleDataset],
    answers: Answers | None,
    processes: int,
    progress: Progress,
) -> PaddedTrainer:
    """Returns the Trainer of a freshly adapted model, over (training, evaluation) examples."""
    config = fitting.config
    packed, recompute = bool(config.packing), bool(config.gradient_checkpointing)
    model = hf.load_for_training(
        base,
        config,
        device,
        out,
        trained_ids=hf.token_ids(base.path, config.trained_tokens),
        recompute=recompute and not packed,
        # peft's preparation turns what is not quantized into float32, which gains nothing when packing.
        prepare=not packed,
        progress=progress,
    )
    training, evaluation = data
    n_batches = math.ceil(len(training) / config.batch_size)
    if packed and config.token_budget is not None:
        n_batches = len(TokenBudgetSampler(training.lengths, config.token_budget, config.seed))
    options: dict[str, Any] = {
        "model": model,
        "args": training_arguments(config, checkpoints_of(out), device, n_batches, recompute and not packed, processes),
        "train_dataset": training,
        "eval_dataset": evaluation,
        "rates": config.rate_from_step,
        "dealt": fitting.dealt,
        "measure": answers,
    }
    if not packed:
        return PaddedTrainer(**options)
    fast = accelerate_model(model, recompute=recompute, resident=fitting.resident, sharded=fitting.sharded)
    if fitting.sharded and not fast:
        raise _not_sharded()
    return PackedTrainer(token_budget=config.token_budget, neftune_alpha=config.neftune_alpha, **options)

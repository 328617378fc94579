"""Tokens + base -> what was trained, with transformers' Trainer."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from edgeft import hf
from edgeft.artifacts import BASE_RECORD, Adapter, Checkpoint, Tokens, Trained
from edgeft.config import TrainConfig
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.errors import EdgeftError, Interrupted
from edgeft.files import write_json, write_text
from edgeft.hf.training import PrinterCallback, Trainer
from edgeft.loss_curve import loss_curve_svg, read_metrics
from edgeft.progress import Progress, silent
from edgeft.resources.packable import why_not_packed, with_packing
from edgeft.train.answers import Answers
from edgeft.train.arguments import training_arguments
from edgeft.train.batches import ExampleDataset, LengthGroupedSampler
from edgeft.train.checkpoints import resumable
from edgeft.train.fast import accelerate_model, can_attend
from edgeft.train.fitting import Fitting
from edgeft.train.guard import Guard, Rates
from edgeft.train.limit import measure_limit
from edgeft.train.methods import require_method, stored_dtype
from edgeft.train.packing import TokenBudgetSampler
from edgeft.train.stopping import EarlyStop, StopRequest
from edgeft.train.together import of_the_first, together
from edgeft.train.trainers import PackedTrainer, PaddedTrainer
from edgeft.train.watching import Keeper, Watcher
from edgeft.weights import CheckpointWeights

_SHARDED = "train.shard_weights"


def train(tokens: Tokens, base: Checkpoint, config: TrainConfig, out: Path, progress: Progress = silent) -> Trained:
    """Trains into the folder `out`, going on from the checkpoints that an earlier attempt left there.

    What is best by `config.best_by` is kept: an adapter (adapter_config.json, adapter_model.safetensors), or with the
    method "full" a checkpoint without tokenizer. Beside it `out` gets method.json, training.json (figures of the whole
    training) and logs/ (metrics.jsonl and loss.svg). Raises Interrupted when a signal stopped it with everything saved.
    Raises EdgeftError when CUDA is asked for and absent, for a method and options that do not go together, when targets
    name layers that the model has not, when `config.best_by` cannot be measured, and when the loss is no number or
    explodes.
    """
    hf.quiet()
    device = hf.pick_device(config.device)
    require_method(base, config)
    rank, processes = hf.join_processes(device)
    _require_possible(config, processes)
    training = ExampleDataset(TokenizedExamples(tokens.path / "train"))
    evaluated = TokenizedExamples(tokens.path / "evaluation")
    data = (training, ExampleDataset(evaluated))
    lengths = [*training.lengths, *data[1].lengths]
    config = _packed(base, config, device, max(lengths))
    answers = None if config.best_by == "loss" else Answers(base, evaluated, config.answers, config.best_by)
    fitting = Fitting(base.config(), config, lengths, device, out / "logs" / "memory.json", processes)
    _require_sharded(fitting, config, processes)

    def attempt() -> PaddedTrainer:
        hf.seed_everything(config.seed)
        trainer = _trainer(base, fitting, device, out / "checkpoints", data, answers, processes, progress)
        with together(processes):
            _run(trainer, training, config, out, progress)
        return trainer

    trainer = fitting.train(attempt, progress)
    if rank == 0:
        weights = CheckpointWeights(base)
        hf.save_trained(trainer.model, config, stored_dtype(weights), out)
        write_json(out / BASE_RECORD, {"fingerprint": weights.fingerprint()})
        figures = _figures(trainer, device, _efficiency(training.lengths, fitting.config))
        write_json(out / "training.json", figures | {"memory": fitting.figures()})
        write_text(out / "logs" / "loss.svg", loss_curve_svg(read_metrics(out / "logs" / "metrics.jsonl"), "loss"))
        shutil.rmtree(out / "checkpoints")
    return Checkpoint(out) if config.method == "full" else Adapter(out)


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
    if config.lora.init in hf.MOVED_STARTS and processes > 1:
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


def _run(trainer: PaddedTrainer, data: ExampleDataset, config: TrainConfig, out: Path, progress: Progress) -> None:
    """Trains to the end, from the newest checkpoint on where there is one; the best weights are then in the model."""
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
    resumed = of_the_first(lambda: resumable(out / "checkpoints", config.rate_from_step))
    if resumed is not None and end.over(trainer.args, trainer.saved_state(resumed)):
        trainer.finish(resumed)
        return
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if stop.requested and not end.over(trainer.args, trainer.state):
        raise Interrupted(f"step {trainer.state.global_step} of {trainer.state.max_steps} of training")


def _trainer(
    base: Checkpoint,
    fitting: Fitting,
    device: hf.Device,
    checkpoints: Path,
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
        checkpoints.parent,
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
        "args": training_arguments(config, checkpoints, device, n_batches, recompute and not packed, processes),
        "train_dataset": training,
        "eval_dataset": evaluation,
        "rates": config.rate_from_step,
        "measure": answers,
    }
    if not packed:
        return PaddedTrainer(**options)
    fast = accelerate_model(model, recompute=recompute, resident=fitting.resident, sharded=fitting.sharded)
    if fitting.sharded and not fast:
        raise _not_sharded()
    return PackedTrainer(token_budget=config.token_budget, neftune_alpha=config.neftune_alpha, **options)


def _efficiency(lengths: Sequence[int], config: TrainConfig) -> float:
    """Returns the share of the training batches' tokens that are an example's, the rest being padding or room."""
    if not config.packing:
        return LengthGroupedSampler(lengths, config.batch_size, config.seed).efficiency
    if config.token_budget is None:
        return 1.0
    return TokenBudgetSampler(lengths, config.token_budget, config.seed).efficiency


def _figures(trainer: Trainer, device: hf.Device, efficiency: float) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    evaluations = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    return {
        "device": device,
        "steps": trainer.state.global_step,
        "planned_steps": trainer.state.max_steps,
        "batch_efficiency": efficiency,
        "epochs": trainer.state.epoch,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "evaluation_losses": evaluations,
        "best_evaluation_loss": min(evaluations, default=None),
        "best_step": trainer.state.best_global_step,
        "best_by": {str(trainer.args.metric_for_best_model).removeprefix("eval_"): trainer.state.best_metric},
    }

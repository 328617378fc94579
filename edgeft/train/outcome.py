"""What a training leaves, and by which file it is known to have ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft import hf
from edgeft.artifacts import BASE_RECORD, Checkpoint
from edgeft.config import TrainConfig
from edgeft.files import flush, list_files, read_object, write_json, write_text
from edgeft.hf.training import Trainer
from edgeft.loss_curve import loss_curve_svg, read_metrics
from edgeft.train.batches import LengthGroupedSampler
from edgeft.train.checkpoints import before_step, remove_all
from edgeft.train.fitting import Fitting
from edgeft.train.methods import stored_dtype
from edgeft.train.packing import TokenBudgetSampler
from edgeft.train.trainers import PaddedTrainer
from edgeft.weights import CheckpointWeights

_CHECKPOINTS = "checkpoints"
_FIGURES = "training.json"
"""Written last, when all else is on the disk, and before the checkpoints go: where it is, the training has ended."""


def checkpoints_of(out: Path) -> Path:
    """Returns where the checkpoints of a training into the folder `out` are."""
    return out / _CHECKPOINTS


def is_finished(out: Path, rates: Mapping[int, float]) -> bool:
    """Returns whether a training at `rates` (`train.rate_from_step`) has ended in `out`, and only its checkpoints,
    which are removed, may be left.

    One that ended with other rates is another training: its figures are removed, so that the next one is not taken for
    ended when it is cut short.
    """
    figures = read_object(out / _FIGURES)
    if "rate_from_step" in figures:
        used = {int(step): rate for step, rate in figures["rate_from_step"].items()}
        if before_step(used, figures["steps"]) == before_step(rates, figures["steps"]):
            remove_all(checkpoints_of(out))
            return True
    (out / _FIGURES).unlink(missing_ok=True)
    return False


def write_outcome(
    trainer: PaddedTrainer, base: Checkpoint, fitting: Fitting, device: hf.Device, lengths: Sequence[int], out: Path
) -> None:
    """Writes what was trained on examples of these lengths, and its figures, into `out`; removes the checkpoints."""
    config, weights = fitting.config, CheckpointWeights(base)
    hf.save_trained(trainer.model, config, stored_dtype(weights), out)
    write_json(out / BASE_RECORD, {"fingerprint": weights.fingerprint()})
    write_text(out / "logs" / "loss.svg", loss_curve_svg(read_metrics(out / "logs" / "metrics.jsonl"), "loss"))
    for path in list_files(out):
        if checkpoints_of(out) not in path.parents:
            flush(path)
    figures = _figures(trainer, device, _efficiency(lengths, config, fitting.dealt))
    rates = {str(step): rate for step, rate in config.rate_from_step.items()}
    write_json(out / _FIGURES, figures | {"rate_from_step": rates, "memory": fitting.figures()})
    remove_all(checkpoints_of(out))


def _efficiency(lengths: Sequence[int], config: TrainConfig, dealt: int) -> float:
    """Returns the share of the training batches' tokens that are an example's, the rest being padding or room."""
    if not config.packing:
        return LengthGroupedSampler(lengths, dealt, config.seed).efficiency(config.batch_size)
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

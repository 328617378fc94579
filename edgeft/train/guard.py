"""Stops a training whose loss is no number, or explodes, before the optimizer takes the step, and says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from edgeft.errors import EdgeftError, Problem
from edgeft.hf.training import ExportableState, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from edgeft.train.batches import ExampleDataset
from edgeft.train.checkpoints import SUSPECT, before_step, complete, remove
from edgeft.train.trainers import PaddedTrainer

_FACTOR, _MARGIN = 3.0, 1.0
_RECORDS_SHOWN = 5


class Guard(TrainerCallback, ExportableState):
    """Raises EdgeftError when the loss or a gradient is not finite, and when the loss explodes.

    It explodes when its mean over the last steps is above three times that of the first steps and one nat: far above
    what a batch of hard records does, and below where most trainings that diverge end up, near the logarithm of the
    vocabulary's size.
    """

    def __init__(self, trainer: PaddedTrainer, data: ExampleDataset) -> None:
        self._trainer = trainer
        self._data = data
        self.first: list[float] = []
        self.recent: list[float] = []

    def state(self) -> dict[str, Any]:
        """Returns what a resumed training goes on with."""
        return {"args": {}, "attributes": {"first": self.first, "recent": self.recent}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Takes up the losses of the steps before a resumed one."""
        saved: Any = state.stateful_callbacks
        kept = saved.get("Guard", {}).get("attributes", {})
        self.first, self.recent = list(kept.get("first", [])), list(kept.get("recent", []))

    @property
    def loss(self) -> float:
        """The loss of the last step."""
        return self.recent[-1]

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """Looks at the step's loss and gradients."""
        loss = self._trainer.take_loss()
        norm = float(torch.nn.utils.get_total_norm(self._trainer.gradients()))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._diagnosis(args, state, f"the loss is {loss:.4g}, the gradient's norm {norm:.4g}")
        self.recent = [*self.recent[1 - SUSPECT :], loss]
        if len(self.first) < SUSPECT:
            self.first = [*self.first, loss]
        elif _mean(self.recent) > _FACTOR * _mean(self.first) + _MARGIN:
            for step in complete(Path(str(args.output_dir))):
                if args.should_save and step > state.global_step - SUSPECT:  # saved when it had begun to explode
                    remove(Path(str(args.output_dir)), step)
            found = f"the loss explodes: {_mean(self.recent):.4g} after {_mean(self.first):.4g}"
            raise self._diagnosis(args, state, f"{found}, the gradient's norm {norm:.4g} when clipped")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """Looks at the loss of the evaluation, before a checkpoint is made of what gave it."""
        loss = float(context["metrics"]["eval_loss"])
        if not math.isfinite(loss):
            raise self._diagnosis(args, state, f"the evaluation's loss is {loss:.4g}")

    def _diagnosis(self, args: TrainingArguments, state: TrainerState, found: str) -> EdgeftError:
        step = state.global_step
        last = max((s for s in complete(Path(str(args.output_dir))) if s <= step), default=0)
        rate = float(cast(Any, self._trainer.lr_scheduler).get_last_lr()[0])
        before = ", ".join(f"{loss:.4g}" for loss in self.recent[-_RECORDS_SHOWN:]) or "none"
        what = f"{found}, the learning rate {rate:.3g}; losses before: {before}"
        remedy = f"{self._remedy(last, args.learning_rate)}, or look at the records below"
        problem = Problem(what, f"training, step {step + 1} of {state.max_steps}", remedy)
        return EdgeftError([problem, *self._records(self._trainer.steps.examples(min(step, state.max_steps - 1)))])

    def _remedy(self, last: int, peak: float) -> str:
        used = before_step(self._trainer.rates, last)
        lower = (used[max(used)] if used else peak) / 4
        if last == 0:
            return f"no checkpoint was made before it; start again with --set train.learning_rate={lower:.3g}"
        table = ", ".join(f"{start} = {rate:.3g}" for start, rate in {**used, last: lower}.items())
        return f"nothing before step {last} is lost; go on from there with --set 'train.rate_from_step={{{table}}}'"

    def _records(self, examples: Sequence[int]) -> list[Problem]:
        """The records of the step, those with the greatest loss of their own first."""
        if self._trainer.accelerator.num_processes > 1:  # the processes' gradients differ in when they are ready
            places = ", ".join(str(self._data.place(index)) for index in examples)
            return [Problem(f"the records of the step: {places}")]
        losses = dict(zip(examples, self._trainer.losses_alone(examples), strict=True))
        worst = sorted(examples, key=lambda index: -losses[index] if math.isfinite(losses[index]) else -math.inf)
        shown = worst[:_RECORDS_SHOWN]
        return [
            Problem(f"a record of the step, whose own loss is {losses[index]:.4g}", str(self._data.place(index)))
            for index in shown
        ]


class Rates(TrainerCallback, ExportableState):
    """Writes the rates of `train.rate_from_step` into each checkpoint, and holds a resumed training to them."""

    def __init__(self, rates: dict[int, float]) -> None:
        self._rates = rates

    def state(self) -> dict[str, Any]:
        """Returns the rates."""
        return {"args": {}, "attributes": {"rates": {str(step): rate for step, rate in self._rates.items()}}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """Sets the rate of the next step: the checkpoint has the one that its own rates would have given."""
        if not self._rates:
            return
        schedule = context["lr_scheduler"]
        step = schedule.last_epoch
        rates = [base * shape(step) for base, shape in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        schedule.load_state_dict({**schedule.state_dict(), "_last_lr": rates})
        for group, rate in zip(context["optimizer"].param_groups, rates, strict=True):
            group["lr"] = rate


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

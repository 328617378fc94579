"""transformers' Trainer with our batches, padded or packed, in an order that a resumed training keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from edgeft import hf
from edgeft.hf.training import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from edgeft.train.batches import IGNORED, ExampleDataset, LengthGroupedSampler, Rounds, Row, Steps, collate
from edgeft.train.checkpoints import STATE, path_of
from edgeft.train.fast import packed_loss, plain_layers
from edgeft.train.packing import TokenBudgetSampler, pack

Examples = Sequence[Row]
Loader = DataLoader[Row]
Measure = Callable[["hf.PreTrainedModel"], dict[str, float]]
"""What is measured of a model in evaluation mode, beside its loss."""


class PaddedTrainer(Trainer):
    """Batches of about equal length, padded to the longest; losses are means over trained tokens.

    `rates` are those of `train.rate_from_step`, `measure` what each evaluation finds out beside the loss. `dealt` are
    the records of a batch as the order is made, of which a batch may be a part: so an optimizer step trains the same
    records however small its batches are.
    """

    def __init__(self, rates: Mapping[int, float], dealt: int, measure: Measure | None, **options: Any) -> None:
        self.rates = rates
        self._dealt = dealt
        self._measure = measure
        self._losses: list[torch.Tensor] = []
        self.log_with: Callable[[dict[str, float]], dict[str, float]] = dict
        """Completes what is logged."""
        super().__init__(**options)
        lengths, processes = _examples(self.train_dataset).lengths, self.accelerator.num_processes
        self._rounds = Rounds(self.batches(lengths), processes)
        self.steps = Steps(self._rounds, lengths, self.args.gradient_accumulation_steps * processes)
        """Which examples each optimizer step trains."""
        mine = slice(self.accelerator.process_index, None, processes)
        self._evaluation = list(Rounds(self.batches(_examples(self.eval_dataset).lengths), processes))[mine]
        self.add_callback(_EpochOrder(self._rounds, self.steps.in_epoch))

    # Batches

    def collate(self, examples: Examples) -> dict[str, Any]:
        """Returns a batch as `training_step` takes it."""
        return collate(examples)

    def batches(self, lengths: Sequence[int]) -> Sampler[list[int]]:
        """Returns the numbers of examples of these lengths, in batches."""
        ordered = LengthGroupedSampler(lengths, self._dealt, self.args.seed)
        batch_size = self.args.per_device_train_batch_size
        return cast(Sampler[list[int]], BatchSampler(ordered, batch_size, drop_last=False))

    def get_train_dataloader(self) -> Loader:
        """Returns the training batches of this process."""
        options: dict[str, Any] = {"collate_fn": self.collate, "pin_memory": self.args.dataloader_pin_memory}
        loader: Loader = DataLoader(_examples(self.train_dataset), batch_sampler=self._rounds, **options)
        return cast(Loader, self.accelerator.prepare(loader))

    # Training

    @cached_property
    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that are trained: to find them among the modules of 80 layers takes 11 ms, and a step needs
        them several times."""
        return [parameter for parameter in cast(Any, self.model).parameters() if parameter.requires_grad]

    def gradients(self) -> list[torch.Tensor]:
        """Returns those that there are."""
        return [parameter.grad for parameter in self.trained if parameter.grad is not None]

    def _clip_grad_norm(self, *_: Any) -> torch.Tensor:
        """Does what transformers' own does, which looks for the parameters; returns the norm before."""
        return torch.nn.utils.clip_grad_norm_(self.trained, self.args.max_grad_norm)

    def floating_point_ops(self, inputs: Any) -> int:
        """Counts none: transformers would look for the parameters at every batch. `log` leaves the sum out."""
        return 0

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Returns the schedule of the learning rate, at another peak from some steps on."""
        schedule: Any = super().create_scheduler(num_training_steps, optimizer)
        if self.rates:
            shape, peak = schedule.lr_lambdas[0], self.args.learning_rate

            def scaled(step: int) -> float:
                begun = [start for start in self.rates if start <= step]
                return float(shape(step)) * (self.rates[max(begun)] / peak if begun else 1.0)

            schedule.lr_lambdas = [scaled] * len(schedule.lr_lambdas)
        return schedule

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Goes forward and back through one batch, and returns its part of the optimizer step's loss."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._losses.append(loss)
        return loss

    def take_loss(self) -> float:
        """Returns the loss of the optimizer step whose gradients are ready, over all processes."""
        loss = torch.stack(self._losses).sum()
        self._losses.clear()
        return float(cast(torch.Tensor, self.accelerator.reduce(loss, "mean")))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs figures, completed by `log_with`."""
        counted = {name: value for name, value in logs.items() if name != "total_flos"}
        super().log(self.log_with(counted), start_time)

    # Evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Returns, and logs, the mean loss over all trained tokens of the evaluation, and what `measure` finds."""
        with self._evaluating() as model:
            parts = [self.summed_loss(model, batch) for batch in self._evaluation]
            sums = torch.tensor(parts, dtype=torch.float64, device=self.args.device).reshape(-1, 2).sum(0)
            loss, count = cast(torch.Tensor, self.accelerator.reduce(sums, "sum")).tolist()
            found = {"loss": loss / count, **self.measured(model)}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def summed_loss(self, model: Any, batch: Sequence[int], dataset: ExampleDataset | None = None) -> tuple[float, int]:
        """Returns the loss summed over the trained tokens of a batch of the evaluation, in nats, and their number."""
        inputs = self.collate([(dataset or _examples(self.eval_dataset))[index] for index in batch])
        count = int((inputs["labels"][:, 1:] != IGNORED).sum())
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():  # a batch that fills up a round goes through the model as well: others may wait for it
            loss = self.batch_loss(model, inputs, max(1, count))
        return (loss * count, count) if count else (0.0, 0)

    def losses_alone(self, chosen: Sequence[int]) -> list[float]:
        """Returns the loss of each of these training examples by itself, as the weights are now, in nats a token."""
        with self._evaluating() as model:
            sums = [self.summed_loss(model, [index], _examples(self.train_dataset)) for index in chosen]
        return [loss / count if count else 0.0 for loss, count in sums]

    def batch_loss(self, model: Any, inputs: Mapping[str, Any], count: int) -> float:
        """Returns the mean loss over the `count` trained tokens of a batch."""
        return float(model(**inputs).loss)

    def measured(self, model: Any) -> dict[str, float]:
        """Returns what `measure` finds."""
        return {} if self._measure is None else self._measure(model)

    @contextmanager
    def _evaluating(self) -> Iterator[Any]:
        model = cast(Any, self.model)
        model.eval()
        try:
            yield model
        finally:
            model.train()

    def saved_state(self, checkpoint: Path) -> TrainerState:
        """Returns the state of a checkpoint."""
        return cast(TrainerState, TrainerState.load_from_json(str(checkpoint / STATE)))

    def finish(self, checkpoint: Path) -> None:
        """Takes the state of a training that had ended when it was cut short, and the best weights it saved."""
        self.state = self.saved_state(checkpoint)
        self.state.best_model_checkpoint = str(path_of(checkpoint.parent, self.state.best_global_step or 0))
        self._load_best_model()


class PackedTrainer(PaddedTrainer):
    """Batches without padding, as many records as `batch_size` or as fit into a token budget; see `packing.py`."""

    def __init__(self, token_budget: int | None, neftune_alpha: float | None, **options: Any) -> None:
        self._token_budget = token_budget
        self._neftune_alpha = neftune_alpha
        super().__init__(**options)

    def collate(self, examples: Examples) -> dict[str, Any]:
        """Returns a batch as `packed_loss` takes it."""
        return pack(examples)

    def batches(self, lengths: Sequence[int]) -> Sampler[list[int]]:
        """Returns the numbers of examples of these lengths, in batches."""
        if self._token_budget is None:
            return super().batches(lengths)
        return TokenBudgetSampler(lengths, self._token_budget, self.args.seed)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Goes forward and back, and after the last batch of a step takes the mean of the processes' gradients."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        # The loss goes past the forward pass of accelerate's DistributedDataParallel, which would have done this.
        if self.accelerator.num_processes > 1 and self.accelerator.sync_gradients:
            gradients = self.gradients()
            flat = cast(torch.Tensor, self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean"))
            parts = torch.split(flat, [g.numel() for g in gradients])
            # A copy for each would keep the GPU waiting: 1,120 at 80 layers.
            torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Returns the loss over the trained tokens of the optimizer step, of which this batch may be a part.

        With several processes it is as many times larger, since the mean of their gradients is taken.
        """
        noise = self._neftune_alpha if model.training else None
        loss = packed_loss(cast(Any, self.model), inputs, num_items_in_batch, neftune_alpha=noise)
        if self.accelerator.num_processes > 1:
            loss = loss * self.accelerator.num_processes
        return (loss, {"loss": loss}) if return_outputs else loss

    def batch_loss(self, model: Any, inputs: Mapping[str, Any], count: int) -> float:
        """Returns the mean loss over the `count` trained tokens of a batch."""
        return float(packed_loss(model, inputs, count))

    def measured(self, model: Any) -> dict[str, float]:
        """Returns what `measure` finds with the layers as transformers has them, which can generate."""
        if self._measure is None:
            return {}
        with plain_layers(model):
            return self._measure(model)


class _EpochOrder(TrainerCallback):
    """Tells our batches the epoch, which accelerate does not when several processes resume in the middle of one."""

    def __init__(self, rounds: Rounds, steps_in_epoch: int) -> None:
        self._rounds = rounds
        self._steps_in_epoch = steps_in_epoch

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Sets the epoch, of which no step has been made, or some when resumed."""
        self._rounds.set_epoch(state.global_step // self._steps_in_epoch)


def _examples(dataset: Any) -> ExampleDataset:
    assert isinstance(dataset, ExampleDataset)
    return dataset

"""How a training ends before its last step: a signal asks for it, or the evaluation no longer gets better."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from edgeft.hf.training import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from edgeft.train.checkpoints import stale_evaluations

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest(TrainerCallback):
    """After SIGTERM or Ctrl-C the step under way is finished and a checkpoint saved; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals inside the block, where it runs in the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Asks the Trainer to save and to stop; processes that train together stop at the same step."""
        if args.world_size > 1:
            asked = torch.tensor(float(self.requested), device=args.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self.requested = bool(asked)
        if self.requested:
            control.should_save = True
            control.should_training_stop = True


class EarlyStop(TrainerCallback):
    """Stops when `patience` evaluations in a row were not better than the best before.

    transformers' own callback counts in memory, so that a resumed training would go on longer; this one reads the log.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def over(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Returns whether the training has come to its end by the last evaluation, or by the number of its steps."""
        metric, greater = str(args.metric_for_best_model), bool(args.greater_is_better)
        stale = stale_evaluations(state.log_history, metric, greater)
        return stale >= self._patience or state.global_step >= state.max_steps

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ends the training when it is over."""
        if self.over(args, state):
            control.should_training_stop = True

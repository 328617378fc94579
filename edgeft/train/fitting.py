"""Fits a training into the memory at hand: plans before it starts, and steps down where it runs out all the same."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from edgeft import hf
from edgeft.config import TrainConfig
from edgeft.errors import EdgeftError
from edgeft.files import human_size, read_object, write_json
from edgeft.progress import Progress
from edgeft.resources import Choice, Job, ModelShape, choose, keep, step_down, usable_bytes
from edgeft.resources.jobs import job_of, wish_of
from edgeft.train.fast.sharding import peak_bytes

Trained = TypeVar("Trained")

_CONTEXT_BYTES = 2**30
"""What CUDA itself takes of a card, at most; counted where every process of a training has to come to one plan."""


class Fitting:
    """How one training is cut; `memory_path` remembers it, so that a resumed training is cut like what it goes on with.

    Raises EdgeftError, before anything is loaded, when not even one record at a time fits. What the arithmetic does
    not know, other methods than `qlora` and models of other kinds, is trained as the configuration says, until
    memory runs out.
    """

    def __init__(
        self,
        config_json: Mapping[str, Any],
        config: TrainConfig,
        lengths: Sequence[int],
        device: hf.Device,
        memory_path: Path,
        processes: int = 1,
    ) -> None:
        self._config = config
        self._path = memory_path
        self._cuda = device == "cuda"
        self._wish = replace(wish_of(config, lengths), processes=processes)
        self.steps_down: list[str] = []
        try:
            self._job: Job | None = job_of(ModelShape.read(config_json), config, device, processes)
        except EdgeftError:
            self._job = None
            if self._wish.recompute is None:
                self._wish = replace(self._wish, recompute=self._cuda)
        usable = self._usable()
        self._choice = self._remembered(usable) or choose(self._job, self._wish, usable)
        self._require_fit()

    @property
    def config(self) -> TrainConfig:
        """The configuration with what the plan decides."""
        choice = self._choice
        return self._config.model_copy(
            update={
                "batch_size": choice.batch_size,
                "accumulation": choice.accumulation,
                "token_budget": choice.token_budget,
                "gradient_checkpointing": choice.strategy.recompute,
            }
        )

    @property
    def dealt(self) -> int:
        """Records of a batch as it is asked for, by which their order is made: a batch that is cut is a part of one."""
        return self._config.batch_size

    @property
    def sharded(self) -> bool:
        """Whether the processes share the weights out."""
        return self._job is not None and self._job.shards > 1

    @property
    def resident(self) -> bool:
        """Whether the weights stay dequantized."""
        return self._choice.strategy.resident

    def train(self, attempt: Callable[[], Trained], progress: Progress) -> Trained:
        """Returns what `attempt` does with `config`; where the GPU's memory runs out, tries again with less of it.

        Raises EdgeftError when one record at a time, computed again, is still too much. Where several processes train
        together, the error goes through: they would have to step down as one.
        """
        while True:
            self._remember()
            try:
                return attempt()
            except torch.OutOfMemoryError as error:
                if torch.distributed.is_initialized():
                    raise
                reason = str(error).partition(". ")[0]
            self._step_down(reason)
            gc.collect()  # the Trainer and its callbacks hold one another, and the model
            if self._cuda:
                torch.cuda.empty_cache()
            progress(0, 0, f"out of memory: {self.steps_down[-1]}")

    def figures(self) -> dict[str, Any]:
        """Returns the plan, what it was predicted to need, and the peak that was measured; bytes."""
        config = self.config
        measured = peak_bytes(torch.cuda.max_memory_allocated()) if self._cuda else None
        return {
            "batch_size": config.batch_size,
            "accumulation": config.accumulation,
            "token_budget": config.token_budget,
            "recompute": config.gradient_checkpointing,
            "resident": self.resident,
            "shards": 1 if self._job is None else self._job.shards,
            "predicted_bytes": self._choice.need.total if self._cuda and self._job is not None else None,
            "peak_bytes": measured,
            "steps_down": self.steps_down,
        }

    def _step_down(self, reason: str) -> None:
        if not self._go_down():
            raise EdgeftError(
                f"out of GPU memory: {reason}",
                where="train",
                remedy="close what else uses the GPU, lower dataset.max_tokens, or take a smaller model",
            )

    def _go_down(self, usable: int | None = None) -> bool:
        """Takes the next choice down, and returns whether there was one."""
        old = self._choice
        new = step_down(self._job, self._wish, old, usable)
        if new is None:
            return False
        if new.strategy.recompute != old.strategy.recompute:
            self.steps_down.append("each layer is computed again from its input")
        else:
            times = f"accumulated {new.accumulation} times"
            self.steps_down.append(f"batches of at most {new.strategy.tokens:,} tokens, {times}")
        self._choice = new
        return True

    def _usable(self) -> int | None:
        if not self._cuda:
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        free_bytes, card_bytes = torch.cuda.mem_get_info()
        if torch.distributed.is_torchelastic_launched():
            free_bytes = card_bytes - _CONTEXT_BYTES
        return usable_bytes(free_bytes, card_bytes)

    def _require_fit(self) -> None:
        choice = self._choice
        if choice.fits:
            return
        need, usable = choice.need, self._usable() or 0
        largest = max(asdict(need).items(), key=lambda entry: entry[1])
        raise EdgeftError(
            f"one record of {choice.strategy.longest:,} tokens needs {human_size(need.total)} of GPU memory, "
            f"{human_size(largest[1])} of them for {largest[0]}, and {human_size(usable)} can be used",
            where="train",
            remedy="close what else uses the GPU, lower dataset.max_tokens, or take a smaller model",
        )

    def _remembered(self, usable: int | None) -> Choice | None:
        """Returns the plan of the training that is resumed; where it does not fit any more, the next one down that does
        or, with `fits` false, the last one."""
        kept = read_object(self._path)
        if not kept:
            return None
        wish = replace(
            self._wish,
            batch_size=kept["batch_size"],
            accumulation=kept["accumulation"],
            token_budget=kept["token_budget"],
            recompute=kept["recompute"],
        )
        self.steps_down = list(kept["steps_down"])
        self._choice = keep(self._job, wish, usable)
        while not self._choice.fits and self._go_down(usable):
            pass
        return self._choice

    def _remember(self) -> None:
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        figures = self.figures()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, {key: figures[key] for key in _REMEMBERED})


_REMEMBERED = ("batch_size", "accumulation", "token_budget", "recompute", "steps_down")

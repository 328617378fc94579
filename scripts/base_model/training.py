"""The training loop: AdamW with a warm-up, a constant stretch and a linear decay, resumable at any step."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from base_model.families import FAMILIES
from base_model.model import autocast, weighted_loss
from base_model.shards import ShardPlan, ShardReader

CHECKPOINT_RESERVE_S = 4.0
"""Time kept back before the wall-clock limit for the writing of a checkpoint."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How the model is trained. `warmup` in steps; `decay` is the last share of all steps."""

    tokens: int
    batch: int
    learning_rate: float
    warmup: int = 200
    decay: float = 0.25
    weight_decay: float = 0.1
    clip: float = 1.0
    compile: bool = True

    def steps(self, context: int) -> int:
        return max(1, self.tokens // (self.batch * context))


@dataclass(slots=True)
class Progress:
    """Where the training stands; all of it survives a restart."""

    step: int = 0
    seconds: float = 0.0
    family_tokens: list[int] = field(default_factory=lambda: [0] * len(FAMILIES))
    characters: int = 0
    curve: list[list[float]] = field(default_factory=list)
    """(step, training loss on answers, mean held-out loss over families), about ten of them."""


def warmup_steps(config: TrainingConfig, steps: int) -> int:
    """The steps of warm-up: as configured, a fifth of all in a short run."""
    return min(config.warmup, max(1, steps // 5))


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """Warm-up, stable, decay (MiniCPM): the rate of step 0 .. steps - 1."""
    decay_steps = max(1, int(config.decay * steps))
    up = min(1.0, (step + 1) / warmup_steps(config, steps))
    down = min(1.0, (steps - step) / decay_steps)
    return config.learning_rate * up * down


def make_optimizer(model: LlamaForCausalLM, config: TrainingConfig, device: str) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=device.startswith("cuda"))


def save_checkpoint(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.AdamW, progress: Progress) -> None:
    """Weights and AdamW moments as float32 safetensors, with the progress in the metadata; atomic."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"weight/{name}"] = parameter.detach()
        for moment in ("exp_avg", "exp_avg_sq"):
            if parameter in optimizer.state:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"progress": json.dumps(asdict(progress))})
    partial.replace(path)


def load_checkpoint(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.AdamW, device: str) -> Progress:
    with safe_open(path, framework="pt", device=device) as stored, torch.no_grad():
        progress = Progress(**json.loads(stored.metadata()["progress"]))
        names = set(stored.keys())
        for name, parameter in model.named_parameters():
            parameter.copy_(stored.get_tensor(f"weight/{name}"))
            if f"exp_avg/{name}" in names:
                on = device if device.startswith("cuda") else "cpu"
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(progress.step), device=on),
                    "exp_avg": stored.get_tensor(f"exp_avg/{name}"),
                    "exp_avg_sq": stored.get_tensor(f"exp_avg_sq/{name}"),
                }
    return progress


def _on_device(array: NDArray[np.generic], device: str) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


class Trainer:
    """One training run: `train` goes on from the checkpoint until the last step or the deadline."""

    def __init__(
        self, model: LlamaForCausalLM, config: TrainingConfig, plan: ShardPlan, checkpoint: Path, device: str
    ) -> None:
        if plan.rows % config.batch:
            raise ValueError(f"the rows of a shard ({plan.rows}) must be a multiple of the batch ({config.batch})")
        self.model, self.config, self.plan, self.device = model, config, plan, device
        self.checkpoint = checkpoint
        self.steps = config.steps(plan.context)
        self.optimizer = make_optimizer(model, config, device)
        self.progress = Progress()
        if checkpoint.exists():
            self.progress = load_checkpoint(checkpoint, model, self.optimizer, device)
        self._loss: Callable[..., tuple[torch.Tensor, torch.Tensor]] = weighted_loss
        if config.compile and device.startswith("cuda"):
            self._loss = torch.compile(weighted_loss, dynamic=False)

    def step(self, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """One optimizer step on a batch; the loss on answers, left on the device."""
        rate = learning_rate(self.config, self.progress.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast(self.device):
            loss, answers = self._loss(self.model, tokens, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        return answers

    def train(self, workers: int, deadline: float, evaluate: Callable[[], float]) -> bool:
        """Trains to the end and returns True, or saves a checkpoint before the deadline and returns False."""
        begun, before = time.monotonic(), self.progress.seconds
        per_shard = self.plan.rows // self.config.batch
        last = -(-self.steps // per_shard)
        done = self.progress.step >= self.steps
        if not done:
            with ShardReader(self.plan, self.progress.step // per_shard, last, workers) as reader:
                done = self._run(reader, deadline, evaluate)
        self.progress.seconds = before + time.monotonic() - begun
        save_checkpoint(self.checkpoint, self.model, self.optimizer, self.progress)
        return done

    def _run(self, reader: ShardReader, deadline: float, evaluate: Callable[[], float]) -> bool:
        per_shard = self.plan.rows // self.config.batch
        stop = deadline - CHECKPOINT_RESERVE_S
        log = _Log(self)
        try:
            for shard in reader.shards(stop):
                skip = self.progress.step % per_shard
                if skip == 0:
                    self.progress.characters += int(shard["characters"])
                    counts = zip(self.progress.family_tokens, shard["family_tokens"].tolist(), strict=True)
                    self.progress.family_tokens = [a + b for a, b in counts]
                tokens = _on_device(shard["tokens"].astype(np.int32), self.device)
                weights = _on_device(shard["weights"], self.device)
                for at in range(skip, per_shard):
                    if self.progress.step >= self.steps:
                        return True
                    if time.monotonic() > stop:
                        return False
                    rows = slice(at * self.config.batch, (at + 1) * self.config.batch)
                    answers = self.step(tokens[rows].long(), weights[rows])
                    log.after_step(answers)
                    if self.progress.step % max(1, self.steps // 10) == 0:
                        self.progress.curve.append([self.progress.step, float(answers), evaluate()])
                        print(f"  held-out loss, mean over families: {self.progress.curve[-1][2]:.4f}", flush=True)
                        log.restart()
        except multiprocessing.TimeoutError:
            return False
        return self.progress.step >= self.steps


class _Log:
    """A line about every fiftieth of the run: loss, rate, tokens per second, time left."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._every = max(1, trainer.steps // 50)
        self.restart()

    def restart(self) -> None:
        self._since, self._step = time.monotonic(), self._trainer.progress.step

    def after_step(self, answers: torch.Tensor) -> None:
        trainer = self._trainer
        step = trainer.progress.step
        if step % self._every and step != 1:
            return
        loss = float(answers)
        elapsed = time.monotonic() - self._since
        speed = (step - self._step) * trainer.config.batch * trainer.plan.context / max(elapsed, 1e-9)
        left = (trainer.steps - step) * trainer.config.batch * trainer.plan.context / max(speed, 1e-9)
        rate = learning_rate(trainer.config, step - 1, trainer.steps)
        pace = f"{speed / 1e3:.0f}k tokens/s  {left:.0f} s left"
        print(f"step {step}/{trainer.steps}  loss {loss:.4f}  lr {rate:.2e}  {pace}", flush=True)
        self.restart()


def bench(model: LlamaForCausalLM, config: TrainingConfig, plan: ShardPlan, device: str, seconds: float) -> None:
    """Prints training tokens per second for a few batch sizes on random tokens, compile time apart."""
    generator = np.random.default_rng(0)
    for batch in (config.batch // 4, config.batch // 2, config.batch, config.batch * 2):
        if batch < 1:
            continue
        shaped = TrainingConfig(config.tokens, batch, config.learning_rate, compile=config.compile)
        small = ShardPlan(plan.seed, batch, plan.context, plan.tokenizer, plan.folder)
        trainer = Trainer(model, shaped, small, plan.folder / "none", device)
        tokens = _on_device(generator.integers(0, model.config.vocab_size, (batch, plan.context), np.int64), device)
        weights = torch.full(tokens.shape, 10, dtype=torch.uint8, device=device)
        begun = time.monotonic()
        for _ in range(3):
            float(trainer.step(tokens, weights))
        compiled, steps, begun = time.monotonic() - begun, 0, time.monotonic()
        while time.monotonic() - begun < seconds:
            float(trainer.step(tokens, weights))
            steps += 1
        speed = steps * tokens.numel() / (time.monotonic() - begun)
        print(f"batch {batch}: {speed / 1e3:.0f}k tokens/s (first three steps {compiled:.1f} s)", flush=True)

"""transformers' Trainer with our batches, padded or packed, in an order that a resumed training keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from edgeft import hf
from edgeft.train.batches import ExampleDataset, LengthGroupedSampler, collate
from edgeft.train.fast import packed_loss
from edgeft.train.packing import TokenBudgetSampler, pack

Loader = DataLoader[dict[str, list[int]]]


class PaddedTrainer(hf.Trainer):
    """Batches of about equal length, padded to the longest."""

    def get_train_dataloader(self) -> Loader:
        """Returns the training batches."""
        return self._loader(self.train_dataset, collate_fn=collate)

    def _loader(self, dataset: Any, **options: Any) -> Loader:
        assert isinstance(dataset, ExampleDataset)
        if "batch_sampler" not in options:
            batch_size = self.args.per_device_train_batch_size
            sampler = LengthGroupedSampler(dataset.lengths, batch_size, self.args.seed)
            options |= {"batch_size": batch_size, "sampler": sampler}
        loader: Loader = DataLoader(dataset, pin_memory=self.args.dataloader_pin_memory, **options)
        return cast(Loader, self.accelerator.prepare(loader))


class PackedTrainer(PaddedTrainer):
    """Batches without padding, as many records as `batch_size` or as fit into a token budget; see `packing.py`."""

    def __init__(self, token_budget: int | None, **options: Any) -> None:
        self._token_budget = token_budget
        super().__init__(**options)

    def get_train_dataloader(self) -> Loader:
        """Returns the training batches."""
        return self._packed(self.train_dataset)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Loader:
        """Returns the evaluation batches."""
        return self._packed(self.eval_dataset if eval_dataset is None else eval_dataset)

    def _packed(self, dataset: Any) -> Loader:
        if self._token_budget is None:
            return self._loader(dataset, collate_fn=pack)
        sampler = TokenBudgetSampler(dataset.lengths, self._token_budget, self.args.seed)
        return self._loader(dataset, collate_fn=pack, batch_sampler=sampler)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Returns the loss over the trained tokens of the optimizer step, of which this batch may be a part."""
        loss = packed_loss(self.accelerator.unwrap_model(model), inputs, num_items_in_batch)
        return (loss, {"loss": loss}) if return_outputs else loss

"""What computes a merge: the device that is given, and the CPU where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from adapters import make_adapter
from peft import LoraConfig
from tiny_model import make_model

from edgeft.artifacts import Checkpoint
from edgeft.merge import merged_weights
from edgeft.weights import CheckpointWeights, MergedWeights, RoundedWeights
from edgeft.weights.computing import Computing
from edgeft.weights.updates import Added, LowRank, Rows, Scaled, Update

GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))
# torch's device without memory: it does all arithmetic but gives nothing back, so that it fails as a full GPU does.
FAILING = "meta"


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


UPDATES: dict[str, Update] = {
    "lora": LowRank(random(8, 2).half(), random(2, 6).half(), 0.5),
    "dora": LowRank(random(8, 2), random(2, 6), 0.5, random(8)),
    "dora by columns": LowRank(random(8, 2), random(2, 6), 0.5, random(6), by_columns=True),
    "ia3 of outputs": Scaled(random(8, 1)),
    "ia3 of inputs": Scaled(random(1, 6)),
    "bias": Added(random(8), 0.5),
    "tokens": Rows((1, 5), random(2, 6)),
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_computes_where_the_weight_is(name: str) -> None:
    update = UPDATES[name]
    shape = [8] if name == "bias" else [8, 6]
    changed = update.apply(torch.empty(shape, device=FAILING), 0)
    assert (changed.device.type, changed.dtype, list(changed.shape)) == (FAILING, torch.float32, shape)


def test_the_cpu_goes_on_where_a_device_fails() -> None:
    seen = []

    def doubled(block: torch.Tensor) -> torch.Tensor:
        seen.append(block.device.type)
        return block.mul_(2)

    source = random(4, 3).bfloat16()
    before = source.clone()
    computing = Computing(FAILING)
    for _ in range(2):
        assert torch.equal(computing.run(source, doubled, torch.bfloat16), before * 2)
    assert torch.equal(source, before)
    assert seen == [FAILING, "cpu", "cpu"]


def test_a_fault_of_the_change_itself_is_raised() -> None:
    with pytest.raises(RuntimeError, match="size"):
        Computing(FAILING).run(random(4, 3), lambda block: block + random(5, 2), torch.float32)


def test_no_gpu_computes_with_fewer_bits() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert Computing("cuda").device == "cpu"
    finally:
        torch.set_float32_matmul_precision(before)
    assert Computing("cuda").device == "cuda"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("computing") / "base")


def coarse(weight: torch.Tensor) -> torch.Tensor:
    return (weight * 16).round() / 16


def test_a_merge_on_a_device_that_fails_is_that_of_the_cpu(base: Checkpoint, tmp_path: Path) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "embed_tokens"], use_dora=True)
    adapter = make_adapter(base, config, tmp_path / "adapter")
    names = {"model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"}
    expected, ours = (
        MergedWeights(RoundedWeights(CheckpointWeights(base), names, coarse, device), adapter, device)
        for device in ("cpu", FAILING)
    )
    assert ours.specs == expected.specs
    for name in expected.specs:
        assert torch.equal(ours.read(name), expected.read(name))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_parts_of_a_tensor_are_the_whole(device: Literal["cpu", "cuda"], base: Checkpoint, tmp_path: Path) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["down_proj"])
    weights = merged_weights(base, make_adapter(base, config, tmp_path / "adapter"), "original", device)
    name = "model.layers.0.mlp.down_proj.weight"
    rows = weights.specs[name].shape[0]
    parts = [weights.read_rows(name, start, min(start + 7, rows)) for start in range(0, rows, 7)]
    assert all(part.device.type == "cpu" for part in parts)
    # Products of other sizes are summed in another order: now and then the last bit of bfloat16.
    torch.testing.assert_close(torch.cat(parts), weights.read(name), rtol=2**-7, atol=1e-6)

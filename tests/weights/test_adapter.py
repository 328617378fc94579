"""An adapter's configuration that nothing can be computed with is refused, all of it at once."""

from __future__ import annotations

import json

import pytest
from adapters import make_adapter, make_base
from peft import LoraConfig

from edgeft.artifacts import Adapter
from edgeft.errors import EdgeftError
from edgeft.weights.adapter import AdapterTensors

WRONG = {
    "r": ("x", "no positive number"),
    "lora_alpha": ("32", "no positive number"),
    "rank_pattern": ({"(": 3}, "no regular expression"),
    "alpha_pattern": (3, "no table of positive numbers"),
    "modules_to_save": (3, "no list of names"),
}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    folder = tmp_path_factory.mktemp("adapter")
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
    return make_adapter(make_base("llama", folder / "base"), lora, folder / "adapter")


def test_what_is_wrong_is_said_at_once(adapter: Adapter) -> None:
    path = adapter.path / "adapter_config.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {key: value for key, (value, _) in WRONG.items()}))
    with pytest.raises(EdgeftError) as caught:
        AdapterTensors(adapter)
    path.write_text(whole)
    said = [problem.what for problem in caught.value.problems]
    assert [what.partition(":")[0] for what in said] == list(WRONG)
    assert all(words in what for what, (_, words) in zip(said, WRONG.values(), strict=True))
    assert not AdapterTensors(adapter).problems


def test_a_rank_that_is_missing(adapter: Adapter) -> None:
    path = adapter.path / "adapter_config.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "r"}))
    with pytest.raises(EdgeftError, match="r: None is no positive number"):
        AdapterTensors(adapter)
    path.write_text(json.dumps(whole))

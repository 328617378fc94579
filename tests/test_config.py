"""The configuration: strict, every mistake at once, with its dotted key and a remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edgeft.config import RECORD_SUFFIXES, Config, load_config
from edgeft.config_text import to_toml
from edgeft.errors import EdgeftError, Problem

MINIMAL = '[model]\nbase = "./base"\n[dataset]\ntrain = "train.jsonl"\n'


def write(folder: Path, text: str = MINIMAL) -> Path:
    """Writes a configuration file."""
    path = folder / "edgeft.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str = "", *overrides: str) -> dict[str, Problem]:
    """Returns the problems of the minimal configuration with `text` and `overrides`, by dotted key."""
    path = write(folder, MINIMAL + text)
    with pytest.raises(EdgeftError) as caught:
        load_config(path, overrides)
    return {problem.where.removeprefix(f"{path}: "): problem for problem in caught.value.problems}


def test_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    assert (config.train.lora.rank, config.train.lora.alpha, config.train.learning_rate) == (16, 32, 2e-4)
    assert config.quantize.types == ("Q8_0", "Q4_K_M")
    assert (config.convert.dtype, config.train.device, config.dataset.over_length) == ("f16", "auto", "error")


@pytest.mark.parametrize(
    ("train", "merge", "expected"),
    [
        ("", "", "dequantized"),
        ('method = "qdora"', "", "dequantized"),
        ('method = "lora"', "", "original"),
        ('method = "full"', "", "original"),
        ('lora = { init = "pissa" }', "", "original"),
        ("", 'base = "original"', "original"),
        ("", 'base = "auto"', "auto"),
    ],
)
def test_what_is_merged_into(tmp_path: Path, train: str, merge: str, expected: str) -> None:
    """Unset, it is what the training computed with, where a merged model can have it."""
    config = load_config(write(tmp_path, f"{MINIMAL}[train]\n{train}\n[merge]\n{merge}\n"))
    assert config.merge_base == expected


def test_everything_can_be_set_by_its_default(tmp_path: Path) -> None:
    """What the defaults print as is valid input: a file with every key written out means the same."""
    config = load_config(write(tmp_path))
    again = Config.model_validate({**config.model_dump(), "root": config.root})
    assert again == config


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path)
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(Path("../edgeft.toml"))
    assert config.path(config.dataset.sources[0].path) == tmp_path / "train.jsonl"
    assert config.path("/absolute") == Path("/absolute")
    assert config.path("~/x") == Path.home() / "x"
    assert config.base == str(tmp_path / "base")
    assert config == load_config(path)


def test_a_base_is_a_folder_or_a_hub_id(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    bases = {"local": str(tmp_path / "local"), "./missing": str(tmp_path / "missing"), "org/model": "org/model"}
    for written, resolved in bases.items():
        assert load_config(write(tmp_path), [f"model.base={written}"]).base == resolved


def test_every_mistake_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        [train]
        epochs = -1
        device = "gpu"
        lerning_rate = 1e-4
        [train.lora]
        rnak = 8
        dropout = 1.0
        [quantize]
        types = ["Q4_K_M", "Q4_KM", "Q8"]
        threads = 1
        [quantise]
        threads = 1
        """,
    )
    assert {key: (p.what, p.remedy) for key, p in found.items()} == {
        "train.epochs": ("input should be greater than 0, not -1", ""),
        "train.device": ("input should be 'auto', 'cuda' or 'cpu', not 'gpu'", ""),
        "train.lerning_rate": ("unknown key", "did you mean learning_rate?"),
        "train.lora.rnak": ("unknown key", "did you mean rank?"),
        "train.lora.dropout": ("input should be less than 1, not 1.0", ""),
        "quantize.types.1": ("unknown quantization type 'Q4_KM'", "did you mean Q4_K_M?"),
        "quantize.types.2": ("unknown quantization type 'Q8'", "did you mean Q8_0?"),
        "quantize.threads": ("unknown key", "it is now run.threads"),
        "quantise": ("unknown key", "did you mean quantize?"),
    }


def test_required_keys_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError) as caught:
        load_config(write(tmp_path, "[model]\n"))
    found = {problem.where.rpartition(" ")[2]: problem for problem in caught.value.problems}
    assert found.keys() == {"model.base", "dataset"}
    assert all(problem.what == "this key is required" for problem in found.values())
    assert "Hugging Face hub id" in found["model.base"].remedy
    assert found["dataset"].remedy.startswith("a table with the keys train, evaluation, test,")


@pytest.mark.parametrize(
    ("value", "where", "what", "remedy"),
    [
        ("[{ weight = 2 }]", "dataset.train.0.path", "this key is required", "a file, a folder, or"),
        ('[{ path = "a", wieght = 2 }]', "dataset.train.0.wieght", "unknown key", "weight"),
        ('[{ path = "a", weight = 0 }]', "dataset.train.0.weight", "input should be greater than 0, not 0", ""),
        ("[]", "dataset.train", "tuple should have at least 1 item", ""),
        ("3", "dataset.train", "input should be a valid string, not 3", ""),
    ],
)
def test_what_is_wrong_with_a_list_of_sources(tmp_path: Path, value: str, where: str, what: str, remedy: str) -> None:
    with pytest.raises(EdgeftError) as caught:
        load_config(write(tmp_path, f'[model]\nbase = "b"\n[dataset]\ntrain = {value}\n'))
    (problem,) = caught.value.problems
    assert problem.where.endswith(f" {where}") and problem.what.startswith(what) and remedy in problem.remedy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.batch_size", '"8"'),
        ("train.batch_size", "8.0"),
        ("train.batch_size", "true"),
        ("train.epochs", '"3"'),
        ("train.learning_rate", "inf"),
        ("train.epochs", "nan"),
        ("train.gradient_checkpointing", "1"),
        ("train.lora.targets", '"q_proj"'),
        ("train.lora.targets", "[]"),
        ("quantize.types", "[]"),
        ("quantize.types", "[4]"),
        ("dataset.test", "3"),
        ("dataset.evaluation_fraction", "1"),
        ("train", "3"),
    ],
)
def test_values_are_never_coerced(tmp_path: Path, key: str, value: str) -> None:
    found = problems(tmp_path, "", f"{key}={value}")
    assert all(where.startswith(key) for where in found)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.lora.rank", "8", 8),
        ("train.lora.alpha", "8", 8.0),
        ("train.lora.targets", '["q_proj"]', ("q_proj",)),
        ("quantize.types", '["q4_k_m", "BF16"]', ("Q4_K_M", "BF16")),
        ("train.device", "cpu", "cpu"),
        ("train.device", '"cpu"', "cpu"),
        (" train.device ", " cpu ", "cpu"),
        ("train.gradient_checkpointing", "false", False),
        ("run.directory", "a=b", "a=b"),
        ("parity.thresholds.Q4_K_M", "{mean_kld = 1.0, top1 = 0.5, ppl_ratio = 2.0}", None),
    ],
)
def test_overrides(tmp_path: Path, key: str, value: str, expected: object) -> None:
    config: object = load_config(write(tmp_path), [f"{key}={value}"])
    for name in key.strip().split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    assert config == expected if expected is not None else config


def test_an_override_wins_over_the_file_and_a_later_one_over_an_earlier(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "[train]\nseed = 1\nepochs = 5\n")
    config = load_config(path, ["train.seed=2", "train.seed=3"])
    assert (config.train.seed, config.train.epochs) == (3, 5)


def test_every_bad_override_at_once(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError) as caught:
        load_config(write(tmp_path), ["train.seed", "=3", "model.base.x=1", "train.seed=5"])
    assert [(problem.what, problem.where) for problem in caught.value.problems] == [
        ("'train.seed' is not KEY=VALUE", "--set"),
        ("'=3' is not KEY=VALUE", "--set"),
        ("'base' holds a value and has no keys under it", "--set model.base.x=1"),
    ]


def test_an_override_of_an_unknown_key(tmp_path: Path) -> None:
    found = problems(tmp_path, "", "train.lora.rnk=3", "trian.seed=1")
    assert found["train.lora.rnk"].remedy == "did you mean rank?"
    assert found["trian"].remedy == "did you mean train?"


def test_thresholds_of_single_types(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, MINIMAL + "[parity.thresholds.q4_0]\nmean_kld = 0.5\ntop1 = 0.8\nppl_ratio = 1.5\n")
    )
    assert config.parity.thresholds["Q4_0"].mean_kld == 0.5


def test_mistakes_in_thresholds(tmp_path: Path) -> None:
    """A budget under a name that no file has would never be held to."""
    found = problems(
        tmp_path,
        """
        [parity.thresholds.Q4_KM]
        mean_kld = 0.5
        top1 = 0.8
        ppl_ratio = 1.5
        [parity.thresholds.Q8_0]
        mean_kl = 0.5
        top1 = 1.8
        """,
    )
    assert found["parity.thresholds.Q4_KM"].remedy == "did you mean Q4_K_M?"
    assert found["parity.thresholds.Q8_0.mean_kl"].remedy == "did you mean mean_kld?"
    assert "Kullback-Leibler" in found["parity.thresholds.Q8_0.mean_kld"].remedy
    assert found["parity.thresholds.Q8_0.top1"].what == "input should be less than or equal to 1, not 1.8"
    assert found["parity.thresholds.Q8_0.ppl_ratio"].what == "this key is required"


def test_types_that_cannot_be_made_are_refused_before_the_training(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[quantize]\ntypes = ["Q8_0", "iq2_xs"]').values()
    assert problem.what == "IQ2_XS needs an importance matrix"
    assert problem.remedy


def test_the_root_is_no_key_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'root = "/"\n' + MINIMAL)
    with pytest.raises(EdgeftError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    assert (problem.what, problem.where) == ("unknown key", f"{path}: root")
    assert "root" not in problem.remedy


@pytest.mark.parametrize("content", [b"[model\n", b'[model]\nbase = "a"\n[model]\n', b'x = "\xff"'])
def test_what_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "edgeft.toml"
    path.write_bytes(content)
    with pytest.raises(EdgeftError, match="not valid TOML") as caught:
        load_config(path)
    assert caught.value.problems[0].where == str(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"nowhere\.toml: no such configuration file"):
        load_config(tmp_path / "nowhere.toml")


def test_a_configuration_moves_to_another_folder(tmp_path: Path) -> None:
    text = (
        '[model]\nbase = "./base"\n[dataset]\nevaluation = "held.jsonl"\n'
        'train = [{ path = "a.jsonl" }, { path = "sub/b.jsonl", weight = 0.5 }]\n'
    )
    config = load_config(write(tmp_path, text))
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    moved = load_config(write(folder, to_toml(config, folder)))
    assert [moved.path(source.path) for source in moved.dataset.sources] == [
        tmp_path / "a.jsonl",
        tmp_path / "sub" / "b.jsonl",
    ]
    assert [source.weight for source in moved.dataset.sources] == [1.0, 0.5]
    assert moved.dataset.evaluation is not None
    assert moved.path(moved.dataset.evaluation) == tmp_path / "held.jsonl"
    assert moved.path(moved.run.directory) == config.path(config.run.directory)


@pytest.mark.parametrize("source", ["teknium/OpenHermes-2.5", "owner/name", "owner/v1.5:config@train"])
def test_a_dataset_on_the_hub_may_have_a_dot(tmp_path: Path, source: str) -> None:
    config = load_config(write(tmp_path, f'[model]\nbase = "b"\n[dataset]\ntrain = "{source}"\n'))
    assert config.local_source(source) is None
    (tmp_path / source.partition("@")[0]).mkdir(parents=True)
    assert config.local_source(source) is not None


@pytest.mark.parametrize("ending", (*RECORD_SUFFIXES, ".jsonl.gz", ".JSONL", ".csv.zst"))
def test_a_file_that_is_missing_is_no_dataset_on_the_hub(tmp_path: Path, ending: str) -> None:
    config = load_config(write(tmp_path, '[model]\nbase = "b"\n[dataset]\ntrain = "t"\n'))
    assert config.local_source(f"data/train{ending}") == tmp_path / "data" / f"train{ending}"


def test_what_is_found_from_elsewhere_is_named_from_there(tmp_path: Path) -> None:
    """Paths in the configuration that a run keeps are as seen from the run."""
    text = (
        '[model]\nbase = "./b"\n[dataset]\ntrain = "t.jsonl"\n[imatrix]\ntext = "w.txt"\n[convert]\nconverter = "c"\n'
    )
    kept = tomllib.loads(to_toml(load_config(write(tmp_path, text)), tmp_path / "runs" / "one"))
    assert (kept["imatrix"]["text"], kept["convert"]["converter"]) == ("../../w.txt", "../../c")
    fetched = to_toml(load_config(write(tmp_path, text.replace('"c"', '"fetched"'))), tmp_path / "runs")
    assert tomllib.loads(fetched)["convert"]["converter"] == "fetched"

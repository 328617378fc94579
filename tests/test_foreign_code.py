"""Code of others is never run: neither what lies in the working directory nor what comes with a model."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from oracle import converter_folder
from tiny_run import make_run, write_records

import edgeft
from edgeft.artifacts import GgufFile
from edgeft.cli import main

PACKAGE = Path(edgeft.__file__).parent
HEAVY = (
    "numpy",
    "gguf",
    "torch",
    "llama_cpp",
    "click",
    "jinja2",
    "tokenizers",
    "transformers",
    "safetensors",
    "conversion",
)
STANDARD = ("socket", "struct", "random", "tempfile", "pickle", "selectors", "logging", "threading", "queue", "json")
_HOSTILE = """
import pathlib
with pathlib.Path({ran!r}).open("a") as file:
    file.write(__name__ + "\\n")
raise SystemExit("code of others was run: " + __name__)
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a download may be: a run, a model, and modules with the names of those that edgeft imports."""
    folder = tmp_path_factory.mktemp("hostile")
    make_run(folder, 200)
    write_records(folder / "more.jsonl", 600)
    for name in (*HEAVY, *STANDARD, "edgeft"):
        (folder / f"{name}.py").write_text(_HOSTILE.format(ran=str(folder / "ran.txt")))
    return folder


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip installs as `edgeft`."""
    path = tmp_path_factory.mktemp("bin") / "edgeft"
    path.write_text("from edgeft.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    return path


def call(command: list[str], folder: Path, said: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, with what is said to it as input."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, input=said, timeout=600, check=False
    )


def require_clean(folder: Path) -> None:
    """Fails where code of the folder was run, with the names of its modules."""
    ran = folder / "ran.txt"
    names = ran.read_text().split() if ran.exists() else []
    ran.unlink(missing_ok=True)
    assert names == []


COMMANDS = (
    "data check more.jsonl --model base",
    "doctor",
    "run",
    "convert base --type Q4_K_M --out direct.gguf",
    "quantize run/gguf/run-F16.gguf --type Q8_0 --out q8.gguf",
    "fit run/gguf/run-F16.gguf --model base --adapter run/adapter --tokens run/tokens --max-size 1MB --out fitted.gguf",
    "parity check run/reference/reference.npz q8.gguf",
)


def test_no_command_runs_what_lies_in_the_working_directory(hostile: Path, script: Path) -> None:
    for words in COMMANDS:
        done = call([sys.executable, str(script), *words.split()], hostile)
        require_clean(hostile)
        assert done.returncode in (0, 3), f"{words}: {done.stdout}{done.stderr}"  # 3: a random model passes no gate
        assert "Traceback" not in done.stderr, words


def test_a_conversation_runs_nothing_either(hostile: Path, script: Path, tiny_f32: GgufFile) -> None:
    done = call([sys.executable, str(script), "chat", str(tiny_f32.path), "--max-tokens", "4"], hostile, "hi\n")
    require_clean(hostile)
    assert done.returncode == 0, done.stderr


def test_python_m_edgeft_imports_its_libraries_from_where_they_are_installed(hostile: Path, tmp_path: Path) -> None:
    """With -m alone Python itself imports a few modules from the working directory before edgeft is asked."""
    for name in HEAVY:
        shutil.copy(hostile / f"{name}.py", tmp_path)
    done = call([sys.executable, "-m", "edgeft", "doctor", "-c", str(hostile / "edgeft.toml")], tmp_path)
    require_clean(hostile)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_checkout_that_is_not_installed_finds_its_own_children(tmp_path: Path, tiny_f16: GgufFile) -> None:
    shutil.copytree(PACKAGE, tmp_path / "edgeft", ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "-m", "edgeft", "quantize", str(tiny_f16.path), "--type", "Q8_0", "--out", "q8.gguf"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_function_makes_the_command_of_a_child() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Attribute) and node.attr == "executable"
            assert not named or path.name == "processes.py", f"{path}:{node.lineno}"  # type: ignore[attr-defined]


_MODELING = """
import pathlib
pathlib.Path({ran!r}).write_text(__name__)
from transformers import {base} as Theirs
class Own(Theirs):
    model_type = "own"
"""


def own_code(folder: Path, where: str) -> Path:
    """Makes a model folder want code of its own, in one of its files; returns what the code would write."""
    ran = folder / "ran.txt"
    base = "LlamaConfig" if where == "config.json" else "PreTrainedTokenizerFast"
    (folder / "modeling_own.py").write_text(_MODELING.format(ran=str(ran), base=base))
    settings = json.loads((folder / where).read_text())
    if where == "config.json":
        settings |= {"model_type": "own", "architectures": ["OwnForCausalLM"]}
        settings["auto_map"] = {"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    else:
        settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["modeling_own.Own", None]}}
    (folder / where).write_text(json.dumps(settings))
    return ran


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused_and_not_asked_for(where: str, tmp_path: Path) -> None:
    config = make_run(tmp_path, 40)
    ran = own_code(tmp_path / "base", where)
    data, model = str(tmp_path / "train.jsonl"), str(tmp_path / "base")
    commands = [
        ["data", "preview", data, "--model", model],
        ["parity", "record", model, "--data", data, "--out", str(tmp_path / "reference.npz")],
        ["run", "train", "-c", str(config)],
    ]
    for words in commands:
        done = CliRunner().invoke(main, words, input="y\n" * 100, catch_exceptions=False)
        assert not ran.exists(), words
        said = " ".join(done.output.split())
        assert done.exit_code == 1, f"{words}: {said}"
        assert "[y/N]" not in said
        if words[0] == "run" and "OwnForCausalLM'] cannot be converted" in said:
            continue  # a run asks first whether its model can be converted
        assert "edgeft runs no code that comes with a model" in said, f"{words}: {said}"
        assert "modeling_own.Own" in said and where in said, f"{words}: {said}"


def test_a_model_that_transformers_knows_needs_no_code_of_its_own(tmp_path: Path) -> None:
    make_run(tmp_path, 40)
    ran = own_code(tmp_path / "base", "config.json")
    path = tmp_path / "base" / "config.json"
    known = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | known))
    words = ["parity", "record", str(tmp_path / "base"), "--data", str(tmp_path / "train.jsonl"), "--records", "2"]
    words += ["--positions", "64", "--out", str(tmp_path / "reference.npz")]
    done = CliRunner().invoke(main, words, input="y\n" * 100, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert not ran.exists()


def test_the_fetched_converter_runs_no_code_of_a_model(tmp_path: Path, script: Path) -> None:
    make_run(tmp_path, 1)
    ran = own_code(tmp_path / "base", "tokenizer_config.json")
    words = f"convert base --converter {converter_folder()} --out out.gguf"
    done = call([sys.executable, str(script), *words.split()], tmp_path, "y\n" * 100)
    assert done.returncode == 1, done.stderr
    assert not ran.exists()

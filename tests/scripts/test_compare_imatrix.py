"""The importance matrix of llama.cpp's own tool and ours, side by side."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from compare_imatrix import largest_differences, main

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.imatrix_file import Imatrix, Squares

TOOL = os.environ.get("EDGEFT_LLAMA_IMATRIX", "")


def matrix(factor: float) -> Imatrix:
    squares = Squares(np.array([[factor * 3.0, factor * 4.0]], dtype=np.float32), np.ones(1, dtype=np.float32))
    return Imatrix({"blk.0.attn_q.weight": squares}, ["text"], 1, 512)


def test_how_far_two_matrices_are_apart() -> None:
    assert largest_differences(matrix(1.0), matrix(1.0)) == [0.0]
    assert largest_differences(matrix(1.5), matrix(1.0)) == pytest.approx([0.5])
    with pytest.raises(SystemExit, match="blk"):
        largest_differences(matrix(1.0), Imatrix({}, ["text"], 1, 512))


@pytest.mark.skipif(not TOOL, reason="EDGEFT_LLAMA_IMATRIX does not name llama.cpp's llama-imatrix")
def test_both_are_measured(tiny_checkpoint: Checkpoint, tiny_f32: GgufFile, tmp_path: Path) -> None:
    text, out = tmp_path / "some.txt", tmp_path / "found.json"
    text.write_text("turn on the light in the kitchen and say what the temperature is. " * 200)
    given = [str(tiny_checkpoint.path), str(tiny_f32.path), "--tool", TOOL, "--text", str(text), "--out", str(out)]
    main([*given, "--tokens", "1024", "--their-tokens", "1024", "--threads", "1"])
    found = json.loads(out.read_text())
    assert found["ours"]["tokens"] == found["theirs"]["tokens"] == 1024
    assert found["differences"]["largest"] < 1e-3  # the tool keeps keys and values in F16

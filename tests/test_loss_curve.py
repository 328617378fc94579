"""The losses of a training as a picture and as a line of text."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

from edgeft.loss_curve import curves, loss_curve_svg, sparkline

METRICS = [
    {"step": 10, "loss": 4.0},
    {"step": 10, "eval_loss": 3.5},
    {"step": 20, "loss": 2.0},
    {"step": 30, "loss": math.nan},
    {"step": 40, "eval_loss": 1.0},
]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([2.0], "▁"), ([3.0, 3.0], "▁▁"), ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"), ([4, math.nan, 0], "█▁")],
)
def test_a_sparkline(values: list[float], line: str) -> None:
    assert sparkline(values) == line


def test_a_long_sparkline_is_made_of_means() -> None:
    assert sparkline([0, 2, 6, 8, 14, 16], width=3) == "▁▄█"


def test_curves_leave_out_what_is_no_number() -> None:
    assert curves(METRICS) == {"training": [(10, 4.0), (20, 2.0)], "evaluation": [(10, 3.5), (40, 1.0)]}


def test_the_picture_has_a_line_for_each_loss_in_its_place() -> None:
    picture = ElementTree.fromstring(loss_curve_svg(METRICS, "loss of <run> & more"))
    lines = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in picture.iter(f"{SVG}polyline")
    ]
    assert [len(line) for line in lines] == [2, 2]
    (x_10, y_4), (x_20, y_2) = lines[0]
    (also_x_10, _), (x_40, y_1) = lines[1]
    assert x_10 == also_x_10
    assert x_40 - x_20 == pytest.approx(2 * (x_20 - x_10), abs=0.2)  # places are written with one digit
    assert y_1 - y_2 == pytest.approx((y_2 - y_4) / 2, abs=0.2)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"loss of <run> & more", "step", "training", "evaluation", "0", "4", "40"} <= set(texts)


@pytest.mark.parametrize(
    "metrics", [[], [{"step": 3, "loss": 2.0}], [{"step": 1, "loss": 0.0}, {"step": 2, "loss": 0.0}]]
)
def test_a_picture_of_next_to_nothing(metrics: list[dict[str, float]]) -> None:
    picture = loss_curve_svg(metrics, "loss")
    assert ElementTree.fromstring(picture).tag == f"{SVG}svg"
    assert "nan" not in picture

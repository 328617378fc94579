"""Size against divergence as a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from edgeft.pareto import TradeOff, marks, pareto_axes, pareto_svg

SVG = "{http://www.w3.org/2000/svg}"
FILES = [
    TradeOff("Q4_K_M", 6_000_000, 2e-3, "fixed"),
    TradeOff("<ours> & more", 5_500_000, 2e-4, "fitted"),
    TradeOff("", 5_000_000, 3e-2, "predicted"),
    TradeOff("", 7_000_000, 0.0, "predicted"),
    TradeOff("", 6_000_000, 1e-3, "predicted"),
]


def test_files_are_dots_with_names_and_predictions_a_line() -> None:
    picture = ElementTree.fromstring(pareto_svg(FILES, "a < b"))
    fixed, fitted = picture.findall(f"{SVG}circle")
    assert float(fixed.attrib["cx"]) > float(fitted.attrib["cx"])
    assert float(fixed.attrib["cy"]) < float(fitted.attrib["cy"])
    (line,) = picture.findall(f"{SVG}polyline")
    xs = [float(point.partition(",")[0]) for point in line.attrib["points"].split()]
    assert xs == sorted(xs) and len(xs) == 3
    written = [text.text for text in picture.findall(f"{SVG}text")]
    assert {"Q4_K_M", "<ours> & more", "a < b", "fixed", "fitted", "predicted"} <= set(written)


def test_equal_factors_are_equal_distances() -> None:
    """A decade is as high anywhere."""
    made = pareto_svg([TradeOff(str(n), 10**6, 10.0**-n, "fixed") for n in (1, 2, 3)], "decades")
    ys = [float(circle.attrib["cy"]) for circle in ElementTree.fromstring(made).findall(f"{SVG}circle")]
    assert ys[1] - ys[0] == ys[2] - ys[1] > 0


def test_one_file_and_none_are_pictures_too() -> None:
    for files in ([], FILES[:1]):
        assert ElementTree.fromstring(pareto_svg(files, "few")).tag == f"{SVG}svg"


def test_labels_do_not_hide_one_another() -> None:
    files = [TradeOff(f"type-{n}", 6_000_000 + 5_000 * n, 2e-3 + 1e-4 * n, "fixed") for n in range(3)]
    files += [TradeOff("the smallest", 3_000_000, 1e-2, "fixed"), TradeOff("the largest", 9_000_000, 1e-4, "fitted")]
    axes = pareto_axes(files, (0, 600), (300, 0))
    placed = marks(files, *axes)
    boxes = []
    for one in placed:
        width = 7 * len(one.trade_off.label)
        left = one.label_x - (width if one.anchor == "end" else 0)
        boxes.append((left, one.label_y - 10, left + width, one.label_y))
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and right <= 608
        apart = [right <= o[0] or o[2] <= left or bottom <= o[1] or o[3] <= top for o in boxes[:number]]
        assert all(apart), placed[number]

"""The page in a real Chromium, where there is one: it opens from disk, is clicked through, fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, browsing

from edgeft.parity.page import origin_here, page
from parity.pages import TRAINING, make_checked

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(page(make_checked(folder), origin_here({}), TRAINING), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as started:
        yield started


def test_it_opens_from_disk_and_loads_nothing(browser: Browser, report: Path) -> None:
    browser.show_as(1200, 900)
    browser.open(report)
    assert browser.problems == []  # a refused style or script would be one
    assert browser.requested == [report.as_uri()]
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("document.querySelector('h1').textContent") == "Parity of a <run>"
    assert browser.run("getComputedStyle(document.querySelector('.ladder')).listStyleType") == "none"


def test_a_rung_opens_its_figures(browser: Browser, report: Path) -> None:
    browser.show_as(1200, 900)
    browser.open(report)
    rung = "#file-2 .ladder li:nth-child(9)"
    assert browser.run(f"document.querySelector('{rung} .name').textContent") == "quantization"
    shown = f"document.querySelector('{rung} data[data-figure=\"quantization.mean_kld\"]').checkVisibility()"
    assert browser.run(shown) is False
    browser.click(f"{rung} summary")
    assert browser.run(shown) is True
    browser.click(f"{rung} summary")
    assert browser.run(shown) is False


def test_a_token_tells_its_figures(browser: Browser, report: Path) -> None:
    browser.show_as(1200, 900)
    browser.open(report)
    browser.click("#file-2 article .tokens .t")
    told = browser.run("document.querySelector('#file-2 article .told-token').textContent")
    assert told == browser.run("document.querySelector('#file-2 article .tokens .t').title")
    assert told.startswith("token 1, ") and "KLD" in told
    assert browser.run("document.querySelectorAll('.chosen').length") == 2  # in both columns
    browser.click("#file-2 article .tokens .t:nth-of-type(2)")
    assert browser.run("document.querySelectorAll('.chosen').length") == 2
    assert browser.run("document.querySelector('#file-2 article .told-token').textContent").startswith("token 2, ")


def test_the_picture_of_records_leads_to_their_tokens(browser: Browser, report: Path) -> None:
    browser.show_as(1200, 900)
    browser.open(report)
    assert browser.run("document.querySelector('#file-0 .records').open") is False  # that of a file that passes
    browser.click("#file-0 svg a circle")
    target = browser.run("location.hash")
    assert target.startswith("#file-0-record-")
    assert browser.run("document.querySelector('#file-0 .records').open") is True
    top = browser.run("document.querySelector(location.hash).getBoundingClientRect().top")
    assert -1 < top < 900


def test_links_in_pictures_are_told_to_screen_readers(browser: Browser, report: Path) -> None:
    browser.show_as(1200, 900)
    browser.open(report)
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    links = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "link"]
    assert len([name for name in links if name.startswith("record ")]) == 3 * 5  # the worst of each file
    pictures = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "image"]
    assert "mean KLD of each file" in pictures


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_it_fits_a_screen(browser: Browser, report: Path, width: int) -> None:
    browser.show_as(width, 800)
    browser.open(report)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    smallest = "Math.min(...[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height))"
    assert browser.run(smallest) >= 8.5  # of a line; its letters are two thirds of it


def test_dark_and_light_have_contrast(browser: Browser, report: Path) -> None:
    """WCAG asks for 4.5 between text and what is behind it; both schemes have it, the hottest tokens included."""
    for dark in (False, True):
        browser.show_as(1200, 900, dark=dark)
        browser.open(report)
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (luminance(ground) < 0.1) is dark
        for selector in ("body", ".told", ".status.pass", ".status.fail", "figcaption", ".legend"):
            ink = browser.run(f"getComputedStyle(document.querySelector('{selector}')).color")
            assert contrast(ink, ground) >= 4.5, (dark, selector)
        for level in range(1, 6):
            style = f"getComputedStyle(document.querySelector('.legend .k{level}'))"
            ink, behind = browser.run(f"[{style}.color, {style}.backgroundColor]")
            assert contrast(ink, behind) >= 4.5, (dark, level)


def test_it_is_read_without_scripts(browser: Browser, report: Path) -> None:
    browser.show_as(390, 800, scripts=False)
    browser.open(report)
    found = browser.send("DOMSnapshot.captureSnapshot", computedStyles=[])
    told = [found["strings"][i] for i in found["documents"][0]["layout"]["text"] if i >= 0]  # what is rendered
    for words in ("mean KLD", "quantization", "KLD by position", "The merged model says", "How it was made"):
        assert any(words in text for text in told), words


def luminance(colour: str) -> float:
    """Returns the relative luminance of rgb(r, g, b), as WCAG 2 defines it."""
    values = [float(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

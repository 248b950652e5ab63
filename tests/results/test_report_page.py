"""The report of the main job as a browser shows it: whole, silent, without a network, by mouse and keyboard.

The browser is the Chromium on the PATH; without one all this is skipped, aloud.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from alibench.evaluation import pictures
from alibench.results import report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ABSENT = "no Chromium on the PATH: install the system's package chromium"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=ABSENT)
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
DECODED = "[...document.images].map(image => image.complete && image.naturalWidth > 0)"


@dataclass
class Shown:
    """A page, what its browser complained of, and what it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # root has no sandbox, which containers run tests as
    rights = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=rights)
        yield launched
        launched.close()


@pytest.fixture
def show(browser: Any, quick: Path) -> Iterator[Any]:
    opened = []

    def open_page(**options: Any) -> Shown:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        opened.append(context)
        shown = Shown(context.new_page())
        shown.page.on("console", lambda message: shown.complaints.append(message.text))
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.page.on("request", lambda request: shown.asked.append(request.url))
        shown.page.goto((quick / report.NAME).as_uri())
        return shown

    yield open_page
    for context in opened:
        context.close()


def column(page: Any, number: int) -> list[str]:
    """Return the cells of a column of the first table, as they stand."""
    rows = "[...document.querySelector('table').tBodies[0].rows]"
    script = f"n => {rows}.map(row => row.cells[n].firstChild?.textContent ?? '')"
    return [text.strip() for text in page.evaluate(script, number)]


def test_nothing_is_complained_of_nothing_asked_for_and_every_picture_decoded(show: Any, quick: Path) -> None:
    shown = show()
    assert shown.complaints == []
    assert [url for url in shown.asked if not url.startswith("data:")] == [(quick / report.NAME).as_uri()]
    decoded = shown.page.evaluate(DECODED)
    assert len(decoded) >= 20
    assert all(decoded)
    heights = "[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().height)"
    drawings = shown.page.evaluate(heights)
    assert len(drawings) >= 12
    assert min(drawings) > 50


def test_a_slider_moves_its_picture_by_keyboard(show: Any) -> None:
    page = show().page
    slider = page.locator(".slider").first
    window, knob = slider.locator(".window"), slider.locator("input")
    knob.focus()
    page.keyboard.press("Home")
    seen = [window.screenshot()]
    for step in range(1, pictures.STEPS):
        page.keyboard.press("ArrowRight")
        way = f"{round(100 * step / (pictures.STEPS - 1))} % of the way"
        assert slider.locator("output").inner_text() == way
        seen.append(window.screenshot())
    assert len(set(seen)) == pictures.STEPS  # every step is another picture
    page.keyboard.press("Home")
    assert window.screenshot() == seen[0]
    others = page.locator(".slider").nth(1).locator("output").inner_text()
    assert others == "50 % of the way"  # each moves its own alone


def test_a_table_sorts_up_down_and_back(show: Any) -> None:
    page = show().page
    before = column(page, 0)
    head = page.locator("table").first.locator("thead th").nth(2)

    def numbers() -> list[float]:
        cells = [cell.split(" ")[0] for cell in column(page, 2)]
        found = [float(cell) for cell in cells if cell]
        assert all(cells[: len(found)])  # what is empty comes last
        return found

    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers() == sorted(numbers())
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers() == sorted(numbers(), reverse=True)
    assert len(numbers()) >= 4
    assert sorted(column(page, 0)) == sorted(before)
    assert column(page, 0) != before
    head.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(page, 0) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_it_fits_the_screen_and_can_be_read(viewport: dict[str, int], scheme: str, show: Any) -> None:
    page = show(viewport=viewport, color_scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    for part in ("body", ".note", "figcaption", "figure svg text", "a"):
        assert contrast(page, part) >= 4.5, part  # WCAG 2.2, 1.4.3


def contrast(page: Any, part: str) -> float:
    """Return the contrast of a part's text with the page (WCAG's relative luminance)."""
    script = """part => { const style = getComputedStyle(document.querySelector(part)),
        card = getComputedStyle(document.querySelector('.model')).backgroundColor;
        return [part.includes('svg') ? style.fill : style.color, card]; }"""

    def luminance(colour: str) -> float:
        parts = [int(number) / 255 for number in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted(luminance(colour) for colour in page.evaluate(script, part))
    return (light + 0.05) / (dark + 0.05)


def shows_all_frames(page: Any) -> bool:
    image, window = page.locator(".window img").first, page.locator(".window").first
    box, seen = image.bounding_box(), window.bounding_box()
    natural = image.get_attribute("height"), image.get_attribute("width")
    whole = box["height"] / box["width"] == pytest.approx(float(natural[0]) / float(natural[1]), rel=0.02)
    return whole and seen["height"] >= box["height"] - 1


def test_paper_shows_every_table_and_every_frame(show: Any) -> None:
    page = show().page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every(part => part.open)")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert shows_all_frames(page)
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts_all_frames_are_shown(show: Any) -> None:
    page = show(java_script_enabled=False).page
    assert shows_all_frames(page)
    assert not page.locator(".slider input").first.is_visible()

"""The report in the machine's own Chromium: nothing is asked of the network, nothing overflows, everything can be read."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from monitoring.report.page import Material, report_page
from tests.unit.monitoring import report_world as making

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
SIZES = {"wide": 1280, "phone": 390}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on this machine")

READABLE = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { canvas.fillStyle = '#000'; canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
                          return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const linear = c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = colour => { const [r, g, b] = rgb(colour).map(c => linear(c / 255)); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
                          if (c !== 'rgba(0, 0, 0, 0)') return c; } return 'white'; };
  const told = [];
  const kinds = 'h1, h2, h3, p, .badge, dt, dd, .what, .pill, summary, caption, th, td, li, text.tick';
  for (const e of document.querySelectorAll(kinds)) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(e.closest('svg') ? style.fill : style.color), light(behind(e))];
    const what = `${e.tagName}.${e.getAttribute('class')}: ${e.textContent.trim().slice(0, 40)}`;
    told.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), what]);
  }
  return told;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))  # a fresh profile, gone afterwards
        yield one
        one.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = making.world()
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_page(making.material(world, reference=lambda _: world.reference)), encoding="utf-8")
    return path


def opened(browser: Any, file: Path, *, scheme: str = "light", width: int = 1280) -> tuple[Any, list[str]]:
    """The page, and what it did that it should not: words on the console, requests but for the file itself."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("console", lambda said: faults.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("request", lambda asked: faults.append(f"asked for {asked.url}") if asked.url != file.as_uri() else None)
    page.goto(file.as_uri())
    return page, faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
def test_it_fits_asks_nothing_and_can_be_read(browser: Any, file: Path, scheme: str, width: int) -> None:
    page, faults = opened(browser, file, scheme=scheme, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = "e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, .drawing')"
    assert page.evaluate(f"[...document.querySelectorAll('main *')].filter({beyond}).map(e => e.outerHTML.slice(0, 80))") == []
    boxes = page.evaluate("[...document.querySelectorAll('svg')].map(e => [e.id, e.getBoundingClientRect().toJSON()])")
    assert len(boxes) == 13
    assert [name for name, box in boxes if box["width"] < 250 or box["height"] < 80] == []
    marks = "[...document.querySelectorAll('svg')].map(e => [e.id, e.querySelectorAll('path.line, path.cell, rect.bar').length])"
    assert [name for name, count in page.evaluate(marks) if count < 2] == []
    contrasts = page.evaluate(READABLE)
    assert len(contrasts) > 300
    assert [c for c in contrasts if c[0] < 4.5] == []
    assert faults == []
    page.close()


def test_dark_and_light_are_two_pages(browser: Any, file: Path) -> None:
    found = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, file, scheme=scheme)
        colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.line')).stroke]"
        found.append(page.evaluate(colours))
        page.close()
    assert all(light != dark for light, dark in zip(*found, strict=True))


def test_the_verdict_is_seen_without_scrolling(browser: Any, file: Path) -> None:
    page, _ = opened(browser, file, width=390)
    badge, sentence = (page.locator(f".card {what}").first.bounding_box() for what in (".badge", ".sentence"))
    assert badge["y"] + badge["height"] < 300
    assert sentence["y"] + sentence["height"] < 500
    page.close()


def test_by_keyboard_the_wide_parts_scroll(browser: Any, file: Path) -> None:
    page, _ = opened(browser, file, width=390)
    region = page.get_by_role("region", name="Drift of the champion's columns")
    region.focus()
    assert region.evaluate("e => e.scrollWidth > e.clientWidth && document.activeElement === e")
    # The page's policy forbids what `wait_for_function` would do, so the page waits itself.
    region.evaluate("e => { window.scrolled = new Promise(done => { e.onscroll = () => done(e.scrollLeft); }); }")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.scrolled") > 0
    page.close()


def test_on_paper_it_is_black_on_white_and_nothing_is_hidden_in_a_scrolled_box(browser: Any, file: Path) -> None:
    page, faults = opened(browser, file, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    clipped = "e => e.scrollHeight > e.clientHeight + 1 && getComputedStyle(e).overflowY !== 'visible'"
    assert page.evaluate(f"[...document.querySelectorAll('.scroll')].filter({clipped}).length") == 0
    assert [c for c in page.evaluate(READABLE) if c[0] < 4.5] == []
    assert faults == []
    page.close()


def test_of_nothing_it_is_still_a_page(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "empty.html"
    file.write_text(report_page(Material("m", 0, 3_600_000_000)), encoding="utf-8")
    page, faults = opened(browser, file, width=390)
    assert page.locator("svg").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.get_by_text("Nothing was stored for this model").is_visible()
    assert faults == []
    page.close()

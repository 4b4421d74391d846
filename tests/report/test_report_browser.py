"""The page in a real browser: nothing leaves it, it sorts, it fits a phone, it has a dark side."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import three_samplers, write_run

from lit_maprops.report import make_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
MISSING = "\N{EN DASH}"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    runs = three_samplers(folder / "runs")
    name = "a run with a very long name" * 5 + "averylongwordwithoutanyspace" * 4
    write_run(runs / name, [1, 0, 1], "MAPROPS", seed_everything=12)
    write_run(runs / "cut", [1, 0], "PROPS", finished=False, seed_everything=3)
    for delta in (0.1, 1.0):
        for epsilon in (0.3, 3.0):
            options = {"clip_epsilon": epsilon, "kl_cutoff": delta}
            changes = {"model__behavior__init_args": options, "data__target_batch_size": 32}
            write_run(runs / f"heat{delta}{epsilon}", [1, 0, 0], "MAPROPS", **changes)
    path = folder / "report.html"
    seeds = {
        f"seed_{k}": {f"step_{s}": {"step_count": 100 * s, "win_rate": [50.0 * k * s]} for s in (1, 2)} for k in (0, 1)
    }
    theirs = folder / "theirs.json"
    theirs.write_text(json.dumps({"MatrixGame": {"figure1": {name: seeds for name in ("rec_mappo", "ff_ippo")}}}))
    make_report([runs, theirs]).save(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, page_file: Path) -> Iterator[Any]:
    """Open the page; fails at the end if it logged an error or asked for anything but itself."""
    complaints: list[str] = []
    contexts = []

    def open_page(width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()

        def route(route: Any) -> None:
            if route.request.url == page_file.as_uri() or route.request.url.startswith("data:"):
                route.continue_()
            else:
                complaints.append(f"request: {route.request.url}")
                route.abort()

        page.route("**/*", route)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#run-table tbody tr td:nth-child({number})").all_inner_texts()


def test_every_figure_is_there(visit: Any) -> None:
    page = visit()
    titles = page.locator("figure.drawing h3").all_inner_texts()
    expected = {
        "Success while training", "Share of solved seeds", "Solved share minus on-policy", "IQM of final success",
        "P(improvement) over on-policy", "Sampling error, joint, total variation",
        "Sampling error, per agent, total variation", "Cost", "MAPROPS: solved seeds",
        "MAPROPS: sampling error (joint, total variation)",
    }  # fmt: skip
    assert expected <= set(titles)
    for drawing in page.locator("figure.drawing svg[role=img]").all():
        box = drawing.bounding_box()
        assert box["width"] > 200 and box["height"] > 60 and len(drawing.get_attribute("aria-label")) > 20
    assert page.locator("figure.drawing svg[role=img]").count() == len(titles)
    loaded = "images => images.map(image => image.complete && image.naturalWidth > 0)"
    assert page.locator(".films img").evaluate_all(loaded) == [True] * 4


def test_table_sorts_by_click_and_by_keyboard(visit: Any) -> None:
    page = visit()
    heading = page.locator("#run-table th", has_text=re.compile("^solved"))
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    numbers = [text for text in column(page, 6) if text != MISSING]
    assert numbers == sorted(numbers, key=int) and len(set(numbers)) > 2
    assert column(page, 6)[-1] == MISSING  # the unfinished run
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(page, 6) == [*reversed(numbers), MISSING]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "none"
    assert page.locator("#run-table th", has_text="seeds").get_attribute("aria-sort") == "ascending"


def test_a_phone_shows_all_of_it(visit: Any) -> None:
    page = visit(width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.body.scrollWidth") <= 360
    wide = "all => all.filter(e => e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 80))"
    assert page.locator("main > *, section > *, figure, figure h3, figcaption, svg[role=img]").evaluate_all(wide) == []
    sizes = page.locator("svg[role=img] text").evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getBoundingClientRect().width"
        " / e.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert min(sizes) > 8


def test_labels_do_not_cover_each_other(visit: Any) -> None:
    """Texts of one figure, at both widths."""
    overlap = """svgs => svgs.flatMap(svg => {
      const boxes = [...svg.querySelectorAll("text")].map(e => [e.textContent, e.getBoundingClientRect()]);
      return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
        p.left < q.right - 2 && q.left < p.right - 2 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
        .map(([b]) => a + " | " + b));
    })"""
    for width in (360, 1280):
        assert visit(width).locator("figure.drawing svg[role=img]").evaluate_all(overlap) == []


def test_dark_mode_changes_colors(visit: Any) -> None:
    colors = """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
      getComputedStyle(document.querySelector('svg[role=img] text')).fill,
      getComputedStyle(document.querySelector('svg[role=img] [style*="stroke: var(--s2)"]')).stroke]"""
    light, dark = visit().evaluate(colors), visit(scheme="dark")
    assert all(a != b for a, b in zip(light, dark.evaluate(colors), strict=True))
    dark.locator("#theme").click()
    assert dark.evaluate(colors) == light

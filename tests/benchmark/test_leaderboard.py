"""Rows, intervals and the page: files others add, what is refused, what holds at once, a browser that is content."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from statsmodels.stats.proportion import proportion_confint

from lit_maprops.benchmark.benchmark_file import read_benchmark_file
from lit_maprops.benchmark.cells import cells_of
from lit_maprops.benchmark.comparisons import judge, level_of
from lit_maprops.benchmark.measured import Failed
from lit_maprops.benchmark.page import as_html, as_markdown
from lit_maprops.benchmark.rows import Row, RowFile, as_json, read_row_files, read_rows
from lit_maprops.benchmark.tables import Leaderboard, leaderboard
from lit_maprops.cli.main import main
from lit_maprops.system.errors import ConfigError

FILE = read_benchmark_file()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)
EVIL = '<img src=x onerror="alert(1)">|`*'
ROWS = [
    Row("figure1", "Reinforce", "OnPolicy", 40, solved=31),
    Row("figure1", "Reinforce", "MAPROPS", 40, solved=40),
    Row("stag", "Reinforce", "OnPolicy", 40, solved=40),
    Row("stag", "Reinforce", "MAPROPS", 40, solved=20),
    Row("vmas_simple_spread", "MAPPO", "OnPolicy", 3, returns=(-40.0, -42.0, -41.5)),
    Row("vmas_simple_spread", "MAPPO", "MAPROPS", 3, returns=(-20.0, -22.0)),
    Row("mpe_simple_spread", "MAPPO", "OnPolicy", 1, returns=(-30.0,)),
]


def board(rows: list[Row] = ROWS, **more: Any) -> Leaderboard:
    cells, left_out = cells_of(FILE, ["figure1", "stag", "vmas_simple_spread"], ["OnPolicy", "MAPROPS"], None)
    return leaderboard(FILE, cells, left_out, rows, more.pop("failed", []), [("on", "a machine")], **more)


def row_file(rows: list[Row] = ROWS, by: str = "someone") -> RowFile:
    return RowFile(by, "2026-11-29", "x86_64, 2 cores", "lit_maprops 0.1.0", "", tuple(rows))


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(as_json(FILE, row_file())))
    found = read_rows(path, FILE)
    assert [Row(**{**vars(row), "by": ""}) for row in found.rows] == ROWS
    assert {row.by for row in found.rows} == {"someone"} == {found.by}


def changed(**changes: Any) -> dict[str, Any]:
    """The JSON of ``ROWS`` with keys of the file, or of its first row (``row__``), changed; None takes a key away."""
    content = as_json(FILE, row_file())
    for key, value in changes.items():
        place = content["rows"][0] if key.startswith("row__") else content
        name = key.removeprefix("row__")
        place[name] = value
        if value is None:
            del place[name]
    return content


BAD: dict[str, tuple[Any, str]] = {
    "no JSON": ("hello", "Expecting value"),
    "a list": ([1], "holds no keys and values"),
    "NaN": ('{"rows": [NaN]}', "NaN is no number"),
    "unknown key": (changed(row__sedes=3), "'sedes' (did you mean seeds?)"),
    "code": (changed(python="import os"), "has the key 'python'"),
    "no rows": (changed(rows=[]), "no list of 1 to"),
    "missing": (changed(date=None), "lacks date"),
    "date": (changed(date="yesterday"), "such as 2026-11-29"),
    "version": (changed(version=99), "measure again"),
    "another list": (changed(benchmark="other"), "not of cooperative"),
    "lines": (changed(by="a\nb"), "no short text on one line"),
    "no name": (changed(by=""), "no short text"),
    "task": (changed(row__task="figur1"), "none of the list (did you mean figure1?)"),
    "more solved than seeds": (changed(row__solved=41), "41 of 40 seeds"),
    "a share": (changed(row__solved=0.5), "solved is 0.5"),
    "returns of a task with success": (changed(row__solved=None, row__returns=[1.0]), "judged by solved"),
    "no seeds": (changed(row__seeds=0), "seeds is 0"),
    "true": (changed(row__solved=True), "solved is True"),
    "twice": (changed(rows=as_json(FILE, row_file(ROWS[:1] * 2))["rows"]), "twice"),
}


@pytest.mark.parametrize(("content", "part"), BAD.values(), ids=BAD)
def test_a_bad_file_of_rows_is_one_line(content: Any, part: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError) as error:
        read_row_files(tmp_path, FILE)
    assert part in str(error.value) and "bad.json" in str(error.value) and "\n" not in str(error.value)


def test_committed_rows_are_of_this_list_and_make_the_committed_page(tmp_path: Path) -> None:
    """What a pull request with a file must pass; CONTRIBUTING.md says how to make the page anew."""
    files = read_row_files(ROOT / "leaderboard", FILE)
    assert files and all(len(file.rows) for file in files)
    names = [file.by for file in files]
    assert len(set(names)) == len(names)
    args = ["benchmark", "--page_only", "--rows", str(ROOT / "leaderboard"), "--page", str(tmp_path)]
    assert main([*args, "--runs_dir", str(tmp_path / "none")]) == 0
    for name in ("tables.md", "leaderboard.html"):
        made, committed = ((folder / name).read_text() for folder in (tmp_path, ROOT / "docs/leaderboard"))
        assert SVG.sub("", made) == SVG.sub("", committed), f"{name}: make leaderboard"  # matplotlibs draw differently
    assert not (tmp_path / "none").exists()


def test_intervals_are_the_known_ones_at_the_level_of_all() -> None:
    judged = {(one.row.task, one.row.sampler): one for one in judge(ROWS)}
    low, high = proportion_confint(31, 40, alpha=0.05 / 7, method="wilson")
    figure = judged["figure1", "OnPolicy"].figure
    assert np.allclose([figure.low, figure.high], [low, high], atol=1e-6)
    assert judged["figure1", "OnPolicy"].difference is None
    assert judged["figure1", "MAPROPS"].difference.beats(0) == 1  # type: ignore[union-attr]
    assert judged["stag", "MAPROPS"].difference.beats(0) == -1  # type: ignore[union-attr]
    assert math.isnan(judged["mpe_simple_spread", "OnPolicy"].figure.low)  # a single seed
    assert level_of(3) == pytest.approx(1 - 0.05 / 3)


def test_with_equal_samplers_hardly_any_page_calls_one_better() -> None:
    """Family-wise error: 150 pages of 8 differences between samplers that solve equally often."""
    rng, wrong = np.random.default_rng(0), 0
    names = list(FILE.tasks)[:8]
    shares = rng.uniform(0.1, 0.9, 8)
    for _ in range(150):
        rows = [
            Row(name, "MAPPO", sampler, 16, solved=int(rng.binomial(16, share)))
            for name, share in zip(names, shares, strict=True)
            for sampler in ("OnPolicy", "PROPS")
        ]
        wrong += any(one.difference is not None and one.difference.beats(0) for one in judge(rows))
    assert wrong <= 7  # 5%


def test_the_page_says_what_was_not_run() -> None:
    text = as_markdown(board(failed=[Failed(("stag", "Reinforce", "PROPS"), "it broke")]))
    line = next(line for line in text.splitlines() if line.startswith("| vmas"))
    assert "not run" not in line and "1 of them in NaN" in line
    ippo = text.partition("## IPPO")[2].partition("##")[0]
    assert ippo.count("not run") == 2 and "0%" not in ippo
    assert "2 of 8 cells were not run" in text and "cells have fewer than 10. They say little." in text
    assert "stag Reinforce PROPS failed: it broke" in text
    figure1 = next(line for line in text.splitlines() if line.startswith("| figure1"))
    assert ": better" in figure1 and "40 seeds" in figure1
    # Standings: one better, one worse, in two tasks.
    assert "| MAPROPS | Reinforce | 2 | 1 | 1 | 0 | 2 | 75% | 89% |" in text


def test_others_have_columns_of_their_own() -> None:
    mine = [Row("figure1", "Reinforce", "MySampler", 50, solved=50, by=EVIL)]
    page = board([*ROWS, *mine], notes=[f"{EVIL}: a note"])
    assert f"MySampler ({EVIL})" in page.tables[0].heads
    html, text = as_html(page), as_markdown(page)
    assert "<img" not in html and "onerror=&#34;" in html
    assert not re.search(r"(?<!\\)<img", text)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_a_browser_opens_the_page_without_an_error(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    path = tmp_path / "leaderboard.html"
    path.write_text(as_html(board()))
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 360):
            page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("requestfailed", lambda request: complaints.append(request.url))
            page.goto(path.as_uri())
            assert page.locator("figure svg[role=img]").count() == 4
            assert page.evaluate("document.documentElement.scrollWidth") == width
        browser.close()
    assert not complaints

"""Run folders from anyone, given to ``report``: all of it is text on the page, in a real browser."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hostile_helpers import complaint, run

sys.path.insert(0, str(ROOT / "tests" / "report"))
from synthetic import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
INJECTIONS = [
    "<script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=2>",
    '"><svg onload=window.__pwned=3>',
    "' autofocus onfocus='window.__pwned=4' x='",
    "</style></title></textarea><script>window.__pwned=5</script>",
    "{{ 7 * 7 }}{% for x in [] %}${7*7}",
    "&lt;b&gt; &#60;i&#62;",
    "javascript:window.__pwned=6",
    "<a href='http://127.0.0.1:9/x'><link rel=stylesheet href=//127.0.0.1:9/y>",
    "$\\frac{1}{2}$ $x^2",
]
Change = Callable[[Path], Any]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], Path]:
    """A good run, and one that ``change`` spoils."""
    monkeypatch.chdir(tmp_path)

    def make(change: Change) -> Path:
        write_run(tmp_path / "runs" / "good", [1, 0, 1, 0], seed_everything=1)
        change(write_run(tmp_path / "runs" / "other", [1, 0, 0, 0], "MAPROPS", films=True, seed_everything=2))
        return tmp_path / "runs"

    return make


def configured(change: Callable[[dict[str, Any]], Any]) -> Change:
    def edit(folder: Path) -> None:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        change(config)
        (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))

    return edit


def summarized(**values: Any) -> Change:
    def edit(folder: Path) -> None:
        path = folder / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def replaced(name: str, old: str, new: str) -> Change:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edit


def written(name: str, content: bytes | str) -> Change:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def linked(name: str, target: str) -> Change:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return edit


def piped(name: str) -> Change:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return edit


def behavior(config: dict[str, Any]) -> dict[str, Any]:
    return config["model"]["behavior"]


# What is wrong, and whether the page still has the run.
SPOILED: dict[str, tuple[Change, bool]] = {
    "class_path a list": (configured(lambda c: behavior(c).update(class_path=["x"], init_args=[1])), False),
    "init_args a word": (configured(lambda c: behavior(c).update(init_args="x")), False),
    "options beyond floats": (configured(lambda c: behavior(c)["init_args"].update(kl_cutoff=10**400)), True),
    "n beyond floats": (configured(lambda c: c["data"].update(target_batch_size=10**400)), True),
    "threshold a word": (configured(lambda c: c["model"].update(solved_threshold="x")), False),
    "threshold beyond floats": (configured(lambda c: c["model"].update(solved_threshold=10**400)), True),
    "model a list": (configured(lambda c: c.update(model=[1])), False),
    "a tag": (written("config.yaml", "x: !!python/object/apply:os.system ['touch canary']"), False),
    "nested deeply": (written("config.yaml", "a: " + "{a: " * 3000 + "1" + "}" * 3000), False),
    "a bomb": (written("config.yaml",
    "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1 if i else ''}, *a]\n" for i in range(3000))),
    False),
    "digits": (written("summary.json", '{"seeds": [1], "env_steps": ' + "9" * 5000 + "}"), False),
    "deep summary": (written("summary.json", "[" * 100_000), False),
    "seeds a word": (summarized(seeds="abcd"), False),
    "env steps a word": (summarized(env_steps="x"), False),
    "env steps NaN": (summarized(env_steps=float("nan")), True),
    "env steps beyond floats": (summarized(env_steps=10**400), False),
    "seconds without end": (replaced("metrics.csv", "10.0", "1e308"), True),
    "metrics of steps without end": (replaced("metrics.csv", "400,", "1e308,"), True),
    "a seed without end": (replaced("eval.csv", "400,3,", "400,1e300,"), False),
    "half a seed": (replaced("eval.csv", "400,3,", "400,2.5,"), False),
    "success beyond 1": (replaced("eval.csv", "400,3,0", "400,3,1e300"), False),
    "success below 0": (replaced("eval.csv", "400,3,0", "400,3,-1"), False),
    "random bytes": (written("metrics.csv", bytes(range(256)) * 20), False),
    "a null byte": (written("metrics.csv", "a,\0,b\n1,2,3"), False),
    "a picture that is a script": (written("success.gif", "GIF89a<script>window.__pwned=1</script>"), True),
    "a picture that is no GIF": (written("success.gif",
    "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"), True),
    "a link to elsewhere": (linked("config.yaml", "/etc/passwd"), False),
    "a link to a device": (linked("config.yaml", "/dev/zero"), False),
    "a link to itself": (linked("eval.csv", "eval.csv"), False),
    "a link to nowhere": (linked("summary.json", "/nowhere"), True),
    "a pipe": (piped("eval.csv"), False),
    "a pipe for a film": (piped("success.gif"), True),
    "a loop": (lambda folder: (folder.parent / "loop").symlink_to(folder.parent), True),
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize(("change", "stays"), SPOILED.values(), ids=SPOILED)
def test_one_spoiled_run_costs_no_other(folders: Callable[[Change], Path], change: Change, stays: bool) -> None:
    runs = folders(change)
    code, out, err = run(["report", str(runs), "-o", "report.html"])
    assert code == 0 and len(err.splitlines()) == (not stays)
    assert stays or (err.startswith(f"{runs}/") and ": left out: " in err and err[:-1].isprintable())
    assert ("1 folder left out" not in out) == stays
    assert not Path("canary").exists()


def test_nothing_but_spoiled_runs_is_one_line(folders: Callable[[Change], Path]) -> None:
    runs = folders(written("config.yaml", "\x1b[31m: ["))
    shutil.rmtree(runs / "good")
    assert complaint(["report", str(runs), "-o", "report.html"], "report:") is None
    assert not Path("report.html").exists()


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Injections in every place that a run folder has for text."""
    folder = tmp_path_factory.mktemp("page")
    runs = folder / "runs"
    write_run(runs / "baseline", [1, 0, 1, 0])
    for number, text in enumerate(INJECTIONS):
        name = text.replace("/", "\N{DIVISION SLASH}") + f"\u202e\u200b\t\x1b[31m{number}"
        path = write_run(runs / name, [1, 0, 0.5, 1], "MAPROPS", films=True, seed_everything=number)
        for edit in (
            configured(lambda c, text=text: behavior(c).update(class_path=f"a.{text.replace('.', '')}")),
            configured(lambda c, text=text: behavior(c)["init_args"].update({text: text, "kl_cutoff": text})),
            configured(lambda c, text=text: c["data"]["env"].update(class_path=text.replace(".", ""))),
            configured(lambda c, text=text: c["model"].update({text: [text], "sampling_error": text})),
            configured(lambda c, text=text, number=number: c.update({f"{text}{number}": number, "run_name": text})),
            summarized(warnings=[text], machine=text, config={text: text}, non_finite_seeds=text),
            replaced("metrics.csv", "time/collect", text.replace(",", "").replace('"', "")),
        ):
            edit(path)
        broken = write_run(runs / f"broken{number}{name}", [1, 0])
        written("config.yaml", f"{text}: [")(broken)
        (broken / "success.gif").write_text("GIF8" + text)
    page = folder / "report.html"
    code, _, err = run(["report", str(runs), "-o", str(page)])
    lines = err.splitlines()
    assert code == 0 and len(lines) == len(INJECTIONS)
    assert all(line.startswith(f"{runs}/") and ": left out: " in line and line.isprintable() for line in lines)
    return page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_injections_are_text_in_a_browser(hostile_page: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    requests: list[str] = []
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(hostile_page.as_uri())
        for heading in page.locator("#run-table th button").all():
            heading.click()
        page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        text = page.locator("body").inner_text()
        assert page.evaluate("window.__pwned") is None
        foreign = "a[href^=http], a[href^=javascript], [onerror], [onload], [onfocus], body link, iframe"
        foreign += ", body img:not([src^=data])"
        assert page.locator(foreign).count() == 0
        assert page.locator("script").count() == 2
        browser.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {hostile_page.as_uri()}
    for injection in INJECTIONS:
        assert injection.replace("/", "\N{DIVISION SLASH}") in text


def test_the_fixture_would_be_noticed(hostile_page: Path, tmp_path: Path) -> None:
    """Unescaped, the same texts do run: otherwise the test above proves nothing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium")
    bare = tmp_path / "bare.html"
    bare.write_text("<!doctype html>" + INJECTIONS[0])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(bare.as_uri())
        assert page.evaluate("window.__pwned") == 1
        browser.close()

"""The page as text: headline, escaping, honesty about what is missing, equal input equal page, many runs."""

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import three_samplers, write_run

from lit_maprops.cli.main import main
from lit_maprops.report import films, make_report
from lit_maprops.system.errors import ConfigError

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Counts tags and collects attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def test_headline_says_what_the_intervals_allow(tmp_path: Path) -> None:
    text = Page(make_report([three_samplers(tmp_path / "runs")]).html).text
    assert "OnPolicy solved 1 of 4 seeds (25%, 95% 5% to 70%)." in text
    assert re.search(r"MAPROPS solved 3 of 4 seeds \(75%, 95% 30% to 95%\); difference to OnPolicy \+50 points", text)
    assert "no difference shown" in text and "Fewer than 10 seeds" in text


def test_headline_claims_a_clear_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [0.0] * 20)
    write_run(tmp_path / "b", [1.0] * 20, "MAPROPS")
    text = Page(make_report([tmp_path]).html).text
    assert "difference to OnPolicy +100 points [+78, +100]: more than on-policy." in text
    assert "Fewer than" not in text


def test_one_seed_of_two_hundred_that_fails_is_seen_everywhere(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0] * 199 + [0.0])
    text = Page(make_report([tmp_path]).html).text
    assert "OnPolicy solved 199 of 200 seeds (99.5%, 95% 97% to 99.9%)." in text
    assert "99.5% [97%, 99.9%]" in text and "(100%" not in text and "100% [" not in text
    assert "1.00 [1.00, 1.00]" in text and "stay in the quarters at the ends" in text  # the IQM and what it leaves out


def test_without_on_policy_nothing_is_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "b", [1.0, 0.0], "MAPROPS")
    text = Page(make_report([tmp_path]).html).text
    assert "nothing to compare with" in text and "minus on-policy" not in text


def test_names_and_values_are_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "on_policy", [1, 0])
    # A folder name cannot hold the slash of a closing tag.
    options = {"clip_epsilon": 0.3, "kl_cutoff": 0.05, "note": EVIL}
    write_run(tmp_path / "<script>alert(1)<", [1, 0], "MAPROPS", model__behavior__init_args=options)
    options = {**options, "note": '"><img src=x onerror=alert(1)> $x_{$ \x01'}
    write_run(tmp_path / "$\\frac{", [1, 0], "MAPROPS", model__behavior__init_args=options)
    write_run(tmp_path / "c", [0, 0], EVIL, data__env={"class_path": "a<b>&'\"", "init_args": {}})
    (tmp_path / "<b>foreign").mkdir()
    (tmp_path / "<b>foreign" / "x").write_text("")
    report = make_report([tmp_path])
    clean = Page(make_report([three_samplers(tmp_path / "clean")]).html)
    page = Page(report.html)
    assert len(report.runs) == 4
    assert page.tags["script"] == clean.tags["script"] == 2
    assert page.tags["b"] == 0 and not [a for a in page.attributes if a[0].startswith("on")]
    assert [source for name, source in page.attributes if name == "src" and not source.startswith("data:")] == []
    assert EVIL in page.text and "<b>foreign" in page.text  # shown as text


def test_broken_unfinished_and_foreign_folders_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = three_samplers(tmp_path / "runs")
    write_run(runs / "cut", [1, 0], finished=False, seed_everything=3)
    (write_run(runs / "bad", [1, 0], seed_everything=4) / "eval.csv").write_text("")
    (runs / "foreign").mkdir()
    (runs / "foreign" / "notes").write_text("x")
    output = tmp_path / "report.html"
    assert main(["report", str(runs), "-o", str(output)]) == 0
    said = capsys.readouterr()
    assert "1 unfinished, 2 folders left out" in said.out
    named = [f"{runs / 'bad'}: left out: eval.csv is empty", f"{runs / 'foreign'}: left out: "]
    assert all(any(line.startswith(name) for line in said.err.splitlines()) for name in named)
    text = Page(output.read_text()).text
    assert "2 folders left out" in text and "bad : eval.csv is empty".replace(" :", ":") in text.replace(" :", ":")
    assert "not a run folder" in text and "cut: unfinished" in text.replace(" :", ":")
    assert "OnPolicy solved 1 of 4 seeds" in text  # the unfinished run's seeds are not counted


def test_nan_seeds_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1, float("nan"), 1], non_finite=[2])
    text = Page(make_report([tmp_path]).html).text
    assert "a: seed 1 ended with NaN policies" in text and "OnPolicy solved 2 of 3 seeds" in text


def test_different_tasks_get_their_own_sections(tmp_path: Path) -> None:
    for n in (8, 16, 32):
        for i, sampler in enumerate(("OnPolicy", "MAPROPS")):
            changes = {"data__target_batch_size": n, "joint_tv": n ** -(0.5 + i / 2)}
            write_run(tmp_path / f"{sampler}{n}", [1, 0, i], sampler, **changes)
    text = Page(make_report([tmp_path]).html).text
    assert "each setting of task, learner and sizes is compared by itself" in text
    assert all(f"target_batch_size={n}" in text for n in (8, 16, 32))
    assert "All settings together" in text
    assert "OnPolicy: slope -0.50" in text and "MAPROPS: slope -1.00" in text


def test_settings_without_figures_cost_no_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (8, 16, 32):
        write_run(tmp_path / str(n), [1, 0], data__target_batch_size=n)
    of_figures = []
    monkeypatch.setattr("lit_maprops.report.analysis._results", lambda groups: of_figures.append(groups) or ())
    monkeypatch.setattr("lit_maprops.report.page.MOST_SETTINGS", 2)
    text = Page(make_report([tmp_path]).html).text
    assert [group.runs[0].name for (group,) in of_figures] == ["8", "16"]
    assert "target_batch_size=32" in text  # named all the same


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    runs = three_samplers(tmp_path / "runs")
    first, second = (make_report([runs], made_on="today").html for _ in range(2))
    assert first == second
    other = make_report([runs], made_on="tomorrow").html
    assert [a for a in zip(first.splitlines(), other.splitlines(), strict=True) if a[0] != a[1]] == [
        ('<p class="made">made on today</p>', '<p class="made">made on tomorrow</p>')
    ]


def test_equal_pages_in_another_process(tmp_path: Path) -> None:
    runs = three_samplers(tmp_path / "runs")
    code = (
        "import sys; from lit_maprops.report import make_report; make_report([sys.argv[1]], 'today').save(sys.argv[2])"
    )
    out = str(tmp_path / "other.html")
    subprocess.run([sys.executable, "-c", code, str(runs), out], check=True, env={"PYTHONHASHSEED": "1"})
    assert (tmp_path / "other.html").read_text() == make_report([runs], "today").html


def test_nothing_outside_the_page(tmp_path: Path) -> None:
    html = make_report([three_samplers(tmp_path / "runs")]).html
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert all(link[1:] in ids for link in links if link.startswith("#"))
    assert "#fe00" not in html  # every stand-in color became a variable of the theme


def test_energy_distances_are_shown_like_other_measures(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1, 0], "GaussianAdjustment", measure="energy", joint_tv=0.0625)
    page = Page(make_report([tmp_path]).html)
    for who in ("joint", "per agent"):
        assert f"Sampling error, {who}, energy distance (std)" in page.text
    assert "0.0625" in page.text


def test_many_samplers_are_counted_not_picked(tmp_path: Path) -> None:
    """More samplers than a figure can tell apart: class colors, a count of verdicts, every number in a table."""
    write_run(tmp_path / "base", [0.0] * 10)
    for i in range(60):
        options = {"clip_epsilon": i % 10, "kl_cutoff": i // 10}
        write_run(tmp_path / str(i), [float(i < 3)] * 10, "MAPROPS", model__behavior__init_args=options)
    page = Page(make_report([tmp_path]).html)
    assert "60 samplers are compared with on-policy: 3 solved more, 0 fewer" in page.text
    assert "The first 40 of 61 samplers" in page.text and "The numbers (61 samplers)" in page.text
    assert all(f"MAPROPS (clip_epsilon={i % 10}, kl_cutoff={i // 10})" in page.text for i in range(60))


def test_a_page_of_hundreds_of_samplers_stays_small(tmp_path: Path) -> None:
    """With a hundred options each, and long curves; what has no place is counted."""
    for i in range(150):
        options = {"kl_cutoff": 0.1} | {f"option_{k}": i * k for k in range(1, 101)}
        write_run(
            tmp_path / str(i), [1.0, 0.0], "MAPROPS", rows=40, evaluations=400, model__behavior__init_args=options
        )
    html = make_report([tmp_path]).html
    assert len(html) < 4_000_000
    assert "40 more settings differ and have no column" in html


def test_films_are_embedded_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = three_samplers(tmp_path / "runs")
    (runs / "props" / "success.gif").write_bytes(b"no gif")
    page = Page(make_report([runs]).html)
    assert page.tags["img"] == 4 and "PROPS, success: no GIF file" in page.text
    monkeypatch.setattr(films, "MOST_BYTES", 100)
    page = Page(make_report([runs]).html)
    assert page.tags["img"] == 2 and "films may take" in page.text


def test_common_settings_are_told_once(tmp_path: Path) -> None:
    text = Page(make_report([three_samplers(tmp_path / "runs")]).html).text
    assert text.count("model.learner.learning_rate") == 1
    assert re.search(r"model\.behavior\.clip_epsilon\s*0\.3\s*only MAPROPS, PROPS", text)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "report: the following arguments are required"),
        (["{tmp}/empty"], "no readable run in {tmp}/empty: give folders"),
        (["{tmp}/none"], "{tmp}/none does not exist"),
        (["{tmp}/runs", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["{tmp}/runs", "-o", "{tmp}/no/where.html"], "is no folder: create it first"),
        (["{tmp}/runs", "-o", "{tmp}"], ", a folder: give the name of a file"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    three_samplers(tmp_path / "runs")
    assert main(["report", *(arg.format(tmp=tmp_path) for arg in args)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message.format(tmp=tmp_path) in error
    assert not list(tmp_path.glob("*.html"))


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = three_samplers(tmp_path / "runs")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="matplotlib is missing: pip install "):
        make_report([runs])


def test_a_notebook_shows_it_in_a_frame(tmp_path: Path) -> None:
    report = make_report([three_samplers(tmp_path / "runs")])
    frame = Page(report._repr_html_())
    assert frame.tags == {"iframe": 1}
    assert dict(frame.attributes)["srcdoc"] == report.html


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lit_maprops.cli.main import main; assert main(['report', '--help']) == 0; "
        "assert not {'torch', 'lightning', 'matplotlib', 'scipy', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_many_runs(tmp_path: Path) -> None:
    """100 runs in two settings, 3 samplers and 16 or 17 run seeds each."""
    many_runs(tmp_path / "runs", 100, rows=20, evaluations=4)
    report = make_report([tmp_path / "runs"])
    page = Page(report.html)
    assert len(report.runs) == 100 and not report.left_out
    assert page.tags["tr"] >= 100 and all(f"run_{i}" in page.text for i in (0, 50, 99))


def many_runs(folder: Path, number: int, rows: int = 300, evaluations: int = 30) -> None:
    for i in range(number):
        final = [float((i + seed) % 3 > 0) for seed in range(10)]
        sampler, n = ("OnPolicy", "PROPS", "MAPROPS")[i % 3], (8, 16)[i % 2]
        changes = {"seed_everything": i, "data__target_batch_size": n}
        write_run(folder / f"run_{i}", final, sampler, rows=rows, evaluations=evaluations, **changes)


if __name__ == "__main__":  # make the folder for a measurement by hand
    many_runs(Path(sys.argv[1]), 500)

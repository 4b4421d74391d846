"""Every study has its script, template, page and make target; pages are what the scripts make of the raw tables."""

import csv
import importlib.util
import os
import re
import runpy
import shutil
import string
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from conftest import ROOT

from studies import page

DAYS = r"\d{4}-\d\d-\d\d(?: to \d{4}-\d\d-\d\d)?"
EVIDENCE = ROOT / "docs" / "evidence"
STUDIES = sorted({path.parent.name for path in (ROOT / "studies").glob("*/*") if path.is_file()} - {"__pycache__"})
MAKEFILE = (ROOT / "Makefile").read_text()
RULES = re.findall(r"^([a-z-]+):.*?## (.*)\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)
TARGETS = {name: (says, recipe) for name, says, recipe in RULES}
# Studies whose page can be made of the raw table alone, and how; the other pages hold more than their tables do.
BY_OPTION = ("advantages", "autopsy", "continuous_tasks", "delta_epsilon", "first_visits", "history", "learners")
BY_OPTION += ("many_agents_states", "mujoco_gradients", "samplers", "soak", "sparse_reward", "speed", "tasks")
REBUILT = {name: ["--page"] for name in BY_OPTION} | {
    name: [] for name in ("all_games", "centralization", "random_policies", "until_decided")
}
LONG = ("random_policies",)  # whose ascents take as long as all the others' pages


def run_study(study: str, options: list[str], place: Path) -> None:
    """``python -m studies.X`` in a copy of the repository's studies: in a fork, which has imported torch already."""
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(place)
            for stream in (1, 2):
                os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            for name in [name for name in sys.modules if name.partition(".")[0] == "studies"]:  # the repository's own
                del sys.modules[name]
            sys.path.insert(0, str(place))
            sys.argv = [study, *options]
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            runpy.run_module(f"studies.{study}", run_name="__main__", alter_sys=True)
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)  # nothing of pytest's may run in a fork
    os.waitpid(pid, 0)


def targets_of(study: str) -> list[str]:
    return [name for name, (_, recipe) in TARGETS.items() if re.search(rf"-m studies\.{study}\b", recipe)]


def tables_of(study: str) -> list[Path]:
    return sorted((ROOT / "studies" / study).glob("*.csv"))


def says(study: str) -> str:
    """The page, or its template as long as nobody has measured anything; on one line."""
    page = EVIDENCE / f"{study}.md"
    text = page if page.exists() else ROOT / "studies" / study / "template.md"
    return " ".join(text.read_text().split())


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_whole(study: str) -> None:
    """gpu has neither a page nor a table before it has met a GPU."""
    assert importlib.util.find_spec(f"studies.{study}.__main__") is not None
    assert (ROOT / "studies" / study / "template.md").exists()
    assert (EVIDENCE / f"{study}.md").exists() == (ROOT / "studies" / study / f"{study}.csv").exists()
    assert (EVIDENCE / f"{study}.md").exists() or study == "gpu"


@pytest.mark.parametrize("study", STUDIES)
def test_the_page_links_to_every_raw_table(study: str) -> None:
    for table in tables_of(study):
        assert f"]({os.path.relpath(table, EVIDENCE)})" in says(study)


@pytest.mark.parametrize("study", STUDIES)
def test_one_target_measures_a_study_and_its_page_names_it(study: str) -> None:
    (target,) = targets_of(study)
    assert f"docs/evidence/{study}.md" in TARGETS[target][0]
    assert re.search(rf"make {target}\b(?!-)", says(study))


@pytest.mark.parametrize("page", sorted(EVIDENCE.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_names_days_machine_and_versions(page: Path) -> None:
    found = re.search(rf"\b{DAYS}\b[^.]*?\bx86_64\b[^.]*?\btorch 2\.\d+\.\d+\+\w+, lit_maprops \d", page.read_text())
    assert found is not None


def test_targets_name_what_there_is() -> None:
    named = {study for _, recipe in TARGETS.values() for study in re.findall(r"studies[./](\w+)", recipe)}
    assert named == set(STUDIES)


def test_all_of_the_evidence_is_one_target() -> None:
    """Less what is about a machine: its speed, half an hour of it, its GPU."""
    asked = subprocess.run(["make", "-n", "evidence"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"-m studies\.(\w+)", asked)) == set(STUDIES) - {"speed", "soak", "gpu"}
    assert "--keep-going --jobs 2" in asked


def hours_of(says: str) -> float:
    """What a target takes by its own words."""
    words = {"a": 1.0, "an": 1.0, "half": 0.5, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0}
    units = {"hour": 1.0, "hours": 1.0, "minutes": 1 / 60, "minute": 1 / 60}
    found = re.search(r"\(about ([\w ]+)", says)
    assert found, says
    text = found[1].replace("half a ", "half ").replace("half an ", "half ")
    quarters = {"three quarters of an hour": 0.75, "a quarter of an hour": 0.25}
    if text in quarters:
        return quarters[text]
    count, unit, *more = text.split()
    value = (words.get(count) or float(count)) * units[unit]
    return value + {"": 0.0, "and a half": 0.5, "and a quarter": 0.25}.get(" ".join(more), 0.0)


def test_the_time_of_all_of_the_evidence_is_that_of_its_parts() -> None:
    """Two at a time, in make's order, each beginning where the other has ended."""
    ends = [0.0, 0.0]
    asked = subprocess.run(["make", "-n", "evidence"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for study in dict.fromkeys(re.findall(r"-m studies\.(\w+)", asked)):
        (target,) = targets_of(study)
        ends[ends.index(min(ends))] += hours_of(TARGETS[target][0])
    assert hours_of(TARGETS["evidence"][0]) == pytest.approx(max(ends), rel=0.1)
    assert min(ends) > 0.8 * max(ends)  # the longest does not run on alone


def test_only_pages_and_pictures_are_evidence() -> None:
    """And each of them is written by a target: the fault drill's by tests/drill, the others by a study."""
    assert {path.suffix for path in EVIDENCE.iterdir()} == {".md", ".png"}
    promised = {page for says, _ in TARGETS.values() for page in re.findall(r"docs/evidence/(\w+)\.md", says)}
    assert {path.stem for path in EVIDENCE.iterdir()} <= promised


@pytest.mark.parametrize("study", [study for study in STUDIES if (EVIDENCE / f"{study}.md").exists()])
def test_the_page_is_its_template_filled_in(study: str) -> None:
    """Every word outside the fields, in order, so that neither is edited without the other."""
    template, page = (ROOT / "studies" / study / "template.md").read_text(), (EVIDENCE / f"{study}.md").read_text()
    literals = [literal for literal, *_ in string.Formatter().parse(template)]
    place = 0
    for literal in literals:
        found = page.find(literal, place)
        assert found >= 0, literal
        place = found + len(literal)
    assert page.startswith(literals[0])
    assert page.endswith(literals[-1])


def without_occasion(page: Path) -> str:
    """Less the date and the machine behind it."""
    text, count = re.subn(rf"on {DAYS} \([^;)]*", "", page.read_text())
    assert count == 1
    return text


@pytest.mark.parametrize(
    "study", [pytest.param(s, marks=[pytest.mark.slow] * (s in LONG)) for s in REBUILT], ids=list(REBUILT)
)
def test_the_raw_table_gives_the_page(study: str, tmp_path: Path) -> None:
    """Byte for byte, by the command a user gives, where there are no runs; the table stays as it is."""
    for module in ("lit_maprops.module", "matplotlib.figure"):  # once for all forks
        importlib.import_module(module)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    (tmp_path / "docs" / "evidence").mkdir(parents=True)
    run_study(study, REBUILT[study], tmp_path)
    page = tmp_path / "docs" / "evidence" / f"{study}.md"
    said = (tmp_path / "said").read_text()
    assert page.exists(), said  # soak ends with 1, since its page says that something grows
    assert without_occasion(page) == without_occasion(EVIDENCE / page.name)
    for table in tables_of(study):
        assert (tmp_path / table.relative_to(ROOT)).read_bytes() == table.read_bytes()


SAMPLERS = "OnPolicy, stratified", "MAPROPS"


def test_the_gpu_study_writes_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CPU in the GPU's place, and little of everything; the ratios are those of the raw table."""
    gpu, page = (importlib.import_module(name) for name in ("studies.gpu.__main__", "studies.page"))
    monkeypatch.setattr(page, "page_of", lambda study: tmp_path / "page.md")
    monkeypatch.setattr(page, "table_of", lambda study: tmp_path / "table.csv")
    for name, value in {"BATCH": 16, "CASE_SECONDS": 0.0, "SAMPLERS": {k: gpu.SAMPLERS[k] for k in SAMPLERS}}.items():
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(gpu.graphs, "FAILED", {"target updates": "out of memory"})
    gpu.study("cpu", "none", (2, 3), 1e6, "passed")
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    text = (tmp_path / "page.md").read_text()
    assert (
        "GPU: none" in text and ": passed." in text and "target updates could not be recorded (out of memory)" in text
    )
    head, _, *lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert [line[:2] for line in lines] == [[sampler, str(seeds)] for sampler in gpu.SAMPLERS for seeds in (2, 3)]
    rates = {(row["sampler"], row["seeds"], row["where"]): row["seeds_per_second"] for row in rows}
    torch_column = head.index("CPU, torch, one thread")
    for sampler, seeds, *cells in lines:
        assert cells[0].startswith("≥ ")  # a single iteration: on a GPU it records
        own, *others = [cell.removeprefix("≥ ") for cell in cells]
        expected = float(rates[sampler, seeds, "GPU"]) / float(rates[sampler, "3", "CPU, torch, one thread"])
        assert float(others[torch_column - 2]) == pytest.approx(expected, rel=0.06, abs=0.06)
        assert float(own) == pytest.approx(float(rates[sampler, seeds, "GPU"]), rel=0.006)
    assert all(row["seconds"] and float(row["seconds"]) > 0 for row in rows)


def test_the_gpu_study_leaves_out_what_no_time_is_left_for() -> None:
    gpu = importlib.import_module("studies.gpu.__main__")
    rows = gpu.measured(gpu.cases_of("cpu", (2,)), -1.0)
    assert {row["remark"] for row in rows} == {"no time was left"} and "no time was left" in gpu.table(rows)


def test_without_a_gpu_the_study_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = importlib.import_module("studies.gpu.__main__")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 0 and capsys.readouterr().out == "no GPU here: nothing to test or to measure\n"


def test_a_page_has_the_dates_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written anew without a measurement it does not become younger, and a new row does not make the others so."""
    table = tmp_path / "studies/some/some.csv"
    table.parent.mkdir(parents=True)
    table.write_text("solved\n1\n")
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(page, "table_of", lambda study: table)

    def git(day: str, *words: str) -> None:
        when = {"GIT_COMMITTER_DATE": f"{day}T12:00:00Z"}
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, env=os.environ | when)

    assert page.measured("some") == page.today()  # no repository
    git("2020-02-03", "init", "-q")
    git("2020-02-03", "add", ".")
    git("2020-02-03", "commit", "-qm", "m")
    assert page.measured("some") == "2020-02-03"
    table.write_text("solved\n1\n2\n")
    assert page.measured("some") == f"2020-02-03 to {page.today()}"
    git("2020-02-05", "commit", "-qam", "m")
    assert page.measured("some") == "2020-02-03 to 2020-02-05"
    table.write_text("seeds,solved\n8,1\n8,2\n")
    assert page.measured("some") == page.today()

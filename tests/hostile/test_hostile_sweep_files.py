"""Sweep files and journals from anyone: one line, no shell, no folder outside the sweep's."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import config_cases
import pytest
from conftest import ROOT
from hostile_helpers import cases, complaint, contents, limited_memory, run
from hypothesis import given
from hypothesis import strategies as st

BASE = """name: toy
method: grid
command: ['${interpreter}', 'toy.py', '${args}']
parameters:
  x: {values: [1]}
"""
SWEEP = ["sweep", "sweep.yaml", "--runs_dir", "runs"]
EVIL = [
    "a b",
    "; touch canary",
    "$(touch canary)",
    "`touch canary`",
    "a\nb",
    "'\"",
    "--x",
    "${args}",
    "${envvar:HOME}",
    "-",
    "",
    "\u202e",
    "|x",
    "&",
    "*",
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A working directory with a program that writes down its arguments."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "toy.py").write_text("import json, sys\nopen('args.json', 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def test_values_arrive_as_they_are(workplace: Path) -> None:
    (workplace / "sweep.yaml").write_text(BASE.replace("[1]", json.dumps(EVIL)))
    assert run([*SWEEP, "--workers", "4"])[0] == 0
    arguments = [json.loads(line) for line in (workplace / "args.json").read_text().splitlines()]
    assert sorted(words[0] for words in arguments) == sorted(f"--x={value}" for value in EVIL)
    assert all(len(words) == 4 for words in arguments)
    assert {path.name for path in workplace.iterdir()} == {"toy.py", "args.json", "sweep.yaml", "runs"}


REFUSED = {
    "a grid of a billion runs": (BASE.replace("[1]",
    str([*range(1000)])) + f"  y: {{values: {[*range(1000)]}}}\n  z: {{values: {[*range(1000)]}}}\n", "1,000,000,000"),
    "a date": (BASE.replace("[1]", "[2026-01-01]"), "quotes"),
    "no date": (BASE.replace("[1]", "[2026-13-01]"), "month"),
    "a tag": (BASE.replace("[1]", "!!python/object/apply:os.system ['touch canary']"), "tag"),
    "itself": (BASE.replace("[1]", "&a [*a]"), "alias"),
    "a name of two lines": (BASE.replace("toy\n", '"a\\nb"\n', 1), "name"),
    "a null byte": (BASE.replace("[1]", '["a\\0b"]'), "null byte"),
    "a word that is a list": (BASE.replace("'toy.py'", "[toy.py]"), "command"),
    "infinite bounds": (BASE.replace("grid", "random").replace("{values: [1]}",
    "{min: -.inf, max: .inf}") + "run_cap: 2\n", "finite"),
    "no keys": ("[]", "no keys"),
    "nothing": ("", "no keys"),
    "bytes": (b"\xff\xfe", "text"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with limited_memory():
        assert complaint(SWEEP, "sweep.yaml") is None
    assert words in run(SWEEP)[2]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """A shipped sweep file with a line or a byte changed."""
    content = draw(st.sampled_from(sorted((ROOT / "sweeps").glob("*.yaml")))).read_bytes()
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(content)))
        return content[:place] + draw(st.binary(max_size=3)) + content[place + draw(st.integers(0, 40)) :]
    lines = [line.split("#")[0] for line in content.decode().splitlines()]
    place = draw(st.sampled_from([i for i, line in enumerate(lines) if line.strip()]))
    head, mark, _ = lines[place].partition(":")
    lines[place] = f"{head}{mark} {draw(config_cases.VALUES)}" if mark else f"  - {draw(config_cases.VALUES)}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@cases(300)
@given(content=edited())
def test_mutated_files(workplace: Path, content: bytes) -> None:
    """Read, checked and its first run proposed; nothing is started."""
    from lit_maprops.sweep import scheduler

    (workplace / "sweep.yaml").write_bytes(content)
    before = set(contents(workplace))
    with pytest.MonkeyPatch.context() as patch, limited_memory():
        patch.setattr(scheduler.Scheduler, "run", lambda self: None)
        wrong = complaint([*SWEEP, "--max_runs", "2"], "sweep.yaml")
    assert wrong is None, f"{content.decode('utf-8', 'replace')}: {wrong}"
    assert all(name.startswith("runs/") for name in set(contents(workplace)) - before)


def entry(journal: dict[str, Any]) -> dict[str, Any]:
    return journal["runs"][0]


JOURNALS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a path as id": lambda journal: entry(journal).update(id="../../mine", state="waiting"),
    "another folder as id": lambda journal: entry(journal).update(id=f"{Path.cwd()}/mine", state="running"),
    "a number as id": lambda journal: entry(journal).update(id=3),
    "an odd state": lambda journal: entry(journal).update(state="odd"),
    "no state": lambda journal: entry(journal).update(state=None),
    "no parameters": lambda journal: entry(journal).update(parameters=None, state="waiting"),
    "odd parameters": lambda journal: entry(journal).update(parameters=3),
    "a flag of its own": lambda journal: entry(journal).update(parameters={"x": 1, "trust": "evil"}, state="waiting"),
    "a value of its own": lambda journal: entry(journal).update(parameters={"x": "evil.Evil"}, state="waiting"),
    "another key": lambda journal: entry(journal).update(other=3),
    "odd runs": lambda journal: journal.update(runs=3),
    "a list": lambda journal: journal.update(sweep=[1]),
    "nothing": lambda journal: journal.update(sweep=None),
    "odd sweep": lambda journal: journal["sweep"].update(parameters=3),
}


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished sweep and a folder of the user's beside it; returns the journal."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text("")
    (tmp_path / "sweep.yaml").write_text(BASE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert run(SWEEP)[0] == 0
    return tmp_path / "runs" / "toy" / "sweep.json"


@pytest.mark.parametrize("change", JOURNALS.values(), ids=JOURNALS)
def test_journals_that_say_something_else(swept: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A run that was interrupted is cleared before it starts anew: its id must not name another folder."""
    journal = json.loads(swept.read_text())
    change(journal)
    swept.write_text(json.dumps(journal))
    before = contents(tmp_path)
    assert complaint(SWEEP, "sweep.json") is None
    assert run(SWEEP)[0] == 2
    assert contents(tmp_path) == before


def test_damaged_journals(swept: Path) -> None:
    content = swept.read_bytes()
    cuts = [content[:length] for length in random.Random(0).sample(range(len(content) - 3), 15)]
    for damaged in (
        *cuts,
        b"[]",
        b"null",
        b"\xff\x00",
        b"[" * sys.getrecursionlimit() * 5,
        content.replace(b'"', b"'"),
    ):
        swept.write_bytes(damaged)
        assert complaint(SWEEP, "sweep.json") is None
        assert run(SWEEP)[0] == 2
        assert swept.read_bytes() == damaged

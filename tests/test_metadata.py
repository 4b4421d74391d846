"""What is said about the package beside its code: citation, workflow, version, links."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import lit_maprops
from lit_maprops.cli.program import program as started

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = ".github/workflows/ci.yml"


@pytest.mark.parametrize(("schema", "file"), [("citation-file-format", "CITATION.cff"), ("github-workflows", WORKFLOW)])
def test_files_follow_their_schema(schema: str, file: str) -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    subprocess.run([checker, "--builtin-schema", f"vendor.{schema}", ROOT / file], check=True)


def test_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == lit_maprops.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    [paper] = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Corrado", "Hanna"]
    assert paper["url"] == PROJECT["urls"]["Paper"]


def test_workflow_runs_what_exists() -> None:
    jobs = yaml.safe_load((ROOT / WORKFLOW).read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run", "make test-newest"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert "\ntest-newest:" in (ROOT / "Makefile").read_text()


def test_the_program_has_a_name() -> None:
    [program] = entry_points(group="console_scripts", name="lit-maprops")
    assert program.load() is started

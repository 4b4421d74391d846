"""The wheel and the sdist in dist/ (`make package` builds them): what they hold, and the program from the wheel alone.

The wheel is installed in an environment of its own. The other packages come from the environment of the tests, whose
own lit_maprops, an editable one, is out of reach there: a path of a .pth file is searched, its .pth files are not read.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT

SHIPPED = {f"lit_maprops/{folder}/{path.name}" for folder in ("conf", "sweeps") for path in (ROOT / folder).iterdir()}
SMALL = ["--model.num_seeds", "2", "--model.total_env_steps", "64", "--wandb", "disabled"]


def built(suffix: str) -> Path:
    [path] = (ROOT / "dist").glob(f"lit_maprops-*{suffix}")
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel."""
    home = tmp_path_factory.mktemp("wheel") / "venv"
    venv.create(home, symlinks=True)
    [packages] = home.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", home / "bin/python"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", built(".whl")], check=True)
    return home


def run(installed: Path, folder: Path, program: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """A program of the environment, in a folder outside the repository."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([installed / "bin" / program, *args], cwd=folder, env=env, capture_output=True, text=True)


def output(installed: Path, folder: Path, *args: str) -> str:
    """What a command prints that must succeed."""
    result = run(installed, folder, "lit-maprops", *args)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_wheel_and_sdist_hold_the_shipped_files_once() -> None:
    wheel = ZipFile(built(".whl")).namelist()
    root = built(".tar.gz").name.removesuffix(".tar.gz")
    with tarfile.open(built(".tar.gz")) as sdist:
        files = {member.name.removeprefix(f"{root}/") for member in sdist if member.isfile()}  # not links
    for names in (wheel, files):
        assert {name for name in names if name.endswith(".yaml")} == SHIPPED
    assert "lit_maprops/py.typed" in wheel
    assert "lit_maprops/report/page.html" in wheel
    assert {name.split("/")[0] for name in wheel if "dist-info" not in name} == {"lit_maprops"}


def test_the_program_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "python", "-c", "import lit_maprops; print(lit_maprops.__file__)").stdout
    assert Path(where.strip()).is_relative_to(installed)
    version = output(installed, tmp_path, "--version").strip()
    assert built(".whl").name.startswith(f"lit_maprops-{version}-")


def test_shipped_files_are_listed_and_printed(installed: Path, tmp_path: Path) -> None:
    listed = output(installed, tmp_path, "conf")
    for name in SHIPPED:
        assert f"  {Path(name).stem} " in listed
    assert output(installed, tmp_path, "conf", "boulderpush") == (ROOT / "conf/boulderpush.yaml").read_text()
    assert output(installed, tmp_path, "conf", "bayes") == (ROOT / "sweeps/bayes.yaml").read_text()


def test_it_trains_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    assert output(installed, tmp_path, "health", "--fit").startswith("healthy: ")
    assert list(tmp_path.iterdir()) == []
    output(installed, tmp_path, "fit", "--config", "matrix_game", "--run_name", "game", *SMALL)
    assert (tmp_path / "runs/game/summary.json").is_file()


def test_a_shipped_sweep_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    text = output(installed, tmp_path, "conf", "no_conflict")
    (tmp_path / "small.yaml").write_text(text + "".join(f"  - {word}\n" for word in SMALL))
    output(installed, tmp_path, "sweep", "small.yaml", "--max-runs", "1")
    assert len(list(tmp_path.glob("runs/no_conflict/*/summary.json"))) == 1
    refused = run(installed, tmp_path, "lit-maprops", "sweep", "no_conflict", "--max-runs", "0")
    assert "--max-runs" in refused.stderr  # which is checked before FILE
    refused = run(installed, tmp_path, "lit-maprops", "sweep", "no_conflict", "--runs-dir", "small.yaml")
    assert "--runs-dir" in refused.stderr  # and FILE before the folder


def test_its_types_are_seen(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text("from lit_maprops.system.errors import check\n\ncheck('yes', 3)\n")
    mypy = [sys.executable, "-m", "mypy", "--python-executable", installed / "bin/python", "user.py"]
    found = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True).stdout
    assert found.count('to "check" has incompatible type') == 2

"""The wheel and the sdist in dist/ (`make package` builds them): what they hold, and the program from the wheel alone.

The wheel is installed in an environment of its own. Of the packages of the tests' environment it sees those that a
plain install brings, by the metadata of all of them: none of an extra, and not the editable lit_maprops.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

SHIPPED = {
    f"lit_maprops/{path.relative_to(ROOT)}"
    for folder in ("conf", "sweeps")
    for path in (ROOT / folder).rglob("*")
    if path.is_file()
}
LIST = "lit_maprops/benchmark/cooperative.yaml"
# Compiled where they run.
KERNELS = {str(path.relative_to(ROOT)) for path in (ROOT / "lit_maprops").rglob("*.[ch]pp")}
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
SMALL = ["--model.num_seeds", "2", "--model.total_env_steps", "64", "--wandb", "disabled"]


def built(suffix: str) -> Path:
    found = list((ROOT / "dist").glob(f"lit_maprops-*{suffix}"))
    assert len(found) == 1, "`make package` builds dist/ and runs these tests"
    return found[0]


def plain_install() -> set[str]:
    """The names at the top of site-packages that the dependencies of lit_maprops bring, and theirs, without extras."""
    seen, names = set(), set()
    waiting = [Requirement("lit_maprops")]
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:  # of another platform
            continue
        if wanted.name != "lit_maprops":
            names |= {file.parts[0] for file in found.files or ()}
        for line in map(Requirement, found.requires or ()):
            if line.marker is None or any(line.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                waiting.append(line)
    return names - {"..", "__pycache__"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and links to what a plain install brings."""
    home = tmp_path_factory.mktemp("wheel") / "venv"
    venv.create(home, symlinks=True)
    [packages] = home.glob("lib/python*/site-packages")
    for name in plain_install():
        (packages / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    pip = [sys.executable, "-m", "pip", "--python", home / "bin/python"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", built(".whl")], env=ALONE, check=True)
    return home


def run(installed: Path, folder: Path, program: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """A program of the environment, in a folder outside the repository."""
    return subprocess.run([installed / "bin" / program, *args], cwd=folder, env=ALONE, capture_output=True, text=True)


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
        assert {name for name in names if name.endswith(".yaml")} == SHIPPED | {LIST}
        assert {name for name in names if name.endswith((".cpp", ".hpp"))} == KERNELS
    assert "lit_maprops/py.typed" in wheel
    pages = ("autopsy/page.html", "benchmark/leaderboard.html", "report/page.html")
    assert {f"lit_maprops/{page}" for page in pages} <= set(wheel)
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


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        ("fit --config continuous_game", "continuous"),
        # The same lines are read in the tests of these environments.
        pytest.param("fit --config vmas_balance", "envs", marks=pytest.mark.slow),
        pytest.param("fit --config smax", "jaxmarl", marks=pytest.mark.slow),
        ("report .", "report"),
        ("sweep no_conflict", "sweeps"),
        ("export --ckpt_path none --output new", "export"),
    ],
)
def test_a_missing_extra_is_one_line(args: str, extra: str, installed: Path, tmp_path: Path) -> None:
    result = run(installed, tmp_path, "lit-maprops", *args.split())
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    # No index has lit_maprops itself: the packages are advised, those that are not there.
    command = line.partition(": pip install ")[2].partition(", or ")[0]
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = {Requirement(text) for text in tomllib.load(file)["project"]["optional-dependencies"][extra]}
    advised = {Requirement(word) for word in shlex.split(command)}
    assert advised and advised <= wanted, line
    assert list(tmp_path.iterdir()) == []


def test_its_types_are_seen(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text("from lit_maprops.system.errors import check\n\ncheck('yes', 3)\n")
    own = "[mypy]\nfollow_imports = skip\n[mypy-lit_maprops.*]\nfollow_imports = normal\n"
    (tmp_path / "mypy.ini").write_text(own)  # whose types alone are asked for: torch's take most of a minute
    mypy = [sys.executable, "-m", "mypy", "--python-executable", installed / "bin/python", "user.py"]
    found = subprocess.run(mypy, cwd=tmp_path, env=ALONE, capture_output=True, text=True).stdout
    assert found.count('to "check" has incompatible type') == 2

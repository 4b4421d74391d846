"""The README's commands run as they stand, made small."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL

from lit_maprops.cli.main import main

README = (ROOT / "README.md").read_text()
SMALLER = {name: options[2:] for name, options in SMALL.items()}  # without their --config


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("python -m lit_maprops")]
    return [shlex.split(line)[3:] for line in lines]


def scripts() -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^python (?!-m).+", README, flags=re.MULTILINE)]


def small_sweep(file: Path) -> None:
    """A copy of the repository's sweep file with two values per parameter and little to do."""
    sweep = yaml.safe_load((ROOT / file.relative_to(file.parent.parent)).read_text())
    for parameter in sweep["parameters"].values():
        parameter["values"] = parameter["values"][:2]
    steps = 4 * 64
    sweep["command"] += ["--model.num_seeds=2", f"--model.total_env_steps={steps}", "--data.target_batch_size=64"]
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(sweep))


def test_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    for args in commands():
        small: list[str] = []
        if args[0] == "sweep":
            small_sweep(tmp_path / args[1])
        if args[0] == "fit" and "--config" in args:
            small = SMALLER["MatrixGame" if "matrix_game" in args[2] else "BoulderPush"]
        # What the README says comes last, so that it wins over what makes the run small.
        head = args[:3] if "--config" in args else args[:1]
        assert main([*head, *small, *args[len(head) :]]) == 0, args
    runs = sum("--config" in args for args in commands())
    assert len(list((tmp_path / "runs").rglob("summary.json"))) == runs + 4  # of the sweep
    assert "MAPROPS" in (tmp_path / "report.html").read_text()
    for script in scripts():
        subprocess.run([sys.executable, ROOT / script[0], *script[1:]], check=True)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)

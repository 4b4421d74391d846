"""The README's commands run as they stand, made small."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

from lit_maprops.cli import main

README = (ROOT / "README.md").read_text()
SMALLER = {name: options[2:] for name, options in SMALL.items()}  # without their --config


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "lit_maprops" in line]
    return [shlex.split(line)[3:] for line in lines]


def test_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    for args in commands():
        small: list[str] = []
        if args[0] == "fit" and "--config" in args:
            small = SMALLER["MatrixGame" if "matrix_game" in args[2] else "BoulderPush"]
        # What the README says comes last, so that it wins over what makes the run small.
        head = args[:3] if "--config" in args else args[:1]
        assert main([*head, *small, *args[len(head) :]]) == 0, args
    assert len(list((tmp_path / "runs").iterdir())) == sum("--config" in args for args in commands())


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)

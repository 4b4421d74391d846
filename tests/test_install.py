"""How the Makefile installs: by uv from the places that pip is told of, by pip where that fails."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

install: Any = import_module("bench.install")

LISTED = """:env:.default-timeout='180'
:env:.find-links='/wheels'
global.cert='/certs.crt'
global.extra-index-url='\\nfile:///one\\nhttps://two'
global.find-links='/older'
install.no-index='true'
list.format='columns'
"""


def test_variables_win_over_files_and_other_commands_settings_are_left_out() -> None:
    found = install.settings(LISTED)
    assert found["find-links"] == "/wheels" and found["cert"] == "/certs.crt" and "format" not in found
    assert list(install.options(found)) == [
        *("--index", "file:///one", "--index", "https://two", "--find-links", "/wheels", "--no-index"),
        *("--index-strategy", "unsafe-best-match"),
    ]


def test_without_settings_uv_looks_where_it_always_looks() -> None:
    assert list(install.options(install.settings(""))) == ["--index-strategy", "unsafe-best-match"]


@pytest.mark.parametrize("has_uv", [False, True])
def test_what_uv_does_not_do_pip_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_uv: bool) -> None:
    ran: list[list[str]] = []

    def run(*command: Any, **_: Any) -> bool:
        ran.append([str(word) for word in command])
        return "uv" not in Path(ran[-1][0]).name

    monkeypatch.setattr(install, "run", run)
    monkeypatch.setattr(install, "uv", lambda: tmp_path / "uv" if has_uv else None)
    monkeypatch.setattr(install.venv, "create", lambda folder, with_pip: (folder / "bin").mkdir(parents=True))
    monkeypatch.setattr(install, "HOME", Path(install.sys.prefix))
    assert install.install(tmp_path / "new", "numpy")
    assert [command[0] for command in ran] == [str(tmp_path / "uv")] * has_uv + [str(tmp_path / "new/bin/python")]
    assert ran[-1][-1] == "numpy" and "install" in ran[-1] and (tmp_path / "new/bin").exists()

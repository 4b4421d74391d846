"""What the pages tell readers to type and to write runs as it stands, made small; every page in a folder of its own."""

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pages
import pytest
import yaml
from conftest import ROOT, SMALL
from forked import fork_runs
from pages import PAGES

from lit_maprops.cli.main import main

SMALLER = {name: options[2:] for name, options in SMALL.items()}  # without their --config
SMALLER["BoulderPush"] += ["--model.total_env_steps", "96", "--model.sampling_error_interval", "3"]
SOME_CODE = [page for page in PAGES if pages.commands(page) or pages.scripts(page)]


def run_script(text: str) -> None:
    """``python -c`` in a fork, which has imported everything."""

    def work() -> None:
        sys.modules["__main__"] = ModuleType("__main__")
        exec(text, sys.modules["__main__"].__dict__)

    in_fork(work, text)


def in_fork(work: Callable[[], None], what: str = "") -> None:
    """Work whose imports end with it; it must not raise."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)  # nothing of pytest's may run in a fork
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, what


def small_sweep(file: Path) -> None:
    """A copy of the repository's sweep file with two samplers, one value of all else, and little to do."""
    sweep = yaml.safe_load((ROOT / file.relative_to(file.parent.parent)).read_text())
    for name, parameter in sweep["parameters"].items():
        parameter["values"] = parameter["values"][: 1 + (name == "model.behavior")]
    steps = 4 * 64
    if "until_decided" in sweep:
        sweep["until_decided"] |= {"max_seeds": 2, "block": 2}
    else:
        sweep["command"] += ["--model.num_seeds=2"]
    sweep["command"] += [f"--model.total_env_steps={steps}", "--data.target_batch_size=64"]
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(sweep))


def run(words: list[str], folder: Path) -> None:
    """Run one line; what the page says comes last, so that it wins over what makes the run small."""
    if words[0] != "python":
        return  # make, whose targets are looked at below
    if words[1:3] != ["-m", "lit_maprops"]:
        subprocess.run([sys.executable, ROOT / words[1], *words[2:]], check=True)
        return
    args = words[3:]
    small: list[str] = []
    if args[0] == "sweep":
        small_sweep(folder / args[1])
    if args[0] == "fit" and "--config" in args:
        small = SMALLER["MatrixGame" if "matrix_game" in args[2] else "BoulderPush"]
        if "foraging_1s" in args[2]:  # as few sequences as a small batch has
            small = [*small, "--model.learner.minibatches", "2"]
    elif args[0] == "fit" and "--ckpt_path" not in args:
        small = SMALLER["MatrixGame"]
    head = args[:3] if "--config" in args else args[:1]
    assert main([*head, *small, *args[len(head) :]]) == 0, args


@pytest.mark.parametrize("page", SOME_CODE, ids=pages.name_of)
def test_what_a_page_says_runs_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` does
    fork_runs(monkeypatch)
    for name, text in (pages.modules(ROOT / "docs/how-to/environment.md") | pages.modules(page)).items():
        (tmp_path / name).write_text(text)
    for words in pages.lines(page):
        # What a line imports is trusted by the next one of the same process, which readers do not have.
        in_fork(partial(run, words, tmp_path)) if pages.modules(page) else run(words, tmp_path)
    configs = (yaml.safe_load(path.read_text()) for path in (tmp_path / "runs").rglob("config.yaml"))
    samplers = {config["model"]["behavior"]["class_path"].rpartition(".")[2] for config in configs}
    for text in pages.scripts(page):
        run_script(text)
    asked = pages.commands(page)
    sweeps = sum(args[0] == "sweep" for args in asked)
    fits = sum(args[0] == "fit" and "--ckpt_path" not in args for args in asked)
    fits += sum(text.count("lm.fit(") for text in pages.scripts(page))
    benchmarks = sum(args[0] == "benchmark" and "--page_only" not in args for args in asked)  # of two samplers
    assert len(list((tmp_path / "runs").rglob("summary.json"))) == fits + 2 * (sweeps + benchmarks)
    for args in asked:
        if args[0] == "report":
            text = (tmp_path / args[-1]).read_text()
            assert all(sampler in text for sampler in samplers)


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for block in pages.blocks(page, "bash"):
        for target in re.findall(r"^make (\S+)", block, flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_there_is_something_to_run() -> None:
    assert len(SOME_CODE) > 8
    assert sum(len(pages.commands(page)) for page in SOME_CODE) > 25

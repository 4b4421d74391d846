"""Every shipped configuration loads, is commented, and takes every override the pages name."""

import re
from inspect import signature
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from pages import PAGES, commands, modules

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.run.options import RunCLI
from lit_maprops.targets import LEARNERS

CONFIGS = sorted((ROOT / "conf").glob("*.yaml"))


def named_overrides() -> list[list[str]]:
    """The options of every fit command of the pages, less --config; those of the reader's own modules aside."""
    asked = [args for page in PAGES if not modules(page) for args in commands(page)]
    options = [args[3:] for args in asked if args[:2] == ["fit", "--config"]]
    return [list(one) for one in dict.fromkeys(map(tuple, options)) if one]


def test_the_pages_name_overrides() -> None:
    assert len(named_overrides()) >= 10


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_loads_and_goes_together(config: Path) -> None:
    cli = RunCLI(["--config", str(config)])
    cli.model.prepare(cli.datamodule)
    assert cli.datamodule.iterations > 1


@pytest.mark.every(15)
@pytest.mark.parametrize("options", named_overrides(), ids=" ".join)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_takes_the_overrides_of_the_pages(config: Path, options: list[str]) -> None:
    if any(option.startswith("--data.env") for option in options) and config.stem != "matrix_game":
        pytest.skip("a field of another environment")
    content = yaml.safe_load(config.read_text())
    model, given = content["model"], dict(zip(options[::2], options[1::2], strict=True))
    if int(given.get("--data.target_batch_size", 0)) % content["data"]["behavior_batch_size"]:
        pytest.skip("batches that another file's m divides")
    if "--model.learner.memory" in options and not LEARNERS[model["learner"]["class_path"]].has_memory:
        pytest.skip("a learner that remembers nothing")
    asked = given.get("--model.learner")
    if asked and model["learner"]["init_args"].get("memory") and not LEARNERS[asked].has_memory:
        pytest.skip("a learner that remembers nothing, where there is something to remember")
    behavior = BEHAVIORS[model["behavior"]["class_path"]]
    fields = {option.removeprefix("--model.behavior.") for option in options if "--model.behavior." in option}
    if not fields <= {name for owner in behavior.__mro__ for name in signature(owner.__init__).parameters}:
        pytest.skip("a field of another behavior policy")
    cli = RunCLI(["--config", str(config), *options])
    for flag, value in zip(options[::2], options[1::2], strict=True):
        assert flag.startswith("--")
        if flag == "--config":  # a preset
            continue
        found = cli.config.get(flag.removeprefix("--"))
        found = getattr(found, "class_path", found)
        if found is None:  # a field of a class stands below init_args
            head, _, field = flag.removeprefix("--").rpartition(".")
            found = cli.config.get(f"{head}.init_args.{field}")
        assert str(found).rpartition(".")[2] == value.rpartition(".")[2] or yaml.safe_load(value) == found


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_key_is_commented(config: Path) -> None:
    for line in config.read_text().splitlines():
        key = re.match(r"\s*([\w]+):( \S.*)?$", line)
        if key and key[1] not in ("model", "data", "init_args", "behavior", "learner", "env"):
            assert "#" in line or key[1] == "class_path", f"{config.name}: {line}"

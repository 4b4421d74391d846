"""How the parser of options reads and writes YAML; importing this tells it."""

from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from lit_maprops.system.safe_yaml import dump_yaml, load_yaml

GONE = ("optimizer", "lr_scheduler")  # null in the config.yaml of runs that were started by version 0.1.0 of 2026-11


def load(text: str) -> Any:
    """A configuration file, or a value on the command line."""
    content = load_yaml(text, get_loader("yaml"))
    if content is None and text.lstrip().startswith("#") and "\n" not in text:
        return text  # a value such as --run_name "#1", not a remark
    if isinstance(content, dict) and "model" in content:
        _rename(content["model"])
    if isinstance(content, dict) and "trainer" in content:
        return {key: value for key, value in content.items() if key not in GONE or value is not None}
    return content


def _rename(model: Any) -> None:
    """``behavior.stratified`` of before 2026-11-29, true or false, is ``behavior.draws`` now."""
    behavior = model.get("behavior") if isinstance(model, dict) else None
    given = behavior.get("init_args") if isinstance(behavior, dict) else None
    if isinstance(given, dict) and isinstance(given.get("stratified"), bool):
        given["draws"] = "stratified" if given.pop("stratified") else "independent"


set_loader("omegaconf+", load, exceptions=(yaml.YAMLError,))
set_dumper("omegaconf+", dump_yaml)  # the parser reads again what it has dumped: a text "1e3" must stay one

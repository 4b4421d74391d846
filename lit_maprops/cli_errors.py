"""What the parser complains about, in one line that names the flag and the fix."""

import argparse
import difflib
import re
from typing import Any

import yaml
from omegaconf.errors import OmegaConfBaseException

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import TASKS
from lit_maprops.module import LitMAPROPS
from lit_maprops.targets import LEARNERS

USER_ERRORS = (argparse.ArgumentError, OmegaConfBaseException, yaml.YAMLError)
CLASS_CHOICES: dict[str, dict[str, Any]] = {
    "model.behavior": BEHAVIORS,
    "model.learner": LEARNERS,
    "data.env": TASKS,
}


def one_line(error: Exception) -> str:
    """An error of the parser as one line that names the flag and the fix."""
    text = str(error)
    if "is not in bounds" in text:
        return f"--seed_everything: {text}"
    required = re.search(r"arguments are required: (.+)", text)
    if required:
        flags = required[1].replace(", ", ", --")
        return f"--{flags} is required: give it, or a --config that has it, such as conf/boulderpush.yaml"
    parser_key = re.search(r'[Kk]ey "([\w.]+)"', text)
    unknown = re.search(r"unrecognized arguments: (--[\w.]+)|Option '([\w.]+)' is not accepted", text)
    if unknown:
        name = (unknown[1] or unknown[2]).removeprefix("--")
        prefix = f"{parser_key[1]}." if parser_key and unknown[2] else ""
        return f"--{prefix}{name} is not an option{_did_you_mean(name)}: see --help"
    return _wrong_value(text) or re.sub(r'^Parser key "([\w.]+)":', r"--\1:", " ".join(text.split()))


def _wrong_value(text: str) -> str | None:
    """The line for a class that does not exist, or for a field of a class with a value of the wrong type."""
    for key, choices in CLASS_CHOICES.items():
        if f'"{key}"' not in text:
            continue
        given = re.search(r"dot import path string: (\S+)", text)
        field = re.search(r'given class_path.*[Kk]ey "(\w+)":\s+(Expected .*)', text, flags=re.DOTALL)
        if field:
            return f"--{key}.{field[1]}: {' '.join(field[2].split())}"
        if given or "value: None" in text:
            return f"--{key} is {given[1] if given else 'null'}: choose one of {', '.join(choices)}"
    return None


def _did_you_mean(name: str) -> str:
    known: set[str] = set()
    for kind in [LitMAPROPS, MultiAgentData, *(c for group in CLASS_CHOICES.values() for c in group.values())]:
        known |= set(kind.__init__.__code__.co_varnames)
    field = name.rpartition(".")[2]
    if field in known:
        return " of the chosen class"
    close = difflib.get_close_matches(field, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""

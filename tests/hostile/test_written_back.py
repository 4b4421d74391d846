"""What a run writes about itself reads back as what it was, whatever it is called."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL
from hostile_helpers import cases
from hypothesis import given
from hypothesis import strategies as st

from lit_maprops.cli.main import main
from lit_maprops.run.option_loading import load
from lit_maprops.run.options import RunCLI
from lit_maprops.system.safe_yaml import dump_yaml, load_yaml

# Texts that one version of YAML or another takes for numbers, times, truths, nothing, remarks or structure.
TRICKY = ["25921e05", "1e-4", "1e3", "1e+05", "1_000", "0x1f", "0o17", "017", "0b1", ".5", "5.", ".inf", "-.INF",
          ".nan", "NaN", "inf", "1:30", "2026-11-28", "yes", "No", "on", "off", "y", "n",
          "true", "False", "null", "~", "None", "", " ", " a", "a ", "#1", "a #b", "a: b", "- a", "[1]", "{a: 1}", "&a",
          "*a", "!a", "%a", "@a", "`a`", "'", '"', "\\", "|", ">", "?", "=", "<<", "a\nb", "\t", "\x85", "\u2028", "é",
          "12:30:45"]  # fmt: skip
NUMBERS = st.from_regex(r"[0-9]{1,6}[eE][+-]?[0-9]{1,3}", fullmatch=True)
TEXTS = st.one_of(st.sampled_from(TRICKY), NUMBERS, st.text())
PLAIN = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-(10**18), 10**18), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@cases(2000)
@given(content=st.dictionaries(TEXTS, PLAIN, min_size=1, max_size=4))
def test_both_readers_read_what_was_written(content: dict[str, Any]) -> None:
    text = dump_yaml(content)
    assert same(content, load_yaml(text))
    assert same(content, yaml.safe_load(text))
    assert same(content, load(text))


@pytest.mark.every(2)
@pytest.mark.parametrize("name", ["25921e05", "1e-4", "1e3", "#1", "2026-11-28", "true", "017", "12:30", "0x1f", "a b"])
def test_a_run_of_any_name_is_configured_again(name: str, tmp_path: Path) -> None:
    options = [*SMALL["MatrixGame"], "--runs_dir", str(tmp_path / name), "--run_name", name]
    first = RunCLI(options)
    assert (first.config.run_name, first.config.runs_dir) == (name, str(tmp_path / name))
    (tmp_path / "config.yaml").write_text(dump_yaml(first.resolved_config(name)))
    again = RunCLI(["--config", str(tmp_path / "config.yaml")])
    assert again.config.run_name == name
    assert again.resolved_config(name) == first.resolved_config(name)


def test_such_a_run_is_validated_resumed_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *SMALL["MatrixGame"], "--runs_dir", "1e3", "--run_name", "25921e05"]) == 0
    checkpoint = "1e3/25921e05/checkpoints/last.ckpt"
    assert main(["validate", "--ckpt_path", checkpoint]) == 0
    assert main(["fit", "--ckpt_path", checkpoint, "--model.total_env_steps", "72"]) == 0
    assert main(["export", "--ckpt_path", checkpoint, "--output", "5e1", "--format", "torch"]) == 0
    assert main(["report", "1e3", "-o", "1e4"]) == 0
    assert (tmp_path / "5e1").is_dir() and (tmp_path / "1e4").is_file()

"""A value of a sweep file, of a configuration or of the command line is the value that the environment gets."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hostile_helpers import cases, one_parser
from hypothesis import given
from hypothesis import strategies as st
from test_written_back import TEXTS, same

from lit_maprops.cli.main import main
from lit_maprops.envs import MatrixGame, Task
from lit_maprops.run.option_loading import load
from lit_maprops.run.option_values import ValueParser, marked, read_marked
from lit_maprops.run.options import RunCLI
from lit_maprops.sweep.processes import command_line
from lit_maprops.sweep.proposals import Search
from lit_maprops.sweep.sweep_file import read_sweep_file
from lit_maprops.system.argument_types import Options
from lit_maprops.system.safe_yaml import dump_yaml
from lit_maprops.system.sweep_values import AGENTS, for_environment

BASE = ["--config", str(ROOT / "conf/matrix_game.yaml"), "--data.env", "test_values.Recording", "--run_name", "a"]


class Recording(MatrixGame):
    """A game that keeps what it is given."""

    def __init__(self, payoff: str = "figure1", options: Options | None = None, level: float | None = 1.0) -> None:
        super().__init__(payoff)
        self.given, self.level = options, level


@pytest.fixture(scope="module", autouse=True)
def parser() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        one_parser(patch)
        yield


def given_by(*words: str) -> Any:
    """What the environment gets of these words, which its run's config.yaml says, too."""
    cli = RunCLI([*BASE, *words])
    config = yaml.safe_load(dump_yaml(cli.resolved_config("a")))
    assert same(config["data"]["env"]["init_args"]["options"], cli.datamodule.env.given)
    return cli.datamodule.env.given


# As YAML has it, of which the parser's rules are those of version 1.2 for numbers.
WRITTEN = {
    "null": None, "~": None, "None": "None", "true": True, "False": False, "1e3": 1000.0, "1e-3": 0.001, "7": 7,
    "007": 7, "'007'": "007", '"1e3"': "1e3", "''": "", "[1, null]": [1, None], "[]": [], "{}": {},
    "{a: {b: null}}": {"a": {"b": None}}, '["null", true]': ["null", True], "2026-11-28": "2026-11-28", "-1": -1,
    ".inf": float("inf"), "a b": "a b", "'it''s'": "it's", '"a\\nb"': "a\nb", '["a\\nb"]': ["a\nb"],
}  # fmt: skip


def test_on_the_command_line_and_in_a_configuration(tmp_path: Path) -> None:
    words = [word for n, text in enumerate(WRITTEN) for word in (f"--data.env.options.v{n}", text)]
    expected = {f"v{n}": value for n, value in enumerate(WRITTEN.values())}
    assert same(given_by(*words), expected)
    assert same(given_by(f"--data.env.options={json.dumps(expected | {'v19': None})}"), expected | {"v19": None})
    options = "".join(f"        v{n}: {text}\n" for n, text in enumerate(WRITTEN))
    start = f"data:\n  env:\n    class_path: {BASE[3]}\n    init_args:\n      options:\n"
    (tmp_path / "own.yaml").write_text(start + options)
    # A flag adds to what the configuration has.
    found = given_by("-c", str(tmp_path / "own.yaml"), "--data.env.options.w=null")
    assert same(found, expected | {"w": None})


@pytest.mark.parametrize("text", ["#1", "@a", "a: b: c", "", "-", "[1"])
def test_a_text_that_is_no_value_stays_a_text(text: str) -> None:
    assert given_by(f"--data.env.options.level={text}") == {"level": text}


def test_marks_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *BASE, "--data.env.payoffs.x=null"]) == 2
    assert "--data.env.payoffs" in (err := capsys.readouterr().err)
    assert err.rstrip("\n").isprintable() and "x00" not in err and "\N{REPLACEMENT CHARACTER}" not in err


VALUES = st.recursive(
    st.one_of(
        TEXTS.filter(lambda text: "\0" not in text and "${" not in text),
        st.none(),
        st.booleans(),
        st.integers(-(10**15), 10**15),
        st.floats(-1e299, 1e299),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.from_regex("[a-z]{1,4}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def built() -> Callable[[list[str]], Recording]:
    """Parses and builds the environment alone, which is quick."""
    small = ValueParser(parser_mode="omegaconf+", exit_on_error=False)
    small.add_subclass_arguments(Task, "data.env")

    def build(words: list[str]) -> Recording:
        config = small.parse_args([*BASE[2:4], *marked(words)])
        read_marked(config, load)
        environment: Recording = small.instantiate(config).data.env
        dumped = yaml.safe_load(small.dump(config))["data"]["env"]["init_args"]
        assert same(dumped["options"], environment.given) and dumped.get("level") == environment.level
        return environment

    return build


@cases(80)
@given(values=st.lists(VALUES, min_size=10, max_size=10), level=st.sampled_from([None, 0.2, 3.0]))
def test_a_sweeps_values_arrive(
    tmp_path_factory: pytest.TempPathFactory, built: Callable[[list[str]], Recording], values: list[Any], level: Any
) -> None:
    """From the file through the search and the command line, by our command and by the code of W&B's agent."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args
    from wandb.sdk.lib.config_util import save_config_file_from_dict

    folder = tmp_path_factory.mktemp("sweep")
    flags = {f"data.env.options.v{n}": value for n, value in enumerate(values)} | {"data.env.level": level}
    sweep = {
        "method": "grid",
        "parameters": {flag: {"values": [value]} for flag, value in flags.items()},
        "command": ["${interpreter}", "-m", "lit_maprops", "fit", "${args}"],
    }
    (folder / "sweep.yaml").write_text(dump_yaml(sweep))
    file = read_sweep_file(folder / "sweep.yaml")
    proposal = Search(file, folder).propose([])
    assert proposal is not None and same(flags, proposal)
    args = {flag: {"value": value} for flag, value in proposal.items()}
    save_config_file_from_dict(str(folder / "agent.yaml"), args)
    agents = create_sweep_command_args({"args": args})
    ours = (for_environment(proposal), command_line(file, proposal)[4:])
    agent = {AGENTS: str(folder / "agent.yaml")}
    theirs = [(agent, agents["args"]), (agent, agents["args_no_equals"])]
    written = yaml.safe_load((folder / "agent.yaml").read_text(encoding="utf-8"))
    if not all(same(written[flag]["value"], value) for flag, value in proposal.items()):
        theirs = []  # PyYAML, which W&B writes with, loses some line breaks (U+0085): nobody can read them
    for variables, words in (ours, *theirs):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            environment = built(words)
        assert same(environment.given, {f"v{n}": value for n, value in enumerate(values)})
        assert environment.level == level


def test_null_in_a_sweep_over_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AGENTS, "/no/such/file")  # left by an agent that is gone
    assert (
        RunCLI([*BASE, "--model.learner", "IPPO", "--model.learner.clip_value=null"]).model.learner.clip_value is None
    )
    for name, value in for_environment({"model.learner.clip_value": None, "model.sampling_error": None}).items():
        monkeypatch.setenv(name, value)
    words = ["--model.learner=IPPO", "--model.learner.clip_value=None", "--model.sampling_error=None"]
    model = RunCLI([*BASE, *words]).model
    assert model.learner.clip_value is None and model.sampling_error is None


def test_bounds_as_people_write_them(tmp_path: Path) -> None:
    text = """method: random
command: ['${interpreter}', -m, lit_maprops, fit, '${args}']
parameters:
  model.behavior.learning_rate: {distribution: log_uniform_values, min: 1e-3, max: 2E-1}
  model.behavior.kl_cutoff: {values: [1e-3]}
"""
    (tmp_path / "sweep.yaml").write_text(text)
    file = read_sweep_file(tmp_path / "sweep.yaml")
    proposal = Search(file, tmp_path).propose([])
    assert proposal is not None and 1e-3 <= proposal["model.behavior.learning_rate"] <= 0.2
    assert proposal["model.behavior.kl_cutoff"] == 0.001


@pytest.mark.parametrize("program", ["lit_maprops", "lit-maprops"])
def test_nested_parameters_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"""method: grid
command: ['${{interpreter}}', -m, {program}, fit, '${{args}}']
parameters:
  model: {{parameters: {{num_seeds: {{values: [1, 2]}}}}}}
"""
    Path("sweep.yaml").write_text(text)
    assert main(["sweep", "sweep.yaml"]) == 2
    err = capsys.readouterr().err
    assert "parameters.model " in err and "model.num_seeds" in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]

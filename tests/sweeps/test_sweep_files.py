"""The sweep files: what they say, that the program takes every flag, and one of our runs through the local command."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from lit_maprops.cli.main import main
from lit_maprops.sweep.decided import Trial
from lit_maprops.sweep.decision_file import decision_of
from lit_maprops.sweep.processes import command_line
from lit_maprops.sweep.proposals import Search
from lit_maprops.sweep.results import SUMMARY_NUMBERS, read_summary
from lit_maprops.sweep.sweep_file import SweepFile, read_sweep_file
from lit_maprops.system.shipped import shipped

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
EXPECTED_RUNS = {
    "batch_sizes": 9,
    "bayes": 24,
    "centralization": 9,
    "decide": 24,
    "delta_epsilon": 16,
    "no_conflict": 63,
}


def searching(file: SweepFile) -> Search | Trial:
    """Who proposes the runs of a file."""
    decision = decision_of(file)
    return Search(file, Path("nowhere")) if decision is None else Trial(decision, Path("nowhere"))


def proposals(file: SweepFile) -> list[dict[str, Any]]:
    """Every point of a grid, from the file alone; the first proposal of a search."""
    if file.content["method"] != "grid" or "until_decided" in file.content:
        first = searching(file).propose([])
        assert first is not None
        return [first]
    values = {name: parameter["values"] for name, parameter in sorted(file.content["parameters"].items())}
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_sizes_are_what_the_comment_says(path: Path) -> None:
    file = read_sweep_file(path)
    assert file.name == path.stem
    size = searching(file).size(file.run_cap or 1000)
    assert size == EXPECTED_RUNS[path.stem]
    if file.content["method"] == "grid" and "until_decided" not in file.content:
        assert size == len(proposals(file))
    comment = " ".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert re.search(rf"\b{size} runs\b", comment)
    assert "hour" in comment or "minutes" in comment


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_program_takes_every_flag(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first and the last proposal, parsed and built as ``fit`` does, without training."""
    from lit_maprops.run.options import RunCLI

    monkeypatch.chdir(ROOT)
    file = read_sweep_file(path)
    points = proposals(file)
    for parameters in (points[0], points[-1]):
        words = command_line(file, parameters)
        assert words[2:5] == ["-m", "lit_maprops", "fit"]
        cli = RunCLI(words[5:])
        cli.model.prepare(cli.datamodule)  # the checks that need both, such as m divides n
        config = cli.resolved_config("x")
        for name, value in parameters.items():
            if name != "config":
                assert _setting(config, name) == value, name
        if "config" in parameters:
            expected = yaml.safe_load((ROOT / "conf" / f"{parameters['config']}.yaml").read_text())
            assert config["data"]["env"]["class_path"].endswith("." + expected["data"]["env"]["class_path"])


def _setting(config: Any, name: str) -> Any:
    """The value of a flag; ``model.behavior`` is the name of a class, ``model.behavior.x`` one of its arguments."""
    for key in name.split("."):
        config = config[key] if key in config else config["init_args"][key]
    return config["class_path"].rpartition(".")[2] if isinstance(config, dict) else config


def test_batch_sizes_fit_together() -> None:
    parameters = read_sweep_file(ROOT / "sweeps" / "batch_sizes.yaml").content["parameters"]
    steps = yaml.safe_load((ROOT / "conf" / "boulderpush_reliability.yaml").read_text())["model"]["total_env_steps"]
    for m, n in itertools.product(*(parameters[f"data.{k}_batch_size"]["values"] for k in ("behavior", "target"))):
        assert n % m == 0
        assert steps % n == 0


def test_the_batch_size_sweep_is_what_its_page_shows() -> None:
    """Its runs are the study's of MAPROPS, but for the interval of the sampling error and how the words are put."""
    from lit_maprops.run.options import parsed
    from studies.batch_sizes.__main__ import BATCHES, INTERVALS, RUN_SEED, run_of

    content = read_sweep_file(ROOT / "sweeps" / "batch_sizes.yaml").content
    values = {name: tuple(own["values"]) for name, own in content["parameters"].items()}
    assert values == {"data.behavior_batch_size": INTERVALS, "data.target_batch_size": BATCHES}
    flags = [word for word in content["command"] if word.startswith("--")]
    assert f"--seed_everything={RUN_SEED}" in flags
    n, m = BATCHES[0], INTERVALS[1]
    swept = parsed([*flags, f"--data.target_batch_size={n}", f"--data.behavior_batch_size={m}"])
    run = run_of(n, m, "MAPROPS")
    studied = parsed(["--config", run.config, *run.flags, "--seed_everything", str(run.run_seed)])
    own, others = ({part: cli.config.as_dict()[part] for part in ("model", "data")} for cli in (swept, studied))
    for name in ("sampling_error", "sampling_error_interval"):
        del own["model"][name], others["model"][name]
    assert own == others


def test_all_no_conflict_games_are_swept() -> None:
    from lit_maprops.envs.games.payoffs import no_conflict_games

    games = read_sweep_file(ROOT / "sweeps" / "no_conflict.yaml").content["parameters"]["data.env.payoff"]["values"]
    assert games == [f"no_conflict_{k}" for k in range(1, len(no_conflict_games()) + 1)]


def test_our_program_through_the_local_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped file from any folder, its runs cut short; the metrics a sweep file may name are in the real summary."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(shipped("sweeps")["no_conflict"].read_text())
    content["command"] += ["--model.num_seeds=3", "--model.total_env_steps=64", "--model.eval_episodes=2"]
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["sweep", "short.yaml", "--max_runs", "1"]) == 0
    folder = tmp_path / "runs" / "no_conflict"
    runs = json.loads((folder / "sweep.json").read_text())["runs"]
    assert [entry["state"] for entry in runs] == ["finished"]
    for entry in runs:
        config = yaml.safe_load((folder / entry["id"] / "config.yaml").read_text())
        for name, value in entry["parameters"].items():
            assert _setting(config, name) == value
        assert not (folder / entry["id"] / "wandb").exists()
    known = set().union(*(read_summary(folder / entry["id"]) for entry in runs))
    assert set(SUMMARY_NUMBERS) - known <= {"joint_kl", "joint_energy", "behavior_kl"}  # of other settings

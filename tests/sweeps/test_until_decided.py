"""Sweeps until decided with a toy program: which blocks run, what is decided, what survives a kill, what is refused."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, SMALL, command
from test_sweep_command import entries, refused, run

from lit_maprops.cli.main import main
from lit_maprops.system.tables import read_table
from lit_maprops.trials.decision import Design, looks_of, path

TOY = str(ROOT / "tests" / "sweeps" / "decide_toy.py")
DECISION = {"baseline": 0.5, "max_seeds": 100, "block": 20, "equal_within": 5, "alpha": 0.05}
Sweep = Callable[..., Path]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Write a sweep file over the toy, whose command passes for ours."""

    def write(*flags: str, samplers: Any = (0.5, 0.9, 0.55), **content: Any) -> Path:
        parameters = {"sampler": {"values": list(samplers)}}
        whole = {"name": "toy", "method": "grid", "until_decided": DECISION, "parameters": parameters}
        whole["command"] = ["${interpreter}", TOY, "lit_maprops", "${args}", *flags]
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump(whole | content))
        return file

    return write


def solved(sampler: float, seeds: int) -> int:
    return sum(random.Random(f"{sampler} {seed}").random() < sampler for seed in range(seeds))


def blocks(tmp_path: Path) -> dict[float, list[tuple[int, int]]]:
    found: dict[float, list[tuple[int, int]]] = {}
    for entry in entries(tmp_path):
        parameters = entry["parameters"]
        place = parameters["model.first_seed"], parameters["model.num_seeds"]
        found.setdefault(parameters["sampler"], []).append(place)
    return {sampler: sorted(places) for sampler, places in found.items()}


def expected_looks(sampler: float, most: int = 100) -> list:
    looks = looks_of(most, 20)
    counts = ([solved(p, seeds) for seeds in looks] for p in (sampler, 0.5))
    return path(Design(looks, 2), *counts)


def test_decided_samplers_stop_and_the_others_use_the_budget(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sweep(), "--workers", "2") == 0
    better, unclear = expected_looks(0.9), expected_looks(0.55)
    assert better[-1].verdict == "better" and len(better) < 5 and unclear[-1].verdict == "open"
    whole = [(first, 20) for first in range(0, 100, 20)]
    assert blocks(tmp_path) == {0.5: whole, 0.55: whole, 0.9: whole[: len(better)]}
    err = capsys.readouterr().err
    assert f"0.9: decided: better than 0.5, {100 * better[-1].difference:+.0f} points [" in err
    assert f"{better[-1].seeds} seeds of each" in err
    assert "0.55: undecidable at this budget against 0.5" in err and "100 seeds of each" in err
    before = entries(tmp_path)
    assert run(sweep()) == 0
    assert entries(tmp_path) == before


def test_when_all_is_decided_the_baseline_stops_too(sweep: Sweep, tmp_path: Path) -> None:
    assert run(sweep(samplers=(0.5, 0.05))) == 0
    found = blocks(tmp_path)
    assert len(found[0.5]) == len(found[0.05]) < 5


def test_equal_and_worse_have_their_words(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    decision = DECISION | {"baseline": 1.0, "max_seeds": 500, "block": 250}
    assert run(sweep(samplers=(1.0, 1, 0.999, 0.3), until_decided=decision)) == 0
    err = capsys.readouterr().err
    assert "0.999: decided: equal within 5 points of 1.0, " in err
    assert "0.3: decided: worse than 1.0, " in err


def test_killed_at_random_moments_it_decides_the_same(sweep: Sweep, tmp_path: Path) -> None:
    file = sweep("--pause=0.1")
    args = ["sweep", str(file), "--runs_dir", str(tmp_path / "runs"), "--workers", "2"]
    moments, journal = random.Random(0), tmp_path / "runs" / "toy" / "sweep.json"
    for _ in range(3):
        process = command(*args)
        while not journal.exists():
            time.sleep(0.02)
        time.sleep(moments.uniform(0.2, 1.0))
        process.kill()
        process.wait()
    assert run(file, "--workers", "2") == 0
    whole = [(first, 20) for first in range(0, 100, 20)]
    assert blocks(tmp_path) == {0.5: whole, 0.55: whole, 0.9: whole[: len(expected_looks(0.9))]}
    assert {entry["state"] for entry in entries(tmp_path)} == {"finished"}


def test_a_failed_block_holds_only_its_sampler_up_and_goes_on_when_retried(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sweep("--fail=0.55/20")) == 1
    (failed,) = (entry for entry in entries(tmp_path) if entry["state"] == "failed")
    err = capsys.readouterr().err
    assert f"0.55: not decided against 0.5, {failed['id']} failed, " in err and "0.9: decided: better" in err
    journal = tmp_path / "runs" / "toy" / "sweep.json"
    journal.write_text(journal.read_text().replace("--fail=0.55/20", "--fail=none"))
    assert run(sweep("--fail=none"), "--retry_failed") == 0
    assert "0.55: undecidable at this budget" in capsys.readouterr().err


def test_without_the_metric_it_says_so(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sweep("--mute=true")) == 1
    assert "has no solved_share: its task has no success" in capsys.readouterr().err


def test_the_flag_stands_for_the_field(sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sweep()
    content = yaml.safe_load(file.read_text())
    del content["until_decided"]
    file.write_text(yaml.safe_dump(content))
    assert "until_decided.baseline ({model.behavior: OnPolicy}) is none of the arms" in refused(
        file, capsys, "--until_decided"
    )
    words = ["${interpreter}", TOY, "lit_maprops", "${args}"]
    words = [*words[:3], "--sampler=0.5", words[3]]
    content |= {"parameters": {"model.behavior": {"values": ["OnPolicy", "MAPROPS"]}}, "command": words}
    file.write_text(yaml.safe_dump(content))
    assert run(file, "--until-decided", "--workers", "2") == 0
    assert len(entries(tmp_path)) == 16  # eight looks of 55: both have the same seeds and the same share
    assert {entry["parameters"]["model.num_seeds"] for entry in entries(tmp_path)} == {55}
    assert "until_decided" in refused(file, capsys)  # its runs began with the flag


def test_what_cannot_be_decided_is_one_line(sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*options: str, **content: Any) -> str:
        return refused(sweep(**content), capsys, *options)

    def field(**changes: Any) -> str:
        return line(until_decided=DECISION | changes)

    two = {"sampler": {"values": [0.5, 0.9]}}
    assert "the grid has 1 arm: give 2 to 100" in line(samplers=[0.5])
    assert "until_decided.max_seed is not known (did you mean max_seeds?)" in field(max_seed=3)
    assert "max_seeds is 1.5: give a whole number" in field(max_seeds=1.5)
    assert "block is 200: give a whole number from 2 to 100" in field(block=200)
    assert "equal_within is 0: give points" in field(equal_within=0)
    assert "alpha is 5: give an error rate" in field(alpha=5)
    assert "looks, at most 200 can be made" in field(max_seeds=1000, block=2)
    assert "baseline ({sampler: 0.7}) is none of the arms" in field(baseline=0.7)
    assert "until_decided is 3: give baseline, max_seeds" in line(until_decided=3)
    assert "--max_runs and until_decided cannot go together" in line("--max_runs", "3")
    assert "until_decided and run_cap cannot go together" in line(run_cap=3)
    assert "decides by solved_share" in line(metric={"name": "mean_return", "goal": "maximize"})
    assert "give method: grid" in line(method="random", run_cap=3)
    seeds = two | {"model.num_seeds": {"values": [3]}}
    assert "allots the seeds: leave model.num_seeds out" in line(parameters=seeds)
    tasks = two | {"data.env.payoff": {"values": ["stag", "figure1"]}}
    assert "data.env.payoff has 2 values, runs of different tasks are not compared" in line(parameters=tasks)
    tasks = two | {"config": {"values": ["matrix_game", "coordination"]}}
    assert "config has 2 values, runs of different tasks are not compared" in line(parameters=tasks)
    assert "parameters.y has no values" in line(parameters=two | {"y": {"min": 0, "max": 1}})
    assert "needs runs of this program" in line(command=["${interpreter}", TOY, "${args}"])
    assert not (tmp_path / "runs").exists()


def test_a_foreign_run_in_the_journal_is_refused(sweep: Sweep, tmp_path: Path, capsys: Any) -> None:
    file = sweep(samplers=(0.5, 0.05))
    assert run(file) == 0
    journal = tmp_path / "runs" / "toy" / "sweep.json"
    content = json.loads(journal.read_text())
    content["runs"][0]["parameters"]["trust"] = "evil"
    journal.write_text(json.dumps(content))
    assert "as " in (line := refused(file, capsys)) and "never proposes it" in line


@pytest.mark.every(2)
@pytest.mark.parametrize("env", ["MatrixGame", "BoulderPush"])
def test_seeds_added_later_are_those_asked_for_at_once(env: str, tmp_path: Path) -> None:
    """To the bit, evaluations of every seed: six at once, and two blocks of three."""
    tables = []
    for name, first, number in (("all", 0, 6), ("a", 0, 3), ("b", 3, 3)):
        words = ["--model.num_seeds", str(number), "--model.first_seed", str(first), "--wandb", "disabled"]
        words += ["--runs_dir", str(tmp_path), "--run_name", name]
        assert main(["fit", *SMALL[env], *words]) == 0
        tables.append(read_table(tmp_path / name / "eval.csv"))
    whole, *parts = tables
    later = whole["seed"] >= 3
    for chosen, part in ((~later, parts[0]), (later, parts[1])):
        assert whole.keys() == part.keys() and len(part["seed"]) > 3
        for column, values in part.items():
            assert (whole[column][chosen] == values).all(), column


@pytest.mark.parametrize("words", [["--launcher", "slurm"], ["--take", "2"]])
def test_what_queues_runs_cannot_allot_seeds(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "decide", "--runs_dir", str(tmp_path / "runs"), *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and words[0] in err and "until_decided" in err
    assert not (tmp_path / "runs").exists()

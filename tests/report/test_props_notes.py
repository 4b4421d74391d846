"""PROPS solves more than MA-PROPS: the cause that the figures support, of synthetic runs and of a real game."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic import write_run

from lit_maprops.report import make_report
from lit_maprops.report.analysis import by_setting
from lit_maprops.report.load import load_runs
from lit_maprops.report.props_notes import props_notes

NONE, ALL = [0.0] * 20, [1.0] * 20
# Beside on-policy's 0.2 in every row: MA-PROPS' error, PROPS', joint actions seen and there are.
CASES = {
    "not needed": ((0.1, 0.2, 3.9, 4), "this task does not need joint coordination of the samples."),
    "not needed, of many": ((0.1, 0.19, 5.0, 100_000), "does not need joint coordination"),
    "too many": ((0.199, 0.2, 5.0, 100_000), "D held 5 of 100,000 joint actions in a state (first 5 estimates): too "),
    "a little less": ((0.194, 0.199, 5.0, 16), "too many joint actions for D"),  # 3% off: it does not matter
    "PROPS lowers it more": ((0.15, 0.1, 5.0, 16), "too many joint actions for D"),
    "less than PROPS only": ((0.2, 0.3, 5.0, 16), "too many joint actions for D"),
    "neither": ((0.2, 0.2, 3.9, 4), "although D held 3.9 of 4 joint actions in a state (first 5 estimates): neither"),
    "old runs": ((0.2, 0.2, None, None), "how many joint actions D held is not known."),
    "not ours": ((0.2, 0.2, 3.9, "4"), "is not known."),
    "endless": ((0.2, 0.2, 3.9, 10**400), "is not known."),
}


def notes_of(folder: Path) -> list[str]:
    runs, left_out = load_runs([folder])
    assert not left_out
    (setting,) = by_setting(runs)
    return props_notes(setting)


def pair(folder: Path, joint: list[float], props: list[float], figures: tuple[Any, ...] = CASES["neither"][0]) -> None:
    own, other, seen, there_are = figures
    common: dict[str, Any] = {"rows": 6, "seen": seen, "joint_actions": there_are}
    write_run(folder / "joint", joint, "MAPROPS", joint_tv=own, **common)
    write_run(folder / "props", props, "PROPS", joint_tv=other, **common)


@pytest.mark.every(2)
@pytest.mark.parametrize("case", CASES)
def test_the_figures_name_a_cause(case: str, tmp_path: Path) -> None:
    figures, cause = CASES[case]
    pair(tmp_path, NONE, ALL, figures)
    [note] = notes_of(tmp_path)
    assert note.startswith("PROPS solved more seeds than MAPROPS: +100 points [+78, +100]. MAPROPS took ")
    assert cause in note
    assert note in make_report([tmp_path]).html.replace("&#39;", "'")


def test_both_errors_are_told_beside_those_of_on_policy(tmp_path: Path) -> None:
    pair(tmp_path, NONE, ALL, (0.1, 0.25, 3.9, 4))
    assert (
        "(joint_tv: MAPROPS 0.1 beside on-policy's 0.2, \N{MINUS SIGN}50%, PROPS 0.25 beside " in notes_of(tmp_path)[0]
    )


@pytest.mark.parametrize(("joint", "props"), [(ALL, NONE), (ALL, ALL), ([0.0] * 2, [1.0, 0.0])])
def test_without_a_difference_that_is_shown_nothing_is_said(
    tmp_path: Path, joint: list[float], props: list[float]
) -> None:
    pair(tmp_path, joint, props)
    assert notes_of(tmp_path) == []


def test_too_few_estimates_say_nothing_of_the_cause(tmp_path: Path) -> None:
    write_run(tmp_path / "joint", NONE, "MAPROPS", rows=4)
    write_run(tmp_path / "props", ALL, "PROPS", rows=4)
    [note] = notes_of(tmp_path)
    assert "Why is not known: the joint sampling error of both must be estimated 5 times" in note


def test_nearly_deterministic_iterations_do_not_count(tmp_path: Path) -> None:
    """There MA-PROPS has more error than on-policy sampling, whatever it does before."""
    pair(tmp_path, NONE, ALL, CASES["not needed"][0])
    for name in ("joint", "props"):
        path = tmp_path / name / "metrics.csv"
        head, *rows = path.read_text().splitlines()
        peaked = [row.replace(",0.1,0.2,", ",0.9,0.001,") + ",0.01" for row in rows]
        lines = [f"{head},target/entropy", *(f"{row},0.6" for row in rows), *peaked]
        path.write_text("\n".join([*lines, ""]))
    assert "does not need joint coordination" in notes_of(tmp_path)[0]


def test_samplers_are_paired_by_their_options(tmp_path: Path) -> None:
    """One of each is a pair, whatever their options; of several those that are alike."""
    write_run(tmp_path / "joint", NONE, "MAPROPS", rows=6)
    write_run(tmp_path / "props", ALL, "PROPS", rows=6, model__behavior__init_args={"clip_epsilon": 1.0})
    assert len(notes_of(tmp_path)) == 1
    write_run(tmp_path / "alike", ALL, "PROPS", rows=6)
    [note] = notes_of(tmp_path)
    assert note.startswith("PROPS (clip_epsilon=0.3, kl_cutoff=0.05) solved")
    write_run(tmp_path / "other", NONE, "MAPROPS", rows=6, model__behavior__init_args={"clip_epsilon": 3.0})
    assert len(notes_of(tmp_path)) == 1


def test_of_tasks_without_success_returns_are_compared(tmp_path: Path) -> None:
    pair(tmp_path, NONE, ALL)
    for name, low in (("joint", 1.0), ("props", 2.0)):
        path = tmp_path / name / "eval.csv"
        head, *rows = path.read_text().splitlines()
        seeds = [",".join([*row.split(",")[:2], "", "", f"{low + k / 100}", "0"]) for k, row in enumerate(rows)]
        path.write_text("\n".join([head, *seeds, ""]))
    [note] = notes_of(tmp_path)
    assert note.startswith("PROPS returned more than MAPROPS: +1 [+0.") and "points" not in note


def test_a_game_in_which_chance_decides_needs_no_coordination(fit: Callable[..., Path]) -> None:
    """docs/evidence/all_games.md: PROPS solves nearly all runs of no_conflict_5, MA-PROPS half, with less error."""
    long = ["--model.num_seeds", "60", "--model.total_env_steps", "480", "--model.eval_interval", "60"]
    game = ["--data.env.payoff", "no_conflict_5", "--model.learner.learning_rate", "0.667"]
    for sampler in ("PROPS", "MAPROPS"):
        folder = fit(sampler, *long, *game, "--model.behavior", sampler)
    [note] = notes_of(folder.parent)
    assert note.startswith("PROPS solved more seeds than MAPROPS: +") and "does not need joint coordination" in note


def test_first_visits_have_a_figure_and_a_column(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0, 0.0], first_visits=0.3125)
    write_run(tmp_path / "b", [1.0, 0.0], "MAPROPS")
    html = make_report([tmp_path]).html
    assert "<h3>First visits to a state</h3>" in html and "Over training: OnPolicy 31%." in html
    assert '<td class="number" data-number="0.312">0.312</td>' in html
    assert "First visits to a state" not in make_report([tmp_path / "b"]).html

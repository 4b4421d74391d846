"""studies/tasks: every cell can be run, tables hold what the runs say, the page what the tables do."""

import csv
import inspect
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL
from mpe2.simple_spread import simple_spread
from scipy.stats import bootstrap, fisher_exact, norm, ttest_ind
from statsmodels.stats.multitest import multipletests

from lit_maprops import keys
from lit_maprops.cli.main import main
from lit_maprops.envs import Foraging, TaskEnv
from lit_maprops.run.options import RunCLI
from studies.tasks import __main__ as study
from studies.tasks.figure import points
from studies.tasks.plan import BASE, RUN_SEED, SEEDS, TASKS, Cell, cells, run_of
from studies.tasks.results import Results, curve_rows
from studies.tasks.tables import answer, change, comparisons, coverage, published_table, section

TABLES = ROOT / "studies" / "tasks"


def results_of(folder: Path) -> Results:
    return Results(folder / "tasks.csv", folder / "curves.csv")


def test_states_of_the_large_grid_come_back_within_an_episode_only() -> None:
    """As docs/evidence/tasks.md says of Foraging 10x10: batches of 2,048 steps under random actions, state by state."""
    seeds, envs, steps = 8, 32, 64
    env = TaskEnv(Foraging("Foraging-10x10-3p-3f", max_steps=50), 7, list(range(seeds)), envs)
    generator = torch.Generator().manual_seed(0)
    shown, episode = env.reset(), np.zeros((seeds, envs), int)
    met: list[dict[bytes, set[tuple[int, int]]]] = [{} for _ in range(seeds)]  # of each seed, by state: the episodes
    within = across = 0
    for _ in range(steps):
        state = shown.get(keys.STATE).numpy()
        for r, e in np.ndindex(seeds, envs):
            episodes, own = met[r].setdefault(state[r, e].tobytes(), set()), (e, int(episode[r, e]))
            within, across = within + (own in episodes), across + bool(episodes - {own})
            episodes.add(own)
        actions = torch.randint(env.task.n_actions, (seeds, envs, env.task.n_agents), generator=generator)
        following = env.step(shown.set(keys.ACTION, actions)).get("next")
        episode += following.get(keys.DONE).squeeze(-1).numpy()
        shown = env.maybe_reset(following)
    assert across == 0
    assert 0.08 < within / (seeds * envs * steps) < 0.12


@pytest.mark.every(9)
@pytest.mark.parametrize("name", TASKS)
def test_every_cell_can_be_run(name: str) -> None:
    """By the flags it is given; two seeds stand for all."""
    if name == "SMAX" or "JaxMARL" in TASKS[name].flags:
        pytest.importorskip("jaxmarl")
    for cell in cells([name]):
        run = run_of(cell)
        cli = RunCLI(["--config", str(ROOT / run.config), *run.flags, "--model.num_seeds", "2"])
        cli.model.prepare(cli.datamodule)
        assert type(cli.model.learner).__name__ == cell.learner
        assert type(cli.model.behavior).__name__ == cell.sampler.partition(",")[0]
        assert cli.datamodule.iterations * cli.datamodule.target_batch_size == TASKS[name].env_steps
        assert run.flags[run.flags.index("--model.num_seeds") + 1] == str(SEEDS) and SEEDS >= 32
        assert cli.datamodule.iterations >= 4 * cli.model.eval_interval  # a curve of several points


def test_cells_are_in_the_order_of_tasks_and_can_be_chosen() -> None:
    everything = cells()
    assert len(set(everything)) == len(everything)
    assert list(dict.fromkeys(cell.task for cell in everything)) == list(TASKS)
    chosen = cells(["TMaze", "StagedGame"], ["HAPPO"], ["MAPROPS", BASE])
    # No MAPROPS where states are counted.
    assert chosen == [Cell("StagedGame", "HAPPO", BASE), *(Cell("TMaze", "HAPPO", name) for name in (BASE, "MAPROPS"))]
    folders = {run_of(cell).folder for cell in everything}
    assert len(folders) == len(everything) and all(run_of(cell).run_seed == RUN_SEED for cell in everything)


@pytest.mark.parametrize("env", ["MatrixGame", "TwoPeaks"])
def test_a_finished_run_is_entered_and_never_run_again(env: str, tmp_path: Path) -> None:
    """With the run's own summary as the reference."""
    assert main(["fit", *SMALL[env], "--runs_dir", str(tmp_path / "runs"), "--run_name", "x"]) == 0
    folder, cell = tmp_path / "runs" / "x", Cell("StagedGame", "MAPPO", BASE)
    summary = json.loads((folder / "summary.json").read_text())
    results_of(tmp_path).enter(cell, folder, 7)
    again = results_of(tmp_path)  # from the tables
    assert again.values(cell, "greedy_return") == pytest.approx(summary["episode_return"], rel=1e-5)
    assert again.seconds(cell) == pytest.approx(summary["wall_seconds"], abs=0.06)
    last = again.curves[cell][-1]
    assert float(last["greedy_return"]) == pytest.approx(summary["mean_return"], rel=1e-5)
    assert float(last["greedy_return_low"]) == pytest.approx(summary["mean_return_ci95"][0], rel=1e-5)
    assert last["solved"] == ("" if summary["solved_share"] is None else f"{summary['solved_share']:.6g}")
    before = [path.read_bytes() for path in again.paths]
    again.fill([cell], 1)
    assert [path.read_bytes() for path in again.paths] == before


def test_a_curve_is_worked_out_point_by_point() -> None:
    """Three seeds, two evaluations; a seed that broke has no return and is not solved."""
    drawn = np.random.default_rng(0).normal(size=32)
    table = {
        "env_steps": np.repeat([10.0, 20.0], 32),
        "seed": np.tile(np.arange(32.0), 2),
        "greedy_return": np.concatenate([drawn, [math.nan, *range(31)]]),
        "stochastic_return": np.ones(64),
        "greedy_success_rate": np.concatenate([np.full(32, 0.8), [math.nan, *[0.75] * 15, *[1.0] * 16]]),
        "stochastic_success_rate": np.zeros(64),
    }
    first, second = curve_rows(table)
    assert (first["env_steps"], first["seeds"], first["solved"]) == ("10", "32", "1")
    assert float(first["greedy_return"]) == pytest.approx(statistics.mean(drawn), rel=1e-5)
    expected = bootstrap((drawn,), np.mean, method="percentile", random_state=1).confidence_interval
    ends = [float(first["greedy_return_low"]), float(first["greedy_return_high"])]
    assert ends == pytest.approx(list(expected), abs=0.02)
    assert (second["greedy_return"], second["solved"]) == ("15", "0.5")
    assert curve_rows(table | {"greedy_success_rate": np.full(64, math.nan)})[0]["solved"] == ""


def test_the_picture_shows_solved_seeds_where_there_are_any() -> None:
    """Wilson's interval of 16 of 32, worked out by hand."""
    returns = {"greedy_return": "3", "greedy_return_low": "2", "greedy_return_high": "5"}
    assert points(returns | {"solved": "", "seeds": "32"}) == (3.0, 2.0, 5.0)
    square = norm.ppf(0.975) ** 2
    half = math.sqrt(square * (32 / 4 + square / 4)) / (32 + square)
    assert points(returns | {"solved": "0", "seeds": "32"}, solved=False) == (3.0, 2.0, 5.0)
    assert points(returns | {"solved": "0.5", "seeds": "32"}) == pytest.approx((0.5, 0.5 - half, 0.5 + half))


def test_a_difference_of_means_has_welchs_interval() -> None:
    """Large samples, where Student's t is the normal distribution."""
    generator = np.random.default_rng(1)
    own, base = generator.normal(2.0, 3.0, 40_000), generator.normal(1.0, 1.0, 20_000)
    half = norm.ppf(0.975) * math.sqrt(own.var() / 40_000 + base.var() / 20_000)
    middle = own.mean() - base.mean()
    assert change(own, base) == f"{middle:+.2f} [{middle - half:+.2f}, {middle + half:+.2f}]"


def entered(folder: Path, chosen: Sequence[Cell]) -> Results:
    """Tables with the same invented run in several cells."""
    (folder / "run").mkdir()
    rows = [[step, seed, 0.5, 0.5, seed % 4, 1] for step in (1, 2) for seed in range(4)]
    names = "env_steps,seed,greedy_success_rate,stochastic_success_rate,greedy_return,stochastic_return"
    text = "\n".join([names, *(",".join(map(str, row)) for row in rows)])
    (folder / "run" / "eval.csv").write_text(text + "\n")
    (folder / "run" / "summary.json").write_text('{"wall_seconds": 3.0}')
    results = results_of(folder)
    for cell in chosen:
        results.enter(cell, folder / "run", RUN_SEED)
    return results


def test_a_page_that_lacks_cells_says_so(tmp_path: Path) -> None:
    everything = cells()
    assert coverage(results_of(tmp_path)).startswith(f"0 of {len(everything)} cells")
    one = cells(["StagedGame"])
    results = entered(tmp_path, [*one, everything[-1]])
    assert coverage(results).startswith(f"{len(one) + 1} of {len(everything)} cells")
    assert "all their cells: StagedGame. The page is not complete." in coverage(results)
    assert "cells were measured" not in section(results, "StagedGame") and section(results, "TMaze") == ""
    last = everything[-1].task
    assert f"1 of {len(cells([last]))} cells were measured" in section(results, last)


def test_the_whole_page_says_that(tmp_path: Path) -> None:
    assert coverage(entered(tmp_path, cells())) == f"All {len(cells())} cells (task, learner, sampler) were measured."


def solving(numbers: dict[Cell, int]) -> dict[Cell, list[dict[str, str]]]:
    """So many seeds of 32 are solved, or without success their returns, which alternate around the number."""
    rows = {}
    for cell, number in numbers.items():
        told = not cell.task.startswith("MPE")
        rows[cell] = [
            {
                "greedy_success_rate": str(float(seed < number)) if told else "nan",
                "greedy_return": str(number + seed % 2),
                "seconds": "1",
            }
            for seed in range(32)
        ]
    return rows


def test_the_answer_is_corrected_for_the_number_of_comparisons(tmp_path: Path) -> None:
    """Against Fisher's, Welch's and Holm's of scipy and statsmodels."""
    game, maze, shelves, mpe = (Cell(name, "IPPO", BASE) for name in ("StagedGame", "TMaze", "RWARE", "MPE spread"))
    better, worse, ordered = "LowDiscrepancy", "MAPROPS", "LowDiscrepancy, ordered by value"
    numbers = {game: 8, game._replace(sampler=better): 17, game._replace(sampler="TabularMAPROPS"): 12}
    numbers |= {maze: 20, maze._replace(sampler=worse): 11, mpe: -3, mpe._replace(sampler=ordered): -2}
    numbers |= {shelves: -1, shelves._replace(sampler=worse): -1}  # not a seed is solved
    results = results_of(tmp_path)
    results.last |= solving(numbers)
    found = comparisons(results)
    assert [(one.cell.task, one.sign) for one in found] == [
        ("StagedGame", 1), ("StagedGame", 0), ("TMaze", -1), ("RWARE", 0), ("MPE spread", 1),
    ]  # fmt: skip
    pairs = [((17, 15), (8, 24)), ((12, 20), (8, 24)), ((11, 21), (20, 12))]
    p = [float(fisher_exact(pair).pvalue) for pair in pairs]
    p.append(1.0)
    p.append(float(ttest_ind([-2, -1] * 16, [-3, -2] * 16, equal_var=False).pvalue))
    assert [one.p for one in found] == pytest.approx(p)
    assert list(multipletests(p, method="holm")[0]) == [False, False, False, False, True]
    assert answer(results) == (
        "MPE spread, IPPO, LowDiscrepancy, ordered by value (+1.00 [+0.75, +1.25] of return) is told from on-policy "
        "sampling after Holm's correction for 5 comparisons. Uncorrected, 2 intervals lie above 0: StagedGame, IPPO, "
        "LowDiscrepancy (+28 [+4, +48] points); MPE spread, IPPO, LowDiscrepancy, ordered by value (+1.00 [+0.75, "
        "+1.25] of return). Uncorrected, one interval lies below 0: TMaze, IPPO, MAPROPS (-28 [-48, -4] points)."
    )
    del results.last[mpe._replace(sampler=ordered)]
    assert answer(results).startswith("No sampler is told from on-policy sampling after Holm's correction for 4 ")
    results.last |= solving({shelves._replace(sampler=worse): -2})
    assert answer(results).startswith("RWARE, IPPO, MAPROPS (-1.00 [-1.25, -0.75] of return) is told from ")


def published() -> list[dict[str, str]]:
    with (TABLES / "published.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_published_returns_are_of_cells_and_in_our_units(tmp_path: Path) -> None:
    """The agent that collides with itself: once a step, at the weight of what is local."""
    defaults = {k: p.default for k, p in inspect.signature(simple_spread.raw_env.__init__).parameters.items()}
    offset = defaults["local_ratio"] * defaults["max_cycles"]
    rows = published()
    for row in rows:
        assert Cell(row["task"], row["learner"], BASE) in cells()
        assert float(row["offset"]) == (offset if row["task"] == "MPE spread" else 0) and row["source"]
    lines = published_table(results_of(tmp_path), rows).splitlines()[2:]
    assert all(line.endswith("| not measured |") for line in lines) and len(lines) == len(rows)
    assert f"{float(rows[-1]['value']) + offset:.2f} | 20,000,000" in lines[-1]


def test_tables_hold_cells_of_the_plan() -> None:
    results = Results(TABLES / "tasks.csv", TABLES / "curves.csv")
    assert set(results.last) == set(results.curves) <= set(cells())
    for cell, rows in results.last.items():
        assert len(rows) == SEEDS and {row["run seed"] for row in rows} == {str(RUN_SEED)}
        assert {row["env_steps"] for row in rows} == {str(TASKS[cell.task].env_steps)}
        last = results.curves[cell][-1]
        assert float(last["env_steps"]) == TASKS[cell.task].env_steps
        assert float(last["greedy_return"]) == pytest.approx(
            np.nanmean(results.values(cell, "greedy_return")), rel=1e-5, abs=1e-4
        )


def test_flags_choose_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[list[Cell], int]] = []
    monkeypatch.setattr(Results, "fill", lambda self, chosen, workers: asked.append((chosen, workers)))
    for name in ("draw", "write_page"):
        monkeypatch.setattr(study, name, lambda *_, **__: None)
    flags = ["--tasks", "MPE spread", "--learners", "IPPO", "--samplers", BASE, "--workers", "0"]
    monkeypatch.setattr("sys.argv", ["tasks", *flags])
    study.main()
    assert asked == [([Cell("MPE spread", "IPPO", BASE)], 0)]
    monkeypatch.setattr("sys.argv", ["tasks", "--tasks", "Chess"])
    with pytest.raises(SystemExit):
        study.main()

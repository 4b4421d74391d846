"""studies/mujoco_gradients: its runs, and what its page makes of the raw table."""

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import ttest_1samp

from lit_maprops.run.options import RunCLI
from studies.mujoco_gradients import __main__ as page
from studies.mujoco_gradients.measure import BASE, BODIES, GRID, SAMPLERS, SEEDS, M, N, best, setting_name, training
from studies.mujoco_gradients.table import Key, Table

COMMITTED = Table(ROOT / "studies" / "mujoco_gradients" / "mujoco_gradients.csv")


def key(sampler: str, part: str = "compared", setting: str = "") -> Key:
    return Key(part, "Reacher 2x1", tuple(BODIES["Reacher 2x1"].updates)[-1], sampler, setting)


def table_with(path: Path, cells: dict[Key, list[float]]) -> Table:
    table = Table(path)
    for cell, errors in cells.items():
        table.enter(cell, [{"seed": k, "mse": error} for k, error in enumerate(errors)])
    return table


@pytest.mark.parametrize("name", BODIES)
def test_batches_hold_whole_episodes_and_every_update_a_vector_step(name: str) -> None:
    pytest.importorskip("gymnasium_robotics")
    body = BODIES[name]
    run = training(name, 2, 1, 2)
    cli = RunCLI(["--config", str(ROOT / run.config), *run.flags])
    cli.model.prepare(cli.datamodule)
    assert N // body.num_envs % body.max_steps == 0 and N % M == 0 and M % body.num_envs == 0
    task = cli.datamodule.env
    assert task.max_steps == body.max_steps and task.continuous_actions and task.n_agents == 2
    assert task.action_dim == int(body.agents.partition("x")[2])
    assert not task.fixed_start and cli.datamodule.iterations == 2


def test_the_setting_of_least_error_is_taken(tmp_path: Path) -> None:
    errors = dict(zip(GRID, ([3.0, 5.0], [1.0, 2.0], [2.0, 1.0], [9.0, 0.5]), strict=True))
    cells = {key("PROPS", "tuning", setting_name(*setting)): values for setting, values in errors.items()}
    assert best(table_with(tmp_path / "t.csv", dict(list(cells.items())[:3])), "Reacher 2x1", "PROPS") is None
    table = table_with(tmp_path / "t.csv", cells)
    assert best(table, "Reacher 2x1", "PROPS") == GRID[1]
    assert best(Table(tmp_path / "t.csv"), "Reacher 2x1", "PROPS") == GRID[1]


def test_ratios_are_geometric_means_over_seeds_with_students_interval(tmp_path: Path) -> None:
    own, base = [1.0, 4.0, 2.0], [2.0, 2.0, 4.0]
    table = table_with(tmp_path / "t.csv", {key("PROPS"): own, key(BASE): base})
    low, high = np.exp(ttest_1samp(np.log(np.divide(own, base)), 0).confidence_interval())
    assert page.ratio(table, key("PROPS"), key(BASE), "mse") == f"0.79 [{low:.2f}, {high:.2f}]"


def test_every_cell_holds_every_seed_and_its_error_is_bias_and_variance() -> None:
    """The identity holds for the U-statistic as for what it estimates."""
    compared = [cell for cell in COMMITTED.cells if cell.part == "compared"]
    assert {cell.sampler for cell in compared} == set(SAMPLERS)
    for cell in compared:
        bias, variance, error = (COMMITTED.values(cell, name) for name in ("bias_squared", "variance", "mse"))
        assert len(error) == SEEDS
        np.testing.assert_allclose(bias + variance, error, rtol=1e-4)
        assert (COMMITTED.values(cell, "cosine") <= 1).all()
        share = COMMITTED.values(cell, "effective_sample_share")
        if cell.sampler == BASE:
            np.testing.assert_allclose(share, 1)
        else:
            assert ((share > 0) & (share <= 1 + 1e-6)).all()


def test_on_policy_batches_have_the_expected_gradient() -> None:
    """The reference is of other batches: its mean squared distance is variance alone, up to chance."""
    cells = [cell for cell in COMMITTED.cells if cell.part == "compared" and cell.sampler == BASE]
    assert len(cells) == sum(len(body.updates) for body in BODIES.values())
    for cell in cells:
        shares = COMMITTED.values(cell, "bias_squared") / COMMITTED.values(cell, "mse")
        assert abs(shares.mean()) < 0.05

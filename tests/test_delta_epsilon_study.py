"""The grid of delta and epsilon: which epsilons are one and the same, and what the page's figures are made of."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, t, ttest_rel

from lit_maprops.metrics.reliability import difference_interval
from studies.delta_epsilon.fixed import AGES, FIGURES, sampler_of
from studies.delta_epsilon.grid import BASE, BOULDER, CELLS, DELTAS, EPSILONS, GAME, TASKS, Cell
from studies.delta_epsilon.kept import Kept
from studies.delta_epsilon.measure import fixed_table, training_table
from studies.delta_epsilon.results import (
    Fixed,
    Interval,
    Training,
    bootstrapped,
    compared,
    paired_difference,
    paired_p,
    together,
    training_of,
)
from studies.delta_epsilon.training import DIAGNOSTICS, ERROR, WHEN, Trained, measured
from studies.delta_epsilon.verdict import apart, missing


@pytest.mark.every(9)
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(("task", "updates"), [(GAME, 60), (BOULDER, 1)])
def test_epsilons_from_one_on_are_one_and_the_same(task: str, updates: int, delta: float) -> None:
    """Bit for bit, which the page relies on; an epsilon below 1 gives other policies where delta lets updates go on."""
    runs = {e: Trained(task, Cell(delta, e), 0, 2, updates) for e in (1.0, max(EPSILONS), 0.1)}
    first, large, small = (runs[e].model.learner.policies.net.flat for e in runs)
    assert torch.equal(first, large)
    for one, other in zip(runs[1.0].rows, runs[max(EPSILONS)].rows, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert delta < 0.3 or not torch.equal(first, small)


def test_the_grid_is_that_of_the_sweep_and_one_policy_serves_training_and_analysis() -> None:
    """Three decades of delta, epsilon up to 10."""
    assert max(DELTAS) / min(DELTAS) >= 999 and max(EPSILONS) == 10
    assert len(CELLS) == 1 + len(DELTAS) * sum(e <= 1 for e in EPSILONS) and CELLS[0] == BASE
    cell = Cell(0.03, 0.3)
    own, drawn = Trained(BOULDER, cell, 0, 1, 1).model.behavior, sampler_of(cell).template
    assert own.architecture == drawn.architecture
    assert own.settings == drawn.settings and own.cost_options == drawn.cost_options
    assert own.optimizer_settings() == drawn.optimizer_settings()
    assert (own.kl_cutoff, own.clip_epsilon, own.epochs) == (0.03, 0.3, 16)


def test_blocks_of_seeds_are_the_seeds_of_one_run() -> None:
    """Seed by seed, so that blocks can be added later."""
    whole, *blocks = (Trained(GAME, Cell(0.3, 0.3), first, seeds, 60) for first, seeds in ((0, 8), (0, 4), (4, 4)))
    assert np.array_equal(whole.solved(), np.concatenate([block.solved() for block in blocks]))
    for when in WHEN.values():
        pooled = np.concatenate([block.of(ERROR, when) for block in blocks])
        np.testing.assert_allclose(whole.of(ERROR, when), pooled, atol=1e-7)


def test_the_end_is_the_last_tenth() -> None:
    run = SimpleNamespace(model=SimpleNamespace(num_seeds=1), rows=[{"x": np.array([float(k)])} for k in range(60)])
    found = {when: float(Trained.of(run, "x", updates)[0]) for when, updates in WHEN.items()}  # type: ignore[arg-type]
    assert found == {"end": 56.5, "start": 2.5, "mean": 29.5}


@pytest.mark.parametrize(
    ("both", "only_a", "only_b", "neither", "low", "high"),
    [(36, 12, 2, 0, 0.0569, 0.3404), (54, 0, 0, 0, -0.0664, 0.0664), (0, 54, 0, 0, 0.9061, 1.0)],
)
def test_paired_shares_have_newcombes_interval(
    both: int, only_a: int, only_b: int, neither: int, low: float, high: float
) -> None:
    """An example of Newcombe, Statistics in Medicine 17, 2635 (1998), and two that follow from Wilson's ends alone."""
    counts = both, only_a, only_b, neither
    own, base = np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)
    found = paired_difference(own, base)
    assert found.value == pytest.approx((only_a - only_b) / sum(counts))
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-4)


def test_unrelated_seeds_have_the_interval_of_separate_runs() -> None:
    own, base = np.tile([1, 1, 0, 0], 16), np.tile([1, 0], 32)
    assert paired_difference(own, base)[1:] == pytest.approx(difference_interval(32, 64, 32, 64))


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_the_paired_interval_covers(correlation: float) -> None:
    """95% of 2,000 draws of 64 seeds, a share of which has the same fate with both samplers."""
    generator, hits, widths = np.random.default_rng(5), 0, 0.0
    for _ in range(2000):
        shared = generator.random(64) < correlation
        own, base = generator.random(64) < 0.5, generator.random(64) < 0.4
        same = generator.random(64) < 0.45
        found = paired_difference(np.where(shared, same, own), np.where(shared, same, base))
        hits += found.low <= (1 - correlation) * 0.1 <= found.high
        widths += found.high - found.low
    assert 0.93 < hits / 2000 < 0.985
    assert widths / 2000 < (0.36 if correlation == 0 else 0.24)


def test_paired_shares_have_mcnemars_p() -> None:
    """12 against 2 discordant pairs: twice the binomial tail, 2 (1 + 14 + 91) / 2^14."""
    own, base = np.repeat([1, 1, 0, 0], (36, 12, 2, 0)), np.repeat([1, 0, 1, 0], (36, 12, 2, 0))
    assert paired_p(own, base) == pytest.approx(2 * 106 / 2**14)
    assert paired_p(own, own) == 1.0


def test_a_typical_seed_is_not_the_one_with_the_largest_variance(tmp_path: Path) -> None:
    """Ratios 2, 2, 2 and 1/2 of seeds that lie powers of ten apart: sqrt(2), where the ratio of means is 1/2."""
    table = Kept(tmp_path / "fixed.csv", ("age", "delta", "epsilon", "seed"))
    cell, base, ratios = Cell(0.3, 1.0), (1.0, 2.0, 3.0, 1e6), (2.0, 2.0, 2.0, 0.5)
    for own, values in ((BASE, base), (cell, [v * r for v, r in zip(base, ratios, strict=True)])):
        row = {name: 1.0 for name in (*FIGURES, "return", "norm_squared")}
        key = {"age": "half way", "delta": own.delta, "epsilon": own.epsilon}
        table.add([key | {"seed": k} | row | {"variance": value} for k, value in enumerate(values)])
    found = Fixed(table)
    typical, logs = found.typical(cell, ["half way"]), np.log(ratios)
    assert typical.ratio.value == pytest.approx(2**0.5)
    assert typical.p == pytest.approx(ttest_rel(logs, np.zeros(4)).pvalue)
    assert np.log(typical.ratio[1:]) == pytest.approx(t.interval(0.95, 3, logs.mean(), logs.std(ddof=1) / 2))
    assert found.ratio(cell, ["half way"], "variance").value == pytest.approx(0.5, rel=1e-4)
    assert found.effective_seeds("half way") == pytest.approx(1.0, rel=1e-4)


def test_all_cells_together_are_compared_seed_by_seed() -> None:
    runs = [Training(np.array(bits, bool), {}, {}) for bits in ([1, 0, 1, 1], [1, 1, 0, 1])]
    change = np.array([1.0, 0.5, 0.5, 1.0]) - [0, 1, 0, 1]
    found = together(runs, Training(np.array([0, 1, 0, 1], bool), {}, {}))
    assert found == pytest.approx((change.mean(), *t.interval(0.95, 3, change.mean(), change.std(ddof=1) / 2)))


def test_seeds_are_compared_on_those_that_both_have() -> None:
    own, base = (Training(np.array(bits, bool), {}, {}) for bits in ([1, 1, 0], [0, 1, 1, 1, 1]))
    assert compared(own, base) == paired_difference([1, 1, 0], [0, 1, 1])


def test_bootstrap_intervals_are_scipys() -> None:
    generator = np.random.default_rng(2)
    values = generator.gamma(2.0, size=(1, 2, 32)) * [[[2.0], [1.0]]]
    found = bootstrapped(values, "ratio")
    assert found.value == pytest.approx(values[0, 0].mean() / values[0, 1].mean())
    options = {"paired": True, "method": "percentile", "rng": 1, "n_resamples": 20_000, "vectorized": False}
    ends = bootstrap(tuple(values[0]), lambda a, b: a.mean() / b.mean(), **options).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(ends), rel=0.05)
    two_ages = bootstrapped(np.concatenate([values, 3 * values]), "mean")
    assert two_ages.value == pytest.approx(2 * values[0, 0].mean())


def table_with(path: Path, blocks: list[np.ndarray], solved: list[str]) -> Kept:
    """Of a cell whose seeds have these errors."""
    table = Kept(path, ("task", "delta", "epsilon", "first seed"))
    for values, bits in zip(blocks, solved, strict=True):
        own: dict[str, object] = {"task": GAME, "delta": 0.3, "epsilon": 1.0, "first seed": 100 * len(table.rows)}
        error = {
            f"{when} {side}{what}": float(of(values))
            for when in WHEN
            for side in ("own", "on-policy", "change")
            for what, of in (("", np.mean), (" variance", np.var))
        }
        table.add([own | {"solved": bits} | error | {name: float(len(bits)) for name in DIAGNOSTICS}])
    return table


def test_blocks_are_pooled_to_the_figures_of_all_their_seeds(tmp_path: Path) -> None:
    """Student's interval as scipy has it for all seeds together; the table is read back from its file."""
    blocks = [np.random.default_rng(k).normal(k, 1.0, size) for k, size in enumerate((40, 20))]
    path = tmp_path / "x.csv"
    table_with(path, blocks, ["1" * 30 + "0" * 10, "01" * 10])
    found = training_of(Kept(path, ("first seed",)), GAME, Cell(0.3, 1.0))
    assert found is not None and int(found.solved.sum()) == 40 and len(found.solved) == 60
    every = np.concatenate(blocks)
    ends = t.interval(0.95, 59, every.mean(), every.std(ddof=1) / 60**0.5)
    assert found.error["end change"] == pytest.approx((every.mean(), *ends), rel=2e-3)
    assert found.diagnostics["behavior/kl"] == pytest.approx((40 * 40 + 20 * 20) / 60, rel=1e-3)
    assert training_of(Kept(path, ("first seed",)), GAME, BASE) is None


@pytest.mark.parametrize("cell", [BASE, Cell(0.3, 0.3)])
def test_a_block_of_seeds_is_entered_as_it_was_trained(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back from the file, with the run itself as the reference."""
    monkeypatch.setitem(TASKS, GAME, TASKS[GAME]._replace(block=6))
    run, path, key = Trained(GAME, cell, 6, 6), tmp_path / "x.csv", ("task", "delta", "epsilon", "first seed")
    Kept(path, key).add([measured(GAME, cell, 6)])
    found = training_of(Kept(path, key), GAME, cell)
    assert found is not None and np.array_equal(found.solved, run.solved())
    own, on_policy = (run.of(name, WHEN["end"]) for name in (ERROR, f"{ERROR}_on_policy"))
    assert found.error["end own"].value == pytest.approx(own.mean(), rel=1e-3)
    low, high = t.interval(0.95, 5, (own - on_policy).mean(), (own - on_policy).std(ddof=1) / 6**0.5)
    assert found.error["end change"] == pytest.approx(((own - on_policy).mean(), low, high), rel=1e-2, abs=1e-5)
    assert np.isnan(found.diagnostics["behavior/gradient_steps"]) == (cell == BASE)


def test_bias_is_the_plain_mean_minus_the_weighted_and_the_reference_cancels(tmp_path: Path) -> None:
    """And variances are told as multiples of on-policy sampling's, age by age."""
    age, seeds = next(iter(AGES)), 5
    table = Kept(tmp_path / "fixed.csv", ("age", "delta", "epsilon", "seed"))
    for cell, variance in ((BASE, 2.0), (CELLS[1], 3.0)):
        own: dict[str, object] = {"age": age, "delta": cell.delta, "epsilon": cell.epsilon}
        rest = dict.fromkeys(FIGURES, 0.0) | {"return": 1.0, "norm_squared": 1.0, "variance": variance}
        weighted = {"return_bias": 0.5, "importance_bias": 0.25}
        table.add([own | {"seed": seed} | rest | weighted for seed in range(seeds)])
    fixed = Fixed(table)
    assert fixed.ages(CELLS[1]) == [age] and fixed.ages(CELLS[2]) == []
    assert fixed.mean(CELLS[1], [age], "return_bias", "importance_bias") == pytest.approx((0.25, 0.25, 0.25))
    assert fixed.ratio(CELLS[1], [age], "variance").value == pytest.approx(1.5)


def test_a_page_without_all_runs_says_how_many_there_are(tmp_path: Path) -> None:
    training, fixed = Kept(tmp_path / "a.csv", ("task",)), Fixed(Kept(tmp_path / "b.csv", ("age",)))
    assert "0 of 26 runs" in missing(training, fixed) and "0 of 39 measurements" in missing(training, fixed)
    row = {"solved": "01"}
    training.key = ("task", "delta", "epsilon", "first seed")
    for task, given in TASKS.items():
        for cell in CELLS:
            first = [{"first seed": block * given.block} for block in range(given.blocks)]
            training.add([{"task": task, "delta": cell.delta, "epsilon": cell.epsilon} | row | one for one in first])
    assert "runs" not in missing(training, fixed)


def test_a_verdict_names_the_cells_whose_intervals_are_apart() -> None:
    found = {
        Cell(0.3, 0.1): Interval(1, 0.5, 2),
        Cell(3.0, 0.1): Interval(0, -1, 1),
        Cell(3.0, 1.0): Interval(-1, -2, -0.1),
    }
    text = apart(found, 0, "+.1f")
    assert text.startswith("above in 1 of 3 cells: delta 0.3, epsilon 0.1 (+1.0 [+0.5, +2.0]). Below in 1 of 3 cells: ")
    assert "delta 3, epsilon 1 and 10 (-1.0 [-2.0, -0.1])" in text and "delta 3, epsilon 0.1" not in text
    assert apart({}, 0, "") == "not measured yet."


def test_the_tables_hold_at_least_32_seeds_of_every_figure_and_each_only_once() -> None:
    for table in (training_table(), fixed_table()):
        if table.path.exists():
            with table.path.open() as file:
                assert list(csv.DictReader(file)) == table.rows
            assert len({tuple(row[name] for name in table.key) for row in table.rows}) == len(table.rows)
    for row in training_table().rows:
        assert len(row["solved"]) == TASKS[row["task"]].block >= 32 and set(row["solved"]) <= {"0", "1"}
    for age in AGES:
        for cell in CELLS:
            assert len(fixed_table().of(age=age, delta=cell.delta, epsilon=cell.epsilon)) in (0, 32)

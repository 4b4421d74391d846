"""studies/many_agents_states: its game against Coordination's rule, and its choices on made-up figures."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from scipy.stats import false_discovery_control

from lit_maprops.envs import Coordination, StagedGame
from lit_maprops.run.options import RunCLI
from studies import ledger
from studies.cells import holm, p_value
from studies.many_agents_states import __main__ as study
from studies.many_agents_states.game import STAGES, Regime, payoff, run_of
from studies.runs import SQUARE, Outcome


@pytest.mark.parametrize("regime", study.CANDIDATES, ids=str)
def test_a_stage_pays_what_partial_coordination_does(regime: Regime) -> None:
    """In every stage, for every joint action; the actions mean something else in each."""
    n_agents, n_actions = regime.n_agents, len(regime.rewards)
    game = StagedGame(payoff(n_agents, regime.rewards), n_agents, STAGES)
    rule = Coordination(n_agents, n_actions, list(map(float, regime.rewards)), partial=True)
    meant = torch.tensor(list(product(range(n_actions), repeat=n_agents)))
    expected = rule.transition(rule.initial_state(torch.zeros(len(meant), 0)), meant, torch.zeros(len(meant), 0))
    for stage in range(STAGES):
        state = game.initial_state(torch.zeros(len(meant), 0))
        state["stage"] += stage
        action = (meant - stage * torch.arange(1, n_agents + 1)) % n_actions
        found = game.transition(state, action, torch.zeros(len(meant), 0))
        torch.testing.assert_close(found.reward, expected.reward, atol=1e-6, rtol=0)
        assert torch.equal(found.state["flawless"], expected.success) and expected.success.sum() == 1


def result(solved: int, seeds: int = 100, **means: float) -> Outcome:
    named = dict.fromkeys([*study.FIELDS, "time/collect", "time/behavior", "time/target", SQUARE], 1.0)
    return Outcome(seeds, solved, solved / seeds, named | means, 1.0)


@pytest.fixture
def unmeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> study.Study:
    """A study without a table, that measures nothing."""
    monkeypatch.setattr(ledger, "table_of", lambda name: tmp_path / f"{name}.csv")
    return study.Study(measuring=False)


def test_the_regime_has_the_highest_ceiling_above_a_middling_share(unmeasured: study.Study) -> None:
    """Not the highest ceiling, nor the largest gap to a share outside of 30% to 70%."""
    for regime, base, ceiling in zip(study.CANDIDATES[:3], (60, 35, 20), (100, 90, 100), strict=True):
        for sampler, solved in ((study.BASE, base), (study.CEILING, ceiling)):
            unmeasured.kept.outcomes["regime", str(regime), sampler, str(study.REGIME_SEED)] = result(solved)
    assert unmeasured.chosen() == {"8 agents x 2 actions": study.CANDIDATES[1]}
    assert unmeasured.candidates()[study.CANDIDATES[2]][1] is None


def test_a_sampler_has_the_setting_of_least_error(unmeasured: study.Study) -> None:
    """As a share of on-policy's at the same policies; a setting that diverged is not it."""
    regime, grid = study.CANDIDATES[0], study.GRIDS["PROPS"]
    for (name, _), own, on_policy in zip(grid.items(), (math.nan, 0.2, 0.3, 0.29), (0.3, 0.2, 0.6, 0.3), strict=True):
        key = ("tuning", str(regime), f"PROPS, {name}", str(study.TUNING_SEED))
        unmeasured.kept.outcomes[key] = result(1, pairwise_tv=own, pairwise_tv_on_policy=on_policy)
    assert unmeasured.samplers({study.TUNED_ON: regime}) == {**study.UNTUNED, "PROPS": list(grid.values())[2]}


def test_only_run_seeds_on_which_every_sampler_has_run_are_compared(unmeasured: study.Study) -> None:
    regimes = {study.TUNED_ON: study.CANDIDATES[0]}
    first, second = map(str, study.RUN_SEEDS)
    for sampler in study.SAMPLERS:
        for run_seed in (first, second)[: 1 if sampler == "MAPROPS" else 2]:
            unmeasured.kept.outcomes["compared", str(regimes[study.TUNED_ON]), sampler, run_seed] = result(1)
    assert unmeasured.complete_run_seeds(regimes[study.TUNED_ON]) == [first]
    assert {outcome.seeds for outcome in unmeasured.compare(regimes).values()} == {100}


def test_every_sampler_has_as_many_settings() -> None:
    assert {len(grid) for grid in study.GRIDS.values()} == {4}


@pytest.mark.every(3)
@pytest.mark.parametrize("sampler", study.GRIDS)
def test_every_setting_can_be_run(sampler: str) -> None:
    for behavior in study.GRIDS[sampler].values():
        run = run_of("tuning", study.CANDIDATES[0], sampler, behavior, 0, 2, 1)
        cli = RunCLI(["--config", run.config, *run.flags])
        cli.model.prepare(cli.datamodule)


def test_holm_is_bonferroni_for_the_least_and_never_below_its_elders() -> None:
    """By its definition: of sorted p, the running maximum of (m - k) p_k; above Benjamini and Hochberg's everywhere."""
    given = [0.01, 0.04, 0.03, 0.005]
    assert holm(given) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert all(own >= other for own, other in zip(holm(given), false_discovery_control(given), strict=True))


def test_equal_shares_are_tested_exactly() -> None:
    """Against the hypergeometric sum: 3 of 3 and 0 of 3 are one of C(6, 3) = 20 ways, and so are they the other way."""
    assert p_value(result(3, 3), result(0, 3)) == pytest.approx(2 / 20)

"""The trade-off of docs/evidence/history.md: D's returns by brute force, its figures where they are known exactly."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import t
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.behavior import LowDiscrepancy, OnPolicy
from lit_maprops.envs import MatrixGame
from lit_maprops.module import LitMAPROPS
from lit_maprops.targets import Reinforce
from studies.history import tradeoff
from studies.history.tradeoff import FIGURES, HISTORIES, SETTINGS, Cell, Setting, Table, Watch, effective_share

SEEDS, ITERATIONS, N = 32, 6, 8


def setting(maker: object, rate: float, payoff: object = "figure1") -> Setting:
    task, learner = partial(MatrixGame, payoff), partial(Reinforce, rate)
    return Setting(task, learner, {"sampler": maker}, N, ITERATIONS, 7, (SEEDS,), 1, True)  # type: ignore[arg-type, dict-item]


@pytest.mark.parametrize(("history", "kept"), [("b = 1", 1), ("b = 2", 2), ("growing", ITERATIONS)])
def test_the_mean_return_is_that_of_all_rewards_in_d(history: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of a matrix game is an episode."""
    pairs = []

    class Checked(Watch):
        def __call__(self, model: LitMAPROPS) -> None:
            super().__call__(model)
            rewards = model.buffer.trajectories().get(("next", *keys.REWARD))
            assert rewards.shape[1] == min(kept, len(self.counts))
            pairs.append((self.mean_return(), rewards.double().flatten(1).mean(1).numpy()))

    monkeypatch.setattr(tradeoff, "Watch", Checked)
    tradeoff.run(setting(OnPolicy, 1.0), "sampler", history, 0, SEEDS)
    assert len(pairs) == ITERATIONS
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("maker", [OnPolicy, partial(LowDiscrepancy, coordinates="joint")])
def test_policies_that_do_not_move_have_no_bias(maker: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """At uniform policies the game pays (3 + 1 + 1 + 2.8) / 4; every joint action comes twice in 8 even draws."""
    means = []

    class Kept(Watch):
        def __call__(self, model: LitMAPROPS) -> None:
            super().__call__(model)
            means.append(self.mean_return())

    monkeypatch.setattr(tradeoff, "Watch", Kept)
    _, found = tradeoff.run(setting(maker, 1e-9, [[3.0, 1.0], [1.0, 2.8]]), "sampler", "growing", 0, SEEDS)
    assert set(found) == set(FIGURES)
    assert found["staleness"] == pytest.approx(np.zeros(SEEDS), abs=1e-6)
    # A return's standard deviation is 0.954: five standard errors of the first batch alone, for 32 seeds.
    assert abs(found["return_bias"].mean()) < 5 * 0.954 / (32 * 8) ** 0.5
    if maker is OnPolicy:
        assert found["effective_share"] == pytest.approx(np.ones(SEEDS), abs=1e-5)
        assert found["joint_tv"].min() > 0
    else:
        np.testing.assert_allclose(means, 1.95, atol=1e-6)
        assert found["joint_tv"].max() < 1e-6


def test_the_effective_share_is_kishs() -> None:
    """Two batches of two episodes of two steps; weights 1, 2, 4 and 1."""
    steps = [[1.0, 1.0, 2.0, 1.0], [2.0, 2.0, 0.5, 2.0]]  # ratios, batch by batch
    ratio = torch.tensor(steps).reshape(1, 2, 4, 1).log()
    done = torch.tensor([False, True, False, True]).reshape(1, 1, 4, 1, 1).expand(1, 2, 4, 1, 1)
    data = TensorDict(
        {keys.TARGET_LOG_PROB: ratio - 1, keys.BEHAVIOR_LOG_PROB: torch.full_like(ratio, -1)}, [1, 2, 4, 1]
    )
    data.set(keys.BEHAVIOR_KL, torch.zeros(1, 2, 4, 1))
    data.set(("next", *keys.REWARD), torch.zeros(1, 2, 4, 1, 2, 1)).set(("next", keys.DONE), done)
    weights = [1, 2, 4, 1]
    expected = sum(weights) ** 2 / (4 * sum(weight**2 for weight in weights))
    assert effective_share(data, whole=True) == pytest.approx([expected])
    # Whose first episodes may have begun before: those are left out.
    assert effective_share(data, whole=False) == pytest.approx([(2 + 1) ** 2 / (2 * (2**2 + 1))])


def test_blocks_are_pooled_as_their_seeds_would_be() -> None:
    values = np.random.default_rng(3).normal(size=12)
    rows = []
    for part in (values[:4], values[4:]):
        row = {"seeds": len(part), "solved": 2, "first seed": 0}
        rows.append({k: str(v) for k, v in (row | {"x": part.mean(), "x squared": np.mean(part**2)}).items()})
    cell = Cell(rows)
    assert (cell.seeds, cell.solved) == (12, 4)
    assert cell.mean("x") == pytest.approx(values.mean())
    assert cell.half("x") == pytest.approx(t.ppf(0.975, 11) * values.std(ddof=1) / 12**0.5)


def test_what_the_table_holds_is_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(tradeoff, "table_of", lambda study: tmp_path / "x.csv")
    asked = []

    def run(setting: Setting, sampler: str, history: str, first: int, seeds: int) -> tuple[np.ndarray, dict]:
        asked.append((sampler, history, first))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return np.ones(seeds), {name: np.arange(float(seeds)) for name in FIGURES}

    monkeypatch.setattr(tradeoff, "run", run)
    with pytest.raises(KeyboardInterrupt):
        Table().fill("BoulderPush", 2)
    Table().fill("BoulderPush", 2)
    interrupted = asked.pop(4)
    assert interrupted == asked[4] and len(asked) == len(set(asked)) == 2 * len(HISTORIES) * 2
    cell = Table().of("BoulderPush", "OnPolicy", "growing")
    values = [value for seeds in SETTINGS["BoulderPush"].blocks[:2] for value in range(seeds)]
    assert cell is not None and cell.seeds == cell.solved == len(values)
    assert cell.mean("joint_tv") == pytest.approx(np.mean(values))
    assert [first for *_, first in asked[: 2 * 8]] == [0] * 8 + [SETTINGS["BoulderPush"].blocks[0]] * 8

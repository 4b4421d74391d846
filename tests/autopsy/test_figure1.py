"""The autopsy of figure1 against brute force: the game, REINFORCE and its expected gradient written down in NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lit_maprops import keys
from lit_maprops.autopsy import ideal
from lit_maprops.autopsy.case import Case, load
from lit_maprops.autopsy.findings import SAMPLING_ERROR, Finding, findings
from lit_maprops.autopsy.replay import Replay
from lit_maprops.autopsy.search import state_of
from lit_maprops.cli.main import main

PAYOFF = np.array([[1, -1], [-1, 0.8]])
UPDATES, N, BRANCHES, MANY = 60, 8, 128, 2000
Floats = NDArray[np.floating]


def policies(logits: Floats) -> Floats:
    chance = np.exp(logits - logits.max(-1, keepdims=True))
    return chance / chance.sum(-1, keepdims=True)


def learned(logits: Floats, actions: NDArray[np.integer]) -> Floats:
    """One update of runs ``[K, agent, action]`` by batches ``[K, n, agent]``."""
    reward = PAYOFF[actions[..., 0], actions[..., 1]]
    advantage = (reward - reward.mean(1, keepdims=True))[..., None, None]
    return logits + (advantage * (np.eye(2)[actions] - policies(logits)[:, None])).mean(1)


def expected(logits: Floats) -> Floats:
    """One update by the exact gradient of the expected reward."""
    first, second = np.moveaxis(policies(logits), 1, 0)  # [K, action]
    value = np.einsum("ka,ab,kb->k", first, PAYOFF, second)[:, None]
    of_first, of_second = second @ PAYOFF.T, first @ PAYOFF
    return logits + np.stack([first * (of_first - value), second * (of_second - value)], 1)


def chance(logits: Floats, updates: int, generator: np.random.Generator) -> float:
    """Share of ``MANY`` runs from one state that end at (A, A)."""
    runs = np.repeat(logits[None], MANY, 0)
    for _ in range(updates):
        drawn = generator.random((MANY, N, 2)) > policies(runs)[:, None, :, 0]
        runs = learned(runs, drawn.astype(int))
    return float((runs[..., 0] > runs[..., 1]).all(1).mean())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("runs")
    options = ["--model.behavior", "OnPolicy", "--model.num_seeds", "32", "--wandb", "disabled"]
    assert main(["fit", "--config", "matrix_game", *options, "--runs_dir", str(folder), "--run_name", "x"]) == 0
    return load(folder / "x")


@pytest.fixture(scope="module")
def replay(case: Case) -> Replay:
    return Replay(case, case.failed[:4])  # an autopsy of each


@pytest.fixture(scope="module")
def found(case: Case, replay: Replay) -> list[Finding]:
    return findings(case, replay, BRANCHES, 7)


def logits_after(replay: Replay, seed: int, update: int) -> Floats:
    state = replay.moments([update])[update].state["state_dict"]["learner.policies.net.flat"]
    return state[replay.seeds.index(seed)].double().numpy()


def test_the_replay_is_the_run(case: Case, replay: Replay) -> None:
    """The logits are what NumPy makes of the replayed batches, from the uniform policies to the end."""
    assert replay.exact and len(case.failed) >= 4
    for seed in case.failed[:3]:
        logits = np.zeros((1, 2, 2))
        for update in range(1, UPDATES + 1):
            batch = replay.moments([update])[update].batch
            assert batch is not None
            actions = batch[replay.seeds.index(seed)].get(keys.ACTION).flatten(0, 1).numpy()
            logits = learned(logits, actions[None])
            np.testing.assert_allclose(logits[0], logits_after(replay, seed, update), atol=2e-5)
        assert (logits[0, :, 1] > logits[0, :, 0]).all()  # it has settled on (B, B)


@pytest.mark.slow
def test_the_chances_are_those_of_brute_force(found: list[Finding], replay: Replay) -> None:
    """On either side of the decisive update and with the expected gradient; within 4 standard errors."""
    generator = np.random.default_rng(0)
    for one in found:
        before, after = (logits_after(replay, one.seed, k) for k in (one.update - 1, one.update))
        redone = expected(before[None])[0]
        left = UPDATES - one.update
        for share, logits, updates in (
            (one.before, before, left + 1),
            (one.after, after, left),
            (one.ideal, redone, left),
        ):
            truth = chance(logits, updates, generator)
            error = np.sqrt(max(truth * (1 - truth), 0.01) * (1 / share.branches + 1 / MANY))
            assert abs(share.value - truth) < 4 * error, (one.seed, share, truth)


def test_the_decisive_update_is_the_last_fall_below_the_level(found: list[Finding], replay: Replay) -> None:
    """By brute force, up to what the search's 64 branches per look leave open."""
    generator = np.random.default_rng(1)
    reach = 4 * 0.5 / np.sqrt(BRANCHES // 2)
    for one in found[:4]:
        level = one.trail.level
        assert level == 0.5  # the game begins with more than even odds
        assert (
            chance(logits_after(replay, one.seed, one.update - 1), UPDATES - one.update + 1, generator) > level - reach
        )
        for later in (one.update, one.update + 1, one.update + 3, one.update + 8):
            if later <= UPDATES:
                truth = chance(logits_after(replay, one.seed, later), UPDATES - later, generator)
                assert truth < level + reach, (one.seed, later)


def test_it_finds_the_cause_that_theory_says(found: list[Finding], replay: Replay) -> None:
    """The batch has too many (B, B) or too few (A, A); the expected gradient goes to (A, A) from there."""
    assert len(found) >= 4
    for one in found:
        logits = logits_after(replay, one.seed, one.update - 1)
        batch = replay.moments([one.update])[one.update].batch
        assert batch is not None
        actions = batch[replay.seeds.index(one.seed)].get(keys.ACTION).flatten(0, 1).numpy()
        first, second = policies(logits)
        own = {action.name: action for action in one.actions}
        for a, b in np.ndindex(2, 2):
            share = first[a] * second[b]
            action = own[f"({'AB'[a]}, {'AB'[b]})"]
            assert action.in_batch == int((actions == [a, b]).all(1).sum())
            assert action.expected == pytest.approx(N * share, rel=1e-5)
            z = (action.in_batch - N * share) / np.sqrt(N * share * (1 - share))
            assert action.z == pytest.approx(z, abs=1e-4)
        assert own["(B, B)"].z > 0.05 or own["(A, A)"].z < -0.05
        end = logits[None]
        for _ in range(UPDATES - one.update + 1):
            end = expected(end)
        assert one.to_the_end == bool((end[0, :, 0] > end[0, :, 1]).all())
    assert sum(one.to_the_end for one in found) >= len(found) - 1
    assert sum(one.verdict == SAMPLING_ERROR for one in found) >= len(found) - 1


def test_the_ideal_update_is_the_expected_gradient(case: Case, found: list[Finding], replay: Replay) -> None:
    one = found[0]
    row = [replay.seeds.index(one.seed)]
    moments = replay.moments([one.update - 1, one.update])
    before, after = (state_of(moments[k], replay, [one.seed]) for k in (one.update - 1, one.update))
    redone = ideal.redone(case, before, after, [one.seed])
    assert ideal.is_exact(case)
    logits = logits_after(replay, one.seed, one.update - 1)
    ours = redone["state_dict"]["learner.policies.net.flat"][0].double().numpy()
    np.testing.assert_allclose(ours, expected(logits[None])[0], atol=1e-6)
    assert torch.equal(  # nothing was done to what it was made of
        moments[one.update].state["state_dict"]["learner.policies.net.flat"][row],
        after["state_dict"]["learner.policies.net.flat"],
    )


def test_a_game_in_which_every_batch_fails_is_no_sampling_error(
    fit: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    """A learner that hardly moves: no seed is ever solved, whatever the batches hold."""
    folder = fit("slow", "--model.behavior", "OnPolicy", "--model.learner.learning_rate", "1e-9",
                 "--data.env.payoff", "[[0, 0], [0, 1]]")  # fmt: skip
    capsys.readouterr()
    assert main(["autopsy", str(folder), "--seed", "1", "--branches", "64"]) == 0
    out = capsys.readouterr().out
    assert "not sampling error (an ideal batch fails as well)" in out and "no single update shown" in out
    assert "to the run's end: not solved" in out

"""The game of studies/sparse_reward: its rules by a loop, its exact figures by enumeration and by many batches."""

import itertools

import pytest
import torch

from lit_maprops import keys
from lit_maprops.analyze.analysis import analyze
from lit_maprops.analyze.subject import Sampler
from lit_maprops.behavior import OnPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.module import LitMAPROPS
from studies.sparse_reward.game import CLIMB, STAY, Ladder, Watched, exact, exact_reference
from studies.sparse_reward.measure import subject_of
from studies.train import train

RUNGS, CONSOLATION = 3, 0.25


def play(actions: list[tuple[int, int]]) -> tuple[list[float], list[bool]]:
    """Rewards of an episode, and in which steps the agents are on the ladder."""
    on, rewards, where = True, [], []
    for step, (first, second) in enumerate(actions):
        where.append(on)
        on = on and first == second == CLIMB
        reward = CONSOLATION if step == 0 and first == second == STAY else 0.0
        rewards.append(reward + (1.0 if on and step == RUNGS - 1 else 0.0))
    return rewards, where


EPISODES = list(itertools.product(itertools.product((STAY, CLIMB), repeat=2), repeat=RUNGS))


def random_policies(seeds: int) -> Watched:
    learner = Watched()
    learner.build(Ladder(RUNGS, CONSOLATION), 0, list(range(seeds)))
    flat = learner.policies.net.flat
    with torch.no_grad():
        flat.copy_(torch.randn(flat.shape, generator=torch.Generator().manual_seed(0)))
    return learner


def test_the_rules_are_those_of_a_loop() -> None:
    task, actions = Ladder(RUNGS, CONSOLATION), torch.tensor(EPISODES)  # [64, L, 2]
    state, numbers = task.initial_state(torch.zeros(len(EPISODES), 0)), []
    for step in range(RUNGS):
        numbers.append(task.state_index(state))
        observation, seen = task.observe(state)
        assert torch.equal(observation[:, 0], seen) and torch.equal(seen.argmax(-1), numbers[-1])
        outcome = task.transition(state, actions[:, step], torch.zeros(len(EPISODES), 0))
        expected = [play(list(episode)) for episode in EPISODES]
        assert outcome.reward[:, 1].tolist() == pytest.approx([rewards[step] for rewards, _ in expected])
        assert (numbers[-1] < RUNGS).tolist() == [where[step] for _, where in expected]
        assert outcome.terminated.all() == (step == RUNGS - 1)
        assert outcome.success.tolist() == [rewards[step] >= 1 for rewards, _ in expected]
        state = outcome.state
    assert len(torch.cat(numbers).unique()) == 2 * RUNGS - 1


def test_exact_figures_are_sums_over_all_episodes() -> None:
    learner = random_policies(4)
    table = learner.policies.distribution_parameters(torch.eye(7).unsqueeze(1).expand(4, 7, 2, -1)).exp().detach()
    with torch.no_grad():
        found = exact(learner.policies, learner.task)
    for seed in range(4):
        high = low = top = consoled = 0.0
        for episode in EPISODES:
            rewards, where = play(list(episode))
            states = [step if on else RUNGS + step for step, on in enumerate(where)]
            chance = float(torch.stack([table[seed, s, i, a] for s, pair in zip(states, episode, strict=True)
                                        for i, a in enumerate(pair)]).prod())  # fmt: skip
            up = [on and pair == (CLIMB, CLIMB) for on, pair in zip(where, episode, strict=True)]
            high += chance * sum(up) / RUNGS
            low += chance * (sum(where) - sum(up)) / RUNGS
            top += chance * (rewards[-1] >= 1)
            consoled += chance * (rewards[0] > 0)
        values = [float(figure[seed]) for figure in (found.high, found.low, found.top, found.consoled)]
        assert values == pytest.approx([high, low, top, consoled], abs=1e-6)


def test_the_reference_is_what_on_policy_batches_expect() -> None:
    """No bias is left after many batches, of policies that climb now and then."""
    learner = random_policies(6)
    batches, steps = 4_000, 4 * RUNGS
    reference = exact_reference(learner.policies, learner.task, steps)
    result = analyze(subject_of(learner, 0, steps), {"x": Sampler(OnPolicy())}, batches, steps, reference)
    bias, error = result.samplers["x"]["bias_squared"]
    assert (bias < 4 * error + 1e-9).all()
    assert (error < 0.01 * reference.gradient.square().sum(-1)).all()
    returned, error = result.samplers["x"]["return_bias"]
    assert (returned.abs() < 4 * error).all()


def test_a_run_says_what_its_batches_hold() -> None:
    """And the means over many on-policy batches are the expected shares."""
    seeds, batches, episodes = 200, 10, 8
    rows = []

    class Looking(Watched):
        def update(self, buffer):  # type: ignore[no-untyped-def]
            stats = super().update(buffer)
            data = buffer.current()
            for seed in range(2):
                pairs = [tuple(pair) for pair in data.get(keys.ACTION)[seed, :, 0].tolist()]
                played = [play(pairs[k : k + RUNGS]) for k in range(0, len(pairs), RUNGS)]
                where = [on for _, one in played for on in one]
                high = [on and pair == (CLIMB, CLIMB) for on, pair in zip(where, pairs, strict=True)]
                assert float(stats["high"][seed]) == pytest.approx(sum(high) / len(pairs))
                assert float(stats["low"][seed]) == pytest.approx((sum(where) - sum(high)) / len(pairs))
                assert stats["rewarded"][seed] == any(rewards[-1] >= 1 for rewards, _ in played)
            return stats

    learner = Looking(learning_rate=0.5)
    model = LitMAPROPS(
        OnPolicy(), learner, seeds, total_env_steps=batches * episodes * RUNGS, eval_interval=batches, eval_episodes=1
    )
    data = MultiAgentData(Ladder(RUNGS, CONSOLATION), 1, 1, episodes * RUNGS)
    train(model, data, lambda model: rows.append({name: value.clone() for name, value in model.row.items()}))
    assert len(rows) == batches
    for name in ("high", "low"):
        off = torch.stack([row[f"target/{name}"] - row[f"target/expected_{name}"] for row in rows]).flatten()
        assert abs(off.mean()) < 4 * off.std() / len(off) ** 0.5
    assert [row["target/top"][0].item() for row in rows[:1]] == pytest.approx([1 / 64])

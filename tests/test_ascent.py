"""Ascent along the expected gradient of one-step games, against automatic differentiation and what batches give."""

import pytest
import torch
from torch import Tensor

from lit_maprops.behavior import OnPolicy
from lit_maprops.envs import Coordination, MatrixGame
from studies.matrix_games.exact import ascent, payoffs
from studies.matrix_games.measures import best_joint_actions, solved_seeds
from studies.random_policies.__main__ import initial_logits


def stepped(payoff: Tensor, logits: Tensor, rate: float) -> Tensor:
    """One step by torch's gradients of each agent's own expected payoff, enumerated in a loop."""
    gradients = []
    for agent in range(logits.shape[1]):
        free = logits.clone().requires_grad_()
        policies = free.softmax(-1)
        expected = torch.zeros(())
        for action in torch.cartesian_prod(*[torch.arange(logits.shape[2])] * logits.shape[1]).tolist():
            chance = torch.stack([policies[:, i, a] for i, a in enumerate(action)]).prod(0)
            expected = expected + (chance * payoff[tuple(action)][agent]).sum()
        (gradient,) = torch.autograd.grad(expected, free)
        gradients.append(gradient[:, agent])
    return logits + rate * torch.stack(gradients, 1)


@pytest.mark.parametrize(("agents", "actions"), [(2, 2), (3, 2), (2, 4), (4, 3)])
def test_steps_are_those_of_automatic_differentiation(agents: int, actions: int) -> None:
    draw = torch.Generator().manual_seed(agents)
    payoff = torch.randn(*[actions] * agents, agents, generator=draw)
    start = torch.randn(3, agents, actions, generator=draw)
    logits = start
    for _ in range(4):
        logits = stepped(payoff, logits, 0.7)
    policies = logits.softmax(-1)
    joint = torch.stack([policies[:, i] for i in range(agents)]).unbind(0)
    letters = "abcd"[:agents]
    expected = torch.einsum(",".join(f"r{x}" for x in letters) + f"->r{letters}", *joint).flatten(1)
    torch.testing.assert_close(ascent(payoff, start, 0.7, 4), expected)


def test_payoffs_are_the_tasks_own() -> None:
    game = MatrixGame([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    assert payoffs(game)[1, 0].tolist() == [5.0, 6.0]
    assert payoffs(Coordination(3, 2, [1.0, 0.9]))[1, 1, 1].tolist() == pytest.approx([0.9] * 3)
    assert payoffs(Coordination(3, 2, [1.0, 0.9]))[1, 0, 1].tolist() == [0.0] * 3


def test_large_batches_go_where_the_expected_gradient_goes() -> None:
    """From random policies: REINFORCE with 512 samples a batch ends like ascent for nearly every seed."""
    game, seeds = MatrixGame("figure1"), 60
    logits = initial_logits()[:seeds]
    reached = ascent(payoffs(game), logits, 1.0, 60)[:, best_joint_actions(game)].sum(1) > 0.5
    solved, own, on_policy = solved_seeds(OnPolicy, lambda: MatrixGame("figure1"), 512, seeds, 1.0, logits=logits)
    assert 10 < reached.sum() < 50
    assert (solved != reached).sum() <= 3
    assert own == pytest.approx(on_policy, rel=0.2)

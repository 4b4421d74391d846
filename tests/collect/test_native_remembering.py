"""The compiled collection of policies and critics that remember, against TorchRL's, from the same seeds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from collect_helpers import assert_same_state, assert_same_steps, collection, native, pair
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, LowDiscrepancy, OnPolicy
from lit_maprops.collect import Collection, NativeCollection, unsupported
from lit_maprops.envs import BoulderPush, Foraging, MatrixGame, StagedGame, Task
from lit_maprops.stacked.cells import Cell
from lit_maprops.stacked.layers import Architecture
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets.critics import AgentSpecificCritic, CentralCritic, Critic, IndependentCritic
from lit_maprops.targets.memory import RecurrentCentralCritic, critic_of

pytestmark = native
GRU, LSTM = Cell("gru", 16), Cell("lstm", 8)
# Task, behavior policy, environments E, batch m, layers below the cell, one network for all agents, cell, critic.
Case = tuple[Task, Callable[[], BehaviorPolicy], int, int, tuple[int, ...], bool, Cell, type[Critic]]
CASES: dict[str, Case] = {
    "joint, step by step": (
        *(BoulderPush(max_steps=9), lambda: MAPROPS(hidden=[16, 11]), 1, 1, (16, 16), False),
        *(GRU, CentralCritic),
    ),
    "own critics": (BoulderPush(max_steps=9), OnPolicy, 3, 12, (9,), False, LSTM, IndependentCritic),
    "shared": (Foraging(sight=1, max_steps=7), OnPolicy, 2, 8, (12,), True, GRU, IndependentCritic),
    "shared, central": (StagedGame(stages=4), LowDiscrepancy, 3, 6, (), True, LSTM, CentralCritic),
    "seven agents": (
        *(BoulderPush("large", n_agents=7, max_steps=5), lambda: OnPolicy(draws="stratified"), 3, 6, (16,)),
        *(False, GRU, IndependentCritic),
    ),
    "asked": (Foraging(max_steps=5), lambda: PROPS(hidden=[8]), 2, 4, (8, 8), False, LSTM, CentralCritic),
    "stages": (
        *(StagedGame("climbing", stages=3), lambda: MAPROPS(hidden=[], draws="low_discrepancy"), 2, 8, (5,)),
        *(False, GRU, CentralCritic),
    ),
}


def remembering(case: str) -> tuple[Any, Any, int]:
    task, behavior, envs, batch, hidden, shared, *memory = CASES[case]
    made = {"hidden": hidden, "shared": shared, "memory": tuple(memory)}
    return *pair(task, behavior, [3, 5], envs, batch, **made), 40 * envs // batch


@pytest.mark.every(2)
@pytest.mark.parametrize("case", CASES)
def test_every_key_is_that_of_torchrl(case: str) -> None:
    oracle, own, batches = remembering(case)
    ends = 0
    for _ in range(batches):
        steps = oracle.collect()
        assert_same_steps(steps, own.collect())
        ends += int(steps.get(("next", keys.DONE)).sum())
    assert ends >= 8 and steps.get(keys.MEMORY).any() and steps.get(keys.CRITIC_MEMORY).any()
    assert_same_state(oracle.checkpoint_state(), own.checkpoint_state())


@pytest.mark.parametrize(("first", "then"), [(0, 1), (1, 0), (1, 1)], ids=["to kernel", "to torch", "kernel"])
def test_either_continues_the_other_within_an_episode(first: int, then: int) -> None:
    before, after = remembering("shared")[first], remembering("shared")[then]
    for _ in range(5):
        before.collect()
    saved = before.checkpoint_state()
    carried = {name: value.clone() for name, value in saved["carried"].items()}
    assert carried["agents/memory"].any() and carried["critic_memory"].any()
    after.restore(saved)
    after.actor.behavior.restore(before.actor.behavior.checkpoint_state())
    for _ in range(5):
        whole, again = before.collect(), after.collect()
        assert_same_steps(whole, again)
        assert first != then or torch.equal(whole.get(keys.MEMORY), again.get(keys.MEMORY))
    for name, value in carried.items():  # a saved state stays what it is
        assert torch.equal(value, saved["carried"][name]), name


def test_memories_are_those_of_torch_modules() -> None:
    """Every episode from its start through ``torch.nn.GRU``, agent by agent."""
    task = BoulderPush(max_steps=11)
    own = collection(NativeCollection, task, OnPolicy(), [0, 1], 2, 60, (16,), memory=(GRU, CentralCritic))
    data, net = own.collect(), own.actor.policies.net
    assert isinstance(net, RecurrentNet)
    for seed in range(2):
        for agent in range(task.n_agents):
            cell, last = torch_modules(net, seed, agent)
            for env in range(2):
                steps = data[seed, :, env]
                begins = [0, *(1 + step for step in range(29) if steps.get(("next", keys.DONE))[step])]
                gates = below_cell(net, seed, agent, steps.get(keys.OBSERVATION)[:, agent].float())
                for begin, end in zip(begins, [*begins[1:], 30], strict=True):
                    hidden, _ = cell(gates[begin:end])
                    after = steps.get(("next", *keys.MEMORY))[begin:end, agent]
                    torch.testing.assert_close(after, hidden, atol=1e-5, rtol=1e-5)
                    wanted = last(hidden).log_softmax(-1)
                    torch.testing.assert_close(steps.get(keys.PARAMETERS)[begin:end, agent], wanted)


def torch_modules(net: RecurrentNet, seed: int, agent: int) -> tuple[torch.nn.GRU, torch.nn.Linear]:
    """The cell, whose input is what comes from below, and the map behind it, in torch's modules."""
    inner, bias, last, last_bias = (tensor.detach() for tensor in net.weights_of(seed, agent))
    units = net.cell.units
    cell, linear = torch.nn.GRU(3 * units, units), torch.nn.Linear(units, net.out_dim)
    state = {"weight_ih_l0": torch.eye(3 * units), "weight_hh_l0": inner, "bias_ih_l0": torch.zeros(3 * units)}
    cell.load_state_dict(state | {"bias_hh_l0": bias})
    linear.load_state_dict({"weight": last, "bias": last_bias})
    return cell.requires_grad_(False), linear.requires_grad_(False)


def below_cell(net: RecurrentNet, seed: int, agent: int, x: Tensor) -> Tensor:
    layers = net.encoder.layers()
    for place, (weight, bias) in enumerate(layers):
        own = weight[seed * net.stack[1] + agent].detach()
        x = x @ own.T + (0.0 if bias is None else bias[seed * net.stack[1] + agent].detach())
        x = x.tanh() if place + 1 < len(layers) else x
    return x


def test_weights_that_change_are_seen() -> None:
    """Of the cell, of what is below it, and of the critic's, wherever parameters are changed in place."""
    oracle, own, _ = remembering("own critics")
    for networks in ("policies", "critic"):
        for parameter in ("flat", "encoder.flat"):
            for made in (oracle, own):
                net = getattr(made.actor, networks).net
                with torch.no_grad():
                    net.get_parameter(parameter).mul_(1.1)
            assert_same_steps(oracle.collect(), own.collect())


class Mine(RecurrentNet):
    """Might unroll otherwise."""


class MyCritic(RecurrentCentralCritic):
    """Might see something else."""


def test_what_the_kernel_does_not_remember() -> None:
    """Sizes that are not whole vectors, critics of both state and observations, what might be something else."""
    game, device = MatrixGame(), torch.device("cpu")

    def said(cell: Cell, critic: type[Critic], changed: Callable[[Any], Any] = lambda actor: None) -> str | None:
        made = collection(Collection, game, OnPolicy(), [0], 1, 4, memory=(cell, critic))
        changed(made.actor)
        return unsupported(game, made.actor.policies, made.actor.behavior, device, critic=made.actor.critic)

    def share(actor: Any) -> None:
        weights = SeedStreams(0, [0], "weights").generators
        actor.critic = critic_of(IndependentCritic, 1, game, Architecture((8,), cell=GRU), True, weights)

    def change(net: Any) -> None:
        net.__class__ = Mine

    assert said(GRU, CentralCritic) is None and said(LSTM, IndependentCritic) is None
    assert said(Cell("gru", 12), CentralCritic) == "<learner.memory_size> is 12, and the kernel knows multiples of 8"
    both = "the kernel knows critics that remember the state or observations, not both"
    assert said(GRU, AgentSpecificCritic) == both
    one = "either policies or critics share their parameters, and the kernel knows both or neither"
    assert said(GRU, IndependentCritic, share) == one
    of_another_kind = "the kernel knows plain tanh networks, and {} of another kind"
    assert said(GRU, CentralCritic, lambda a: change(a.policies.net)) == of_another_kind.format("policies are")
    assert said(GRU, CentralCritic, lambda a: change(a.critic.net)) == of_another_kind.format("the critic is")
    mine = said(GRU, CentralCritic, lambda actor: setattr(actor.critic, "__class__", MyCritic))
    assert mine == "MyCritic is a critic of your own"

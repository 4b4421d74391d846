"""IPPO and MAPPO that remember against a from-scratch PPO of torch's cells, one seed and one sequence at a time."""

import pytest
import torch
from targets_helpers import (
    ENVS,
    PPOS,
    SEEDS,
    SMALL,
    STEPS,
    TASKS,
    GaussianTask,
    MaskedTask,
    Reference,
    SizesTask,
    built,
    filled,
    random_batch,
    randomize_heads,
)
from tensordict import TensorDict
from test_ppo import ScalarPPO, gae
from torch import Tensor, nn

from lit_maprops import keys
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets.burn_in import BurnIn

UNITS, LENGTH = 5, 3
KINDS = {name: (name, {}) for name in PPOS} | {"agent-specific": ("MAPPO", {"critic_input": "agent_specific_state"})}
TIGHT = SMALL | {"learning_rate": 0.02, "clip_epsilon": 0.05, "clip_value": 0.02, "max_grad_norm": 0.3}


class Recurrent(nn.Module):
    """One entry of a ``RecurrentNet`` of one hidden layer, of torch's modules, step by step with resets."""

    def __init__(self, net: RecurrentNet, entry: tuple[int, ...]) -> None:
        super().__init__()
        assert isinstance(net.encoder, StackedMLP)
        number = entry[0] if len(net.stack) == 1 else entry[0] * net.stack[1] + entry[1]
        (first, offset), (gates, gates_offset) = [(w[number], b[number]) for w, b in net.encoder.layers()]
        self.units = net.cell.units
        self.first, self.last = nn.Linear(first.shape[1], first.shape[0]), nn.Linear(self.units, net.out_dim)
        self.cell = (nn.GRUCell if net.cell.kind == "gru" else nn.LSTMCell)(gates.shape[1], self.units)
        inner, bias, last, last_bias = net.weights_of(*entry)
        pairs = [(self.first.weight, first), (self.first.bias, offset), (self.last.weight, last)]
        pairs += [(self.last.bias, last_bias), (self.cell.weight_ih, gates), (self.cell.bias_ih, gates_offset)]
        pairs += [(self.cell.weight_hh, inner), (self.cell.bias_hh, bias)]
        for mine, theirs in pairs:
            mine.data.copy_(theirs.detach())

    def after(self, seen: Tensor, memory: Tensor) -> Tensor:
        """What is remembered after one step."""
        if isinstance(self.cell, nn.GRUCell):
            return self.cell(self.first(seen).tanh(), memory)
        return torch.cat(self.cell(self.first(seen).tanh(), memory.chunk(2)))

    def forward(self, inputs: Tensor, memory: Tensor, begins: Tensor) -> Tensor:
        """``[C, L, in]``, ``[C, .]`` and ``[C, L]`` to ``[C, L, out]``."""
        outputs = []
        for row, own, begin in zip(inputs, memory, begins, strict=True):
            for seen, new in zip(row, begin, strict=True):
                own = self.after(seen, torch.zeros_like(own) if new else own)
                outputs.append(self.last(own[: self.units]))
        return torch.stack(outputs).unflatten(0, inputs.shape[:2])


class SequencePPO(ScalarPPO):
    """Samples are sequences ``[C, L, ...]``."""

    def _networks(self, net):
        entries = [(self.seed,)] if len(net.stack) == 1 else [(self.seed, agent) for agent in range(2)]
        return [Recurrent(net, entry) for entry in entries]

    def _of_agents(self, networks, seen: Tensor, begins: Tensor, memory: Tensor) -> Tensor:
        outputs = []
        for agent in range(2):
            x = seen[:, :, agent]
            if self.shared:
                x = torch.cat([x, torch.eye(2)[agent].expand(*x.shape[:2], 2)], -1)
            outputs.append(networks[0 if self.shared else agent](x, memory[:, 0, agent], begins))
        return torch.stack(outputs, 2).flatten(0, 1)  # [C L, A, out]

    @torch.no_grad()
    def burn_in(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is remembered first, from the memory stored before the steps ``warm_*`` on, sequence by sequence."""
        data = dict(data)
        for number, steps in enumerate(data["warm_steps"].tolist()):
            first = len(data["warm_begins"][number]) - steps
            for step in range(first, first + steps):
                one = {name: data[f"warm_{name}"][number, step] for name in ("observation", "state", "begins")}
                for name, networks in (("memory", self.policies), ("critic_memory", self.critics)):
                    whole = data[name] = data[name].clone()
                    before = data[f"warm_{name}"][number, step] if step == first else whole[number, 0]
                    for place, own in enumerate(before):
                        seen = (
                            one["state"]
                            if name == "critic_memory" and self.seen == "state"
                            else one["observation"][place]
                        )
                        if name == "critic_memory" and self.seen == "agent_specific_state":
                            seen = torch.cat([one["state"], seen])
                        if self.shared and len(before) > 1:
                            seen = torch.cat([seen, torch.eye(2)[place]])
                        network = networks[place if len(networks) > 1 else 0]
                        whole[number, 0, place] = network.after(seen, torch.zeros_like(own) if one["begins"] else own)
        return data

    def losses(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        data = self.burn_in(data) if "warm_steps" in data else data
        seen, state, begins, memory = (data[name] for name in ("observation", "state", "begins", "critic_memory"))
        if self.seen == "state":
            value = self.critics[0](state, memory[:, 0, 0], begins).flatten(0, 1)
        else:
            beside = torch.cat([state.unsqueeze(2).expand(-1, -1, 2, -1), seen], -1)
            judged = beside if self.seen == "agent_specific_state" else seen
            value = self._of_agents(self.critics, judged, begins, memory).squeeze(-1)
        outputs = self._of_agents(self.policies, seen, begins, data["memory"])
        flat = {name: column.flatten(0, 1) for name, column in data.items() if not name.startswith("warm")}
        self._value, self._per_agent = (lambda _: value), (lambda *_: outputs)
        return super().losses(flat)

    def assert_same(self) -> None:
        for net, networks in ((self.learner.policies.net, self.policies), (self.learner.critic.net, self.critics)):
            for agent, mine in enumerate(networks):
                theirs = Recurrent(net, (self.seed, agent)[: len(net.stack)])
                for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
                    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def remembering_batch(learner, seed: int = 0) -> TensorDict:
    """``random_batch`` with memories drawn at every step, of other steps than the ones before."""
    rng = torch.Generator().manual_seed(seed)
    plain = built(type(learner).__name__, task=type(learner.task))  # of the same sizes, for actions
    data = random_batch(plain, seed)
    for prefix in ((), ("next",)):
        for name, size in (learner.policies.remembered | learner.critic.remembered).items():
            name = name if isinstance(name, tuple) else (name,)
            data.set((*prefix, *name), torch.randn(*data.shape, *size, generator=rng))
    return data


def sequences_of(learner, trajectories: TensorDict, burn_in: int = 0, team: bool = False) -> list[dict[str, Tensor]]:
    """Per seed, sequences ``[C, L, ...]``: the first of every environment, then the second.

    Advantages are those of the agents' mean reward for a ``team``.

    With burn-in the steps before a sequence come along as ``warm_*``, the last ``warm_steps`` of which count.
    """
    advantage, target = gae(learner, trajectories)
    advantage = advantage.mean(-1, keepdim=True).expand_as(advantage) if team else advantage
    with torch.no_grad():
        value = learner.critic.values(trajectories).squeeze(-1)
    done = trajectories.get(("next", keys.DONE)).squeeze(-1)
    begins = torch.cat([torch.zeros_like(done[:, :, :1]), done[:, :, :-1]], 2)
    columns = {
        "observation": trajectories.get(keys.OBSERVATION), "state": trajectories.get(keys.STATE),
        "action": trajectories.get(keys.ACTION), "log_prob": trajectories.get(keys.LOG_PROB),
        "advantage": advantage, "value_target": target, "value": value, "begins": begins,
        "memory": trajectories.get(keys.MEMORY), "critic_memory": trajectories.get(keys.CRITIC_MEMORY),
        "parameters": trajectories.get(keys.PARAMETERS),
    }  # fmt: skip
    samples = []
    for seed in range(SEEDS):
        own = {name: column[seed, 0] for name, column in columns.items()}  # [T, E, ...]
        flat = own["advantage"].flatten(0, 1)
        own["advantage"] = (own["advantage"] - flat.mean(0)) / flat.std(0, correction=0)
        parts = [(part, env) for part in range(STEPS // LENGTH) for env in range(ENVS)]
        samples.append({
            name: torch.stack([column[part * LENGTH : (part + 1) * LENGTH, env] for part, env in parts])
            for name, column in own.items()
        })  # fmt: skip
        if burn_in:
            names = ["observation", "state", "begins", "memory", "critic_memory"]
            samples[-1]["warm_steps"] = torch.tensor([0 if part == 0 else burn_in for part, _ in parts])
            samples[-1] |= {
                f"warm_{name}": torch.stack(
                    [own[name][max(part - 1, 0) * LENGTH :, env][:LENGTH] for part, env in parts]
                )
                for name in names
            }
    return samples


@pytest.mark.every(8)
@pytest.mark.parametrize(("name", "critic"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("arguments", [{}, {"share_parameters": True}])
@pytest.mark.parametrize("minibatches", [1, 3])
@pytest.mark.parametrize("task", TASKS)
def test_update_is_that_of_a_from_scratch_ppo(name, critic, memory, arguments, minibatches, task):
    check_update(name, task, minibatches, memory=memory, memory_size=UNITS, **arguments | critic)


def check_update(name: str, task: type, minibatches: int, native: bool = False, **arguments) -> None:
    learner = built(name, task=task, **TIGHT | arguments, sequence_length=LENGTH, epochs=2, minibatches=minibatches)
    learner.task, learner.native = task(), native
    assert not native or learner.why_not_native() is None
    randomize_heads(learner)
    buffer = filled(remembering_batch(learner))
    samples = sequences_of(learner, buffer.trajectories())
    scalars = [SequencePPO(learner, seed, task) for seed in range(SEEDS)]
    stats = learner.update(buffer)
    order = SeedStreams(0, list(range(SEEDS)), "target minibatches")
    losses = [[] for _ in range(SEEDS)]
    for _ in range(2):
        for part in order.permutation(STEPS * ENVS // LENGTH).tensor_split(minibatches, dim=1):
            for seed, scalar in enumerate(scalars):
                chosen = {key: column[part[seed]] for key, column in samples[seed].items()}
                losses[seed].append(scalar.step(chosen))
    for seed, scalar in enumerate(scalars):
        scalar.assert_same()
        for key in ("policy_loss", "critic_loss", "entropy_loss"):
            mean = sum(step[key] for step in losses[seed]) / len(losses[seed])
            assert stats[key][seed].item() == pytest.approx(mean, rel=1e-3, abs=1e-4), key


@pytest.mark.every(8)
@pytest.mark.parametrize(("name", "critic"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("task", [SizesTask, GaussianTask])
@pytest.mark.parametrize(("share", "burn_in"), [(False, 1), (True, 2)])
def test_burn_in_is_that_of_a_loop_over_steps(name, critic, memory, task, share, burn_in):
    """Every gradient step begins its sequences with what its own networks make of the steps before them."""
    own = {"memory": memory, "memory_size": UNITS, "sequence_length": LENGTH, "burn_in": burn_in}
    own |= critic | {"share_parameters": share}
    learner = built(name, task=task, **TIGHT | own, epochs=2, minibatches=2)
    learner.task = task()
    randomize_heads(learner)
    buffer = filled(remembering_batch(learner))
    samples = sequences_of(learner, buffer.trajectories(), burn_in)
    scalars = [SequencePPO(learner, seed, task) for seed in range(SEEDS)]
    stats = learner.update(buffer)
    order = SeedStreams(0, list(range(SEEDS)), "target minibatches")
    for _ in range(2):
        for part in order.permutation(STEPS * ENVS // LENGTH).tensor_split(2, dim=1):
            for seed, scalar in enumerate(scalars):
                scalar.step({key: column[part[seed]] for key, column in samples[seed].items()})
    for seed, scalar in enumerate(scalars):
        scalar.assert_same()
        with torch.no_grad():
            scalar.losses(samples[seed])
            entropy = Reference(task(), scalar._per_agent()).entropy().mean()
        assert stats["entropy"][seed].item() == pytest.approx(entropy.item(), rel=1e-3)


def test_burn_in_of_data_that_the_present_networks_collected_changes_nothing():
    """What is stored is what they remember, also where episodes begin among the steps before."""
    learner = built("IPPO", memory="lstm", sequence_length=LENGTH, burn_in=2, **SMALL)
    learner.task = SizesTask()
    data = remembering_batch(learner)
    for net in (learner.policies, learner.critic):
        ((key, size),) = net.remembered.items()
        memory = torch.zeros(SEEDS, ENVS, *size)
        for step in range(STEPS):
            data.get(key)[:, step] = memory
            now = data[:, step].clone()
            with torch.no_grad():
                net.advance(now)
            memory = torch.where(now.get(("next", keys.DONE)).unsqueeze(-1), 0.0, now.get("next").get(key))
    flat = learner._prepare(filled(data).trajectories())
    for burnt in (BurnIn([learner.policies, learner.critic], flat, LENGTH, steps) for steps in (1, 2)):
        rows = torch.arange(STEPS * ENVS // LENGTH).expand(SEEDS, -1)
        for key, start in burnt.starts(rows).items():
            goes_on = ~flat.get(keys.BEGINS)[:, : rows.shape[1]]  # elsewhere it is forgotten
            torch.testing.assert_close(start[goes_on], flat.get(key)[:, : rows.shape[1]][goes_on])
            assert start[:, ENVS:].any() and goes_on[:, ENVS:].any()


def test_networks_of_any_kind_before_the_cell():
    """Other layers, and a module of one's own."""
    for arguments in ({"activation": "gelu", "layer_norm": True}, {"network": "own_modules.Residual"}):
        learner = built("MAPPO", task=MaskedTask, memory="lstm", sequence_length=LENGTH, **SMALL | arguments)
        learner.task = MaskedTask()
        before = [weight.clone() for weight in learner.parameters()]
        stats = learner.update(filled(remembering_batch(learner)))
        assert all(value.isfinite().all() for value in stats.values())
        assert all((one != other).any() for one, other in zip(before, learner.parameters(), strict=True))


def test_a_critic_alone_or_other_cells_are_not_offered():
    learner = built("IPPO", task=SizesTask, memory="gru", critic_hidden=[4], **SMALL)
    assert learner.policies.net.cell == learner.critic.net.cell

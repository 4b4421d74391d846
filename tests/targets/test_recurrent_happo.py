"""HAPPO that remembers against a loop over one seed's agents on torch's cells, sequence by sequence."""

import pytest
import torch
from targets_helpers import (
    ENVS,
    SEEDS,
    STEPS,
    GaussianTask,
    MaskedTask,
    Reference,
    SizesTask,
    built,
    filled,
    parameters_of,
    randomize_heads,
)
from test_recurrent_learners import LENGTH, TIGHT, UNITS, SequencePPO, remembering_batch, sequences_of
from torch import Tensor, nn

from lit_maprops.stacked.streams import SeedStreams

STOP = {"gru": 0.06, "lstm": 0.03}
OWN = {"memory_size": UNITS, "sequence_length": LENGTH}


class SequenceHAPPO(SequencePPO):
    """One seed's, with an Adam of its own for every network."""

    def __init__(self, learner, seed: int, task) -> None:
        super().__init__(learner, seed, task)
        self.seen, networks = "state", [*self.policies, *self.critics]
        self.adams = [torch.optim.Adam(net.parameters(), learner.learning_rate, eps=1e-5) for net in networks]

    def pi(self, data: dict[str, Tensor]) -> Reference:
        data = self.burn_in(data) if "warm_steps" in data else data
        return Reference(self.task, self._of_agents(self.policies, data["observation"], data["begins"], data["memory"]))

    def ratio(self, data: dict[str, Tensor], pi: Reference, agent: int) -> Tensor:
        log_prob = pi.log_prob(data["action"].flatten(0, 1)) - data["log_prob"].flatten(0, 1)
        return log_prob[:, agent].exp().unflatten(0, data["begins"].shape)

    def descend(self, number: int, loss: Tensor) -> None:
        net = [*self.policies, *self.critics][number]
        self.adams[number].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), self.learner.max_grad_norm)
        self.adams[number].step()

    def update(self, data: dict[str, Tensor], passes: list[list[Tensor]], order: list[int]) -> list[int]:
        """Agents in their order, then the critic; the passes that each agent made."""
        learner, clip, made = self.learner, self.learner.clip_epsilon, []
        product = torch.ones(data["begins"].shape)
        old = None if learner.kl_stop is None else Reference(self.task, data["parameters"].flatten(0, 1))
        for agent in order:
            weighted = product * data["advantage"][..., agent]
            made.append(0)
            for parts in passes:
                made[-1] += 1
                for part in parts:
                    own = {name: column[part] for name, column in data.items()}
                    pi = self.pi(own)
                    ratio, m = self.ratio(own, pi, agent), weighted[part]
                    gain = torch.minimum(ratio * m, ratio.clamp(1 - clip, 1 + clip) * m).mean()
                    self.descend(agent, -gain - learner.entropy_coeff * pi.entropy()[:, agent].mean())
                with torch.no_grad():
                    if old is not None and old.kl(self.pi(data))[:, agent].mean() > learner.kl_stop:
                        break
            with torch.no_grad():
                product *= self.ratio(data, self.pi(data), agent)
        for part in (part for parts in passes for part in parts):
            own = {name: column[part] for name, column in data.items()}
            own = self.burn_in(own) if "warm_steps" in own else own
            value = self.critics[0](own["state"], own["critic_memory"][:, 0, 0], own["begins"])
            target, before = own["value_target"], own["value"]
            moved = before + (value - before).clamp(-learner.clip_value, learner.clip_value)
            error = torch.maximum((value - target) ** 2, (moved - target) ** 2)
            self.descend(-1, learner.critic_coeff * error.mean((0, 1)).sum())
        return made


def remembering(learner, task, seed: int = 0):
    """A batch in which pi_theta's stored parameters are those of the stored memories."""
    learner.task = task()
    data = remembering_batch(learner, seed)
    with torch.no_grad():
        parameters = learner.policies.parameters_in(data)
    data.set(("agents", "parameters"), parameters)
    return data


@pytest.mark.every(8)
@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize(("minibatches", "burn_in"), [(1, 0), (3, 0), (2, 2)])
@pytest.mark.parametrize(
    ("task", "stop"), [(SizesTask, False), (SizesTask, True), (MaskedTask, True), (GaussianTask, False)]
)
def test_two_updates_are_those_of_a_loop_over_the_agents(memory, task, minibatches, burn_in, stop):
    check_two_updates(task, minibatches, STOP[memory] if stop else None, memory=memory, burn_in=burn_in or None)


def check_two_updates(task: type, minibatches: int, stop: float | None, native: bool = False, **arguments) -> None:
    epochs, passes_made, burn_in = 3, set(), arguments.get("burn_in") or 0
    own = OWN | arguments | ({} if stop is None else {"kl_stop": stop, "entropy_coeff": 0.3})
    learner = built("HAPPO", task=task, **TIGHT | own, epochs=epochs, minibatches=minibatches)
    learner.native = native
    assert not native or learner.why_not_native() is None
    randomize_heads(learner)
    streams = [SeedStreams(0, list(range(SEEDS)), purpose) for purpose in ("target minibatches", "agent order")]
    loops = [SequenceHAPPO(learner, seed, task) for seed in range(SEEDS)]
    for round_ in range(2):
        buffer = filled(remembering(learner, task, round_))
        samples = sequences_of(learner, buffer.trajectories(), burn_in, team=True)
        rows = [streams[0].permutation(STEPS * ENVS // LENGTH) for _ in range(epochs)]
        orders = streams[1].permutation(2).tolist()
        stats = learner.update(buffer)
        for seed, loop in enumerate(loops):
            passes = [[part[seed] for part in pass_.tensor_split(minibatches, dim=1)] for pass_ in rows]
            made = loop.update(samples[seed], passes, orders[seed])
            assert stats["target_epochs"][seed] == sum(made) / 2
            loop.assert_same()
            passes_made |= set(made)
    assert (len(passes_made) > 1) == (stop is not None), "choose a stop that stops some agents"


def made(seed_ids: list[int] | None = None):
    learner = built("HAPPO", seed_ids, memory="gru", **TIGHT | OWN, burn_in=1, epochs=2, minibatches=2)
    learner.task = SizesTask()
    return learner


def test_an_update_goes_on_bit_for_bit_from_a_checkpoint():
    whole, resumed = made(), made()
    batches = [filled(remembering(whole, SizesTask, round_)) for round_ in range(3)]
    for batch in batches[:2]:
        whole.update(batch)
    saved = whole.state_dict(), whole.optimizer.state_dict(), whole.checkpoint_state()
    saved = torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, saved)
    expected = whole.update(batches[2])
    resumed.load_state_dict(saved[0])
    resumed.optimizer.load_state_dict(saved[1])
    resumed.restore(saved[2])
    found = resumed.update(batches[2])
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(torch.equal(one, other) for one, other in zip(parameters_of(whole), parameters_of(resumed), strict=True))


def test_seeds_in_another_order_end_where_they_did():
    here, there = made([0, 1, 2]), made([2, 0, 1])
    batch = remembering(here, SizesTask)
    expected = here.update(filled(batch))
    found = there.update(filled(batch[[2, 0, 1]]))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value[[2, 0, 1]])
    for one, other in zip(parameters_of(there), parameters_of(here), strict=True):
        torch.testing.assert_close(one, other[[2, 0, 1]])

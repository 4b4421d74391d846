"""Every sampler where states forbid actions: exact frequencies by enumeration, and nothing for what is illegal."""

import pytest
import torch
from behavior_helpers import DISCRETE, TRAINED, built, random_policy, updated
from masked_game import LEGAL, ROOMS, Doors, legal_joint
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.distributions import joint
from lit_maprops.envs.base import Task

SEEDS, DRAWS = 2, 1024
WEAK = {"learning_rate": 0.05, "epochs": 4, "kl_cutoff": 0.1, "clip_epsilon": 0.5}
STRONG = {"learning_rate": 0.3, "epochs": 6, "kl_cutoff": 1.0, "clip_epsilon": 1.0}
CASES = [(name, {}) for name in DISCRETE if name != "Greedy"]
CASES += [("OnPolicy", {"draws": "stratified"}), ("MAPROPS", {"draws": "low_discrepancy"}),
          ("LowDiscrepancy", {"coordinates": "joint"}), ("LowDiscrepancy", {"order": "state"}),
          ("MAPROPS", {"kl_cutoff": "auto"}), ("PROPS", {"kl_cutoff": "auto"}), ("MAPROPS", {"merge_states": True}),
          ("Autoregressive", {"kl_cutoff": "auto"}), ("CoordinationGraph", {"kl_cutoff": "auto"})]  # fmt: skip


def masked_policy() -> torch.Tensor:
    """log pi_theta_i in every room, ``[R, rooms, A, N]``."""
    return random_policy(Doors(), SEEDS).masked_fill(~LEGAL, -torch.inf).log_softmax(-1)


def steps(policy: torch.Tensor, room: torch.Tensor, action: torch.Tensor | None = None) -> TensorDict:
    """Rooms ``[R, B]`` as samplers read them."""
    observation, state = Doors().observe({"room": room})
    data = TensorDict(
        {keys.OBSERVATION: observation.contiguous(), keys.STATE: state, keys.STATE_INDEX: room.unsqueeze(-1)},
        batch_size=room.shape,
    )
    data.set(keys.PARAMETERS, policy[torch.arange(SEEDS).unsqueeze(1), room])
    return data if action is None else data.set(keys.ACTION, action)


def lopsided(policy: torch.Tensor, rows: int) -> TensorDict:
    """A D far from pi_theta: in every room the first of the legal joint actions, over and over."""
    room = (torch.arange(rows) % ROOMS).expand(SEEDS, -1)
    first = torch.tensor([legal_joint(number)[0] for number in range(ROOMS)])
    return steps(policy, room, first[room])


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_draws_are_those_of_pi_phi_on_legal_joint_actions(name: str, arguments: dict) -> None:
    """Their log-probabilities sum to 1 over the legal ones, and frequencies agree with them."""
    policy = masked_policy()
    behavior = built(name, Doors(), SEEDS, **(WEAK if name in TRAINED else {}) | arguments)
    if name in TRAINED:
        statistics = updated(behavior, lopsided(policy, 24))
        assert all(value.isfinite().all() for value in statistics.values()), statistics
    elif name == "TabularMAPROPS":
        behavior.extend(lopsided(policy, 24))
    compared = 0
    for room in range(ROOMS):
        data = steps(policy, torch.full((SEEDS, DRAWS), room))
        choice = behavior.choose(data, data.get(keys.PARAMETERS))
        assert choice.kl.isfinite().all() and (choice.kl > -1e-5).all()
        target = joint.joint_log_probs(policy[:, room])
        for seed in range(SEEDS):
            allowed = legal_joint(room)
            drawn, counts = choice.action[seed].unique(dim=0, return_counts=True)
            found = {tuple(actions): count for actions, count in zip(drawn.tolist(), counts.tolist(), strict=True)}
            assert found.keys() <= set(allowed)
            log_prob = {
                tuple(a): p
                for a, p in zip(choice.action[seed].tolist(), choice.behavior_log_prob[seed].tolist(), strict=True)
            }
            chance = {actions: torch.tensor(log_prob[actions]).exp().item() for actions in found}
            assert abs(sum(chance.values()) - 1) < 0.01
            for actions, share in chance.items():  # five standard errors of independent draws
                assert abs(found[actions] / DRAWS - share) < 5 * (share * (1 - share) / DRAWS) ** 0.5 + 1e-3
            if found.keys() != set(allowed):  # some are too rare under pi_phi to say what they add to the KL
                continue
            # KL(pi_theta || pi_phi) by enumeration; Autoregressive's is an estimate of it.
            numbers = [joint.joint_index(torch.tensor(actions), 3).item() for actions in found]
            kl = sum(
                target[seed, number].exp() * (target[seed, number] - log_prob[actions])
                for number, actions in zip(numbers, found, strict=True)
            )
            assert abs(choice.kl[seed].mean() - kl) < 1e-4 + 0.1 * abs(kl) * (name == "Autoregressive")
            compared += len(allowed) > 1
    assert compared >= 2


@pytest.mark.parametrize("name", TRAINED)
def test_updates_move_probability_between_legal_actions(name: str) -> None:
    """What D holds too often becomes rarer; where there is one legal joint action only, nothing changes."""
    policy = masked_policy()
    behavior = built(name, Doors(), SEEDS, **STRONG)
    updated(behavior, lopsided(policy, 24))
    for room in range(ROOMS):
        first = torch.tensor(legal_joint(room)[0])
        data = steps(policy, torch.full((SEEDS, 2000), room))
        choice = behavior.choose(data, data.get(keys.PARAMETERS))
        taken = (choice.action == first).all(-1)
        before = policy[:, room].gather(-1, first.expand(SEEDS, -1).unsqueeze(-1)).sum((1, 2)).exp()
        for seed in range(SEEDS):
            if len(legal_joint(room)) == 1:
                assert taken.all() and (choice.behavior_log_prob.abs() < 1e-5).all() and (choice.kl.abs() < 1e-5).all()
            elif taken[seed].any():
                assert choice.behavior_log_prob[seed][taken[seed]][0].exp() < before[seed]


def test_greedy_takes_legal_joint_actions_in_their_proportions() -> None:
    """Its counts in each room are within 1 of their expectation, for the legal joint actions (Theorem 2)."""
    policy, greedy = masked_policy(), built("Greedy", Doors(), SEEDS)
    for room in range(ROOMS):
        data = steps(policy, torch.full((SEEDS, 64), room))
        action = greedy.choose(data, data.get(keys.PARAMETERS)).action
        expected = 64 * joint.joint_log_probs(policy[:, room]).exp()
        counts = torch.zeros_like(expected).scatter_add_(1, joint.joint_index(action, 3), torch.ones(SEEDS, 64))
        assert (counts[expected == 0] == 0).all() and ((counts - expected).abs() < 1 + 1e-4).all()


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
@pytest.mark.parametrize("room", range(ROOMS))
def test_the_ends_of_the_unit_interval_draw_legal_actions(uniform: float, room: int) -> None:
    """Where illegal actions come first or last, rounding must not reach them."""
    policy = masked_policy()[:, room]
    for parameters, legal in ((policy, LEGAL[room]), (joint.joint_log_probs(policy), None)):
        action = joint.sample(parameters, torch.full(parameters.shape[:-1], uniform))
        assert parameters.gather(-1, action.unsqueeze(-1)).isfinite().all()
        assert legal is None or legal.expand(SEEDS, -1, -1).gather(-1, action.unsqueeze(-1)).all()


class Same(Doors):
    """The global state does not tell the rooms apart."""

    def observe(self, state):
        observation, everything = super().observe(state)
        return observation, torch.ones_like(everything)


@pytest.mark.parametrize("arguments", [{"merge_states": True}, {"kl_cutoff": "auto"}], ids=str)
def test_states_with_other_legal_actions_are_not_merged(arguments: dict) -> None:
    policy = masked_policy()
    behavior = built("MAPROPS", Same(), SEEDS, **STRONG | arguments)
    data = lopsided(policy, 24)
    data.set(keys.STATE, torch.ones_like(data.get(keys.STATE)))
    updated(behavior, data)
    store = behavior.delta_trainer.store
    assert len(store._fingerprints[0, : store.rows].unique()) == ROOMS
    samples = store.samples()
    assert (samples.share[samples.target == 0] == 0).all()


def test_continuous_tasks_cannot_say_which_actions_are_legal() -> None:
    from behavior_helpers import ComponentsTask, one_line

    from lit_maprops.system.errors import ConfigError

    class Contradictory(ComponentsTask):
        def legal_actions(self, state):
            return self.action_mask()

    task: Task = Contradictory()
    with pytest.raises(ConfigError) as error:
        built("OnPolicy", task, 2)
    assert "--data.env Contradictory has continuous actions and says which are legal" in one_line(error)
    assert isinstance(built("OnPolicy", ComponentsTask(), 2), BehaviorPolicy)

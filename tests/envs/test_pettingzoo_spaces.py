"""PettingZoo's spaces: observations are Gymnasium's flattened ones, actions reach the package as its spaces say."""

from itertools import product

import numpy as np
import pytest
import torch
from gymnasium.spaces import MultiBinary, MultiDiscrete
from gymnasium.spaces.utils import flatten
from pettingzoo_space_toys import NESTED, SMALL

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import PettingZoo, TaskEnv
from lit_maprops.envs.faults import Faults
from lit_maprops.envs.pettingzoo.packages import found
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError, EnvironmentFault
from lit_maprops.targets import LEARNERS


def task_of(name, **settings):
    return PettingZoo(f"pettingzoo_space_toys.{name}", **settings)


def numbers_of(task, rows=4, salt=0):
    return task.initial_state(torch.rand(rows, 2, generator=torch.Generator().manual_seed(salt)))


def actions_of(task, steps, rows):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(10**6, (steps, rows, task.n_agents), generator=generator) % task.action_mask().sum(1)


@pytest.mark.parametrize("name", ["nested", "bare", "tuples"])
def test_observations_are_those_that_gymnasium_flattens(name):
    task, rows = task_of(name), 3
    state, packages = numbers_of(task, rows), [found(f"pettingzoo_space_toys.{name}")() for _ in range(rows)]
    seen = [env.reset(seed=int(seed))[0] for env, seed in zip(packages, state["seed"], strict=True)]
    for action in [None, *actions_of(task, 4, rows)]:
        if action is not None:
            state = task.transition(state, action, torch.zeros(rows, 0)).state
            seen = [env.step({agent: int(action[row, k]) for k, agent in enumerate("ab")})[0]
                    for row, env in enumerate(packages)]  # fmt: skip
        observation, vector = task.observe(state)
        for row, env in enumerate(packages):
            flat = [flatten(env.observation_space(agent), seen[row][agent]) for agent in "ab"]
            for agent, numbers in enumerate(flat):
                assert np.array_equal(observation[row, agent, : len(numbers)], numbers.astype(np.float32))
                assert not observation[row, agent, len(numbers) :].any()
                assert len(task.interface(agent).observation) == len(numbers)
            assert np.array_equal(vector[row], np.concatenate(flat).astype(np.float32))
    assert task.observation_dim == max(map(len, flat)) and task.observation_shape is None


def test_numbers_have_names():
    first, second = (task_of("nested").interface(agent).observation for agent in (0, 1))
    assert first[:4] == [f"observation.z[{number}]" for number in range(4)]
    assert first[4:8] == [f"observation.a.0[{number}]" for number in range(3)] + ["observation.a.1[0]"]
    assert first[-2:] == ["observation.m.whole[0]", "observation.m.whole[1]"]
    assert second[4:] == [f"observation.t.0[{number}]" for number in range(5)]


COMPONENTS = {
    "components": ([6, 8], [list(product([4, 5, 6], [-1, 0])), list(product([0, 1], repeat=3))]),
    "deep_components": ([12, 7], [list(product([0, 1], [0, 1, 2], [0], [0, 1])), [(n,) for n in range(-3, 4)]]),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_combination_of_components_is_an_action(name):
    """The toy refuses what is not of its spaces."""
    sizes, combinations = COMPONENTS[name]
    task = task_of(name)
    assert task.action_mask().sum(1).tolist() == sizes and not task.continuous_actions
    start = numbers_of(task, max(sizes))
    numbers = torch.arange(max(sizes))
    action = torch.stack([numbers % size for size in sizes], 1)
    reward = task.transition(start, action, torch.zeros(len(action), 0)).reward
    for agent, each in enumerate(combinations):
        assert reward[:, agent].tolist() == [sum(each[row % len(each)]) for row in range(max(sizes))]
        names = [f"action[{', '.join(map(str, combination))}]" for combination in each]
        assert task.interface(agent).actions == names
    envs = [env for same in task._live._live.values() for env in same]
    taken = {tuple(np.ravel(env.taken[-1]["a"]).tolist()) for env in envs if env.taken}
    assert taken == set(combinations[0]), "as the package has seen them"


@pytest.mark.parametrize("name", ["masked_components", "masked_row"])
def test_masks_of_components_are_those_that_gymnasium_samples_from(name):
    task, spaces = task_of(name), (MultiDiscrete([3, 2], start=[4, 0]), MultiBinary(2))
    env = found(f"pettingzoo_space_toys.{name}")()
    env.row = False  # as Gymnasium takes them
    state = numbers_of(task, 1)
    for step in range(5):
        env.count, legal = step, task.legal_actions(state)
        for agent, (space, mask) in enumerate(zip(spaces, env.flags(), strict=True)):
            drawn = {tuple(space.sample(mask).tolist()) for _ in range(60)}
            labels = [f"action[{', '.join(map(str, values))}]" for values in sorted(drawn)]
            named = task.interface(agent).actions
            assert [named[number] for number in legal[0, agent].nonzero().flatten()] == labels
        state = task.transition(state, legal.int().argmax(-1), torch.zeros(1, 0)).state


def test_a_mask_may_lie_beside_several_observed_things():
    task = task_of("mask_in_dict")
    state = numbers_of(task, 2)
    assert task.masks_actions and task.observation_dim == 5
    assert task.legal_actions(state).tolist() == [[[True, False]] * 2] * 2
    state = task.transition(state, torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 0)).state
    assert task.legal_actions(state).all()


def episode(name):
    task = task_of(name)
    state, outcomes = numbers_of(task), []
    for action in actions_of(task, 5, 4):
        outcomes.append(task.transition(state, action, torch.zeros(4, 0)))
        state = outcomes[-1].state
    return outcomes


@pytest.mark.parametrize("other", ["shuffled", "no_infos", "rebuilt"])
def test_order_and_absent_infos_change_nothing(other):
    for plain, changed in zip(episode("bare_numbers"), episode(other), strict=True):
        assert torch.equal(plain.state["observation"], changed.state["observation"])
        assert torch.equal(plain.reward, changed.reward) and torch.equal(plain.truncated, changed.truncated)


def test_whole_numbers_and_doubles_become_single_precision():
    for count, (plain, unusual) in enumerate(zip(episode("bare_numbers"), episode("unusual"), strict=True), 1):
        expected = (plain.state["observation"] * 10).round()
        close = {"rtol": 1e-3, "atol": 0.01} if count % 4 == 2 else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(unusual.state["observation"], expected, **close)
        assert unusual.reward.dtype == torch.float32 and torch.equal(plain.reward, unusual.reward)


def stopped(name):
    """What a run says that meets the fault."""
    env = TaskEnv(task_of(name), 3, [0, 1, 2], 4)
    with pytest.raises(EnvironmentFault) as error:
        current = env.reset()
        for _ in range(12):
            current.set(keys.ACTION, torch.zeros(3, 4, 2, dtype=torch.int64))
            stepped, current = env.step_and_maybe_reset(current)
            env.faults.check_finite(stepped.unsqueeze(1))
    message = str(error.value)
    assert "\n" not in message and "seed" in message and "at env step" in message
    return message


FAULTS = {
    "longer": ["transition", "the observation of agent b has the shape (4,), expected (3,)"],
    "changing": ["initial_state", "the observation space of agent b has changed", "(3,)", "(4,)"],
    "rearmed": ["initial_state", "the action space of agent a has changed from Discrete(2) to Discrete(3)"],
    "quits": ["SystemExit: 3 in transition"],
    "no_flags": ["its terminations are of the kind NoneType, expected a dict by agents"],
    "other_flags": ["the observation of agent a is [7 1 0], which is not of its space"],
    "enormous": ["inf in the observation of agent 0"],
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_not_of_its_space_names_seed_and_step(name):
    message = stopped(name)
    assert all(words in message for words in FAULTS[name]), message


@pytest.mark.parametrize("name", ["changing", "rearmed"])
def test_seeds_whose_spaces_change_are_left_out_and_the_others_play_on(name):
    """With one start for all episodes of a seed, seeds with an odd number of the package's meet the fault."""

    def played(seed_ids):
        faults = Faults("PettingZoo", seed_ids, "quarantine")
        task = PettingZoo(f"pettingzoo_space_toys.{name}", fixed_start=True)
        env, steps = TaskEnv(task, 3, seed_ids, 2, faults=faults), []
        current = env.reset()
        for _ in range(8):
            current.set(keys.ACTION, torch.ones(len(seed_ids), 2, 2, dtype=torch.int64))
            stepped, current = env.step_and_maybe_reset(current)
            steps.append(stepped.get(("next", *keys.OBSERVATION)))
        return torch.stack(steps, 1), {fault["seed"]: fault["reason"] for fault in faults.state_dict()}

    together, broken = played(list(range(6)))
    assert 0 < len(broken) < 6 and all("space of agent" in reason for reason in broken.values())
    sound = [seed for seed in range(6) if seed not in broken]
    alone, none = played(sound)
    assert none == {} and torch.equal(together[sound], alone)


BAD = {
    "graph": ["observations of kind Graph", "no fixed number"],
    "letters": ["observations of kind Sequence and Text"],
    "one_of": ["observations of kind OneOf"],
    "many_components": ["MultiDiscrete actions with 1,200 combinations", "at most 1,024"],
    "dictionary_actions": ["actions of kind Dict and Discrete", "MultiDiscrete or MultiBinary"],
    "tuple_actions": ["actions of kind Tuple"],
    "binary_and_box": ["actions of kind Box and MultiBinary"],
    "beyond": ["cannot be played", "the observation.n of agent b is 4, which is not of its space"],
    "half": ["cannot be played", "the observation.n of agent b is 1.5, which is not of its space"],
    "missing": ["cannot be played", "what agent b sees has no observation.n"],
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_served_is_one_line(name):
    with pytest.raises(ConfigError) as error:
        task_of(name)
    text = with_flags(error.value.marked)
    assert "\n" not in text and all(words in text for words in BAD[name]), text
    assert text.startswith(f"--data.env.name pettingzoo_space_toys.{name} ")


@pytest.mark.parametrize("name", ["nested", "components", "masked_components"])
def test_they_train(name):
    run = LitMAPROPS(BEHAVIORS["MAPROPS"](), LEARNERS["MAPPO"](), num_seeds=2, total_env_steps=64, eval_episodes=1)
    run.prepare(MultiAgentData(task_of(name), num_envs=2, behavior_batch_size=8, target_batch_size=32))
    run.on_fit_start()
    for _ in range(2):
        run.training_step(0, 0)
    assert all(parameter.isfinite().all() for parameter in run.parameters())


def test_the_toys_are_what_they_say():
    assert flatten(NESTED, NESTED.sample()).shape == (23,) and flatten(SMALL, SMALL.sample()).shape == (9,)

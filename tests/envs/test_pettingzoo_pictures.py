"""Pictures through PettingZoo: where they stand, how they are scaled, what convolutions make of them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import PettingZoo
from lit_maprops.envs.pettingzoo.packages import found
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS


def task_of(name, **settings):
    return PettingZoo(f"pettingzoo_picture_toys.{name}", **settings)


def started(task, name, rows=2):
    """States, and what the package shows in them."""
    state = task.initial_state(torch.rand(rows, 2, generator=torch.Generator().manual_seed(0)))
    env = found(f"pettingzoo_picture_toys.{name}")()
    return state, [env.reset(seed=int(seed))[0] for seed in state["seed"]]


def channels_first(picture):
    return np.transpose(picture, (2, 0, 1))


# What stands in an observation, the shape that is declared, and the divisor.
LAYOUTS = {
    "channels last": ("last", "auto", channels_first, (3, 6, 5), 255),
    "channels last, as told": ("last", "hwc", channels_first, (3, 6, 5), 255),
    "channels first": ("first", "auto", np.asarray, (3, 6, 5), 255),
    "channels first, as told": ("first", "chw", np.asarray, (3, 6, 5), 255),
    "told otherwise": ("first", "hwc", channels_first, (5, 3, 6), 255),
    "gray": ("gray", "auto", np.asarray, (1, 6, 5), 255),
    "a cube": ("cube", "auto", channels_first, (3, 3, 3), 255),
    "a cube, as told": ("cube", "chw", np.asarray, (3, 3, 3), 255),
    "real numbers": ("floats", "auto", np.asarray, None, 1),
    "real numbers, as told": ("floats", "hwc", channels_first, (3, 6, 5), 1),
    "levels": ("levels", "auto", np.asarray, None, 1),
    "none": ("last", "none", np.asarray, None, 1),
}


@pytest.mark.parametrize(("name", "pictures", "arranged", "shape", "divisor"), LAYOUTS.values(), ids=LAYOUTS)
def test_pictures_stand_channels_first_and_from_0_to_1(name, pictures, arranged, shape, divisor):
    task = task_of(name, pictures=pictures)
    state, seen = started(task, name)
    assert task.observation_shape == shape
    observation, vector = task.observe(state)
    for row, each in enumerate(seen):
        expected = [arranged(each[agent]).astype(np.float32).ravel() / np.float32(divisor) for agent in "ab"]
        assert np.array_equal(observation[row], expected) and np.array_equal(vector[row], np.concatenate(expected))
    assert divisor == 1 or 0 <= observation.min() < 0.2 < 0.8 < observation.max() <= 1


def test_a_picture_stands_behind_what_else_is_seen():
    """Agents with fewer other numbers are padded between these and the picture."""
    task = task_of("mixed")
    state, seen = started(task, "mixed")
    assert task.observation_shape == (3, 6, 5) and task.observation_dim == 5 + 90
    observation, vector = task.observe(state)
    for row, each in enumerate(seen):
        whole = each["a"]
        team = np.eye(3)[whole["team"]]
        first = np.concatenate([whole["speed"], team, channels_first(whole["camera"]).ravel() / np.float32(255)])
        speed, camera = each["b"]
        behind = channels_first(camera).ravel() / np.float32(255)
        second = np.concatenate([speed, np.zeros(3), behind])
        assert np.array_equal(observation[row], np.stack([first, second]).astype(np.float32))
        assert np.array_equal(vector[row], np.concatenate([first, speed, behind]).astype(np.float32))
    names = [task.interface(agent).observation for agent in (0, 1)]
    assert names[0][:5] == [
        "observation.speed[0]",
        "observation.speed[1]",
        *(f"observation.team[{k}]" for k in range(3)),
    ]
    assert names[1][:5] == ["observation.0[0]", "observation.0[1]", "padding", "padding", "padding"]
    assert names[0][5] == "observation.camera[0, 0, 0] / 255" and names[1][-1] == "observation.1[2, 5, 4] / 255"


def test_a_global_state_that_is_a_picture_is_scaled():
    task = task_of("with_state")
    state, seen = started(task, "with_state")
    theirs = [each["a"].ravel().astype(np.float32) / np.float32(255) for each in seen]
    assert np.array_equal(task.observe(state)[1], np.stack(theirs))
    raw = task_of("with_state", pictures="none")
    assert np.array_equal(raw.observe(started(raw, "with_state")[0])[1], np.stack([each["a"].ravel() for each in seen]))


class Reference(nn.Module):
    """One policy on the package's own picture and numbers, written with torch's layers."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 2, 2), nn.ReLU())
        self.layers = nn.Sequential(nn.Linear(5 + 5 * 2 * 1, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, picture, numbers):
        seen = self.convolutions(torch.tensor(picture).permute(2, 0, 1).unsqueeze(0) / 255).flatten(1)
        return self.layers(torch.cat([torch.tensor(numbers, dtype=torch.float32).unsqueeze(0), seen], 1)).log_softmax(
            -1
        )


def run_of(name, learner="IPPO", num_envs=2, total_env_steps=64, behavior="MAPROPS", **options):
    run = LitMAPROPS(
        BEHAVIORS[behavior](), LEARNERS[learner](**options), num_seeds=2, total_env_steps=total_env_steps,
        eval_episodes=1, eval_interval=100,
    )  # fmt: skip
    sizes = {"behavior_batch_size": 4 * num_envs, "target_batch_size": 8 * num_envs}
    run.prepare(MultiAgentData(task_of(name), num_envs=num_envs, **sizes))
    run.on_fit_start()
    return run


def test_policies_are_torchs_convolutions_of_the_packages_picture():
    run = run_of("mixed", hidden=[8], cnn=[[4, 3, 1], [5, 2, 2]], activation="relu", policy_gain=1.0)
    task = task_of("mixed")
    state, seen = started(task, "mixed")
    observation = task.observe(state)[0].unsqueeze(0).expand(2, -1, -1, -1)
    found = run.learner.policies.distribution_parameters(observation)
    for seed in range(2):
        for agent in range(2):
            reference = Reference()
            vector_to_parameters(run.learner.policies.net.flat[seed, agent].detach().clone(), reference.parameters())
            for row, each in enumerate(seen):
                whole, (speed, camera) = each["a"], each["b"]
                numbers = np.concatenate([whole["speed"], np.eye(3)[whole["team"]]])
                given = ((whole["camera"], numbers), (camera, np.concatenate([speed, np.zeros(3)])))[agent]
                expected = reference(*given)[0]
                torch.testing.assert_close(found[seed, row, agent], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"learner": "MAPPO"}, {"cnn": [[3, 3, 1]]}, {"learner": "Reinforce", "cnn": [[3, 3, 2]]}]
)
def test_they_train_with_convolutions_or_without(options):
    run = run_of("mixed", **options)
    for _ in range(2):
        run.training_step(0, 0)
    assert all(parameter.isfinite().all() for parameter in run.parameters())


def test_what_the_bars_are_is_learned():
    """Chance is 25%: both have to be right."""
    options = {"cnn": [[8, 3, 2]], "hidden": [32], "activation": "relu", "learning_rate": 0.01, "epochs": 4}
    run = run_of("bars", num_envs=32, total_env_steps=6000, behavior="OnPolicy", share_parameters=True, **options)
    rates = []
    for _ in range(14):
        run.training_step(0, 0)
        rates.append(run.row["train/success_rate"])
    assert (torch.stack(rates[:1]).mean(0) < 0.5).all() and (torch.stack(rates[-3:]).mean(0) > 0.9).all(), rates


BAD = {
    "two pictures": ("two_each", {"pictures": "hwc"}, ["--data.env.pictures is hwc", "do not all see one picture"]),
    "one sees none": ("one_blind", {"pictures": "chw"}, ["--data.env.pictures is chw", "do not all see one picture"]),
    "no such layout": ("last", {"pictures": "whc"}, ["--data.env.pictures", "auto, hwc, chw, none"]),
}


@pytest.mark.parametrize(("name", "settings", "words"), BAD.values(), ids=BAD)
def test_what_is_no_picture_of_all_is_one_line(name, settings, words):
    with pytest.raises(ConfigError) as error:
        task_of(name, **settings)
    text = with_flags(error.value.marked)
    assert "\n" not in text and all(word in text for word in words), text


@pytest.mark.parametrize("name", ["two_each", "one_blind", "floats"])
def test_convolutions_want_one_picture_of_every_agent(name):
    with pytest.raises(ConfigError, match="cnn looks at pictures"):
        run_of(name, cnn=[[3, 3, 1]])

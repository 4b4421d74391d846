"""Adjustments of other networks: updates of torch's own layers, draws, and what has no effect is refused."""

import re
from collections.abc import Callable

import pytest
import torch
from behavior_helpers import (
    SERVED_TRAINED,
    WITH_COST_OPTIONS,
    StatesTask,
    built,
    data_of,
    random_data,
    random_policy,
    task_of,
    updated,
)
from stepped import iterate
from test_algorithm2 import SETTINGS, ScalarUpdate
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, MAPROPS, BehaviorPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.engine import choose
from lit_maprops.envs import BoulderPush
from lit_maprops.module import LitMAPROPS
from lit_maprops.samplers import JointSampler
from lit_maprops.stacked.layers import Architecture, StackedLayers
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import MAPPO

SEEDS = 3


class PictureTask(StatesTask):
    """One-hot states, of which the last four are a picture with two rows."""

    observation_shape = (1, 2, 2)


class Seen(nn.Module):
    """One number beside a convolution of the picture behind it: two channels, kernel 2."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        picture = self.convolution(x[:, 1:].reshape(-1, 1, 2, 2)).relu()
        return torch.cat([x[:, :1], picture.flatten(1)], 1)


KINDS: dict[str, tuple[dict[str, object], Callable[[int], list[nn.Module]]]] = {
    "relu": (
        {"activation": "relu", "hidden": [7, 6]},
        lambda n: [nn.Linear(n, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU()],
    ),
    "layer norm": ({"layer_norm": True, "hidden": [6]}, lambda n: [nn.Linear(n, 6), nn.LayerNorm(6), nn.Tanh()]),
    "gelu, layer norm": (
        {"activation": "gelu", "layer_norm": True, "hidden": [6]},
        lambda n: [nn.Linear(n, 6), nn.LayerNorm(6), nn.GELU()],
    ),
    "cnn": (
        {"activation": "relu", "hidden": [6], "cnn": [[2, 2, 1]]},
        lambda n: [Seen(), nn.Linear(3, 6), nn.ReLU()],
    ),
}


def twin_of(behavior: BehaviorPolicy, before: list[nn.Module], entry: tuple[int, ...]) -> ScalarUpdate:
    """One entry of the adjustment, with torch's own layers and the weights that it starts with."""
    last = nn.Linear(6, behavior.net.last[0][0])
    net = nn.Sequential(*before, last)
    vector_to_parameters(behavior.net.flat[entry].detach().clone(), net.parameters())
    return ScalarUpdate(net, list(last.parameters()), behavior.learning_rate)


@pytest.mark.parametrize(("kind", "rate"), [("relu", 0.02), ("layer norm", 0.014), ("gelu, layer norm", 0.02)])
def test_ma_props_updates_are_those_of_torchs_layers(kind, rate):
    options, layers = KINDS[kind]
    task = StatesTask(n_states=3, n_agents=2, n_actions=3)
    theta = random_policy(task, SEEDS)
    behavior = built("MAPROPS", task, SEEDS, **SETTINGS, learning_rate=rate, **options)
    assert isinstance(behavior.net, StackedLayers)
    twins = [twin_of(behavior, layers(3), (seed,)) for seed in range(SEEDS)]
    used = set()
    for update in range(3):
        data = random_data(task, theta, rows=8 + 20 * update, seed=update)
        stats = updated(behavior, data)
        logits, action = data.get(keys.PARAMETERS), data.get(keys.ACTION)
        for seed, twin in enumerate(twins):
            twin.adam = torch.optim.Adam(twin.net.parameters(), behavior.learning_rate)
            target = (logits[seed, :, 0, :, None] + logits[seed, :, 1, None, :]).flatten(1)
            taken = action[seed, :, 0] * 3 + action[seed, :, 1]
            expected = twin(data.get(keys.STATE)[seed], target, taken, 6, 0.3, 0.02)
            for name, value in expected.items():
                assert stats[name][seed].item() == pytest.approx(value, rel=1e-3, abs=1e-6), name
            delta = behavior.net(data.get(keys.STATE))[seed]
            torch.testing.assert_close(delta, twin.net(data.get(keys.STATE)[seed]), atol=2e-5, rtol=1e-4)
            used.add(int(expected["gradient_steps"]))
    assert len(used) > 1, "choose data on which the seeds stop at different steps"


@pytest.mark.parametrize("kind", KINDS)
def test_props_updates_are_those_of_torchs_layers_per_agent(kind):
    options, layers = KINDS[kind]
    task = PictureTask(n_states=5, n_agents=2, n_actions=3)
    theta = random_policy(task, SEEDS)
    behavior = built("PROPS", task, SEEDS, **SETTINGS, learning_rate=0.03, **options)
    entries = [(seed, agent) for seed in range(SEEDS) for agent in range(2)]
    twins = {entry: twin_of(behavior, layers(5), entry) for entry in entries}
    data = random_data(task, theta, rows=12)
    kl = updated(behavior, data)["kl"]
    expected = torch.zeros(SEEDS)
    for (seed, agent), twin in twins.items():
        seen = data.get(keys.OBSERVATION)[seed, :, agent]
        logits, action = data.get(keys.PARAMETERS)[seed, :, agent], data.get(keys.ACTION)[seed, :, agent]
        expected[seed] += twin(seen, logits, action, 6, 0.3, 0.02)["kl"]
        found = behavior.net(data.get(keys.OBSERVATION).transpose(1, 2))[seed, agent]
        torch.testing.assert_close(found, twin.net(seen), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(kl, expected, atol=1e-6, rtol=1e-3)


def layered_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, tanh networks are torch's layers, with the weights that ours would start with."""
    ours = Architecture.layered

    def layered(made: Architecture, in_dim: int, out_dim: int, stack: tuple[int, ...], *rest: object) -> StackedLayers:
        net = ours(made, in_dim, out_dim, stack, *rest)
        assert type(net) is StackedMLP
        modules: list[nn.Module] = []
        for n_out, n_in, _ in net.shapes:
            modules += [nn.Linear(n_in, n_out), nn.Tanh()]
        generators = [torch.Generator() for _ in range(stack[0])]
        twin = StackedLayers(lambda: nn.Sequential(*modules[:-1]), stack, generators, 8)
        twin.flat.data.copy_(net.flat)
        return twin

    monkeypatch.setattr(Architecture, "layered", layered)


OPTIONS: dict[str, dict[str, object]] = {
    "all of D": {},
    "minibatches": {"minibatches": 3},
    "auto": {"kl_cutoff": "auto", "epochs": 20},
    "merge_states": {"merge_states": True},
    "trained_layers": {"trained_layers": "last"},
    "warm_start": {"warm_start": True},
    "max_states": {"max_states": 6},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("name", "actions"), SERVED_TRAINED)
def test_what_is_left_to_autograd_agrees_with_what_is_written_out(name, actions, options, monkeypatch):
    """The same tanh network, as ours and as torch's layers: updates and draws."""
    if options not in ("all of D", "minibatches") and actions == "continuous":
        pytest.skip("refused")
    if options in ("merge_states", "trained_layers", "warm_start", "max_states") and name not in WITH_COST_OPTIONS:
        pytest.skip("no such option")
    task = task_of(actions, n_states=3)
    theta = random_policy(task, SEEDS)
    settings = {"hidden": [6], "learning_rate": 0.03, "epochs": 6, "clip_epsilon": 0.5, "kl_cutoff": 0.05}

    def run() -> tuple[BehaviorPolicy, list[dict[str, Tensor]], list[Tensor]]:
        behavior, stats = built(name, task, SEEDS, **settings | OPTIONS[options]), []
        for round_ in range(3):
            behavior.extend(random_data(task, theta, rows=9, seed=round_))
            stats.append(behavior.update())
        state = torch.arange(3).expand(SEEDS, -1)
        data = data_of(task, theta, state)
        return behavior, stats, list(behavior.choose(data, data.get(keys.PARAMETERS)))

    ours, stats, drawn = run()
    layered_by_torch(monkeypatch)
    other, others, drawn_by_other = run()
    assert type(ours.net) is StackedMLP and type(other.net) is StackedLayers
    assert ours.net.flat.std() > 0
    torch.testing.assert_close(other.net.flat, ours.net.flat, atol=2e-5, rtol=1e-3)
    for mine, theirs in zip(stats, others, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            torch.testing.assert_close(theirs[key], value, atol=2e-5, rtol=1e-3)
    for mine, theirs in zip(drawn, drawn_by_other, strict=True):
        torch.testing.assert_close(theirs, mine, atol=2e-5, rtol=1e-3)
    assert (drawn[2] > 1e-4).any(), "the adjustment does nothing"


@pytest.mark.parametrize(("name", "actions"), SERVED_TRAINED)
def test_other_networks_are_pi_theta_after_a_reset(name, actions):
    task = task_of(actions, n_states=3)
    theta = random_policy(task, SEEDS)
    behavior = built(name, task, SEEDS, hidden=[6], activation="relu", layer_norm=True)
    here = data_of(task, theta, torch.zeros(SEEDS, 2, dtype=torch.int64))
    updated(behavior, random_data(task, theta, rows=9))
    assert (behavior.choose(here, here.get(keys.PARAMETERS)).kl > 1e-3).any()
    behavior.reset(None)
    choice = behavior.choose(here, here.get(keys.PARAMETERS))
    expected = behavior.family.log_prob(here.get(keys.PARAMETERS), choice.action).sum(-1)
    torch.testing.assert_close(choice.behavior_log_prob, expected, atol=1e-5, rtol=1e-5)
    assert choice.kl.abs().max() < 1e-6


def run_of(engine: str, **options: object) -> LitMAPROPS:
    behavior = MAPROPS(hidden=[6], **options)
    module = LitMAPROPS(behavior, MAPPO(hidden=[4]), num_seeds=2, total_env_steps=64, engine=engine)
    sizes = {"num_envs": 2, "behavior_batch_size": 4, "target_batch_size": 32}
    module.prepare(MultiAgentData(BoulderPush(max_steps=5), **sizes))
    module.engines = choose(engine, torch.device("cpu"), module.task, module.behavior, module.learner)
    module.on_fit_start()
    return module


def test_kernels_leave_the_adjustment_to_torch_and_say_so():
    """The rollout's kernel asks torch at every vector step: the same run as without kernels."""
    options = {"activation": "relu", "learning_rate": 0.03}
    mixed, plain = run_of("auto", **options), run_of("torch", **options)
    if mixed.engines is None or mixed.engines.rollout is not None:
        pytest.skip("no compiler")
    by_torch = "behavior updates in torch (the adjustment is no plain tanh network)"
    assert mixed.engines.line() == f"engine: native for rollout, target updates; {by_torch}"
    rows, others = iterate(mixed, 2), iterate(plain, 2)
    assert (rows[-1]["behavior/kl"] > 1e-4).all()
    torch.testing.assert_close(rows[-1]["behavior/kl"], others[-1]["behavior/kl"], atol=1e-5, rtol=1e-3)
    for name, value in mixed.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("MAPROPS", {"activation": "sin"}, "activation is 'sin': choose one of tanh, relu"),
        ("MAPROPS", {"hidden": [], "activation": "relu"}, "activation is relu and has no effect: the adjustment has"),
        ("Autoregressive", {"hidden": [], "layer_norm": True}, "layer_norm is True and has no effect: the adjustment"),
        ("PROPS", {"cnn": [[3, 1, 1]]}, "cnn looks at pictures, and the observations of StatesTask are none: leave it"),
        ("PROPS", {"cnn": [[3, 1]]}, re.escape("cnn has [3, 1]: give [channels, kernel, stride]")),
        ("MAPROPS", {"activation": "relu", "compile": True}, "compile is true and compiles plain tanh networks only"),
    ],
)
def test_what_has_no_effect_is_one_line(name, options, words):
    task = StatesTask(n_states=3, n_agents=2, n_actions=3)
    with pytest.raises(ConfigError, match=rf"^{words}[^\n]*$"):
        BEHAVIORS[name](**options).build(task, 0, [0])


def test_a_kernel_larger_than_the_picture_is_one_line():
    task = PictureTask(n_states=5, n_agents=2, n_actions=3)
    with pytest.raises(ConfigError, match=r"^cnn has a kernel of 3 for what is 2 x 2: give a smaller one$"):
        BEHAVIORS["PROPS"](cnn=[[2, 3, 1]]).build(task, 0, [0])


def test_a_sampler_goes_on_with_the_networks_it_has():
    """Even where others have as many weights."""

    def sampler(activation: str) -> JointSampler:
        return JointSampler(MAPROPS(hidden=[4], activation=activation), n_actions=[2, 2], num_envs=1)

    first = sampler("relu")
    first.act(torch.ones(1, 3), torch.full((1, 2, 2), 0.5).log())
    first.observe()
    first.update()
    saved = first.state_dict()
    with pytest.raises(ConfigError, match="state is of a sampler with activation relu and this one has tanh"):
        sampler("tanh").load_state_dict(saved)
    second = sampler("relu")
    second.load_state_dict(saved)
    assert torch.equal(second.behavior.net.flat, first.behavior.net.flat)

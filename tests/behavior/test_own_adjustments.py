"""A user's own module as Delta_phi: what it has learned, by torch's own autograd and Adam, and what is refused."""

import copy
import itertools
from typing import Any

import pytest
import torch
from behavior_helpers import (
    SERVED_TRAINED,
    WITH_COST_OPTIONS,
    StatesTask,
    built,
    data_of,
    generator,
    random_data,
    random_policy,
    task_of,
    updated,
)
from test_algorithm2 import SETTINGS, ScalarUpdate
from test_delta_networks import OPTIONS, PictureTask
from torch import Tensor, nn

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, MAPROPS, BehaviorPolicy
from lit_maprops.samplers import JointSampler
from lit_maprops.stacked.differences import StackedDifference
from lit_maprops.stacked.nets import DeltaNet, StackedMLP
from lit_maprops.system.errors import ConfigError

SEEDS = 3
MODULES = ["Plain", "Residual", "Bounded"]


class Difference(nn.Module):
    """f(x; phi) - f(x; phi_0), as one writes it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.now, self.first = module, copy.deepcopy(module).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.now(x) - self.first(x)


class OwnUpdate(ScalarUpdate):
    """``ScalarUpdate`` of an own module, which every update takes back to where it began."""

    def __init__(self, behavior: BehaviorPolicy, entry: tuple[int, ...]) -> None:
        super().__init__(Difference(behavior.net.entry(*entry)), [], behavior.learning_rate)

    def __call__(self, *given: Any) -> dict[str, float]:
        self.net.now.load_state_dict(self.net.first.state_dict())
        weights = [weight for weight in self.net.now.parameters() if weight.requires_grad]
        self.adam = torch.optim.Adam(weights, self.adam.defaults["lr"])
        return super().__call__(*given)


@pytest.mark.parametrize("module", MODULES)
def test_ma_props_updates_of_an_own_module_are_autograds_and_torchs_adam(module):
    task = StatesTask(n_states=3, n_agents=2, n_actions=3)
    theta = random_policy(task, SEEDS)
    behavior = built("MAPROPS", task, SEEDS, **SETTINGS, learning_rate=0.012, network=f"own_modules.{module}")
    twins = [OwnUpdate(behavior, (seed,)) for seed in range(SEEDS)]
    used = set()
    for update in range(3):
        data = random_data(task, theta, rows=8 + 20 * update, seed=update)
        stats = updated(behavior, data)
        logits, action, state = data.get(keys.PARAMETERS), data.get(keys.ACTION), data.get(keys.STATE)
        for seed, twin in enumerate(twins):
            target = (logits[seed, :, 0, :, None] + logits[seed, :, 1, None, :]).flatten(1)
            taken = action[seed, :, 0] * 3 + action[seed, :, 1]
            expected = twin(state[seed], target, taken, 6, 0.3, 0.02)
            for name, value in expected.items():
                assert stats[name][seed].item() == pytest.approx(value, rel=1e-3, abs=1e-6), name
            torch.testing.assert_close(behavior.net(state)[seed], twin.net(state[seed]), atol=2e-5, rtol=1e-4)
            used.add(int(expected["gradient_steps"]))
    assert len(used) > 1, "choose data on which the seeds stop at different steps"


@pytest.mark.parametrize("module", MODULES)
def test_props_updates_of_an_own_module_are_those_of_every_agents_own(module):
    task = StatesTask(n_states=5, n_agents=2, n_actions=3)
    theta = random_policy(task, SEEDS)
    behavior = built("PROPS", task, SEEDS, **SETTINGS, learning_rate=0.03, network=f"own_modules.{module}")
    twins = {entry: OwnUpdate(behavior, entry) for entry in itertools.product(range(SEEDS), range(2))}
    data = random_data(task, theta, rows=12)
    updated(behavior, data)
    delta = behavior.net(data.get(keys.OBSERVATION).transpose(1, 2))
    for (seed, agent), twin in twins.items():
        seen = data.get(keys.OBSERVATION)[seed, :, agent]
        logits, action = data.get(keys.PARAMETERS)[seed, :, agent], data.get(keys.ACTION)[seed, :, agent]
        twin(seen, logits, action, 6, 0.3, 0.02)
        torch.testing.assert_close(delta[seed, agent], twin.net(seen), atol=2e-5, rtol=1e-4)
    assert delta.abs().amax((1, 2, 3)).min() > 1e-3


@pytest.mark.every(3)
@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "trained_layers"])
@pytest.mark.parametrize(("name", "actions"), SERVED_TRAINED)
def test_an_own_module_with_our_layers_and_weights_learns_what_ours_do(name, actions, options):
    """The last layer is zero at the start: then what it puts out at first is 0, too."""
    if options not in ("all of D", "minibatches") and actions == "continuous":
        pytest.skip("refused")
    if options in ("merge_states", "warm_start", "max_states") and name not in WITH_COST_OPTIONS:
        pytest.skip("no such option")
    task = task_of(actions, n_states=3)
    theta = random_policy(task, SEEDS)
    settings = {"learning_rate": 0.03, "epochs": 6, "clip_epsilon": 0.5, "kl_cutoff": 0.05} | OPTIONS[options]
    if options == "warm_start":
        settings["kl_cutoff"] = 10.0  # an update that begins anew would begin from other hidden layers than ours
    ours = built(name, task, SEEDS, hidden=[8], **settings)
    other = built(name, task, SEEDS, network="own_modules.Plain", **settings)
    assert type(ours.net) is StackedMLP and type(other.net) is StackedDifference
    start = ours.net.flat.detach().clone()
    *_, drawn, learned, _ = other.net.flat.detach().split(other.net._sizes, -1)
    for part in (drawn, learned):
        part.copy_(start)
    inputs = torch.randn(*ours.net.stack, 9, ours.net.shapes[0][1], generator=generator(7))
    for round_ in range(3):
        if options != "warm_start":
            ours.net.flat.detach().copy_(start)  # ours keep what hidden layers have learned
        data = random_data(task, theta, rows=9, seed=round_)
        for behavior in (ours, other):
            behavior.extend(data)
        mine, theirs = ours.update(), other.update()
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            torch.testing.assert_close(theirs[key], value, atol=2e-5, rtol=1e-3)
        torch.testing.assert_close(other.net(inputs), ours.net(inputs), atol=5e-5, rtol=1e-3)
    here = data_of(task, theta, torch.arange(3).expand(SEEDS, -1))
    choices = [behavior.choose(here, here.get(keys.PARAMETERS)) for behavior in (ours, other)]
    for mine, theirs in zip(*choices, strict=True):
        torch.testing.assert_close(theirs, mine, atol=5e-5, rtol=1e-3)
    assert (choices[0].kl > 1e-4).any(), "the adjustment does nothing"


def delta_everywhere(net: DeltaNet, inputs: Tensor) -> list[Tensor]:
    """What is asked while choosing, and what updates go through."""
    passes, flat = net.passes, net.flat.detach()
    return [net(inputs), passes.forward(passes.layers(flat.flatten(0, -2)), inputs.flatten(0, -3))[1]]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("name", "actions"), SERVED_TRAINED)
def test_an_own_module_is_exactly_zero_until_it_learns_and_after_a_reset(name, actions, module):
    task = task_of(actions, n_states=3)
    theta = random_policy(task, SEEDS)
    behavior = built(name, task, SEEDS, network=f"own_modules.{module}", learning_rate=0.03)
    size = {"Autoregressive": 3 + 3}.get(name, 3)
    inputs = 100 * torch.randn(*behavior.net.stack, 50, size, generator=generator(5))
    before = behavior.net.flat.detach().clone()
    assert all((delta == 0).all() for delta in delta_everywhere(behavior.net, inputs))
    updated(behavior, random_data(task, theta, rows=9))
    assert all((delta != 0).flatten(1).any(1).all() for delta in delta_everywhere(behavior.net, inputs))
    behavior.reset(None)
    assert all((delta == 0).all() for delta in delta_everywhere(behavior.net, inputs))
    assert torch.equal(behavior.net.flat, before)
    here = data_of(task, theta, torch.zeros(SEEDS, 2, dtype=torch.int64))
    choice = behavior.choose(here, here.get(keys.PARAMETERS))
    expected = behavior.family.log_prob(here.get(keys.PARAMETERS), choice.action).sum(-1)
    torch.testing.assert_close(choice.behavior_log_prob, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", ["minibatches", "auto"])
def test_what_a_module_keeps_and_began_with_is_not_trained(options):
    task = StatesTask(n_states=4, n_agents=2, n_actions=3)
    settings = {"learning_rate": 0.03, "reset_optimizer": False} | OPTIONS[options]
    behavior = built("MAPROPS", task, SEEDS, network="own_modules.Bounded", **settings)
    net = behavior.net
    before = net.flat.detach().clone().split(net._sizes, -1)
    for round_ in range(3):
        updated(behavior, random_data(task, random_policy(task, SEEDS), rows=9, seed=round_))
    places, mask, drawn, learned, factor = net.flat.detach().split(net._sizes, -1)
    assert torch.equal(torch.cat([places, mask, drawn], -1), torch.cat(before[:3], -1))
    assert (learned != before[3]).any(1).all()
    assert ((factor < 1).any() if options == "auto" else (factor == 1).all()) and (factor >= 0).all()
    assert len({tuple(row) for row in torch.cat([places, mask], -1).tolist()}) > 1, "seeds have buffers of their own"
    module = net.entry(1)
    assert torch.equal(module.places, places[1].long()) and torch.equal(module.mask, mask[1].bool())


def test_a_warm_start_begins_anew_where_nothing_of_delta_was_left():
    task = StatesTask(n_states=3)
    behavior = built("MAPROPS", task, SEEDS, network="own_modules.Plain", warm_start=True, learning_rate=0.03)
    updated(behavior, random_data(task, random_policy(task, SEEDS), rows=9))
    moved = behavior.net.flat.detach().clone()
    *_, drawn, learned, factor = behavior.net.flat.detach().split(behavior.net._sizes, -1)
    factor[1] = 0.0
    behavior.net.zero_output(torch.tensor([True, False, False]))
    assert torch.equal(learned[:2], drawn[:2]) and (factor == 1).all()
    assert torch.equal(behavior.net.flat[2], moved[2]) and not torch.equal(learned[2], drawn[2])


def test_an_own_modules_weights_are_the_seeds_own():
    """Whoever else is there."""
    task = StatesTask(n_states=3)
    behaviors = [BEHAVIORS["PROPS"](network="own_modules.Residual") for _ in range(2)]
    behaviors[0].build(task, 0, [0, 1, 2])
    behaviors[1].build(task, 0, [2])
    assert torch.equal(behaviors[0].net.flat[2:], behaviors[1].net.flat)
    assert behaviors[0].net.flat.flatten(0, 1).unique(dim=0).shape[0] == 6


class OfLayers(MAPROPS):
    """A sampler that makes its adjustment of layers, whatever its options say."""

    def make_adjustment(self, task, generators):
        return self.architecture.layered(task.state_dim, 4, (len(generators),), 0.0, generators)


BEGINNING = {"network": "own_modules.Plain"}


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("MAPROPS", {"network": "Plain"}, "network is 'Plain': give the import path"),
        (
            "MAPROPS",
            {"network": "own_modules.Plane"},
            "network is own_modules.Plane: own_modules has no Plane",
        ),
        (
            "MAPROPS",
            {"network_args": {}},
            "network_args is given without network, whose arguments they are: leave it out",
        ),
        ("MAPROPS", BEGINNING | {"activation": "relu"}, "activation is relu and has no effect: .* leave it out$"),
        ("Autoregressive", BEGINNING | {"layer_norm": True}, "layer_norm is True and has no effect: .* leave it out$"),
        ("PROPS", BEGINNING | {"cnn": [[1, 1, 1]]}, r"cnn is \[\[1, 1, 1\]\] and has no effect: .* leave it out$"),
        ("MAPROPS", BEGINNING | {"trained_layers": "last"}, "trained_layers is last and network is your own, whose"),
        ("PROPS", BEGINNING | {"compile": True}, "compile is true and compiles plain tanh networks only"),
        ("OfLayers", BEGINNING, "network is given and OfLayers makes its adjustment of layers: leave it out"),
        (
            "MAPROPS",
            {"network": "own_modules.Numbered"},
            "network is own_modules.Numbered, which has a buffer with",
        ),
        ("MAPROPS", {"network": "own_modules.MixesRows"}, "network is own_modules.MixesRows, which mixes the rows"),
        ("PROPS", {"network": "own_modules.Drops"}, "network is own_modules.Drops, which has dropout"),
        ("PROPS", {"network": "own_modules.Counts"}, "network is own_modules.Counts, which changes its own buffers"),
        ("MAPROPS", {"network": "own_modules.Clamps"}, "network is own_modules.Clamps, which writes to its inputs"),
        ("Autoregressive", {"network": "own_modules.Lazy"}, "network is own_modules.Lazy, which has lazy layers"),
        (
            "CoordinationGraph",
            {"network": "own_modules.ListsLayers"},
            "network is own_modules.ListsLayers, which has",
        ),
        ("MAPROPS", {"network": "own_modules.Fails"}, "network is own_modules.Fails, which cannot be made with 5 inp"),
    ],
)
def test_own_adjustments_that_cannot_be_are_one_line(kind, options, words):
    task = PictureTask(n_states=5, n_agents=2, n_actions=2)
    with pytest.raises(ConfigError, match=rf"^{words}[^\n]*$"):
        (OfLayers if kind == "OfLayers" else BEHAVIORS[kind])(**options).build(task, 0, [0])


def test_a_sampler_goes_on_with_its_own_module_bit_for_bit():
    def sampler(module: str, width: int) -> JointSampler:
        behavior = MAPROPS(network=f"own_modules.{module}", network_args={"width": width}, learning_rate=0.03)
        return JointSampler(behavior, n_actions=[2, 2], num_envs=1)

    def step(one: JointSampler) -> Tensor:
        one.act(torch.ones(1, 3), torch.full((1, 2, 2), 0.5).log())
        one.observe()
        one.update()
        return one.behavior.net.flat.detach().clone()

    first = sampler("Residual", 4)
    step(first)
    saved = first.state_dict()
    with pytest.raises(ConfigError, match=r"of a sampler with network_args \{'width': 4\} and this one has"):
        sampler("Residual", 5).load_state_dict(saved)
    second = sampler("Residual", 4)
    second.load_state_dict(saved)
    assert torch.equal(step(second), step(first)) and torch.equal(first.drawn.kl, second.drawn.kl)

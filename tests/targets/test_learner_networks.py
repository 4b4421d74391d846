"""Learners with other networks: trained as the known ones are, seed by seed, or refused in one line."""

import pytest
import torch
from targets_helpers import PPOS, SMALL, GaussianTask, MaskedTask, SizesTask, built, filled, random_batch, store_targets
from torch import Tensor, nn

from lit_maprops.stacked.nets import StackedMLP, StackedNet
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import ppo_gradient


class PictureTask(SizesTask):
    """Four numbers, of which the last three are a picture."""

    observation_shape = (1, 1, 3)


KINDS = {
    "relu": {"activation": "relu"},
    "layer norm": {"activation": "gelu", "layer_norm": True},
    "critic": {"critic_activation": "relu", "critic_hidden": [5], "critic_layer_norm": True},
    "own": {"network": "own_modules.Residual", "network_args": {"width": 4}},
    "own critic": {"critic_network": "own_modules.Residual"},
    "gains": {"hidden_gain": 1.0, "policy_gain": 1.0},
}


def last_weights(net: StackedNet, outputs: int, width: int) -> Tensor:
    """Of the last layer, which is linear: ``[networks, outputs, width]``; its biases are 0."""
    weights, biases = net.flat.detach().flatten(0, -2)[:, -outputs * (width + 1) :].split([outputs * width, outputs], 1)
    assert not biases.any()
    return weights.unflatten(1, (outputs, width))


@pytest.mark.parametrize("options", [{}, {"activation": "relu", "layer_norm": True}, {"cnn": [[2, 1, 1]]}], ids=str)
@pytest.mark.parametrize("gain", [None, 1.5])
def test_the_last_policy_layer_starts_at_a_hundredth_and_the_critics_at_1(options, gain):
    """Rows are orthogonal, as long as the gain."""
    learner = built("IPPO", task=PictureTask, hidden=[8], policy_gain=gain, **options)
    for net, outputs, expected in ((learner.policies.net, 3, gain or 0.01), (learner.critic.net, 1, 1.0)):
        weights = last_weights(net, outputs, 8)
        product, square = weights @ weights.mT, expected**2 * torch.eye(outputs).expand(len(weights), -1, -1)
        torch.testing.assert_close(product, square, rtol=1e-5, atol=1e-5 * expected**2)


def test_the_critic_may_be_another_network_than_the_policies():
    learner = built("MAPPO", hidden=[8], critic_hidden=[5, 4], critic_activation="relu", critic_layer_norm=True)
    assert type(learner.policies.net) is StackedMLP
    kinds = [type(layer).__name__ for layer in learner.critic.net.entry(0)]
    assert kinds == ["Linear", "LayerNorm", "ReLU"] * 2 + ["Linear"]
    assert [layer.out_features for layer in learner.critic.net.entry(0) if isinstance(layer, nn.Linear)][:2] == [5, 4]
    other = built("MAPPO", hidden=[5], activation="relu", critic_activation="tanh")
    assert type(other.critic.net) is StackedMLP and type(other.policies.net) is not StackedMLP


@pytest.mark.every(12)
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("task", [SizesTask, MaskedTask, GaussianTask])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_seeds_learn_and_permute(name, kind, task, share):
    arguments = {"hidden": [8], "share_parameters": share} | KINDS[kind]
    if name == "Reinforce" and "critic" in kind:
        pytest.skip("no critic")
    if name == "HAPPO" and share:
        pytest.skip("refused")

    def run(seeds: list[int]) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        learner = built(name, seeds, task, **arguments)
        started = [p.detach().clone() for p in learner.parameters()]
        for round_ in range(2):
            batch = random_batch(built(name, task=task, **arguments), round_)[seeds].clone()
            store_targets(batch, learner.policies)
            stats = learner.update(filled(batch))
        return started, [p.detach().clone() for p in learner.parameters()], stats

    order = [2, 0, 1]
    (first, straight, stats), (_, permuted, others) = run([0, 1, 2]), run(order)
    assert all(value.isfinite().all() for value in (*straight, *stats.values()))
    assert all((one != other).flatten(1).any(1).all() for one, other in zip(first, straight, strict=True))
    for one, other in zip(straight, permuted, strict=True):
        torch.testing.assert_close(one[order], other, atol=1e-5, rtol=1e-4)
    for key, value in stats.items():
        torch.testing.assert_close(value[order], others[key], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PPOS)
def test_the_written_out_gradient_leaves_others_to_autograd_which_agrees(name):
    """The same tanh network, as one of ours and as a module: PPO makes the same of both."""
    known = built(name, **SMALL)
    other = built(name, **SMALL, network="own_modules.Plain", critic_network="own_modules.Plain")
    for one, twin in ((known.policies.net, other.policies.net), (known.critic.net, other.critic.net)):
        assert type(one) is StackedMLP and one.flat.shape == twin.flat.shape
        torch.nn.init.normal_(one.flat, std=0.4, generator=torch.Generator().manual_seed(1))
        twin.flat.data.copy_(one.flat)  # weight, bias, weight, bias: the same order
    assert ppo_gradient.knows(known.policies, known.critic, known.loss)
    assert not ppo_gradient.knows(other.policies, other.critic, other.loss)
    batch = random_batch(known)
    stats, others = known.update(filled(batch)), other.update(filled(batch))
    for key, value in stats.items():
        torch.testing.assert_close(others[key], value, atol=1e-5, rtol=1e-4)
    for one, twin in zip(known.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, twin, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PPOS)
def test_nan_stays_in_its_seed(name):
    def run(nan_seed: int | None) -> list[Tensor]:
        learner = built(name, hidden=[8], activation="gelu", layer_norm=True)
        batch = random_batch(learner)
        if nan_seed is not None:
            batch.get(("agents", "observation"))[nan_seed, 2:] = torch.nan
        return [*learner.update(filled(batch)).values(), *learner.parameters()]

    for clean, ill in zip(run(None), run(1), strict=True):
        assert torch.equal(clean[[0, 2]], ill[[0, 2]])


def test_convolutions_see_the_picture_and_the_critic_of_states_none():
    for name, seen in (("IPPO", 2), ("MAPPO", 1)):
        learner = built(name, task=PictureTask, hidden=[8], cnn=[[3, 1, 2]])
        nets = [learner.policies.net, learner.critic.net]
        assert sum(type(net) is not StackedMLP for net in nets) == seen
        learner.update(filled(random_batch(learner)))
        # 1 x 3 pixels, kernel 1 and stride 2: 1 x 2 of 3 channels, and 1 number beside.
        assert nets[0].flat.shape[-1] == (3 + 3) + 8 * (1 + 6) + 8 + 3 * 8 + 3


def test_the_picture_of_an_agent_specific_critic_stands_behind_the_state():
    """Five numbers of the state, one of the observation, then three pixels."""
    learner = built("MAPPO", task=PictureTask, hidden=[], cnn=[[3, 1, 1]], critic_input="agent_specific_state")
    first = learner.critic.net._one[0][0]
    assert (first.picture.first, first.picture.shape) == (5 + 1, (1, 1, 3))
    learner.update(filled(random_batch(learner)))


@pytest.mark.parametrize(
    ("name", "options"), [("IPPO", {}), ("MAPPO", {"critic_input": "agent_specific_state"})], ids=["IPPO", "MAPPO"]
)
def test_convolutions_of_the_critics_own(name, options):
    """Two channels where the policies have three; none where the list is empty; the policies' where nothing is said."""
    kinds = []
    for cnn, critic_cnn in (([[3, 1, 2]], [[2, 1, 1]]), ([[3, 1, 2]], []), ([], [[2, 1, 1]]), ([[3, 1, 2]], None)):
        learner = built(name, task=PictureTask, hidden=[8], cnn=cnn, critic_cnn=critic_cnn, **options)
        learner.update(filled(random_batch(learner)))
        nets = [getattr(net, "_one", [[]])[0] for net in (learner.policies.net, learner.critic.net)]
        kinds.append([[part.out_channels for part in net[0].layers[::2]] if len(net) else [] for net in nets])
    assert kinds == [[[3], [2]], [[3], []], [[], [2]], [[3], [3]]]


def test_an_activation_of_the_convolutions_that_a_critic_inherits_has_an_effect():
    learner = built("IPPO", task=PictureTask, hidden=[], cnn=[[3, 1, 2]], critic_activation="relu")
    policies, critic = (net._one[0][0].layers for net in (learner.policies.net, learner.critic.net))
    assert isinstance(policies[1], torch.nn.Tanh) and isinstance(critic[1], torch.nn.ReLU)
    learner.update(filled(random_batch(learner)))


@pytest.mark.parametrize("name", ["IPPO", "MAPPO"])
def test_a_critic_with_the_policies_convolutions_by_name_is_the_one_without_a_name(name):
    """To the bit; with a critic of the global state there is nothing to name."""
    options = {"task": PictureTask, "hidden": [8], "cnn": [[3, 1, 2]]}
    options |= {"critic_input": "agent_specific_state"} if name == "MAPPO" else {}
    weights = []
    for named in ({}, {"critic_cnn": [[3, 1, 2]]}):
        learner = built(name, **options, **named)
        learner.update(filled(random_batch(learner)))
        weights.append([weight.detach() for weight in learner.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize(
    ("name", "task", "arguments", "words"),
    [
        ("MAPPO", SizesTask, {"critic_input": "all"}, "critic_input is 'all': choose one of state, agent_specific_s"),
        ("MAPPO", SizesTask, {"activation": "sin"}, "activation is 'sin': choose one of tanh"),
        ("MAPPO", SizesTask, {"hidden": [], "layer_norm": True}, "layer_norm is True and has no effect"),
        ("MAPPO", SizesTask, {"hidden": [], "policy_gain": 1.0}, "policy_gain is 1.0 and has no effect"),
        ("Reinforce", SizesTask, {"critic_hidden": [3]}, "critic_hidden is given and this learner has no"),
        ("MAPPO", SizesTask, {"cnn": [[3, 1, 1]]}, "cnn looks at pictures, and the observations of SizesT"),
        ("MAPPO", PictureTask, {"cnn": [[3, 2, 1]]}, "cnn has a kernel of 2 for what is 1 x 3: give a small"),
        ("MAPPO", PictureTask, {"cnn": [[3, 2]]}, r"cnn has \[3, 2\]: give \[channels, kernel, stride\]"),
        ("IPPO", SizesTask, {"critic_cnn": [[3, 1, 1]]}, "critic_cnn looks at pictures, and the observations of Sizes"),
        ("IPPO", PictureTask, {"critic_cnn": [[3, 2, 1]]}, "critic_cnn has a kernel of 2 for what is 1 x 3: give a"),
        ("IPPO", PictureTask, {"critic_cnn": [[3, 2]]}, r"critic_cnn has \[3, 2\]: give \[channels, kernel, stride\]"),
        ("MAPPO", PictureTask, {"critic_cnn": []}, "critic_cnn looks at pictures, and MAPPO's critic sees the global"),
        ("HAPPO", PictureTask, {"critic_cnn": [[3, 1, 1]]}, "critic_cnn looks at pictures, and HAPPO's critic sees"),
        ("Reinforce", PictureTask, {"critic_cnn": []}, "critic_cnn is given and this learner has no critic: leave it"),
        (
            "IPPO",
            PictureTask,
            {"critic_cnn": [[3, 1, 1]], "critic_network": "own_modules.Plain"},
            r"critic_cnn is \[\[3, 1, 1\]\] and has no effect",
        ),
        (
            "IPPO",
            PictureTask,
            {"cnn": [[3, 1, 1]], "critic_cnn": [], "network": "own_modules.Plain"},
            r"cnn is \[\[3, 1, 1\]\] and has no effect",
        ),
        (
            "MAPPO",
            PictureTask,
            {"cnn": [[3, 1, 1]], "network": "own_modules.Plain"},
            r"^cnn is \[\[3, 1, 1\]\] and has no effect: [^\n]* the critic sees the global state",
        ),
        (
            "MAPPO",
            PictureTask,
            {"hidden": [], "cnn": [[3, 1, 1]], "critic_activation": "relu"},
            "^critic_activation is relu and has no effect: [^\n]* the critic sees the global state",
        ),
        ("MAPPO", SizesTask, {"network_args": {}}, "network_args is given without network"),
        ("MAPPO", SizesTask, {"network": "Plain"}, "network is 'Plain': give the import path"),
        ("MAPPO", SizesTask, {"network": "own_modules.Plane"}, "has no Plane .did you mean Plain"),
        ("MAPPO", SizesTask, {"network": "torch.optim.Adam"}, "which is no Module: give a class that extends it"),
        ("MAPPO", SizesTask, {"critic_network": "no.such"}, "critic_network is no.such, which cannot be imp"),
    ],
)
def test_what_cannot_be_is_one_line(name, task, arguments, words):
    with pytest.raises(ConfigError, match=words):
        built(name, task=task, **arguments)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("MixesRows", "mixes the rows of a batch"),
        ("Centers", "mixes the rows of a batch"),
        ("LooksAtTheFirst", "mixes the rows of a batch"),
        ("LooksAtTheLast", "mixes the rows of a batch"),
        ("Seeded", "seeds torch's generator itself, so that all seeds would start with the same weights"),
        ("Drops", "has dropout"),
        ("Counts", "changes its own buffers"),
        ("CountsUnsaved", "changes its own buffers"),
        ("Clamps", "writes to its inputs"),
        ("ClampsUnseen", "writes to its inputs"),
        ("Noisy", "puts out other numbers for the same rows"),
        ("Recalls", "puts out other numbers for the same rows"),
        ("SharesWeights", "has weights that all of its instances share, which would mix seeds"),
        ("ListsLayers", "has numbers that are no parameters or buffers of its own, such as layers in a list"),
        ("UsesALayerOutside", "has numbers that are no parameters or buffers of its own, such as layers in a list"),
        ("CentersMany", "mixes the rows of a batch"),
        ("Squeezes", r"puts out \(3,\) for 1 rows, not \(1, 3\)"),
        ("Lazy", "has lazy layers, whose weights are drawn only when it is called"),
        ("DrawsOnce", "draws random numbers when it is called, which all seeds would share"),
        ("FromNumpy", "draws its weights from elsewhere"),
        ("Asks", "torch.vmap cannot run for several seeds"),
        ("Narrow", r"puts out \(5, 4\) for 5 rows, not \(5, 3\)"),
        ("Alone", r"puts out NoneType for 1 rows, not \(1, 3\)"),
        ("Doubles", "puts out float64, not float32"),
        ("Frozen", "keeps gradients from its weights, such as by torch.no_grad or detach"),
        ("Weightless", "has no weights to train"),
        ("Fails", "cannot be made with 4 inputs and 3 outputs"),
    ],
)
def test_modules_that_cannot_be_trained_side_by_side_are_refused(module, words):
    with pytest.raises(ConfigError, match=words) as found:
        built("IPPO", network=f"own_modules.{module}")
    assert str(found.value).count("\n") == 0
    assert str(found.value).startswith(f"network is own_modules.{module}, which ")


def test_a_module_that_knows_only_rows_like_the_tasks_is_accepted():
    built("IPPO", network="own_modules.Embeds", critic_network="own_modules.Embeds")

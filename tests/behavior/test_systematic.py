"""``kl_cutoff: auto``: the chances of systematic sampling, where updates stop, and what that does to sampling."""

import math

import pytest
import torch
from behavior_helpers import (
    TRAINED,
    ComponentsTask,
    StatesTask,
    built,
    everywhere,
    generator,
    joint_actions,
    one_line,
    random_data,
    random_policy,
    updated,
)
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS
from lit_maprops.behavior.update.rows import Ratios
from lit_maprops.behavior.update.systematic import counts_in_state, next_draw, scale_to
from lit_maprops.envs import MatrixGame
from lit_maprops.system.argument_types import AUTO
from lit_maprops.system.errors import ConfigError

CLOSED_FORM = "TabularMAPROPS"


# the chances


@pytest.mark.parametrize("p", [0.5, 0.3, 0.9, 0.004])
def test_two_actions_keep_their_counts_within_one_of_their_share_and_without_bias(p: float) -> None:
    held = {0: 1.0}  # count of the first action -> probability
    for n in range(40):
        after: dict[int, float] = {}
        for count, chance in held.items():
            counts = torch.tensor([[[float(count)], [float(n - count)]]], dtype=torch.float64)
            draw = next_draw(torch.tensor([[[p], [1 - p]]], dtype=torch.float64), counts)[0, :, 0]
            assert draw.sum() == pytest.approx(1)
            for taken, probability in ((1, draw[0].item()), (0, draw[1].item())):
                after[count + taken] = after.get(count + taken, 0.0) + chance * probability
        held = {count: chance for count, chance in after.items() if chance > 1e-9}
        expected = (n + 1) * p
        assert set(held) <= {math.floor(expected + 1e-9), math.ceil(expected - 1e-9)}
        assert sum(count * chance for count, chance in held.items()) == pytest.approx(expected, abs=1e-6)


def test_chances_of_rows_by_hand() -> None:
    target = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.7, 0.2, 0.1, 0.0], [0.7, 0.2, 0.1, 0.0]]).T
    counts = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [5.0, 0, 0, 0]]).T
    draw = next_draw(target, counts)
    assert torch.allclose(draw[:, 0], torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]))
    assert torch.allclose(draw[:, 1], target[:, 1])
    # 3.5 expected and 5 held: no more of it; 1 expected and none held: at once; 0.5 expected: 0.1 / (1 - 0.5).
    assert torch.allclose(draw[:, 2], torch.tensor([0, 1 / 1.2, 0.2 / 1.2, 0]))


def test_near_determinism_little_is_to_be_made_up_for() -> None:
    rare = 1e-3
    draw = next_draw(torch.tensor([[1 - rare], [rare]]), torch.tensor([[7.0], [0.0]]))
    assert draw[1, 0] == pytest.approx(rare / (1 - 7 * rare), rel=1e-4)


def test_counts_are_those_of_equal_states_of_the_same_entry() -> None:
    draw = generator(0)
    state = torch.randint(3, (4, 11), generator=draw) * 2**61  # as large as fingerprints
    held = torch.randint(3, (4, 5, 11), generator=draw).float() + 1e-6
    counts = counts_in_state(state, held)
    for entry in range(4):
        for row in range(11):
            same = state[entry] == state[entry, row]
            assert torch.equal(counts[entry, :, row], held[entry][:, same].sum(1).round())


def test_the_scale_is_where_the_excess_crosses_zero() -> None:
    crossing = torch.tensor([0.3, 0.77, 1.5, -1.0, math.nan])
    scale = scale_to(lambda scale: scale - crossing, crossing)
    assert scale.tolist() == [pytest.approx(0.3), pytest.approx(0.77), 1, 0, 0]
    cubed = scale_to(lambda scale: scale**3 - crossing.abs() ** 3, crossing)
    assert torch.allclose(cubed[:2], crossing[:2], atol=5e-4)


# updates


def excess_of(behavior: object, scale: float) -> Tensor:
    """Excess over D of the adjustment as it stands, times ``scale``: of tables ``[G]``, of rows ``[R]``."""
    trainer = behavior.delta_trainer
    if hasattr(trainer, "wanted"):
        rows = trainer.store.samples()
        rows = rows._replace(wanted=trainer.wanted(rows))
        delta = behavior.net(rows.inputs.unflatten(0, behavior.net.stack)).flatten(0, -3).mT
        return behavior.ratios(delta * scale, rows).excess(delta, rows)
    samples = trainer.store.wanting(trainer.store.samples())
    delta = behavior.net(samples.inputs.unflatten(0, behavior.net.stack)).flatten(0, -3).mT
    phi = (samples.target.log() + scale * delta).softmax(1)
    return (((phi - samples.wanted) * delta).sum(1) * samples.visits).sum(1)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"minibatches": 3}, {"hidden": [8]}], ids=["", "minibatches", "hidden"])
@pytest.mark.parametrize("name", TRAINED)
def test_an_update_ends_at_the_end_of_the_way_or_where_the_excess_is_zero(name: str, options: dict) -> None:
    task = StatesTask(n_states=2, n_agents=2, n_actions=3)
    theta = random_policy(task, 4)
    arguments = {"hidden": [], "learning_rate": 0.3, "clip_epsilon": 1.0} | options
    behavior = built(name, task, 4, kl_cutoff=AUTO, **arguments)
    stats = updated(behavior, random_data(task, theta, 20))
    assert stats["cutoff_hit"].any()
    assert (excess_of(behavior, 0.99) <= 1e-6).all()
    scaled_back = excess_of(behavior, 1.02) > 0  # near where it is 0
    hit = stats["cutoff_hit"].flatten() if name != "PROPS" else scaled_back
    if "minibatches" not in options:  # the stop of a part need not be one of all of D
        assert scaled_back[hit].all()
    assert stats["kl"].isfinite().all() and (stats["kl"] > -1e-6).all() and (stats["kl"] > 1e-3).any()


@pytest.mark.parametrize("name", ["Autoregressive", "CoordinationGraph"])
def test_the_excess_is_the_slope_of_what_is_minimized(name: str) -> None:
    """By autograd, of the mean over D of log Z(t) less t times what is wanted of Delta, at t = 0.7."""
    task = StatesTask(n_states=2, n_agents=3, n_actions=2)
    theta = random_policy(task, 2)
    behavior = built(name, task, 2, hidden=[], kl_cutoff=AUTO)
    torch.nn.init.normal_(behavior.net.flat, std=0.5, generator=generator(4))
    behavior.extend(random_data(task, theta, 9))
    rows = behavior.delta_trainer.store.samples()
    rows = rows._replace(wanted=behavior.wanted(rows))
    delta = behavior.net(rows.inputs.unflatten(0, behavior.net.stack)).flatten(0, -3).mT.detach()
    t = torch.tensor(0.7, requires_grad=True)
    ratios: Ratios = behavior.ratios(delta * t, rows)
    # log r = t Delta(taken) - log Z, and ``wanted`` counts what was taken as -1.
    minimized = -ratios.log_ratio - t * (rows.wanted * delta).sum(1).unflatten(0, (2, -1)).sum(1)
    (slope,) = torch.autograd.grad((minimized * rows.weight)[1].sum(), t)
    assert ratios.excess(delta, rows)[1].item() == pytest.approx(slope.item(), rel=1e-4)


@torch.no_grad()
def test_a_graph_wants_of_agents_and_of_pairs_what_their_counts_say() -> None:
    task = StatesTask(n_agents=3, n_actions=2)
    theta = random_policy(task, 1)
    behavior = built("CoordinationGraph", task, 1, hidden=[], kl_cutoff=AUTO)
    data = random_data(task, theta, 5)
    behavior.extend(data)
    rows = behavior.delta_trainer.store.samples()
    wanted, action, policy = behavior.wanted(rows)[0], data.get(keys.ACTION)[0], theta[0, 0].exp()
    for agent in range(3):
        counts = torch.bincount(action[:, agent], minlength=2).float().unsqueeze(1)
        held = torch.nn.functional.one_hot(action[:, agent], 2).mT
        expected = next_draw(policy[agent].unsqueeze(1), counts) - held
        assert torch.allclose(wanted[2 * agent : 2 * agent + 2], expected, atol=1e-6)
    for edge, (parent, child) in enumerate(behavior.forest.edges):
        number = 2 * action[:, parent] + action[:, child]
        counts = torch.bincount(number, minlength=4).float().unsqueeze(1)
        product = (policy[parent].unsqueeze(1) * policy[child]).flatten().unsqueeze(1)
        expected = next_draw(product, counts) - torch.nn.functional.one_hot(number, 4).mT
        assert torch.allclose(wanted[6 + 4 * edge : 10 + 4 * edge], expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", TRAINED)
def test_seeds_do_not_mix_and_a_nan_stays_in_its_seed(name: str) -> None:
    task = StatesTask(n_states=2, n_agents=2, n_actions=3)
    theta = random_policy(task, 3)
    data = random_data(task, theta, 15)
    order = torch.tensor([2, 0, 1])
    results = []
    for chosen in (torch.arange(3), order):
        behavior = built(name, task, 3, kl_cutoff=AUTO, hidden=[], learning_rate=0.3)
        own = data[chosen].clone()
        if len(results) == 1:
            own.get(keys.PARAMETERS)[list(chosen).index(1)] = math.nan
        updated(behavior, own)
        results.append(behavior.net.flat.detach())
    for position, seed in enumerate(order.tolist()):
        if seed != 1:
            assert torch.allclose(results[1][position], results[0][seed], atol=1e-6)
            assert results[1][position].isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("name", [*TRAINED, CLOSED_FORM])
def test_actions_that_an_agent_lacks_stay_out(name: str) -> None:
    task = StatesTask(n_agents=2, n_actions=3)
    theta = random_policy(task, 2)
    theta[..., 0, 2] = -math.inf
    theta = theta.log_softmax(-1)
    arguments = {} if name == CLOSED_FORM else {"hidden": [], "learning_rate": 0.5}
    behavior = built(name, task, 2, kl_cutoff=AUTO, **arguments)
    data = random_data(task, theta, 12)
    data.get(keys.ACTION)[..., 0].clamp_(max=1)
    behavior.extend(data)
    behavior.update()
    query = everywhere(task, theta, 0, 400)
    choice = behavior.choose(query, query.get(keys.PARAMETERS))
    assert choice.action[..., 0].max() == 1 and choice.behavior_log_prob.isfinite().all()
    assert choice.kl.isfinite().all()


# what it is for


def mean_joint_tv(name: str, prob: float, n: int, seeds: int, **arguments: object) -> tuple[float, float]:
    """Of n samples of a fixed 2x2 policy, m = 1, and its standard error."""
    behavior = built(name, MatrixGame(), seeds, **arguments)
    logits = torch.tensor([prob, 1 - prob]).log().expand(seeds, 1, 2, 2)
    ones = torch.ones(seeds, 1, 1)
    step = TensorDict({keys.STATE: ones, keys.STATE_INDEX: ones.long() * 0}, batch_size=[seeds, 1])
    step.set(keys.OBSERVATION, torch.ones(seeds, 1, 2, 1)).set(keys.PARAMETERS, logits)
    counts = torch.zeros(seeds, 4)
    for step_ in range(n):
        action = behavior.choose(step, logits).action
        counts.scatter_add_(1, 2 * action[..., 0] + action[..., 1], ones[..., 0])
        if step_ + 1 < n and arguments:
            behavior.extend(step.clone().set(keys.ACTION, action))
            behavior.update(measure=False)
    target = torch.tensor([prob * prob, prob * (1 - prob), prob * (1 - prob), (1 - prob) ** 2])
    tv = 0.5 * (counts / n - target).abs().sum(1)
    return tv.mean().item(), tv.std().item() / seeds**0.5


STRONG = {"hidden": [], "learning_rate": 1.0, "clip_epsilon": 1.0}


@pytest.mark.every(2)
@pytest.mark.parametrize("prob", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("name", [*TRAINED, CLOSED_FORM])
def test_strong_updates_are_never_above_on_policy_sampling(name: str, prob: float) -> None:
    arguments = {} if name == CLOSED_FORM else STRONG
    own, error = mean_joint_tv(name, prob, 8, 300, kl_cutoff=AUTO, **arguments)
    on_policy, of_on_policy = mean_joint_tv("OnPolicy", prob, 8, 300)
    assert own < on_policy + 3 * math.hypot(error, of_on_policy)
    if prob == 0.5 and name != "PROPS":
        assert own < 0.15 * on_policy


def test_a_fixed_cutoff_is_above_it_near_determinism() -> None:
    own, _ = mean_joint_tv("MAPROPS", 0.99, 8, 300, kl_cutoff=1.0, **STRONG)
    on_policy, _ = mean_joint_tv("OnPolicy", 0.99, 8, 300)
    assert own > 4 * on_policy


def test_the_closed_form_draws_by_the_chances() -> None:
    task = StatesTask(n_agents=2, n_actions=2)
    theta = torch.full((1, 1, 2, 2), math.log(0.5))
    behavior = built(CLOSED_FORM, task, 1, kl_cutoff=AUTO)
    taken = everywhere(task, theta, 0, 1).set(keys.ACTION, torch.tensor([[[0, 1]]]))
    behavior.extend(taken)
    query = everywhere(task, theta, 0, 2000)
    choice = behavior.choose(query, query.get(keys.PARAMETERS))
    seen = {
        tuple(a): p.exp().item() for a, p in zip(choice.action[0].tolist(), choice.behavior_log_prob[0], strict=True)
    }
    floor = 0.0025 / 1.0025  # LEAST_RATIO of a quarter
    for actions in joint_actions(task):
        expected = floor if actions == (0, 1) else (1 - floor) / 3
        assert seen.get(actions, floor) == pytest.approx(expected, rel=1e-3)


# what it cannot do


@pytest.mark.parametrize("name", ["GaussianAdjustment", "PROPS"])
def test_continuous_actions_are_refused(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        built(name, ComponentsTask(), 1, kl_cutoff=AUTO)
    assert "--model.behavior.kl_cutoff is auto, which counts actions" in one_line(error)


@pytest.mark.parametrize("options", [{"max_states": 4}, {"compile": True}])
def test_options_that_need_less_than_all_of_d_are_refused(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_maprops.behavior.update.fused.has_compiler", lambda: True)
    with pytest.raises(ConfigError) as error:
        MAPROPS(kl_cutoff=AUTO, **options)
    assert f"--model.behavior.{next(iter(options))} is set" in one_line(error)


@pytest.mark.parametrize("options", [{"minibatches": 2}, {"trained_layers": "last"}])
def test_torch_runs_updates_that_the_kernel_cannot(options: dict) -> None:
    behavior = built("MAPROPS", StatesTask(), 1, kl_cutoff=AUTO, **options)
    assert "counts states" in str(behavior.why_not_native())
    assert built("MAPROPS", StatesTask(), 1, kl_cutoff=AUTO).why_not_native() is None

"""Runs whose batches are compared with the truth, under the run's own critic and under the other learner's.

The other learner's critic learns from the same batches, in the same minibatches, and changes nothing else: what the two
say of a batch differs by the critic alone.
"""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.metrics.gradients import policy_gradient
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.options import parsed
from lit_maprops.targets import gae
from lit_maprops.targets.normalized import normalized
from lit_maprops.targets.ppo import PPO
from studies.advantages.exact import World, exact, gradient, visits, world_of
from studies.advantages.learners import of_places
from studies.train import train

LEARNERS = ("IPPO", "MAPPO")
RETURNS = "returns"  # the estimate with the true values for a critic
Figures = dict[str, Tensor]  # [R] each


def look(critics: dict[str, PPO], world: World, data: TensorDictBase) -> Figures:
    """Figures of D ``[R, 1, T, E]`` before the update; the learners of ``critics`` have the same policies."""
    learner = next(iter(critics.values()))
    policies, steps = learner.policies, data.flatten(1, 3)
    found = exact(policies, world, learner.gamma)
    places = world.places(steps)
    true = of_places(found.advantage.flatten(1, 2), world.pairs(steps))  # [R, B, A]
    value = of_places(found.value, places)
    share = visits(world, found.chance)
    held = torch.zeros_like(share).scatter_add_(1, places, torch.ones_like(places, dtype=share.dtype))
    expected = gradient(policies, world, found, share)
    estimates = {name: critic.advantages(data).flatten(1, 3).double() for name, critic in critics.items()}
    estimates[RETURNS] = with_values(learner, world, found.value, data).flatten(1, 3)
    gradients = {name: policy_gradient(policies, steps, own.float()) for name, own in estimates.items()}
    gradients["actions"] = policy_gradient(policies, steps, true.float())
    gradients["states"] = gradient(policies, world, found, held / places.shape[1])
    figures = {"true_rms": _rms(true), "value_sd": _rms(value - value.mean(1, keepdim=True))}
    figures |= {"norm": expected.square().sum(1)}
    for name, own in gradients.items():
        figures |= {f"error {name}": (own - expected).square().sum(1), f"cosine {name}": _cosine(own, expected)}
        if name in estimates:
            figures |= {f"in batch {name}": _cosine(own, gradients["actions"])}
    for name, own in estimates.items():
        figures |= {f"{figure} {name}": number for figure, number in _beside(own, true).items()}
    for name, critic in critics.items():
        off = critic.values(steps).double() - value
        figures |= {f"value bias {name}": off.mean((1, 2)), f"value rmse {name}": _rms(off)}
        scaled = normalized(estimates[name].float().unsqueeze(-1), critic.values(steps).unsqueeze(-1), None)
        figures[f"used {name}"] = _cosine(policy_gradient(policies, steps, scaled.squeeze(-1)), expected)
    return figures


def with_values(learner: PPO, world: World, table: Tensor, data: TensorDictBase) -> Tensor:
    """The learner's estimate ``[R, 1, T, E, A]`` of D with values ``[R, S, A]`` for its critic."""
    following = data.get("next")
    value, later = (of_places(table, world.places(part)) for part in (data, following))  # [R, 1, T, E, A]
    ends = [following.get(name).expand(value.shape).flatten(3) for name in (keys.DONE, keys.TERMINATED)]
    reward = following.get(keys.REWARD).flatten(3).double()
    numbers = learner.gamma, learner.gae_lambda, value.flatten(3), later.flatten(3), reward
    return gae.advantages(*numbers, *ends)[0].reshape(value.shape)


def _beside(own: Tensor, true: Tensor) -> Figures:
    """Advantages ``[R, B, A]`` and the true ones."""
    off = own - true
    centered = [part - part.mean(1, keepdim=True) for part in (own, true)]
    product = (centered[0] * centered[1]).sum(1)
    length = centered[0].norm(dim=1) * centered[1].norm(dim=1)
    wrong = (own * true < 0).double().mean((1, 2))
    return {"bias": off.mean((1, 2)), "rmse": _rms(off), "correlation": (product / length).mean(1), "wrong": wrong}


def _rms(values: Tensor) -> Tensor:
    return values.square().mean((1, 2)).sqrt()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1, eps=1e-30)


def watched(flags: list[str], learner: str, points: tuple[int, ...]) -> tuple[dict[int, Figures], list[float]]:
    """Figures of a run's batches at some target updates, counted from 1, and every seed's greedy success at its end.

    Args:
        flags: of the run; all of its target iterations must be one epoch.
        learner: the run's, of ``LEARNERS``.
        points: the updates.
    """
    made: dict[str, Any] = {name: parsed([*flags, "--model.learner", name]) for name in LEARNERS}
    critics: dict[str, PPO] = {name: made[name].model.learner for name in LEARNERS}
    own, (twin,) = critics[learner], [critics[name] for name in LEARNERS if name != learner]
    found: dict[int, Figures] = {}
    learn = own.update

    def before(model: LitMAPROPS) -> None:
        twin.build(model.task, model.run_seed, model.own_seeds)
        if twin.why_not_native() is None:
            twin.use_kernel()
        world = world_of(model.task)

        def update(buffer: Buffer) -> Figures:
            with torch.no_grad():
                twin.policies.net.flat.copy_(own.policies.net.flat)
            if model.iteration + 1 in points:
                found[model.iteration + 1] = look(critics, world, buffer.trajectories())
            twin.update(buffer)
            return learn(buffer)

        own.update = update  # type: ignore[method-assign]

    model = made[learner].model
    train(model, made[learner].datamodule, lambda model: None, before)
    assert model.evaluations is not None
    return found, model.evaluations["greedy"].success_rate.tolist()

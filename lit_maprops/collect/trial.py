"""Somebody else's sampler is tried before anything is written: on a copy, so that the run draws what it always drew."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.behavior.watched import WatchedBehavior
from lit_maprops.collect.collection import BehaviorActor, update_keys
from lit_maprops.envs import Task
from lit_maprops.envs.faults import Faults
from lit_maprops.envs.global_generators import generators_kept
from lit_maprops.envs.remembering import environment
from lit_maprops.system.entry_points import tried
from lit_maprops.system.errors import ConfigError, EnvironmentFault, check
from lit_maprops.targets import TargetPolicies
from lit_maprops.targets.critics import Critic

PLACE = "on trial before the first env step"
MOST_STEPS = 8  # vector steps between two updates on trial
UPDATES = 2
DRAWS, MOST_CALLS = 2048, 512  # of the joint action whose probability is compared with how often it is drawn
DEVIATIONS = 6  # standard errors beyond which the two differ
ROUNDING = 0.02  # of their ratio, below which they do not


def watched(behavior: BehaviorPolicy, faults: Faults) -> WatchedBehavior | None:
    """What calls a sampler that is built; None: it is one of the project's own, and is called as it is.

    Args:
        behavior: the sampler.
        faults: of the run.

    Raises:
        ConfigError: its ``build`` left out the base class's.
    """
    if type(behavior) in BEHAVIORS.values():
        return None
    name = type(behavior).__name__
    built = hasattr(behavior, "family") and hasattr(behavior, "source")
    check(built, f"<model.behavior> {name}: build does not call super().build(task, run_seed, seed_ids): call it first")
    return WatchedBehavior(behavior, faults)


def check_made(behavior: BehaviorPolicy) -> None:
    """Refuse a sampler whose constructor left out the base class's.

    Raises:
        ConfigError: it did.
    """
    made = hasattr(behavior, "draws") and "_parameters" in vars(behavior)
    name = type(behavior).__name__
    check(made, f"<model.behavior> {name}: __init__ does not call super().__init__(draws): call it first")


def try_behavior(
    behavior: BehaviorPolicy,
    policies: TargetPolicies,
    critic: Critic | None,
    seeds: tuple[Task, int, list[int], int],
    steps: int,
) -> None:
    """Have a copy of a sampler draw and learn as in a run, and compare its log-probabilities with what it draws.

    What cannot be copied is not tried, nor where the environment does not start: the run tells.

    Args:
        behavior: the sampler, built, on the CPU.
        policies: the target policies.
        critic: as that of ``BehaviorActor``.
        seeds: task, run seed, seeds and environments of each: what ``TaskEnv`` takes.
        steps: vector steps between two updates.

    Raises:
        ConfigError: it fails.
    """
    with generators_kept(), torch.enable_grad():
        twin, uncopied = tried(lambda: copy.deepcopy(behavior))
        if uncopied:
            return
        task, _, seed_ids, _ = seeds
        asked = WatchedBehavior(twin, Faults(type(task).__name__, seed_ids), ConfigError, PLACE)
        actor = BehaviorActor(policies, twin, critic, asked)
        start = _start(actor.remembered, *seeds)
        if start is None:
            return
        asked.reset(None)
        _compare(asked, actor, start)
        for _ in range(UPDATES if behavior.adapts else 0):
            drawn = torch.stack([actor(start.clone()) for _ in range(max(1, min(steps, MOST_STEPS)))], 1)
            asked.extend(drawn.select(*update_keys(task)).flatten(1, 2))
            asked.update(measure=True)
        _compare(asked, actor, start)
        asked.reset(None)


def _start(remembered: Mapping[Any, tuple[int, int]], *seeds: Any) -> TensorDictBase | None:
    """What is seen at the start of episodes, ``[R, E]``; None: the environment breaks."""
    try:
        return environment(remembered, *seeds, purpose="trial environment").reset()
    except EnvironmentFault:
        return None


@torch.no_grad()
def _compare(asked: WatchedBehavior, actor: BehaviorActor, start: TensorDictBase) -> None:
    """Draw one vector step as in a run, and then again and again under policies that have a most probable joint action.

    Whatever the sampler does, 1 over the probability of that action, 0 for other ones, is 1 in the mean or less: it is
    tried whether it is more; and whether it is less, where the probability is always the same.

    Raises:
        ConfigError: NaN, a probability above 1, or one that is not how often the action is drawn.
    """
    drawn = actor(start.clone())
    asked.check_drawn(drawn.unsqueeze(1))
    if asked.behavior.task.continuous_actions:
        return
    parameters, top = _peaked(drawn.get(keys.PARAMETERS))
    rows = start.numel()
    hits, logs = [], []
    for _ in range(min(MOST_CALLS, math.ceil(DRAWS / rows))):
        choice = asked.choose(start.clone(), parameters.clone())
        hits.append((choice.action == top).all(-1).flatten())
        logs.append(choice.behavior_log_prob.flatten())
    hit = torch.cat(hits)
    log_prob, share = torch.cat(logs)[hit].double(), float(hit.double().mean())
    if not len(log_prob):
        return
    inverse = (-log_prob).exp()
    mean, error = float(inverse.sum()) / len(hit), float(inverse.square().sum()) ** 0.5 / len(hit)
    probability = float(1 / inverse.mean())
    constant = float(log_prob.max() - log_prob.min()) < ROUNDING and probability < 1 - ROUNDING
    if abs(mean - 1) > max(ROUNDING, DEVIATIONS * error) and (mean > 1 or constant):
        raise asked.not_normalized(probability, share)


def _peaked(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Policies with the same legal actions, each agent's first of which it takes so often that all do every other time.

    Args:
        parameters: log pi_theta_i, ``[R, E, A, N]``; not NaN.

    Returns:
        Log-probabilities, likewise, and the joint action ``[R, E, A]``.
    """
    legal = parameters > -torch.inf
    first = legal.int().argmax(-1, keepdim=True)
    often, others = 0.5 ** (1 / parameters.shape[-2]), (legal.sum(-1, keepdim=True) - 1).clamp(min=1)
    shares = ((1 - often) / others).expand_as(parameters).masked_fill(~legal, 0.0).scatter(-1, first, often)
    return (shares / shares.sum(-1, keepdim=True)).log(), first.squeeze(-1)

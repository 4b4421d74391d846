"""Pairs of collections from the same seeds: TorchRL's, and the compiled one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.collect import BehaviorActor, Collection, NativeCollection
from lit_maprops.collect.native_call import ACT, ASKED
from lit_maprops.envs import Task
from lit_maprops.envs.remembering import environment
from lit_maprops.native.build import run, why_none
from lit_maprops.stacked.cells import Cell
from lit_maprops.stacked.layers import Architecture
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets import TargetPolicies
from lit_maprops.targets.critics import Critic
from lit_maprops.targets.memory import RecurrentPolicies, critic_of

native = pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")
Engine = type[Collection] | type[NativeCollection]


def collection(
    engine: Engine,
    task: Task,
    behavior: BehaviorPolicy,
    seeds: list[int],
    envs: int,
    batch: int,
    hidden: tuple[int, ...] = (16, 16),
    shared: bool = False,
    memory: tuple[Cell, type[Critic]] | None = None,
) -> Any:
    """Policies, a critic that remembers and adjustment are random, each seed's by its own stream."""
    behavior.build(task, 0, seeds)
    weights, critic = SeedStreams(0, seeds, "weights").generators, None
    if memory is None:
        policies = TargetPolicies(task, hidden, shared, weights)
    else:
        made = Architecture(hidden, cell=memory[0])
        policies = RecurrentPolicies(task, made, shared, weights, None, 1)
        critic = critic_of(memory[1], 1, task, made, shared, weights)
    behavior.reset(None)
    generators = SeedStreams(0, seeds, "noise").generators
    with torch.no_grad():
        own = [] if critic is None else critic.parameters()
        for parameter in [*policies.parameters(), *behavior.parameters(), *own]:
            noise = [torch.randn(parameter.shape[1:], generator=generator) for generator in generators]
            parameter += 0.3 * torch.stack(noise)
    actor = BehaviorActor(policies, behavior, critic)
    made: Any = engine(environment(actor.remembered, task, 0, seeds, envs), actor, batch)
    made.actor = actor
    return made


def pair(task: Task, behavior: Callable[[], BehaviorPolicy], *sizes: Any, **more: Any) -> tuple[Any, Any]:
    """The two engines; each has a behavior policy of its own."""
    return tuple(collection(engine, task, behavior(), *sizes, **more) for engine in (Collection, NativeCollection))


def acted(own: NativeCollection, action: Tensor, noise: Tensor) -> Any:
    """The outcome ``[R, E]`` of given actions ``[R, E, A]`` and noise ``[R, E, .]``."""
    own._batch.arrays["action"][:, 0] = action
    own._call.behavior, own._call.phases = ASKED, ACT
    own._call.noise, own._call.noise_seed = noise.data_ptr(), noise.stride(0)
    run("rollout", own._call)
    return own._batch.data[:, 0].get("next")


def assert_same_steps(one: Any, other: Any, rounding: float = 1e-5) -> None:
    """Batches with the same keys: logarithms up to rounding, everything else exactly."""
    assert set(one.keys(True, True)) == set(other.keys(True, True))
    assert one.batch_size == other.batch_size
    for name in one.keys(True, True):
        expected, value = one.get(name), other.get(name)
        assert value.dtype == expected.dtype and value.shape == expected.shape, name
        last = name if isinstance(name, str) else name[-1]
        if any(rounds in last for rounds in ("parameters", "log_prob", "behavior_kl", "memory")):
            torch.testing.assert_close(
                value, expected, atol=rounding, rtol=rounding, msg=lambda said, name=name: f"{name}: {said}"
            )
        else:
            assert torch.equal(value, expected), name


def assert_same_state(one: Any, other: Any, path: str = "") -> None:
    """Checkpoints bit for bit, keys in their order included; what is remembered, up to rounding."""
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for name in one:
            assert_same_state(one[name], other[name], f"{path}/{name}")
    elif isinstance(one, Tensor) and "memory" in path:
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    else:
        assert one == other, path

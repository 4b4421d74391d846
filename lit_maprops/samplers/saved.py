"""A sampler's state between two steps, as tensors and primitives, and back bit for bit."""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.samplers.task import PlainTask
from lit_maprops.system.errors import check


class SamplerState(ABC):
    """What a sampler consists of that must be saved; ``JointSampler`` sets and uses it."""

    behavior: BehaviorPolicy
    continuous: bool
    sizes: list[int]
    num_envs: int
    device: torch.device
    task: PlainTask | None
    sees_observations: bool
    steps: list[TensorDictBase]
    chunks: list[int]

    @abstractmethod
    def forget(self) -> None:
        """Be as before the first ``act``."""

    @abstractmethod
    def build(self, state_dim: int, observation_dim: int | None) -> None:
        """Create the behavior policy's networks."""


def identity_of(sampler: SamplerState) -> dict[str, Any]:
    """What the sampler that loads a state must share with the one that saved it."""
    return {
        "behavior": type(sampler.behavior).__name__,
        "action_dims" if sampler.continuous else "n_actions": sampler.sizes,
        "num_envs": sampler.num_envs,
    }


def saved_state(sampler: SamplerState) -> dict[str, Any]:
    """See ``JointSampler.state_dict``."""
    state: dict[str, Any] = {"identity": identity_of(sampler) | sampler.behavior.identity(), "state_dim": None}
    task, behavior = sampler.task, sampler.behavior
    if task is None:
        return state
    steps: dict[str, Tensor] = {}
    if sampler.steps:
        stacked: TensorDictBase = torch.stack(sampler.steps, 0)
        steps = stacked.flatten_keys("/").to_dict()  # [T, 1, E, ...]
    return state | {
        "state_dim": task.state_dim,
        "observation_dim": task.observation_dim if sampler.sees_observations else None,
        "steps": steps,
        "chunks": list(sampler.chunks),
        "network": {name: value.detach().clone() for name, value in behavior.state_dict().items()},
        "optimizer": None if behavior.optimizer is None else _copied(behavior.optimizer.state_dict()),
        "restart": _copied(behavior.delta_trainer.restart) if isinstance(behavior, AdjustedPolicy) else None,
        "policy": _copied(behavior.checkpoint_state()),
    }


def _copied(value: Any) -> Any:
    """Containers and tensors copied, so that what goes on does not change what was saved."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, (list, tuple)) else value


def restored(sampler: SamplerState, state: dict[str, Any]) -> None:
    """See ``JointSampler.load_state_dict``."""
    check(isinstance(state, dict) and "identity" in state, "state is not a state_dict() of a JointSampler")
    options = sampler.behavior.identity()  # older states lack these
    for name, own in (identity_of(sampler) | options).items():
        there = state["identity"].get(name, options.get(name))
        check(there == own, f"state is of a sampler with {name} {there} and this one has {own}: make it with the same")
    twin = copy.copy(sampler)  # which may fail half-way
    twin.forget()
    if state["state_dim"] is not None:
        _fill(twin, state)
    sampler.__dict__.update(twin.__dict__)


def _fill(sampler: SamplerState, state: dict[str, Any]) -> None:
    """Take over what a sampler saved after its first ``act``."""
    sampler.build(state["state_dim"], state["observation_dim"])
    behavior, device = sampler.behavior, sampler.device
    own = {name: list(value.shape) for name, value in behavior.state_dict().items()}
    there = {name: list(value.shape) for name, value in state["network"].items()}
    check(
        own == there,
        f"state holds networks of shapes {there} and this sampler has {own}: give the behavior policy saved",
    )
    behavior.load_state_dict(state["network"])
    if state["steps"]:
        flat = {name: value.to(device) for name, value in state["steps"].items()}
        batch_size = flat[keys.STATE].shape[:3]
        sampler.steps = list(TensorDict(flat, batch_size=batch_size, device=device).unflatten_keys("/").unbind(0))
    taken_in = iter(sampler.steps)
    for count in state["chunks"]:  # in the same parts: sums over other parts would round differently
        behavior.extend(torch.cat([next(taken_in) for _ in range(count)], 1))
    sampler.chunks = list(state["chunks"])
    if behavior.optimizer is not None:
        behavior.optimizer.load_state_dict(state["optimizer"])
    if isinstance(behavior, AdjustedPolicy):
        behavior.delta_trainer.restart = None if state["restart"] is None else state["restart"].to(device)
    behavior.restore(state["policy"])

"""PPO by a compiled kernel, ``ppo.cpp``: what ``ppo`` and ``happo`` calculate, up to rounding, on the same minibatches.

Seeds go one after the other, each with its values, advantages and gradient steps in a row, so that its networks stay in
the processor's cache; the first layer knows only inputs that are ever other than 0. The optimizer's state stays in
torch's tensors: checkpoints do not tell which of the two has written them.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions.families import Categorical
from lit_maprops.envs.ends import own_done, own_terminated, weights
from lit_maprops.native.arrays import AdamNumbers, address, shape_numbers
from lit_maprops.native.build import run
from lit_maprops.native.networks import KINDS, below, unknown
from lit_maprops.native.threads import worker_threads
from lit_maprops.stacked.nets import StackedMLP, StackedNet
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.targets.critics import AgentSpecificCritic, Critic
from lit_maprops.targets.memory import begins
from lit_maprops.targets.policies import TargetPolicies

FIGURES = ("policy_loss", "critic_loss", "entropy_loss", "target_kl", "clip_fraction", "entropy", "target_epochs")
_INTS = ["seeds", "batches", "steps", "envs", "agents", "actions", "epochs", "minibatches"]
_INTS += ["length", "threads"]
_DATA = ["reward", "done", "terminated", "action", "parameters", "log_prob", "weight", "mask", "legal", "begins"]
_DATA += ["order", "turns", "learning"]
_FLOATS = ["gamma", "carried", "clip_epsilon", "lowest", "highest", "clip_value", "entropy_coeff", "critic_coeff"]
_FLOATS += ["max_grad_norm", "kl_stop"]
_TYPES = {torch.float32: 0, torch.uint8: 1, torch.int8: 2}  # ``Type`` of ppo_data.hpp; others are made float32


class Trained(Protocol):
    """What the kernel needs of a ``PPO``."""

    policies: TargetPolicies
    critic: Critic
    learning: Tensor | None
    gamma: float
    gae_lambda: float
    clip_epsilon: float
    clip_value: float | None
    entropy_coeff: float
    critic_coeff: float
    minibatches: int
    max_grad_norm: float
    kl_stop: float | None

    @property
    def optimizer(self) -> SeedAdam:
        """Of policies and critic."""
        ...


class _Stack(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("networks", "layers", "clocks")),
        *((name, ctypes.c_void_p) for name in ("shapes", "flat", "exp_avg", "exp_avg_sq", "steps_taken")),
    ]


class _Memory(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("kind", "units", "out", "parts")),
        *((name, ctypes.c_void_p) for name in ("before", "after", "flat", "exp_avg", "exp_avg_sq", "steps_taken")),
    ]


class _Numbers(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("here", "next")),
        *((name, ctypes.c_int32) for name in ("type", "parts", "width")),
    ]


class _Update(ctypes.Structure):
    """``Update`` of ppo_data.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in _INTS),
        *((name, _Stack) for name in ("policies", "critics")),
        *((name, _Memory) for name in ("policies_memory", "critics_memory")),
        *((name, _Numbers) for name in ("observation", "of_critic")),
        *((name, ctypes.c_void_p) for name in _DATA),
        *((name, ctypes.c_float) for name in _FLOATS),
        ("adam", AdamNumbers),
        ("figures", ctypes.c_void_p),
    ]


def lacks(policies: TargetPolicies, critic: Critic) -> str | None:
    """What of these networks the kernel does not know, in words; None: nothing."""
    for name, net in (("policies are", policies.net), ("the critic is", critic.net)):
        if reason := unknown(net, name):
            return reason
    if getattr(policies, "burn_in", 0):
        return (
            "sequences begin with what the present networks remember (<learner.burn_in>), which the kernel has not got"
        )
    if isinstance(critic, AgentSpecificCritic):
        return "the kernel knows critics of the state or of observations, not of both"
    if not isinstance(policies.family, Categorical):
        return f"the kernel knows discrete actions, not a policy of the family {type(policies.family).__name__}"
    if policies.net.flat.device.type != "cpu":
        return f"the kernel runs on the CPU, and the policies are on {policies.net.flat.device}"
    return None


@torch.no_grad()
def update(
    learner: Trained, data: TensorDictBase, orders: Sequence[Tensor], turns: Tensor | None = None
) -> dict[str, Tensor]:
    """As ``PPO.update``; seeds are shared out to ``worker_threads``.

    Args:
        learner: whose parameters and optimizer it changes.
        data: D, ``[R, k, T, E]``.
        orders: of each epoch, in which order the rows of D come, ``[R, B]``: its steps, or of memories the
            sequences of ``RecurrentPolicies.rows``.
        turns: in which order the agents update, as ``HAPPO``'s, ``[R, A]``; None: all at once.
    """
    held = _Held()
    policies, critic, optimizer = learner.policies, learner.critic, learner.optimizer
    seeds, *sizes = data.shape
    agents, actions = data.get(keys.PARAMETERS).shape[-2:]
    figures = torch.empty(len(FIGURES), seeds)
    sequences, length = orders[0].shape[1], policies.sequence_length
    central = keys.STATE in critic.in_keys
    observation = held.numbers(data, keys.OBSERVATION)
    following, mask = data.get("next"), policies.family.mask
    arrays = {
        "reward": (following.get(keys.REWARD), torch.float32),
        "done": (own_done(following), torch.bool),
        "terminated": (own_terminated(following), torch.bool),
        "action": (data.get(keys.ACTION), torch.int64),
        "parameters": (data.get(keys.PARAMETERS), torch.float32),
        "log_prob": (data.get(keys.LOG_PROB), torch.float32),
        "weight": (weights(data.flatten(1, 3)), torch.float32),
        "mask": (mask, torch.bool),
        "legal": (data.get(keys.ACTION_MASK, None), torch.bool),
        "begins": (begins(data) if policies.remembered else None, torch.bool),
        "order": (torch.stack(list(orders)), torch.int64),
        "turns": (turns, torch.int64),
        "learning": (learner.learning, torch.bool),
    }
    call = _Update(
        *(seeds, *sizes, agents, actions, len(orders), min(learner.minibatches, sequences), length, worker_threads()),
        *(held.stack(below(net), optimizer) for net in (policies.net, critic.net)),
        held.memory(policies.net, optimizer, data, keys.MEMORY),
        held.memory(critic.net, optimizer, data, keys.CRITIC_MEMORY),
        observation,
        held.numbers(data, keys.STATE) if central else observation,
        *(held.array(*arrays[name]) for name in _DATA),
        *_numbers(learner),
        AdamNumbers(*optimizer.settings),
        figures.data_ptr(),
    )
    run("ppo", call)
    held.give_back()
    for weight in (*policies.net.parameters(), *critic.net.parameters()):
        torch.autograd.graph.increment_version(weight)  # torch has not seen it change
    return dict(zip(FIGURES, figures.unbind(), strict=True))


def _numbers(learner: Trained) -> list[float]:
    """``_FLOATS``; the bounds of the log ratio as TorchRL's loss has them."""
    clip = learner.clip_epsilon
    lowest, highest = torch.tensor([-clip, clip]).log1p().tolist()
    return [
        *(learner.gamma, learner.gae_lambda * learner.gamma, clip, lowest, highest),
        0.0 if learner.clip_value is None else learner.clip_value,
        *(learner.entropy_coeff, learner.critic_coeff, learner.max_grad_norm),
        float("inf") if learner.kl_stop is None else learner.kl_stop,
    ]


class _Held:
    """What must stay in memory during the call."""

    def __init__(self) -> None:
        self._kept: list[object] = []
        self._changed: list[tuple[Tensor, Tensor]] = []

    def array(self, tensor: Tensor | None, dtype: torch.dtype) -> int | None:
        """Address of a tensor's numbers without gaps."""
        if tensor is None:
            return None
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return address(tensor, dtype)

    def stack(self, net: StackedNet, optimizer: SeedAdam) -> _Stack:
        """The networks and their moments, which the call changes."""
        assert isinstance(net, StackedMLP)  # ``lacks`` says so of others
        shapes = shape_numbers(net.shapes)
        self._kept.append(shapes)
        networks = net.flat[0].numel() // net.flat.shape[-1]
        clocks = optimizer.state[net.flat]["steps_taken"][0].numel()
        return _Stack(networks, len(net.shapes), clocks, ctypes.addressof(shapes), *self.learned(net.flat, optimizer))

    def memory(self, net: StackedNet, optimizer: SeedAdam, data: TensorDictBase, key: Any) -> _Memory:
        """What the networks remember in D, and the cells that do, which the call changes; nothing of others."""
        if not isinstance(net, RecurrentNet):
            return _Memory()
        before, after = data.get(key), data.get("next").get(key)
        return _Memory(
            *(KINDS[net.cell.kind], net.cell.units, net.out_dim, before.shape[-2]),
            *(self.array(tensor, torch.float32) for tensor in (before, after)),
            *self.learned(net.flat, optimizer),
        )

    def learned(self, flat: Tensor, optimizer: SeedAdam) -> list[int | None]:
        """Addresses of weights and of their moments and step counts."""
        state = optimizer.state[flat]
        tensors = [flat, *(state[name] for name in ("exp_avg", "exp_avg_sq", "steps_taken"))]
        whole = [tensor.contiguous() for tensor in tensors]
        self._kept += whole
        self._changed += zip(tensors, whole, strict=True)
        return [address(tensor, torch.float32) for tensor in whole]

    def numbers(self, data: TensorDictBase, key: str | tuple[str, str]) -> _Numbers:
        """Observations or states, and those that follow."""
        both = [part.get(key) for part in (data, data.get("next"))]
        if both[0].dtype not in _TYPES or both[0].dtype != both[1].dtype:
            both = [tensor.float() for tensor in both]
        dtype, shape = both[0].dtype, both[0].shape
        parts = shape[4] if len(shape) == 6 else 1
        return _Numbers(*(self.array(tensor, dtype) for tensor in both), _TYPES[dtype], parts, shape[-1])

    def give_back(self) -> None:
        """Changes into tensors that had gaps."""
        for tensor, whole in self._changed:
            if whole.data_ptr() != tensor.data_ptr():
                tensor.copy_(whole)

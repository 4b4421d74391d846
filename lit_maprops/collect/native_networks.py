"""The networks that ``rollout.cpp`` asks at every step: their weights, and what they remember."""

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.collect.native_call import Memory, Rollout, Stack
from lit_maprops.native.arrays import address, shape_numbers
from lit_maprops.native.networks import KINDS, below
from lit_maprops.stacked.mlp import LayerShapes, size_of
from lit_maprops.stacked.nets import StackedMLP, StackedNet
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.targets import TargetPolicies
from lit_maprops.targets.critics import Critic


class Weights:
    """Weights of a stack for the kernel: as they are, or also rearranged and kept while they stay the same.

    Args:
        net: whose ``flat`` may change in place, and move, between calls.
        shapes: of the layers that ``flat`` is made of.
        stack: the part of a call that describes it.
        kept: rearrange them.
    """

    def __init__(self, net: StackedNet, shapes: LayerShapes, stack: Stack, kept: bool) -> None:
        self._net, self._stack = net, stack
        self._shapes = shape_numbers(shapes)
        self._at: tuple[int, int] | None = None
        networks = net.flat.shape[:-1].numel()
        stack.layers, stack.each = len(shapes), networks // net.stack[0]
        stack.shapes = ctypes.addressof(self._shapes)
        if kept:
            held = sum(-(-n_out // 8) * 8 * (n_in + 1) for n_out, n_in, _ in shapes)
            self._held, self._last = torch.empty(networks, held), torch.empty(networks, size_of(shapes[-1:]))
            stack.held, stack.last = self._held.data_ptr(), self._last.data_ptr()

    def renew(self) -> None:
        """Before a call.

        Whoever writes to parameters where torch does not see it calls ``torch.autograd.graph.increment_version``; the
        kernel itself notices only that a last layer has changed.
        """
        flat = self._net.flat
        at = flat.data_ptr(), flat._version
        self._stack.stale = at != self._at
        if at != self._at:
            assert flat.is_contiguous()
            self._stack.flat, self._at = address(flat, torch.float32), at


class ActingNetworks:
    """Policies, and a critic that remembers, for the kernel: what ``unsupported`` has nothing against.

    Args:
        call: that asks them.
        data: the batch ``[R, T, E]`` that it writes to.
        policies: pi_theta.
        critic: as that of ``BehaviorActor``.

    Attributes:
        now: what is remembered before the next step, ``[R, E, parts, H]`` for each of its keys in ``data``; calls
            change it. Zeros at first.
    """

    def __init__(
        self, call: Rollout, data: TensorDictBase, policies: TargetPolicies, critic: Critic | None = None
    ) -> None:
        self._data = data
        self._weights: list[Weights] = []
        self.now: dict[Any, Tensor] = {}
        call.shared = len(policies.net.stack) == 1
        self._enter(policies.net, policies.remembered, call.policies, call.policies_memory)
        if critic is not None:
            call.central = keys.STATE in critic.in_keys
            self._enter(critic.net, critic.remembered, call.critics, call.critics_memory)

    def _enter(self, net: StackedNet, remembered: Mapping[Any, Any], stack: Stack, memory: Memory) -> None:
        encoder = below(net)
        assert isinstance(encoder, StackedMLP)  # ``unknown`` says so of others
        self._weights.append(Weights(encoder, encoder.shapes, stack, True))
        for key in remembered:
            assert isinstance(net, RecurrentNet)  # else nothing is
            cell, before, after = net.cell, self._data.get(key), self._data.get("next").get(key)
            self.now[key] = torch.zeros_like(before[:, 0])
            memory.kind, memory.units, memory.parts = KINDS[cell.kind], cell.units, before.shape[-2]
            shapes = (cell.gates, cell.units, True), (net.out_dim, cell.units, True)
            self._weights.append(Weights(net, shapes, memory.cells, True))
            for name, tensor in (("now", self.now[key]), ("before", before), ("after", after)):
                setattr(memory, name, address(tensor, torch.float32))

    def renew(self) -> None:
        """As ``Weights.renew``."""
        for weights in self._weights:
            weights.renew()

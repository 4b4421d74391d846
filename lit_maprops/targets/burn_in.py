"""Burn-in: sequences that begin with what the present networks remember, not with what was stored at collection.

What was stored is that of the networks at collection; the more an update has changed them, the less they know what to
make of it. As in R2D2 (Kapturowski et al. 2019) the networks first go through the ``burn_in`` steps before a sequence,
from what was stored there, without loss and without gradient. Decided here: those steps belong to the sequence before,
of the same environment in the same batch, so that every step of D is learned from once in a pass; the first sequence of
an environment in a batch has none before it and begins with what was stored.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.buffer import taken_rows


class Remembering(Protocol):
    """Policies or a critic that remember."""

    in_keys: Any
    remembered: Any

    def remembered_in(self, data: TensorDictBase, length: int) -> Tensor:
        """What is remembered after each step of sequences of this length."""


class BurnIn:
    """What policies and critic remember before sequences.

    Args:
        networks: whose memories they are.
        data: D in sequences, as ``RecurrentPolicies.rows`` has them.
        length: of sequences, L.
        steps: of the sequence before that the networks go through; at most L. 0: memories are those stored.
    """

    def __init__(self, networks: Sequence[Remembering], data: TensorDictBase, length: int, steps: int) -> None:
        self._networks, self._length, self._steps, self._count = networks, length, steps, data.shape[1] // length
        self._stored = {key: data.get(key)[:, : self._count] for net in networks for key in net.remembered}
        if steps:
            names = {*(name for net in networks for name in net.in_keys), *self._stored, keys.BEGINS}
            self._data, self._before = data.select(*names, strict=False), data.get(keys.BEFORE)[:, : self._count]

    @torch.no_grad()
    def starts(self, rows: Tensor) -> dict[Any, Tensor]:
        """Before the sequences ``rows`` ``[R, b]``, by key, each ``[R, b, ., H]``."""
        stored = {key: _memories_of(memory, rows) for key, memory in self._stored.items()}
        if not self._steps:
            return stored
        before = self._before.gather(1, rows)
        first = torch.arange(self._length - self._steps, self._length, device=rows.device) * self._count
        taken = taken_rows(self._data, (first.view(-1, 1) + before.clamp(min=0).unsqueeze(1)).flatten(1))
        there = (before >= 0).unsqueeze(-1).unsqueeze(-1)
        for net in self._networks:
            last = net.remembered_in(taken, self._steps)[:, -rows.shape[1] :]
            stored |= {key: torch.where(there, last, stored[key]) for key in net.remembered}
        return stored

    def begin(self, taken: TensorDictBase, rows: Tensor) -> TensorDictBase:
        """The steps ``[R, L * b]`` of the sequences ``rows``, with what is remembered before their first ones.

        Args:
            taken: of D; memories of later steps are not looked at.
            rows: ``[R, b]``.
        """
        if not self._steps:
            return taken
        begun = taken.copy()
        for key, start in self.starts(rows).items():
            memory = taken.get(key)
            begun.set(key, torch.cat([start, memory[:, rows.shape[1] :]], 1))
        return begun


def begun(policies: Any, data: TensorDictBase, steps: int) -> TensorDictBase:
    """D with what the present policies remember before every sequence; as it is where there is no burn-in."""
    if not steps:
        return data
    burn_in = BurnIn([policies], data, policies.sequence_length, steps)
    count = data.shape[1] // policies.sequence_length
    return burn_in.begin(data, torch.arange(count, device=data.device).expand(len(data), -1))


def _memories_of(memory: Tensor, rows: Tensor) -> Tensor:
    """``[R, C, ., H]`` to ``[R, b, ., H]``."""
    return memory.gather(1, rows[:, :, None, None].expand(-1, -1, *memory.shape[2:]))

"""Randomness with a seed dimension: one uniform stream per seed and purpose.

Seed ``r`` of a run reads only its own stream, so its numbers depend neither on the other seeds nor on how many there
are, and permuting seeds permutes the results. Streams are drawn on the CPU and copied block by block, so every device
sees the same numbers. All state is a few tensors that a checkpoint stores.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_maprops.stacked.device_cache import on_device

BLOCK = 1024
_CPU = torch.device("cpu")
_SEEDED = torch.Generator().manual_seed(0).get_state()  # in torch's own layout: nothing drawn so far
_WORDS = slice(24, 24 + 8 * 624)  # bytes of the twister's words, 64 bits for each 32
_STEPS = np.arange(1, 625, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64


class SeedStreams:
    """Uniform random numbers for R seeds, each from its own ``torch.Generator``.

    Args:
        run_seed: of the run.
        seed_ids: R integers; together with ``run_seed`` and ``purpose`` they fix a stream.
        purpose: what the numbers are for ("environment", "actions", ...); purposes never share numbers.
        device: where the drawn tensors go.
    """

    _block: Tensor
    _cursor: int  # of the next number in the block

    def __init__(
        self,
        run_seed: int,
        seed_ids: Sequence[int],
        purpose: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.generators = _generators([(run_seed, seed_id) for seed_id in seed_ids], purpose)
        self._block_states: list[Tensor] = []
        self._set_block(torch.empty(len(self.generators), 0))

    def uniform(self, *shape: int) -> Tensor:
        """Draw ``[R, *shape]`` float32 numbers, uniform on [0, 1)."""
        return self._draw(self.device, *shape)

    def several(self, times: int, *shape: int) -> Tensor:
        """What ``times`` calls of ``uniform`` give, ``[R, times, *shape]``: the same numbers, in one go."""
        count = math.prod(shape)
        numbers, first = self.reserve(times, count)
        drawn = on_device(numbers[:, first : first + times * count], self.device)
        return drawn.reshape(len(self.generators), times, *shape)

    def reserve(self, times: int, count: int) -> tuple[Tensor, int]:
        """Where the numbers of ``times`` draws of ``count`` lie, for who reads memory: ``[R, .]`` on the CPU.

        Returns:
            A tensor without gaps, not to be written to, with a seed's numbers side by side; the column of the first.
        """
        if self._cursor + times * count <= self._block.shape[1]:
            self._cursor += times * count
            return self._block, self._cursor - times * count
        parts, left = [], times
        while left:
            # One that does not fit makes a new block, and drops the rest of this one.
            some = min(left, max(1, (self._block.shape[1] - self._cursor) // count))
            parts.append(self._draw(_CPU, some * count))
            left -= some
        return torch.cat(parts, 1), 0

    def _draw(self, device: torch.device, *shape: int) -> Tensor:
        count = math.prod(shape)
        if self._cursor + count > self._block.shape[1]:
            # The rest of the block is dropped: what a seed reads must not depend on how its block was cut.
            self._refill(max(BLOCK, count))
        if device not in self._copies:
            self._copies[device] = on_device(self._block, device)  # nobody writes to the block
        drawn = self._copies[device][:, self._cursor : self._cursor + count]
        self._cursor += count
        return drawn.reshape(len(self.generators), *shape)

    def permutation(self, length: int) -> Tensor:
        """Draw one permutation of ``range(length)`` per seed: ``[R, length]`` int64."""
        # Keys with their position in the lower half, so that there are no ties; sorting values beats torch's argsort.
        number = torch.arange(length, device=self.device)
        keys = (self._draw(self.device, length) * 2**24).long().mul_(2**32).add_(number)
        ordered = torch.from_numpy(np.sort(keys.numpy(), axis=1)) if self.device == _CPU else keys.sort(1).values
        return ordered.bitwise_and_(2**32 - 1)

    def new_generators(self) -> list[torch.Generator]:
        """Fresh generators, one per seed, seeded from the stream: for initial weights drawn in the middle of a run."""
        seeds = (self._draw(_CPU, 2).double() * 2**24).long()
        return _generators(seeds.tolist())

    def _refill(self, count: int) -> None:
        self._block_states = [generator.get_state() for generator in self.generators]
        self._set_block(torch.stack([torch.rand(count, generator=g) for g in self.generators]))

    def _set_block(self, block: Tensor) -> None:
        self._block, self._cursor = block, 0
        self._copies = {_CPU: block}

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and integers from which ``load_state_dict`` continues bit for bit."""
        states = self._block_states or [generator.get_state() for generator in self.generators]
        return {
            "block_states": torch.stack(states),
            "block_length": self._block.shape[1],
            "cursor": self._cursor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the streams saved by ``state_dict``.

        Raises:
            ValueError: the saved streams are for another number of seeds.
        """
        if len(state["block_states"]) != len(self.generators):
            raise ValueError(f"saved streams are for {len(state['block_states'])} seeds, not {len(self.generators)}")
        for generator, saved in zip(self.generators, state["block_states"], strict=True):
            # get_state hands out, and set_state wants, a CPU tensor that owns its memory.
            generator.set_state(saved.cpu().clone())
        self._block_states = []
        self._set_block(torch.empty(len(self.generators), 0))
        if state["block_length"]:
            self._refill(state["block_length"])
        self._cursor = state["cursor"]


def _generators(entries: Sequence[Sequence[int]], purpose: str = "") -> list[torch.Generator]:
    """Mersenne twisters, each with a state made of 128 bits, hashed from an entry's numbers and a text.

    ``torch.Generator.manual_seed`` reads 32 bits of a seed: among 130,000 streams about two pairs would be the same.
    """
    text = list(purpose.encode())
    hashed = np.empty((2, len(entries), 1), np.uint64)
    for place, numbers in enumerate(entries):
        words = [part for number in numbers for part in divmod(number, 2**32)]  # of fixed width: none run together
        # The same entropy either way; an array of words is hashed in a third of the time.
        entropy = [*words, *text] if max(words) >= 2**32 else np.array([*words, *text], np.uint32)
        hashed[:, place, 0] = np.random.SeedSequence(entropy).generate_state(2, np.uint64)
    high, low = hashed
    states = _SEEDED.repeat(len(entries), 1)
    twisters = states.numpy()[:, _WORDS].view(np.uint64)
    twisters[:] = (_mixed(high + _STEPS) >> np.uint64(32)) ^ (_mixed(low + _STEPS) & np.uint64(2**32 - 1))
    twisters[:, 0] = 2**31  # of the first word only the highest bit counts; set, so that not all can be 0
    # set_state wants a tensor that owns its memory.
    return [torch.Generator().set_state(state.clone()) for state in states]


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The mixing function of SplitMix64 (Steele, Lea and Flood 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))

"""Which parallel environments of a seed stand in the same state: by a hash, then by what one of them holds."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys

_FACTOR, _OFFSET = 0x9E3779B97F4A7C15 - 2**64, 0x2545F4914F6CDD1D  # odd, as signed numbers


def hash_factors(state_dim: int) -> Tensor:
    """Odd numbers, one per component of a state, ``[S]`` int64."""
    return torch.arange(1, state_dim + 1) * _FACTOR + _OFFSET | 1


def hashed(content: Tensor, factors: Tensor) -> Tensor:
    """A number for what states hold, without negative zeros: ``[R, E, S]`` float32 -> ``[R, E]`` int64."""
    bits = content.view(torch.int32).long()
    mixed = (bits ^ (bits << 32)) * factors.to(bits.device)
    return (mixed ^ ((mixed >> 29) & 0x7FFFFFFFF)).sum(-1)


def content_of(data: TensorDictBase) -> Tensor:
    """What states hold, ``[R, E, S]`` float32; there are two zeros, which are equal."""
    return data.get(keys.STATE).float() + 0.0


def leaders(state: Tensor, content: Tensor | None) -> Tensor:
    """The first environment in each one's state, ``[R, E]`` int64.

    Args:
        state: its number, or the hash of what it holds, ``[R, E]`` int64.
        content: what it holds, ``[R, E, S]``, if it has no number. Who has another's hash alone, or holds NaN, leads
            itself.
    """
    first = (state.unsqueeze(1) == state.unsqueeze(2)).int().argmax(2)
    if content is None:
        return first
    same = (content == content.gather(1, first.unsqueeze(2).expand_as(content))).all(2)
    return first.where(same, torch.arange(state.shape[1], device=state.device))


def same_state(data: TensorDictBase) -> Tensor:
    """Which environments of a seed stand in the same state: one vector step ``[R, E]`` -> ``[R, E, E]`` bool."""
    number = data.get(keys.STATE_INDEX, None)
    if number is not None:
        state = number.squeeze(-1)
        return state.unsqueeze(1) == state.unsqueeze(2)
    content = content_of(data)
    leader = leaders(hashed(content, hash_factors(content.shape[-1])), content)
    return leader.unsqueeze(1) == leader.unsqueeze(2)

"""Which parallel environments of a seed stand in the same state: by a hash, then by what one of them holds."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys

FEW = 16  # environments that rows of D are compared with, one with all; among more they are looked up
_FACTOR, _OFFSET = 0x9E3779B97F4A7C15 - 2**64, 0x2545F4914F6CDD1D  # odd, as signed numbers


def hash_factors(state_dim: int) -> Tensor:
    """Odd numbers, one per component of a state, ``[S]`` int64."""
    return torch.arange(1, state_dim + 1) * _FACTOR + _OFFSET | 1


def hashed(content: Tensor, factors: Tensor) -> Tensor:
    """A number for what states hold, without negative zeros: ``[R, E, S]`` float32 -> ``[R, E]`` int64."""
    mixed = content.view(torch.int32).long()
    mixed.bitwise_xor_(mixed << 32).mul_(factors.to(mixed.device))  # in place: to ask for memory takes as long
    return mixed.bitwise_xor_((mixed >> 29).bitwise_and_(0x7FFFFFFFF)).sum(-1)


def content_of(data: TensorDictBase) -> Tensor:
    """What states hold, ``[R, E, S]`` float32; there are two zeros, which are equal."""
    return data.get(keys.STATE).float() + 0.0


def taken(content: Tensor, row: Tensor) -> Tensor:
    """Rows ``[R, E]`` of contents ``[R, n, S]``, copied as they are, where ``gather`` goes number by number."""
    first = content.shape[1] * torch.arange(len(content), device=row.device).unsqueeze(1)
    return content.flatten(0, 1).index_select(0, (row + first).flatten()).unflatten(0, row.shape)


def looked_up(state: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of D by the environments that stand in their states, without comparing all with all.

    Args:
        state: numbers of the environments' states, ``[R, E]`` int64.
        rows: of the rows', ``[R, n]``.

    Returns:
        The first environment in each one's state, ``[R, E]``; the first one in each row's, ``[R, n]``, and whether
        there is any: if not, it is some other one.
    """
    state, rows = state.contiguous(), rows.contiguous()
    ordered, env = state.sort(dim=1, stable=True)
    place = torch.searchsorted(ordered, rows).clamp(max=state.shape[1] - 1)
    return env.gather(1, torch.searchsorted(ordered, state)), env.gather(1, place), ordered.gather(1, place) == rows


def leaders(state: Tensor, content: Tensor | None) -> Tensor:
    """The first environment in each one's state, ``[R, E]`` int64.

    Args:
        state: its number, or the hash of what it holds, ``[R, E]`` int64.
        content: what it holds, ``[R, E, S]``, if it has no number. Who has another's hash alone, or holds NaN, leads
            itself.
    """
    state = state.contiguous()
    ordered, env = state.sort(dim=1, stable=True)
    first = env.gather(1, torch.searchsorted(ordered, state))
    if content is None:
        return first
    same = (content == taken(content, first)).all(2)
    return first.where(same, torch.arange(state.shape[1], device=state.device))


def leaders_of(data: TensorDictBase) -> Tensor:
    """``leaders`` of one vector step ``[R, E]``."""
    number = data.get(keys.STATE_INDEX, None)
    if number is not None:
        return leaders(number.squeeze(-1), None)
    content = content_of(data)
    return leaders(hashed(content, hash_factors(content.shape[-1])), content)


def ranks(leader: Tensor, place: Tensor) -> Tensor:
    """Which of the environments in its state each one is, from 0: ``[*B, E]`` int64.

    Args:
        leader: of each one's state, ``[*B, E]``.
        place: what orders them, different whole numbers below E, likewise.
    """
    state = leader * leader.shape[-1]
    order = state + place
    ordered = order.sort(-1).values
    return torch.searchsorted(ordered, order) - torch.searchsorted(ordered, state)

"""Whether D comes back to its states, per seed: adaptive sampling corrects what D holds, so never a first visit.

The paper's failure signature "no improvement over on-policy" has this as its likely cause (arXiv 2508.01049,
limitations: in small batches states are seldom revisited). States are told apart by their numbers where the task gives
some, else by their contents: exactly, by a sum of the contents that is checked, so that none is taken for another.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys

FACTOR = 0x9E3779B97F4A7C15  # odd, and about 2**64 over the golden ratio: its powers are spread evenly
ROWS_AT_ONCE = 2**14  # whose contents stand in memory as 64-bit numbers
WHOLE_NUMBERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


def visit_figures(data: TensorDictBase, new_steps: int, envs: int, discrete: bool) -> dict[str, Tensor]:
    """``first_visits`` and, of discrete actions, ``joint_actions_seen`` of D: each ``[R]``.

    ``first_visits``: share of the newest batch's steps in whose state D had not been before, in an earlier vector step
    of the batch or in what D retains of older ones. Environments side by side are in their states at the same time:
    none of them has been there before another. ``joint_actions_seen``: how many different joint actions D holds in a
    state, mean over states weighted by visits.

    Args:
        data: D ``[R, B]`` in time order, the environments of a vector step side by side, with ``STATE``, ``ACTION``
            and, where states are numbered, ``STATE_INDEX``.
        new_steps: n, the steps of the newest batch.
        envs: E, environments per seed.
        discrete: of actions.
    """
    seeds, rows = data.shape
    contents = data.get(keys.STATE_INDEX, None)
    contents = data.get(keys.STATE) if contents is None else contents
    seed = torch.arange(seeds, device=contents.device).unsqueeze(1).expand(seeds, rows)
    states, state = number_rows(seed.flatten(), contents.flatten(0, 1))
    time = (torch.arange(rows, device=state.device) // envs).repeat(seeds)
    first = torch.full((states,), rows, device=state.device).scatter_reduce(0, state, time, "amin")
    is_first = (first[state] == time).view(seeds, rows)
    figures = {"first_visits": is_first[:, rows - new_steps :].float().mean(1)}
    if discrete:
        pairs, pair = number_rows(state, data.get(keys.ACTION).flatten(0, 1))
        state_of_pair = torch.zeros(pairs, dtype=torch.int64, device=state.device).scatter(0, pair, state)
        seen = torch.bincount(state_of_pair, minlength=states)  # [states]
        figures["joint_actions_seen"] = seen[state].view(seeds, rows).float().mean(1)
    return figures


def number_rows(group: Tensor, contents: Tensor) -> tuple[int, Tensor]:
    """How many different rows there are, and a number for each: equal if and only if group and contents are.

    0.0 and -0.0 are equal; NaN is equal to itself.

    Args:
        group: ``[B]`` int64.
        contents: ``[B, F]``, of any type.
    """
    contents = _bits(contents)
    factors = _powers(1 + contents.shape[1]).to(contents.device)
    parts = [(part.long() * factors[1:]).sum(-1) for part in contents.split(ROWS_AT_ONCE)]
    sums = torch.cat(parts) + group * factors[0]
    distinct, number = torch.unique(sums, return_inverse=True)
    one = torch.zeros_like(distinct).scatter(0, number, torch.arange(len(number), device=number.device))[number]
    if not (torch.equal(group[one], group) and torch.equal(contents[one], contents)):  # two sums are equal by chance
        rows = torch.cat([group.unsqueeze(1), contents.long()], 1)
        distinct, number = torch.unique(rows, dim=0, return_inverse=True)
    return len(distinct), number


def _bits(contents: Tensor) -> Tensor:
    """Whole numbers that are equal where the contents are."""
    if not contents.is_floating_point():
        return contents
    return (contents + 0.0).contiguous().view(WHOLE_NUMBERS[contents.element_size()])  # -0.0 + 0.0 is 0.0


def _powers(count: int) -> Tensor:
    """Of ``FACTOR``, ``[count]`` int64, as whole numbers of 64 bits overflow."""
    powers = [pow(FACTOR, exponent, 2**64) for exponent in range(1, count + 1)]
    return torch.tensor([power - 2**64 if power >= 2**63 else power for power in powers])

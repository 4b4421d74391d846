"""A policy that remembers as a program of one step, which takes and gives what is remembered."""

import torch
from torch import Tensor, nn

from lit_maprops.stacked.recurrent import RecurrentNet


class Remembering(nn.Module):
    """One agent's recurrent network, step by step.

    Args:
        encoder: the agent's, from its observation to the gates of the cell.
        net: of all seeds and agents.
        place: of the agent in it: seed and agent.
        rows: of the outputs, those that the agent has, ``[K]`` bool.
    """

    weight: Tensor  # [W H, H], of the cell
    bias: Tensor  # [W H]

    def __init__(self, encoder: nn.Module, net: RecurrentNet, place: tuple[int, int], rows: Tensor) -> None:
        super().__init__()
        self.encoder, self.cell = encoder, net.cell
        weight, bias, last, last_bias = (part.detach().clone() for part in net.weights_of(*place[: len(net.stack)]))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.last = nn.Linear(net.cell.units, int(rows.sum())).requires_grad_(False)
        self.last.weight.copy_(last[rows])
        self.last.bias.copy_(last_bias[rows])

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[batch, K]`` and what is remembered next, from ``[batch, O_i]`` and ``[batch, H]``."""
        gates, units = self.encoder(observation), self.cell.units
        h = memory[:, :units]
        inner = nn.functional.linear(h, self.weight, self.bias)
        if self.cell.kind == "gru":
            r, z = (gates[:, : 2 * units] + inner[:, : 2 * units]).sigmoid().split(units, 1)
            new = (gates[:, 2 * units :] + r * inner[:, 2 * units :]).tanh()
            h = new + z * (h - new)
            return self.last(h), h
        i, f, g, o = (gates + inner).split(units, 1)
        c = f.sigmoid() * memory[:, units:] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return self.last(h), torch.cat([h, c], 1)

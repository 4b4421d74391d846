"""Networks and optimizer steps with leading seed (and agent) dimensions.

Every weight is stacked, ``[*stack, in, out]``, and applied by one batched matrix product; nothing is shared across the
stack, so a network here is ``prod(stack)`` independent networks. ``stack`` is ``(R,)`` or ``(R, A)``.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class StackedMLP(nn.Module):
    """Independent tanh MLPs, one per entry of ``stack``.

    With ``hidden=[]`` this is a linear map without bias: on a one-hot or constant input, a table.

    Args:
        in_dim: input features.
        hidden: units of each hidden layer.
        out_dim: output features.
        stack: leading dimensions of independence, ``(R,)`` or ``(R, A)``.
        out_gain: orthogonal gain of the last layer; 0 makes the initial output exactly zero.
        generators: one per seed, ``stack[0]`` of them; they alone fix the initial weights.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        stack: tuple[int, ...],
        out_gain: float,
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__()
        self.stack = stack
        sizes = [in_dim, *hidden, out_dim]
        gains = [math.sqrt(2.0)] * len(hidden) + [out_gain]
        self.weights = nn.ParameterList(
            nn.Parameter(_orthogonal(stack, sizes[i], sizes[i + 1], gains[i], generators)) for i in range(len(gains))
        )
        biases = sizes[1:] if hidden else []
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(*stack, 1, size)) for size in biases)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[*stack, B, in_dim]`` to ``[*stack, B, out_dim]``."""
        x = features.flatten(0, len(self.stack) - 1)  # [prod(stack), B, in_dim]
        if not self.biases:
            x = torch.bmm(x, self.weights[0].flatten(0, -3))
        last = len(self.biases) - 1
        for layer, bias in enumerate(self.biases):
            x = torch.baddbmm(bias.flatten(0, -3), x, self.weights[layer].flatten(0, -3))
            if layer < last:
                x = x.tanh()
        return x.unflatten(0, self.stack)

    @torch.no_grad()
    def zero_last_layer(self) -> None:
        """Make the output exactly zero for every input."""
        self.weights[-1].zero_()
        if self.biases:
            self.biases[-1].zero_()


def _orthogonal(
    stack: tuple[int, ...],
    in_dim: int,
    out_dim: int,
    gain: float,
    generators: Sequence[torch.Generator],
) -> Tensor:
    weight = torch.zeros(*stack, in_dim, out_dim)
    if gain:
        for seed, generator in enumerate(generators):
            for matrix in weight[seed].reshape(-1, in_dim, out_dim):
                nn.init.orthogonal_(matrix, gain, generator=generator)
    return weight


class SeedAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015, bias corrected, as ``torch.optim.Adam``) with one step count per stack entry.

    ``step(active)`` leaves the parameters, moments and step count of an inactive entry untouched, so that one seed's
    early stop does not stop, or disturb, the others.

    Args:
        params: parameters that all start with the dimensions ``stack``.
        lr: learning rate.
        stack: the leading dimensions that stop independently.
        betas: decay of the first and second moment.
        eps: added to the root of the second moment.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        stack: tuple[int, ...],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self.stack = stack
        self.reset_state()

    def reset_state(self) -> None:
        """Set moments and step counts to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                # Not "step": Lightning and torch leave a tensor of that name on the CPU.
                self.state[p] = {
                    "steps_taken": torch.zeros(self.stack, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.param_groups[0]["params"][0].device

    @torch.no_grad()
    def step(self, active: Tensor | None = None) -> None:  # type: ignore[override]
        """Update the active entries from ``.grad``.

        Args:
            active: ``[*stack]`` bool; ``None`` means all.
        """
        if active is not None and bool(active.all()):
            active = None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_parameter(p, p.grad, group, active)

    def _step_parameter(self, p: Tensor, grad: Tensor, group: dict, active: Tensor | None) -> None:
        state, (beta1, beta2) = self.state[p], group["betas"]
        step, exp_avg, exp_avg_sq = state["steps_taken"], state["exp_avg"], state["exp_avg_sq"]
        if active is None:
            step += 1
            exp_avg.lerp_(grad, 1 - beta1)
            exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        else:
            # where, not a product with 0: an inactive seed may hold NaN gradients.
            keep = _to_rank(active, p)
            step += active
            exp_avg.copy_(torch.where(keep, exp_avg.lerp(grad, 1 - beta1), exp_avg))
            square = exp_avg_sq.mul(beta2).addcmul(grad, grad, value=1 - beta2)
            exp_avg_sq.copy_(torch.where(keep, square, exp_avg_sq))
        count = step.clamp(min=1.0)
        # 1 - beta^count without the cancellation of float32.
        size = _to_rank(group["lr"] / -torch.expm1(count * math.log(beta1)), p)
        root = _to_rank((-torch.expm1(count * math.log(beta2))).sqrt(), p)
        delta = size * exp_avg / (exp_avg_sq.sqrt() / root + group["eps"])
        p.sub_(delta if active is None else torch.where(keep, delta, 0.0))


@torch.no_grad()
def clip_grad_norm(params: Sequence[nn.Parameter], max_norm: float, stack_dims: int) -> Tensor:
    """Scale gradients so that the norm of each stack entry is at most ``max_norm``.

    Args:
        params: parameters with ``stack_dims`` leading stack dimensions and a gradient.
        max_norm: largest Euclidean norm per stack entry.
        stack_dims: how many leading dimensions are independent.

    Returns:
        The norms before clipping, ``[*stack]``.
    """
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.flatten(stack_dims).square().sum(-1) for g in grads]).sum(0).sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(_to_rank(scale, g))
    return norm


def _to_rank(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(value.shape + (1,) * (like.dim() - value.dim()))

"""Adam and gradient clipping with leading seed (and agent) dimensions, over parameters stacked as in ``nets``."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

BETAS, EPS = (0.9, 0.999), 1e-8  # unless somebody says otherwise


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
        lockstep: promise that an entry that was inactive once stays so until ``reset_state``: then all active entries
            have made the same number of steps, which is what torch's fused kernel takes.
        fused: on the CPU take torch's fused kernel, entry by entry.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        stack: tuple[int, ...],
        betas: tuple[float, float] = BETAS,
        eps: float = EPS,
        lockstep: bool = False,
        fused: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self.stack, self.lockstep, self.fused = stack, lockstep, fused
        self.reset_state()

    def reset_state(self) -> None:
        """Set moments and step counts to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                old = self.state[p].values()
                if p.device.type != "cpu" and old and all(tensor.device == p.device for tensor in old):
                    for tensor in old:  # in place, for CUDA graphs; on the CPU untouched zeros cost nothing
                        tensor.zero_()
                    continue
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

    @property
    def settings(self) -> "AdamSettings":
        """Of the only parameter group."""
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        return AdamSettings(group["lr"], beta1, beta2, group["eps"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, active: Tensor | None = None) -> None:  # type: ignore[override]
        """Update the active entries from ``.grad``.

        Args:
            closure: called first; Lightning's hooks come by it.
            active: ``[*stack]`` bool; ``None`` means all.
        """
        if closure is not None:
            with torch.enable_grad():
                closure()
        asks = self.device.type == "cpu"  # elsewhere an answer is waited for
        if asks and active is not None and bool(active.all()):
            active = None
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                state = self.state[p]
                moments = state["exp_avg"], state["exp_avg_sq"], state["steps_taken"]
                count = int(state["steps_taken"].max()) if self.lockstep and asks else None
                by_entry = self.fused and len(self.stack) == 1 and asks
                adam_(p, p.grad, *moments, active, count, self.settings, by_entry)


class AdamSettings(NamedTuple):
    """Learning rate, decay of the first and of the second moment, and what is added to the second's root."""

    lr: float
    beta1: float
    beta2: float
    eps: float


def adam_(
    p: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps_taken: Tensor,
    active: Tensor | None,
    count: int | None,
    settings: AdamSettings,
    by_entry: bool = False,
) -> None:
    """One Adam step in place.

    Inactive entries are stepped like the others and then put back: the arithmetic of an entry must not depend on who
    else is active, and an inactive one may hold NaN gradients.

    Args:
        p: parameters, ``[*stack, ...]``; ``grad`` and the two moments likewise.
        grad: gradient.
        exp_avg: first moment.
        exp_avg_sq: second moment.
        steps_taken: ``[*stack]``.
        active: ``[*stack]`` bool; None means all.
        count: ``steps_taken`` of every active entry, if it is the same: torch's fused kernel then does it in one pass.
        settings: learning rate and so on.
        by_entry: that kernel, entry after entry, each with its own ``steps_taken``; ``stack`` has one dimension.
    """
    changed = [p, exp_avg, exp_avg_sq]
    before = [] if active is None else [tensor.clone() for tensor in changed]
    steps_taken += 1 if active is None else active
    tensors = [p, grad, exp_avg, exp_avg_sq]
    if not p.is_contiguous() or (count is None and not by_entry):
        # The fused kernel takes strided tensors for dense ones, silently.
        _written_out_adam_(p, grad, exp_avg, exp_avg_sq, steps_taken, settings)
    elif count is None:
        _fused_adam_([list(tensor) for tensor in tensors], list(steps_taken.clamp(min=1.0)), settings)
    else:
        _fused_adam_([[tensor] for tensor in tensors], [torch.full((), float(count + 1), device=p.device)], settings)
    torch.autograd.graph.increment_version(p)  # the fused kernel does not; who keeps weights laid out asks for it
    if active is not None:
        keep = _to_rank(active, p)
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(torch.where(keep, tensor, old))


def _fused_adam_(tensors: Sequence[list[Tensor]], steps_taken: list[Tensor], settings: AdamSettings) -> None:
    """What torch.optim.Adam(fused=True) calls; its wrappers take five times as long for small networks."""
    p, grad, exp_avg, exp_avg_sq = tensors
    torch._fused_adam_(
        p,
        grad,
        exp_avg,
        exp_avg_sq,
        [],
        steps_taken,
        amsgrad=False,
        beta1=settings.beta1,
        beta2=settings.beta2,
        lr=settings.lr,
        weight_decay=0.0,
        eps=settings.eps,
        maximize=False,
    )


def _written_out_adam_(
    p: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, steps_taken: Tensor, settings: AdamSettings
) -> None:
    lr, beta1, beta2, eps = settings
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    count = steps_taken.clamp(min=1.0)
    # 1 - beta^count without the cancellation of float32.
    size = _to_rank(lr / -torch.expm1(count * math.log(beta1)), p)
    inverse_root = _to_rank((-torch.expm1(count * math.log(beta2))).rsqrt(), p)
    scratch = exp_avg_sq.sqrt().mul_(inverse_root).add_(eps)
    p.addcmul_(torch.div(exp_avg, scratch, out=scratch), size, value=-1)


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
    norms = [torch.linalg.vector_norm(g.flatten(stack_dims), dim=-1) for g in grads]
    norm = norms[0] if len(norms) == 1 else torch.stack(norms).square().sum(0).sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(_to_rank(scale, g))
    return norm


def _to_rank(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(value.shape + (1,) * (like.dim() - value.dim()))

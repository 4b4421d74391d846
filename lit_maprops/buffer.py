"""D, the buffer: every transition since the last target update, and the newest older batches if asked for."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys


class Buffer:
    """Up to ``history_batches`` target batches, time-contiguous, in one preallocated TensorDict ``[R, K, T, E]``.

    K is ``history_batches``; T is the vector steps of one target batch (n / num_envs). Batches are in time order, the
    current one last.

    Args:
        steps: T.
        history_batches: K; 1 keeps nothing of an earlier batch.
    """

    def __init__(self, steps: int, history_batches: int = 1) -> None:
        self.steps = steps
        self.history_batches = history_batches
        self.stored_batches = 0  # complete batches before the current one
        self.filled = 0  # vector steps of the current batch
        self._storage: TensorDictBase | None = None

    @property
    def is_full(self) -> bool:
        """Whether the current batch holds its n steps."""
        return self.filled == self.steps

    @property
    def bytes(self) -> int:
        """Memory of D, as allocated for whole batches; 0 before the first step."""
        return (
            0 if self._storage is None else sum(v.numel() * v.element_size() for v in self._storage.values(True, True))
        )

    def extend(self, batch: TensorDictBase) -> None:
        """Append collected transitions ``[R, t, E]`` in time order.

        Raises:
            ValueError: more transitions than the current batch has room for.
        """
        end = self.filled + batch.shape[1]
        if end > self.steps:
            raise ValueError(f"{end} steps do not fit in a batch of {self.steps}")
        if self._storage is None:
            n_seeds, _, n_envs = batch.shape
            shape = (n_seeds, self.history_batches, self.steps, n_envs)
            self._storage = batch[:, :1].unsqueeze(1).expand(shape).clone().zero_()
        self._storage[:, self.stored_batches, self.filled : end] = batch
        self.filled = end

    def trajectories(self) -> TensorDictBase:
        """The complete batches, ``[R, k, T, E]``: dimension 1 separates trajectories that must not be joined."""
        return self._stored()[:, : self.stored_batches + int(self.is_full)]

    def current(self) -> TensorDictBase:
        """The steps of the current batch, ``[R, t, E]``."""
        return self._stored()[:, self.stored_batches, : self.filled]

    def recompute_targets(self, logits_of: Callable[[Tensor], Tensor]) -> None:
        """Bring log pi_theta of the retained batches up to the present theta.

        Args:
            logits_of: normalized log pi_theta_i, ``[R, *B, A, O] -> [R, *B, A, N]`` (nats).
        """
        retained = self._stored()[:, : self.stored_batches]
        with torch.no_grad():
            logits = logits_of(retained.get(keys.OBSERVATION))
        log_prob = logits.gather(-1, retained.get(keys.ACTION).unsqueeze(-1)).squeeze(-1)
        retained.get(keys.LOGITS).copy_(logits)
        retained.get(keys.LOG_PROB).copy_(log_prob)
        retained.get(keys.TARGET_LOG_PROB).copy_(log_prob.sum(-1))

    def flat(self, *names: Any) -> TensorDictBase:
        """The given keys of all of D, flattened to ``[R, B]``, oldest first."""
        stored = self._stored().select(*names)
        current = stored[:, self.stored_batches, : self.filled].flatten(1, 2)
        if self.stored_batches == 0:
            return current
        return torch.cat([stored[:, : self.stored_batches].flatten(1, 3), current], dim=1)

    def next_batch(self) -> None:
        """Start a new batch: keep the newest ``history_batches - 1`` complete ones, drop the rest."""
        keep = min(self.stored_batches + 1, self.history_batches - 1)
        drop = self.stored_batches + 1 - keep
        if keep and drop:
            stored = self._stored()
            stored[:, :keep] = stored[:, drop : drop + keep].clone()
        self.stored_batches, self.filled = keep, 0

    def _stored(self) -> TensorDictBase:
        if self._storage is None:
            raise RuntimeError("the buffer is empty")
        return self._storage

    def state_dict(self) -> dict[str, Any]:
        """Everything stored, as plain tensors and integers."""
        flat = {} if self._storage is None else self._storage.flatten_keys("/").to_dict()
        return {
            "stored_batches": self.stored_batches,
            "filled": self.filled,
            "batch_size": [] if self._storage is None else list(self._storage.batch_size),
            "storage": flat,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from a ``state_dict``."""
        self.stored_batches, self.filled = state["stored_batches"], state["filled"]
        self._storage = None
        if state["storage"]:
            flat = TensorDict(state["storage"], batch_size=state["batch_size"])
            self._storage = flat.unflatten_keys("/").to(device)

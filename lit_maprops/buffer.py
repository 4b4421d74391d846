"""D, the buffer: every transition since the last target update, and older batches if asked for (arXiv 2508.01049, open
question 3).

What an old batch means is decided here, after PROPS (arXiv 2311.08290), which learns from all of D too: its log
pi_theta is brought up to the present theta, so that the behavior policy corrects the proportions D has under the
present policies and PPO's ratios start at 1; advantages are computed for each batch by itself, under the present
critic; pi_phi's log-probabilities stay those of the collection. No importance weights: ``analyze`` measures the bias.
"""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions.families import Family
from lit_maprops.envs.ends import living, only_living


class Buffer:
    """Up to ``history_batches`` target batches, time-contiguous, in one preallocated TensorDict ``[R, K, T, E]``.

    K is ``history_batches``; T is the vector steps of one target batch (n / num_envs). Batches are in time order, the
    current one last. All memory is asked for once, with the first step, and never moved; the operating system hands it
    out as batches come in.

    Args:
        steps: T.
        history_batches: K; 1 keeps nothing of an earlier batch.
        growing: never drop a batch; K is then the number of batches of the whole run.
    """

    def __init__(self, steps: int, history_batches: int = 1, growing: bool = False) -> None:
        self.steps = steps
        self.history_batches = history_batches
        self.growing = growing
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
        if end > self.steps or self.stored_batches >= self.history_batches:
            raise ValueError(f"{end} steps do not fit in a batch of {self.steps}, {self.history_batches} batches")
        if self.history_batches > 1:
            batch = batch.copy().set(keys.COLLECTED_PARAMETERS, batch.get(keys.PARAMETERS))
        if self._storage is None:
            self._allocate(batch)
        assert self._storage is not None
        self._storage[:, self.stored_batches, self.filled : end] = batch
        self.filled = end

    def _allocate(self, like: TensorDictBase) -> None:
        """Storage for transitions such as ``like`` ``[R, t, E]``."""
        n_seeds, _, n_envs = like.shape
        shape = (n_seeds, self.history_batches, self.steps, n_envs)
        self._storage = like.apply(lambda value: value.new_empty(*shape, *value.shape[3:]), batch_size=shape)

    def trajectories(self) -> TensorDictBase:
        """The complete batches, ``[R, k, T, E]``: dimension 1 separates trajectories that must not be joined."""
        return self._stored()[:, : self.stored_batches + int(self.is_full)]

    def current(self) -> TensorDictBase:
        """The steps of the current batch, ``[R, t, E]``."""
        return self._stored()[:, self.stored_batches, : self.filled]

    def recompute_targets(self, distribution_parameters: Callable[..., Tensor], family: Family) -> None:
        """Bring log pi_theta of the retained batches up to the present theta.

        Args:
            distribution_parameters: of pi_theta_i, ``[R, *B, A, O] -> [R, *B, A, K]``, in tasks where not all actions
                are legal in all states also from ``keys.ACTION_MASK``.
            family: of pi_theta_i.
        """
        retained = self._stored()[:, : self.stored_batches]
        with torch.no_grad():
            legal = retained.get(keys.ACTION_MASK, None)
            seen = (retained.get(keys.OBSERVATION), *(() if legal is None else (legal,)))
            parameters = distribution_parameters(*seen)
        present = living(retained)
        if present is not None:
            parameters = family.idle(parameters, ~present)
        log_prob = only_living(family.log_prob(parameters, retained.get(keys.ACTION)), retained)
        retained.get(keys.PARAMETERS).copy_(parameters)
        retained.get(keys.LOG_PROB).copy_(log_prob)
        retained.get(keys.TARGET_LOG_PROB).copy_(log_prob.sum(-1))

    def staleness(self, family: Family) -> dict[str, Tensor]:
        """``history/staleness`` ``[R]``: KL(collected || present) of the joint target policies, mean over old steps.

        Exact, the sum over agents, which choose independently (nats). NaN while nothing is retained, absent without
        history. Call it when the retained batches are up to the present theta.
        """
        if self.history_batches == 1:
            return {}
        retained = self._stored()[:, : self.stored_batches]
        collected, present = retained.get(keys.COLLECTED_PARAMETERS), retained.get(keys.PARAMETERS)
        divergence = family.kl_divergence(collected, present).sum(-1)
        return {"history/staleness": divergence.flatten(1).mean(1)}

    def flat(self, *names: Any) -> TensorDictBase:
        """The given keys of all of D, flattened to ``[R, B]``, oldest first."""
        stored = self._stored().select(*names)
        # A slice, not an index: after the last batch of a growing history there is no current one.
        current = stored[:, self.stored_batches : self.stored_batches + 1, : self.filled].flatten(1, 3)
        if self.stored_batches == 0:
            return current
        return torch.cat([stored[:, : self.stored_batches].flatten(1, 3), current], dim=1)

    def next_batch(self) -> None:
        """Start a new batch: keep the newest ``history_batches - 1`` complete ones (all if growing), drop the rest."""
        keep = self.stored_batches + 1
        if not self.growing:
            keep = min(keep, self.history_batches - 1)
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
        """The batches in use, as plain tensors and integers."""
        used = self.stored_batches + int(self.filled > 0)
        flat: dict[str, Tensor] = {}
        if used:
            # Copies: a view would be saved with all of the memory behind it.
            flat = self._stored()[:, :used].clone().flatten_keys("/").to_dict()
        return {
            "stored_batches": self.stored_batches,
            "filled": self.filled,
            "storage": flat,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from a ``state_dict``."""
        self.stored_batches, self.filled = state["stored_batches"], state["filled"]
        self._storage = None
        used = self.stored_batches + int(self.filled > 0)
        if used:
            batch_size = state["storage"][keys.STATE].shape[:4]
            saved = TensorDict(state["storage"], batch_size=batch_size).unflatten_keys("/").to(device)
            # A finished run that is resumed with fewer env steps holds more batches than that run would.
            self.history_batches = max(self.history_batches, used)
            self._allocate(saved[:, 0])
            self._stored()[:, :used] = saved[:, :used]


def taken_rows(data: TensorDictBase, rows: Tensor) -> TensorDictBase:
    """Rows ``[R, b]`` of ``[R, B]``."""
    n_seeds, n_rows = data.batch_size
    chosen = (rows + n_rows * torch.arange(n_seeds, device=rows.device).unsqueeze(1)).flatten()
    return data.apply(  # index_select copies rows as they are, which indexing does number by number
        lambda value: value.flatten(0, 1).index_select(0, chosen).unflatten(0, rows.shape), batch_size=rows.shape
    )

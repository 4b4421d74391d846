"""The failure signatures of MA-PROPS (paper, "Failure signatures"), recognized in a run's metrics.

Each is one line that says what was seen and which argument to turn. Thresholds are decided here.
"""

import math
from collections import defaultdict
from collections.abc import Mapping

FIRST_STEP_SHARE = 0.9  # of updates stopped right after their first gradient step
IDLE_KL = 0.1  # of the cutoff: a KL below this share of it means that the cutoff plays no part
FEWEST_ITERATIONS = 5
PER_STATE = (
    "states are revisited too rarely within a batch (raise <data.target_batch_size>, lower <data.num_envs>), or "
    "updates overshoot where policies are nearly deterministic (lower <behavior.learning_rate>)"
)
# Why a measure of the sampling error may not fall below on-policy's; whitened actions are compared over all states.
CAUSES = {
    "joint_tv": PER_STATE,
    "joint_kl": PER_STATE,
    "joint_energy": "updates overshoot (lower <behavior.learning_rate>) or batches are too short "
    "(raise <data.target_batch_size>, lower <data.num_envs>)",
}


class RunningMeans:
    """Means of the columns of metrics.csv, row by row: a long run costs no more memory or time than a short one."""

    def __init__(self) -> None:
        self.rows = 0
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, row: Mapping[str, float]) -> None:
        """Count one row; what is not finite is left out of its column's mean."""
        self.rows += 1
        for name, value in row.items():
            if math.isfinite(value):
                self._sums[name] += float(value)
                self._counts[name] += 1

    def __getitem__(self, name: str) -> float:
        """Mean of a column; NaN if it has no number, which fails every comparison."""
        return self._sums[name] / self._counts[name] if name in self._counts else math.nan


def diagnose(means: RunningMeans, kl_cutoff: float | None) -> dict[str, str]:
    """Warnings about a run so far, by signature.

    Args:
        means: of metrics.csv.
        kl_cutoff: of the behavior policy; None for a behavior policy without one.
    """
    found: dict[str, str] = {}
    if means.rows < FEWEST_ITERATIONS:
        return found
    first_step = means["behavior/first_step_cutoff_share"]
    cutoff = means["behavior/cutoff_share"]
    reached = means["behavior/kl_reached"]
    if kl_cutoff is not None and first_step > FIRST_STEP_SHARE:
        found["cutoff_at_first_step"] = (
            f"{first_step:.0%} of behavior updates were stopped by the KL cutoff after one gradient step: raise "
            "<behavior.kl_cutoff> or lower <behavior.learning_rate>"
        )
    if kl_cutoff is not None and cutoff == 0 and reached < IDLE_KL * kl_cutoff:
        found["cutoff_idle"] = (
            f"the KL cutoff {kl_cutoff:g} was never hit and the KL reached is {reached:.2g} nats: the cutoff is idle, "
            "<behavior.clip_epsilon>, <behavior.epochs> or <behavior.learning_rate> decide how far sampling moves"
        )
    for name in CAUSES:
        own = means[f"sampling_error/{name}"]
        on_policy = means[f"sampling_error/{name}_on_policy"]
        if kl_cutoff is not None and own >= on_policy:
            found["no_less_sampling_error"] = (
                f"sampling error ({name} {own:.3g}) is not below on-policy's ({on_policy:.3g}): {CAUSES[name]}"
            )
    return found

"""The failure signatures of MA-PROPS (paper, "Failure signatures"), recognized in a run's metrics.

Each is one line that says what was seen and which argument to turn. Thresholds are decided here.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from lit_maprops.metrics.reliability import share_text
from lit_maprops.system.argument_types import AUTO

FIRST_STEP_SHARE = 0.9  # of updates stopped right after their first gradient step
IDLE_KL = 0.1  # of the cutoff: a KL below this share of it means that the cutoff plays no part
FEWEST_ITERATIONS = 5
FEWEST_ESTIMATES = 5  # of the sampling error
# By how much it must be above on-policy's: standard errors, since it is looked at after every iteration, and a share.
STANDARD_ERRORS = 3.0
MATTERS = 0.05
ROUNDING = 1e-6  # no difference of an estimate in single precision
FIRST_VISITS = 0.8  # of a batch's steps: from there on no sampler took 1% off the error (docs/evidence/first_visits.md)
NEAR_DETERMINISTIC = 0.1  # of the largest entropy so far: below, D can hardly hold what pi_theta gives the rare actions
PER_STATE = (
    "states are revisited too rarely within a batch (raise <data.target_batch_size>, lower <data.num_envs>), or "
    "updates overshoot (lower <behavior.learning_rate>)"
)
# Why a measure of the sampling error may be above on-policy's; whitened actions are compared over all states.
CAUSES = {
    "joint_tv": PER_STATE,
    "joint_kl": PER_STATE,
    "joint_energy": "updates overshoot (lower <behavior.learning_rate>) or batches are too short "
    "(raise <data.target_batch_size>, lower <data.num_envs>)",
}


class Comparison(NamedTuple):
    """A measure of the sampling error beside on-policy's, over the estimates of a run: means and their difference."""

    estimates: int
    own: float
    on_policy: float
    difference: float
    standard_error: float  # of ``difference``, by its spread over estimates; NaN for fewer than two


class RunningDifference:
    """Means of two figures measured together, and the spread of their difference (Welford 1962)."""

    def __init__(self) -> None:
        self._count = 0
        self._own = self._on_policy = self._mean = self._squares = 0.0

    def add(self, own: float, on_policy: float) -> None:
        """Count one pair."""
        self._count += 1
        self._own += own
        self._on_policy += on_policy
        away = own - on_policy - self._mean
        self._mean += away / self._count
        self._squares += away * (own - on_policy - self._mean)

    def result(self) -> Comparison:
        """Of all pairs so far."""
        n = self._count
        if n == 0:
            return Comparison(0, math.nan, math.nan, math.nan, math.nan)
        error = math.sqrt(self._squares / (n - 1) / n) if n > 1 else math.nan
        return Comparison(n, self._own / n, self._on_policy / n, self._mean, error)


class RunningMeans:
    """Means of the columns of metrics.csv, row by row: a long run costs no more memory or time than a short one.

    Sampling errors are also compared with on-policy's, by itself where policies are nearly deterministic: their mean
    entropy (nats) has fallen below ``NEAR_DETERMINISTIC`` of the largest so far. There on-policy's error vanishes, and
    one rare action more than pi_theta would take is an error that it does not make. Whitened actions (energy) know no
    such end.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._entropy = -math.inf  # largest so far
        self._differences: dict[tuple[str, bool], RunningDifference] = defaultdict(RunningDifference)

    def add(self, row: Mapping[str, float]) -> None:
        """Count one row; what is not finite is left out of its column's mean."""
        self.rows += 1
        for name, value in row.items():
            if math.isfinite(value):
                self._sums[name] += float(value)
                self._counts[name] += 1
        entropy = row.get("target/entropy", math.nan)
        self._entropy = max(self._entropy, entropy) if math.isfinite(entropy) else self._entropy
        rare = entropy < NEAR_DETERMINISTIC * self._entropy
        for name in CAUSES:
            pair = row.get(f"sampling_error/{name}", math.nan), row.get(f"sampling_error/{name}_on_policy", math.nan)
            if all(map(math.isfinite, pair)):
                self._differences[name, rare and name != "joint_energy"].add(*pair)

    def __getitem__(self, name: str) -> float:
        """Mean of a column; NaN if it has no number, which fails every comparison."""
        return self._sums[name] / self._counts[name] if name in self._counts else math.nan

    def measured(self, name: str) -> int:
        """How many numbers a column has."""
        return self._counts.get(name, 0)

    def compared(self, name: str, near_deterministic: bool = False) -> Comparison:
        """A sampling error (``joint_tv``, ...) beside on-policy's.

        Args:
            name: of the measure.
            near_deterministic: over the estimates with nearly deterministic policies; otherwise over the others.
        """
        return self._differences[name, near_deterministic].result()


def diagnose(means: RunningMeans, kl_cutoff: float | str | None) -> dict[str, str]:
    """Warnings about a run so far, by signature.

    Args:
        means: of metrics.csv.
        kl_cutoff: of the behavior policy; auto finds its own, None for a behavior policy without one.
    """
    found: dict[str, str] = {}
    if means.rows < FEWEST_ITERATIONS or kl_cutoff is None:
        return found
    if kl_cutoff != AUTO:
        found |= _of_the_cutoff(means, float(kl_cutoff))
    for name, cause in CAUSES.items():
        seen = means.compared(name)
        if _above(seen):
            found["no_less_sampling_error"] = (
                f"sampling error ({name} {seen.own:.3g}) is above on-policy's ({seen.on_policy:.3g}) by "
                f"{seen.difference:.2g} +- {seen.standard_error:.2g} over {seen.estimates} estimates: {cause}"
            )
    return found


def _of_the_cutoff(means: RunningMeans, kl_cutoff: float) -> dict[str, str]:
    """A cutoff that stops updates too early, or never."""
    found: dict[str, str] = {}
    first_step = means["behavior/first_step_cutoff_share"]
    reached = means["behavior/kl_reached"]
    if first_step > FIRST_STEP_SHARE:
        found["cutoff_at_first_step"] = (
            f"{share_text(first_step)} of behavior updates were stopped by the KL cutoff after one gradient step: "
            "raise <behavior.kl_cutoff> or lower <behavior.learning_rate>"
        )
    if means["behavior/cutoff_share"] == 0 and reached < IDLE_KL * kl_cutoff:
        found["cutoff_idle"] = (
            f"the KL cutoff {kl_cutoff:g} was never hit and the KL reached is {reached:.2g} nats: the cutoff is idle, "
            "<behavior.clip_epsilon>, <behavior.epochs> or <behavior.learning_rate> decide how far sampling moves"
        )
    return found


def not_revisited(means: RunningMeans) -> dict[str, str]:
    """A warning about a finished run of an adaptive sampler: D hardly ever came back to a state.

    None where the sampling error is below on-policy's all the same, by as much as it must be above for a warning:
    networks share what they learn among states, and whitened actions are compared over all of them.

    Args:
        means: of metrics.csv.
    """
    column = "sampling_error/first_visits"
    estimates, share = means.measured(column), means[column]
    if estimates < FEWEST_ESTIMATES or share < FIRST_VISITS or any(_below(means.compared(name)) for name in CAUSES):
        return {}
    return {
        "not_revisited": f"{share_text(share)} of a batch's steps are D's first in their state (mean over {estimates} "
        "estimates), and adaptive sampling corrects no first visit: raise <data.target_batch_size>, lower "
        "<data.num_envs>, or keep older batches with <data.history_batches>"
    }


def _above(seen: Comparison) -> bool:
    return seen.estimates >= FEWEST_ESTIMATES and seen.difference > _least(seen)


def _below(seen: Comparison) -> bool:
    return seen.estimates >= FEWEST_ESTIMATES and -seen.difference > _least(seen)


def _least(seen: Comparison) -> float:
    """From which difference on one counts."""
    return max(STANDARD_ERRORS * seen.standard_error, MATTERS * seen.on_policy, ROUNDING)


def near_deterministic(means: RunningMeans) -> dict[str, float] | None:
    """What is left out of the comparison with on-policy sampling: how many estimates, and the sampling error there."""
    for name in CAUSES:
        seen = means.compared(name, near_deterministic=True)
        if seen.estimates:
            return {"estimates": seen.estimates, name: seen.own, f"{name}_on_policy": seen.on_policy}
    return None

"""What runs say of themselves in summary.json, which may be anybody's: warnings, and iterations that count apart."""

import math
from collections.abc import Sequence
from typing import Any

from lit_maprops.report.load import Run
from lit_maprops.system.errors import printable

MOST_CHARACTERS = 500  # of a remark
MOST_PER_RUN, MOST_REMARKS = 20, 100


def remarks(runs: Sequence[Run]) -> tuple[list[tuple[str, str]], int]:
    """Names of runs with what each was warned of; and how many more there are than are shown."""
    found = [(run.name, text) for run in runs for text in _warnings(run.summary or {})]
    return found[:MOST_REMARKS], max(0, len(found) - MOST_REMARKS)


def _warnings(summary: dict[str, Any]) -> list[str]:
    given = summary.get("warnings")
    texts = [text for text in given if isinstance(text, str)] if isinstance(given, list) else []
    shown = [printable(text[:MOST_CHARACTERS]) for text in texts[:MOST_PER_RUN]]
    return shown + ([f"{len(texts) - MOST_PER_RUN} more"] if len(texts) > MOST_PER_RUN else [])


def near_deterministic(run: Run) -> str | None:
    """The sampling error of the iterations that no warning counts, beside on-policy's."""
    given = (run.summary or {}).get("near_deterministic")
    numbers = given if isinstance(given, dict) else {}
    for measure in ("joint_tv", "joint_kl"):
        values = [numbers.get(key) for key in ("estimates", measure, f"{measure}_on_policy")]
        if all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            estimates, own, on_policy = map(float, values)  # type: ignore[arg-type]
            return (
                f"{run.name}: in {estimates:,.0f} of its estimates policies were nearly deterministic; {measure} was "
                f"{own:.3g} there, on-policy's {on_policy:.3g}."
            )
    return None

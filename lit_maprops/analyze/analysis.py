"""The analysis itself, and what it writes."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lit_maprops.analyze.batches import draw, on_policy_reference
from lit_maprops.analyze.subject import Sampler, Subject
from lit_maprops.metrics.gradients import Estimate, Reference, exact_reference, mean_of, pooled, spread
from lit_maprops.system.files import write_atomically, write_json

NORMAL_95 = 1.959964  # standard errors on either side of a 95% interval
FIGURES = ("bias_squared", "variance", "mse", "cosine")


class Analysis(NamedTuple):
    """Figures of every sampler, per seed."""

    subject: Subject
    batches: int  # K
    steps: int  # n
    reference: Reference
    samplers: dict[str, dict[str, Estimate]]  # by sampler and figure

    def summary(self) -> dict[str, Any]:
        """Means over seeds with 95% intervals given the seeds' policies, as plain numbers."""
        reference, retained = self.reference, self.subject.retained
        return {
            "checkpoint": str(self.subject.path),
            "env_steps": self.subject.env_steps,
            "seeds": self.subject.seed_ids,
            "behavior": type(self.subject.own.template).__name__,
            "batches": self.batches,
            "batch_size": self.steps,
            "old_batches": 0 if retained is None else retained.shape[1],
            "reference": {
                "kind": "on_policy" if reference.batches else "exact",
                "batches": reference.batches,
                "norm_squared": float((reference.gradient.square().sum(-1) - reference.variance).nanmean()),
                "variance": float(reference.variance.nanmean()),
                "episode_return": float(reference.episode_return.nanmean()),
            },
            "samplers": {name: _pooled(figures) for name, figures in self.samplers.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per sampler and seed: figures and standard errors."""
        return [
            {"sampler": name, "seed": seed}
            | {k: float(v) for f, e in figures.items() for k, v in ((f, e.value[row]), (f"{f}_se", e.error[row]))}
            for name, figures in self.samplers.items()
            for row, seed in enumerate(self.subject.seed_ids)
        ]

    def write(self, path: Path) -> None:
        """``path`` as JSON (``summary``), and beside it the same name with .csv (``rows``); each atomically."""
        rows, text = self.rows(), io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v != v else v for k, v in row.items()} for row in rows)
        write_atomically(path.with_suffix(".csv"), text.getvalue())
        write_json(path.with_suffix(".json"), self.summary())

    def table(self) -> str:
        """For the terminal."""
        summary = self.summary()
        rows = [["sampler", "bias^2", "variance", "MSE", "cosine", "return bias", "ESS share"]]
        for name, figures in summary["samplers"].items():
            cells = [_cell(figures[f], figures[f"{f}_ci95"]) for f in (*FIGURES, "return_bias")]
            rows.append([name, *cells, f"{figures['effective_sample_share']:.3f}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = [[first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])] for first, *rest in rows]
        lines = ["  ".join(cells) for cells in aligned]
        reference = summary["reference"]
        kind = f"{reference['batches']} on-policy batches" if reference["batches"] else "exact"
        lines.append(
            f"means over {len(summary['seeds'])} seeds [95%], {self.batches} batches of {self.steps} env steps; "
            f"reference: {kind}, squared norm {reference['norm_squared']:.3g}, its error {reference['variance']:.2g}"
        )
        return "\n".join(lines)


def reference_of(
    subject: Subject, steps: int, reference_batches: int, say: Callable[[str], None] = lambda line: None
) -> Reference:
    """The exact gradient, or where that cannot be computed, the mean of so many on-policy batches of n steps."""
    exact = exact_reference(subject.learner.policies, subject.task)
    if exact is not None:
        return exact
    say(f"reference: {reference_batches} on-policy batches per seed")
    return on_policy_reference(subject, reference_batches, steps)


def analyze(
    subject: Subject,
    samplers: Mapping[str, Sampler],
    batches: int,
    steps: int,
    reference: Reference,
    say: Callable[[str], None] = lambda line: None,
) -> Analysis:
    """Draw K batches with every sampler and compare them with the reference.

    Args:
        subject: the checkpoint.
        samplers: by the name they get in the results.
        batches: K, at least 2.
        steps: n, env steps per seed and batch; a multiple of m.
        reference: of ``reference_of``, for the same n.
        say: told what is being done.
    """
    results = {}
    for name, sampler in samplers.items():
        say(f"{name}: {batches} batches per seed")
        gradients, returns = draw(subject, sampler, batches, steps)
        results[name] = spread(gradients, reference) | _return_figures(returns, reference)
    return Analysis(subject, batches, steps, reference, results)


def _return_figures(returns: dict[str, Any], reference: Reference) -> dict[str, Estimate]:
    """Differences to the reference's return, and the effective share of the episodes."""

    def difference(name: str) -> Estimate:
        mean, error = mean_of(returns[name], reference.episode_return)
        return Estimate(mean, (error.square() + reference.return_variance).sqrt())

    return {
        "return_bias": difference("monte_carlo"),
        "importance_bias": difference("importance"),
        "self_normalized_bias": difference("self_normalized"),
        "effective_sample_share": mean_of(returns["effective_sample_size"] / returns["episodes"]),
    }


def _pooled(figures: dict[str, Estimate]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, estimate in figures.items():
        mean, error = pooled(estimate)
        result |= {name: mean, f"{name}_ci95": [mean - NORMAL_95 * error, mean + NORMAL_95 * error]}
    return result


def _cell(value: float, ends: list[float]) -> str:
    if value != value:
        return "-"
    return f"{value:.3g} [{ends[0]:.2g}, {ends[1]:.2g}]"

"""Every seed in the loggers of a run: histograms over seeds and, where a logger can hold it, a line for each.

Loggers get means over seeds in every target iteration; R times their figures would drown them. What single seeds do is
known at evaluations, so there each logger gets it in a form of its own: Weights & Biases a table with a panel of lines
and histograms, TensorBoard histograms and a table as text. Other loggers get nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray

from lit_maprops.metrics.evaluate import Evaluation
from lit_maprops.system.tables import read_table

PREFIX = "seeds"  # of the names in loggers
LINES = f"{PREFIX}/lines"  # of the panel; its table is lines_table
BINS = 20
MOST_ROWS = 10_000  # of a table; W&B's panels draw no more
MOST_LISTED = 400  # seeds in a text
GROWTH = 2.0  # a table is logged again when it has so many times the evaluations
PANEL = "wandb/lineseries/v0"  # W&B's own chart of lines by key


class EachSeed(NamedTuple):
    """An evaluation, seed by seed.

    Attributes:
        env_steps: per seed.
        seeds: their numbers, R of them.
        figures: by the names that eval.csv has for them, ``[R]``; NaN where a seed has none.
        judged: name of the figure that decides which seeds are solved.
        last: no other evaluation of the run comes after it.
    """

    env_steps: int
    seeds: Sequence[int]
    figures: Mapping[str, NDArray[np.floating]]
    judged: str
    last: bool = False


def figures_of(evaluations: Mapping[str, Evaluation]) -> dict[str, NDArray[np.floating]]:
    """Success rates and returns of greedy and stochastic policies, by the names of eval.csv's columns, ``[R]``."""
    rates = {f"{kind}_success_rate": evaluation.success_rate for kind, evaluation in evaluations.items()}
    returns = {f"{kind}_return": evaluation.episode_return for kind, evaluation in evaluations.items()}
    return {name: np.asarray(value.tolist()) for name, value in (rates | returns).items()}


def histogram(name: str, values: NDArray[np.floating]) -> tuple[NDArray[np.integer], NDArray[np.floating]] | None:
    """Counts ``[BINS]`` and edges ``[BINS + 1]`` over the seeds that have a number; None if none has.

    Success rates have the same edges always, from 0 to 1, so that their histograms can be laid side by side.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    return np.histogram(known, BINS, range=(0.0, 1.0) if name.endswith("success_rate") else None)


class Lines:
    """Rows of a table with every seed at every evaluation so far, thinned to ``MOST_ROWS``.

    Where there are too many evaluations every second is left out, again and again; the first and the newest stay. So
    memory is bounded, however long the run.
    """

    def __init__(self) -> None:
        self._kept: list[EachSeed] = []
        self._newest: EachSeed | None = None
        self._every, self._added, self._logged = 1, 0, 0

    def add(self, evaluation: EachSeed) -> None:
        """Take in the next evaluation."""
        if self._added % self._every == 0:
            self._kept.append(evaluation)
        self._added += 1
        self._newest = evaluation
        while len(self._kept) * len(evaluation.seeds) > MOST_ROWS and len(self._kept) > 1:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def read(self, path: Path) -> None:
        """Take in the evaluations of an eval.csv, all of them logged already."""
        table = read_table(path)
        points = np.unique(table.pop("env_steps"))
        shaped = {name: values.reshape(len(points), -1) for name, values in table.items()}
        seeds = shaped.pop("seed")[0].astype(int).tolist()
        for place, env_steps in enumerate(points.tolist()):
            self.add(
                EachSeed(int(env_steps), seeds, {name: rows[place] for name, rows in shaped.items()}, "greedy_return")
            )
        self._logged = self._added

    @property
    def due(self) -> bool:
        """Whether there is much that was not logged: all tables together then grow like the last one."""
        return self._added >= GROWTH * self._logged and self.pending

    @property
    def pending(self) -> bool:
        """Whether there is anything that was not logged."""
        return self._added > self._logged

    def table(self) -> tuple[list[str], list[list[Any]], str]:
        """Columns, rows in order of env steps, and the column that decides which seeds are solved; counts as logged."""
        self._logged = self._added
        assert self._newest is not None
        shown = [*(one for one in self._kept if one is not self._newest), self._newest]
        names, missing = list(self._newest.figures), np.full(len(self._newest.seeds), np.nan)  # of earlier versions
        rows = [
            [one.env_steps, str(seed), *(None if figure != figure else figure for figure in figures)]  # NaN: empty
            for one in shown
            for seed, *figures in zip(
                one.seeds, *(one.figures.get(name, missing).tolist() for name in names), strict=True
            )
        ]
        return ["env_steps", "seed", *names], rows, self._newest.judged


def log_to_wandb(experiment: Any, evaluation: EachSeed, lines: Lines) -> None:
    """Log histograms over seeds and, when it is due, the table with its panel: a line for each seed.

    Args:
        experiment: a W&B run.
        evaluation: the newest, which ``lines`` has taken in.
        lines: of all.
    """
    import wandb

    content: dict[str, Any] = {"env_steps": evaluation.env_steps}
    for name, values in evaluation.figures.items():
        found = histogram(name, values)
        if found is not None:
            content[f"{PREFIX}/{name}"] = wandb.Histogram(np_histogram=found)
    if lines.due or (evaluation.last and lines.pending):
        content |= panel(lines)
    experiment.log(content)


def panel(lines: Lines) -> dict[str, Any]:
    """The table of all seeds and its panel, which draws the figure that decides which are solved."""
    import wandb

    columns, rows, judged = lines.table()
    # W&B looks at the type of every cell, 2 s for MOST_ROWS rows, for which the training would wait, too: one row with
    # a value in every column, as far as there is any, says as much.
    sample = [next((row[place] for row in rows if row[place] is not None), None) for place in range(len(columns))]
    table = wandb.Table(columns=columns, data=[sample])
    table.data = rows
    fields = {"step": "env_steps", "lineKey": "seed", "lineVal": judged}
    texts = {"title": f"{judged.replace('_', ' ')}, every seed", "xname": "env steps per seed"}
    return {LINES: wandb.plot_table(PANEL, table, fields, texts)}


def log_to_tensorboard(writer: Any, evaluation: EachSeed) -> None:
    """Log histograms over seeds, and every seed's figures as text.

    Args:
        writer: a ``SummaryWriter``.
        evaluation: the newest.
    """
    step, names = evaluation.env_steps, list(evaluation.figures)
    for name, values in evaluation.figures.items():
        known = values[np.isfinite(values)]
        if len(known):
            writer.add_histogram(f"{PREFIX}/{name}", known, step)
    head = [f"| {' | '.join(['seed', *names])} |", "|" + "---|" * (1 + len(names))]
    of_seeds = zip(evaluation.seeds, *evaluation.figures.values(), strict=True)
    rows = ["| " + " | ".join([str(seed), *map(_text, figures)]) + " |" for seed, *figures in of_seeds]
    more = [f"\nand {len(rows) - MOST_LISTED} more"] if len(rows) > MOST_LISTED else []
    writer.add_text(f"{PREFIX}/every_seed", "\n".join([*head, *rows[:MOST_LISTED], *more]), step)


def _text(figure: float) -> str:
    return "" if np.isnan(figure) else f"{figure:.4g}"


class SeedLog:
    """Hands evaluations to the loggers of a Trainer; does nothing where none can take them."""

    def __init__(self) -> None:
        self._lines: dict[int, Lines] = {}  # of W&B's loggers, which have a thread of their own in this program's runs

    @staticmethod
    def takers(loggers: Sequence[Any]) -> list[Logger]:
        """The loggers that have a place for single seeds."""
        return [one for one in loggers if hasattr(one, "log_seeds") or isinstance(one, TensorBoardLogger | WandbLogger)]

    def log(self, loggers: Sequence[Logger], evaluation: EachSeed) -> None:
        """Log an evaluation.

        Args:
            loggers: that ``takers`` gave.
            evaluation: the newest.
        """
        for logger in loggers:
            own: Any = getattr(logger, "log_seeds", None)
            if own is not None:
                own(evaluation)
            elif isinstance(logger, TensorBoardLogger):
                log_to_tensorboard(logger.experiment, evaluation)
            elif isinstance(logger, WandbLogger):
                lines = self._lines.setdefault(id(logger), Lines())
                lines.add(evaluation)
                log_to_wandb(logger.experiment, evaluation, lines)

"""What a run has left in its folder, read anew whenever it is asked for."""

from collections.abc import Sequence
from contextlib import suppress
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from lit_maprops.api.policies import Policies
from lit_maprops.api.settings import Settings, configuration, continued, read_configuration
from lit_maprops.api.start import as_it_was, start
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.export.policies import load
from lit_maprops.metrics.evaluate import Evaluation
from lit_maprops.metrics.reliability import share_text, wilson_interval
from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.report import Report, make_report, returns
from lit_maprops.report.load import Run, Unreadable, read_run
from lit_maprops.report.settings import other_environments
from lit_maprops.report.solved import criterion_of
from lit_maprops.run.last_words import short
from lit_maprops.run.option_classes import trusting
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.extras import install
from lit_maprops.system.tables import read_table
from lit_maprops.targets import Learner

if TYPE_CHECKING:
    from pandas import DataFrame

COUNTS = ("env_steps", "iteration", "seed")  # columns of whole numbers


class Difference(NamedTuple):
    """Difference of two shares of solved seeds and its 95% score interval (``metrics.score_interval``)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.0f} points [95% {100 * self.low:+.0f} to {100 * self.high:+.0f}]"


class ReturnDifference(Difference):
    """Difference of two mean returns (reward) and its 95% bootstrap interval, of tasks without success."""

    def __str__(self) -> str:
        interval = f" [95% {self.low:+.3g} to {self.high:+.3g}]" if self.low <= self.high else ""  # NaN: a single seed
        return f"{self.value:+.3g} of return{interval}"


class RunResult:
    """A run: its folder, and what its files say at the moment.

    A seed is solved if its greedy policies' success rate in the newest evaluation, or with ``solved_on`` ``return``
    their return, reaches ``solved_threshold``. Where neither says which seeds are (a task without success, say, and no
    threshold for returns), shares of solved seeds are NaN, and mean returns count.

    Args:
        folder: that ``fit`` wrote.
        trust: packages that its configuration may name, beyond those that this program has imported.

    Raises:
        ConfigError: it is no run's folder.

    Attributes:
        folder: of the run.
        trust: likewise, for ``policies`` and ``resume``.
        checkpoint: the newest one, for the commands of the command line.
    """

    def __init__(self, folder: Path, trust: Sequence[str] = ()) -> None:
        check((folder / "config.yaml").is_file(), f"{folder} is not a run's folder: give one that fit wrote")
        self.folder = folder.absolute()  # wherever the process goes
        self.checkpoint = self.folder / "checkpoints" / "last.ckpt"
        self.trust = tuple(trust)

    @property
    def config(self) -> dict[str, Any]:
        """The run's settings with every default."""
        return read_configuration("<config>", self.folder / "config.yaml")

    @property
    def metrics(self) -> "DataFrame":
        """metrics.csv: a row per target iteration, means over seeds."""
        return self._table("metrics.csv")

    @property
    def evaluations(self) -> "DataFrame":
        """eval.csv: a row per evaluation and seed."""
        return self._table("eval.csv")

    def _table(self, name: str) -> "DataFrame":
        check(find_spec("pandas") is not None, f"tables need the package pandas: {install('notebook')}")
        from pandas import DataFrame

        check((self.folder / name).is_file(), f"{self.folder} has no {name} yet: train first")
        columns = read_table(self.folder / name)
        return DataFrame({n: v.astype(int) if n in COUNTS else v for n, v in columns.items()})

    @property
    def _run(self) -> Run:
        try:
            return read_run(self.folder)
        except Unreadable as error:
            raise ConfigError(f"{self.folder} cannot be read: {error}") from None

    @property
    def finished(self) -> bool:
        """Whether the run reached its ``total_env_steps``."""
        return self._run.finished

    @property
    def seeds(self) -> list[int]:
        """The seeds' numbers, R of them."""
        return self._run.seeds.tolist()

    @property
    def tells_success(self) -> bool:
        """Whether the evaluations have success rates; otherwise the task has no success, and returns count."""
        return self._run.tells_success

    @property
    def episode_return(self) -> NDArray[np.floating]:
        """Greedy return of each seed in the newest evaluation, ``[R]`` (reward); NaN where a seed ended so."""
        return self._run.others["greedy_return"][-1]

    @property
    def success_rate(self) -> NDArray[np.floating]:
        """Greedy success rate of each seed in the newest evaluation, ``[R]`` (share); 0 where a seed ended in NaN."""
        return self._run.final

    @property
    def success_interval(self) -> NDArray[np.floating]:
        """95% Wilson interval of each seed's success rate, over its evaluation episodes: ``[R, 2]`` (shares)."""
        episodes = int(self.config["model"]["eval_episodes"])
        return np.array([wilson_interval(round(rate * episodes), episodes) for rate in self.success_rate.tolist()])

    @property
    def solved(self) -> int:
        """Number of solved seeds."""
        return self._run.solved

    @property
    def solved_share(self) -> float:
        """Share of the seeds that are solved."""
        run = self._run
        return run.solved / len(run.seeds) if run.criterion.tells_solved else float("nan")

    @property
    def solved_interval(self) -> tuple[float, float]:
        """95% Wilson interval of ``solved_share``."""
        run = self._run
        told = run.criterion.tells_solved
        return wilson_interval(run.solved, len(run.seeds)) if told else (float("nan"), float("nan"))

    @property
    def policies(self) -> Policies:
        """The agents' policies at the newest checkpoint.

        Raises:
            ConfigError: there is none, or the environment cannot be made here.
        """
        with as_it_was():
            return Policies(load(self.checkpoint, trusting(self.trust)))

    def resume(
        self,
        *,
        behavior: BehaviorPolicy | None = None,
        learner: Learner | None = None,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        **settings: Unpack[Settings],
    ) -> "RunResult":
        """Continue at the newest checkpoint, bit for bit.

        Args:
            behavior: of the same class, with other step sizes or stops from here on; None: as it was.
            learner: likewise.
            callbacks: as in ``fit``.
            loggers: as in ``fit``.
            **settings: what is to be other than before, such as ``total_env_steps``; as in ``fit``.

        Raises:
            ConfigError: a setting that a run cannot change, or no checkpoint.
        """
        objects = {"behavior": behavior, "learner": learner}
        base = continued(self.checkpoint)
        base["trust"] = [*self.trust]
        config = configuration(base, objects, settings)
        return RunResult(start(config, callbacks, loggers), config["trust"])

    def report(self, path: str | Path | None = None, beside: Sequence["RunResult"] = ()) -> Report:
        """The page that ``python -m lit_maprops report`` makes; a notebook shows it.

        Args:
            path: also write it to this HTML file.
            beside: other runs on the same page.

        Raises:
            ConfigError: nothing to read, nowhere to write, or a package of the extra ``report`` is missing.
        """
        report = make_report([run.folder for run in (self, *beside)])
        if path is not None:
            report.save(path)
        return report

    def compare(self, other: "RunResult") -> Difference:
        """Share of solved seeds minus the other run's, with its interval; mean returns if neither has such a share.

        Raises:
            ConfigError: the runs are of different environments, or one has seeds solved by success and the other by
                return, or none.
        """
        own, others = self._run, other._run
        odd = other_environments(own.config, others.config)
        what = f"{self.folder} and {other.folder} are runs of different environments ({', '.join(odd[:3])})"
        check(not odd, f"{what}: compare runs of the same")
        told = own.tells_success or others.tells_success  # a verdict of either says that the task has them
        judged = [criterion_of(run.config, told) for run in (own, others)]
        check(
            (judged[0].on, judged[0].tells_solved) == (judged[1].on, judged[1].tells_solved),
            f"{self.folder} and {other.folder} are judged by different figures (solved_on, solved_threshold): compare "
            "runs with the same",
        )
        if not judged[0].tells_solved:
            check(find_spec("scipy") is not None, f"a comparison of returns needs scipy: {install('report')}")
            finals = [run.others["greedy_return"][-1] for run in (own, others)]
            seen = returns.difference(*(values[np.isfinite(values)] for values in finals))
            return ReturnDifference(seen.value, seen.low, seen.high)
        counts = [int(run.solved_by(rule).sum()) for run, rule in zip((own, others), judged, strict=True)]
        low, high = score_interval([counts[0]], [len(own.seeds)], [counts[1]], [len(others.seeds)])
        value = counts[0] / len(own.seeds) - counts[1] / len(others.seeds)
        return Difference(value, float(low), float(high))

    def __repr__(self) -> str:
        return f"RunResult({str(self.folder)!r}): {self._line()}"

    def _line(self) -> str:
        try:
            run = self._run
        except ConfigError:
            return "no evaluation yet"
        state = "" if run.finished else f", unfinished at {run.env_steps[-1]:,.0f} env steps"
        if not run.criterion.tells_solved:
            mean = Evaluation.mean(torch.from_numpy(run.others["greedy_return"][-1]))
            why = "" if run.tells_success else "this task has no success: "
            return f"{why}mean return {short(mean)} of {len(run.seeds)} seeds{state}"
        low, high = wilson_interval(run.solved, len(run.seeds))
        return f"solved {run.solved} of {len(run.seeds)} seeds [95% {share_text(low)} to {share_text(high)}]{state}"

    def _repr_html_(self) -> str:
        head, cells = "<tr><th>seed<th>success<th>95% interval<th>sampled", ""
        with suppress(ConfigError):  # no evaluation yet
            run = self._run
            if not run.criterion.by_return:
                sampled = run.others["stochastic_success_rate"][-1].tolist()
                rows = zip(self.seeds, self.success_rate.tolist(), self.success_interval.tolist(), sampled, strict=True)
                texts = ((seed, *map(share_text, (rate, *ends, other))) for seed, rate, ends, other in rows)
                cells = "".join("<tr><td>{}<td>{}<td>{} to {}<td>{}".format(*row) for row in texts)
            else:
                head = "<tr><th>seed<th>return<th>sampled"
                columns = (run.others[name][-1].tolist() for name in ("greedy_return", "stochastic_return"))
                pairs = zip(self.seeds, *columns, strict=True)
                cells = "".join(f"<tr><td>{seed}<td>{short(own)}<td>{short(other)}" for seed, own, other in pairs)
        summary = f"<b>{escape(self.folder.name)}</b>: {self._line()}<br><code>{escape(str(self.folder))}</code>"
        return f"<details><summary>{summary}</summary><table>{head}{cells}</table></details>"

"""Which parameters to try next and which runs to stop: the package ``sweeps``, the code W&B's server runs.

Version 0.3 asks for numpy below 2 in its metadata but works with numpy 2.4, which the tests use.
"""

import random
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lit_maprops.sweep.journal import Entry
from lit_maprops.sweep.results import read_history, read_summary
from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.extras import install

# What W&B's search calls the states of our journal. A run stopped early counts with what it reached.
STATES = {"waiting": "pending", "running": "running", "finished": "finished", "stopped": "finished", "failed": "failed"}


class Search:
    """Proposes the runs of one sweep.

    Args:
        file: the sweep.
        folder: where its runs lie.

    Raises:
        ConfigError: the package is missing, or refuses the file.
    """

    def __init__(self, file: SweepFile, folder: Path) -> None:
        self.file, self.folder = file, folder
        self._sweeps = _import_sweeps()
        try:
            violations = self._sweeps.schema_violations_from_proposed_config(file.content)
            # Drawing fills in defaults and finds what the schema lets through, such as a grid over a range.
            first = None if violations else self.propose([])
        except Exception as error:  # of jsonschema, the package's own, and plain ones
            violations = [str(error) or type(error).__name__]
        if violations:
            raise ConfigError(f"{file.path}: {' '.join(violations[0].split())}")
        check(first is not None, f"{file.path}: the grid is empty: give every parameter at least one value")

    def size(self, limit: int) -> int:
        """How many runs the sweep has, counted to ``limit`` at most; random and bayes have no end."""
        if self.file.content["method"] != "grid":
            return limit
        runs = self._sweeps.next_runs(self.file.content, [], n=limit)
        return sum(run is not None for run in runs)

    def propose(self, entries: Sequence[Entry]) -> dict[str, Any] | None:
        """Parameters of the next run; None when the grid is used up.

        The draw is seeded by the sweep's name and the number of runs before it, so that a sweep that was killed goes on
        as if it had not been (bayes: where the same runs have finished).
        """
        seed = zlib.crc32(f"{self.file.name}/{len(entries)}".encode())
        random.seed(seed)  # method random draws from Python's generator
        np.random.seed(seed)  # bayes from numpy's
        proposal = self._sweeps.next_run(self.file.content, [self._run(entry) for entry in entries])
        if proposal is None:
            return None
        # Sorted as W&B's agent gets them: `config` comes before the `data.` and `model.` flags that override it.
        return {name: _plain(proposal.config[name]["value"]) for name in sorted(proposal.config)}

    def to_stop(self, entries: Sequence[Entry]) -> set[str]:
        """Ids of the running runs that hyperband gives up on."""
        runs = [self._run(entry) for entry in entries]
        return {run.name for run in self._sweeps.stop_runs(self.file.content, runs)}

    def _run(self, entry: Entry) -> Any:
        history, metric = [], self.file.metric
        if metric is not None and entry.state != "waiting":
            history = [{metric: value} for value in read_history(self.folder / entry.id, metric)]
        return self._sweeps.SweepRun(
            name=entry.id,
            state=STATES[entry.state],
            config={name: {"value": value} for name, value in entry.parameters.items()},
            summary_metrics=read_summary(self.folder / entry.id),
            history=history,
        )


def _import_sweeps() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses names that pydantic 2 has replaced
        try:
            import sweeps
        except ImportError:
            raise ConfigError(f"the package sweeps is missing: {install('sweeps')}") from None
    return sweeps


def _plain(value: Any) -> Any:
    """The value without numpy's types: JSON and the command line want Python's."""
    return value.item() if isinstance(value, np.generic) else value

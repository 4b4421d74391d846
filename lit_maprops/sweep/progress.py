"""What the user sees while a sweep runs: a bar on a terminal, else a line per run; stderr, like the runs' own."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from lit_maprops.sweep.journal import Entry
from lit_maprops.system.errors import printable

LEAST_BAR = 16  # columns of the bar with its percentage


class Progress:
    """Counts ended runs, and how far those at work are.

    Args:
        done: runs that ended in earlier calls.
        total: runs in all.
        varied: parameters that tell the runs apart.
        deadline: ``time.monotonic`` at which it ends, whatever is left; None: there is no such time.
    """

    def __init__(self, done: int, total: int, varied: list[str], deadline: float | None = None) -> None:
        self._before, self._done, self._total, self._varied = done, done, total, varied
        self._deadline = deadline
        self._others = 0  # runs elsewhere, when we last said so
        self._started = time.monotonic()
        self._shown = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            disable=not self._shown,
            dynamic_ncols=True,
            file=sys.stderr,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
        )
        self.at_work([])

    def say(self, message: str) -> None:
        """Print a line, above the bar if there is one."""
        tqdm.write(printable(message), file=sys.stderr)

    def started(self, entry: Entry) -> None:
        """Say what a run is, where no bar will."""
        if not self._shown:
            self.say(f"{self._named(entry)} started [{self._done} of {self._total} done]")

    def at_work(self, runs: list[tuple[Entry, float]]) -> None:
        """Show how far runs are.

        Args:
            runs: each with the share of its env steps that is done.
        """
        if not self._shown:
            return
        shares = ", ".join(f"{settings(entry, self._varied)} {share:.0%}" for entry, share in runs)
        text = printable(f"{self._done}/{self._total} runs{f'; {shares}' if shares else ''}")
        room = max(shutil.get_terminal_size().columns - LEAST_BAR, LEAST_BAR)
        self._bar.n = self._done + sum(share for _, share in runs)
        self._bar.set_description_str(text if len(text) <= room else f"{text[: room - 4]} ...")

    def others(self, done: int, runs: int) -> None:
        """Say, once for every number of them, that runs of other commands are waited for."""
        self._done = done
        if runs != self._others:
            self._others = runs
            what = "a run" if runs == 1 else f"{runs} runs"
            self.say(f"waiting for {what} of other sweep commands [{done} of {self._total} done]")

    def recount(self, done: int) -> None:
        """Take over how many runs have ended, those of other commands among them."""
        self._done = done

    def ended(self, entry: Entry, result: str) -> None:
        """Count a run and say what became of it."""
        self._done += 1
        words = {"finished": "finished", "stopped": "stopped early"}.get(entry.state)
        if words is None:
            words = f"failed (exit code {entry.exit_code}): {entry.error}; see {entry.log}"
        self.say(f"{self._named(entry)} {words}{result} [{self._done} of {self._total}{self._left()}]")

    def _named(self, entry: Entry) -> str:
        found = settings(entry, self._varied)
        return f"{entry.id} ({found})" if found != entry.id else entry.id

    def _left(self) -> str:
        left = self._total - self._done
        if left == 0:
            return ""
        now = time.monotonic()
        seconds = (now - self._started) / max(self._done - self._before, 1) * left
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - now))
        return f", about {tqdm.format_interval(seconds)} left"

    def close(self) -> None:
        """Leave the bar on the screen."""
        self.at_work([])
        self._bar.close()


def settings(entry: Entry, varied: list[str]) -> str:
    """What sets a run apart from others, in few words: ``behavior=MAPROPS, kl_cutoff=0.1``; its id if nothing does.

    Args:
        entry: the run.
        varied: see ``varied_of``.
    """
    short = [name.rpartition(".")[2] for name in varied]
    names = {name: last if short.count(last) == 1 else name for name, last in zip(varied, short, strict=True)}
    found = [f"{names[name]}={entry.parameters[name]}" for name in varied if name in entry.parameters]
    return ", ".join(found) or entry.id


def varied_of(parameters: Mapping[str, Any]) -> list[str]:
    """Names of a sweep file's parameters that have more than one value."""
    return [name for name, rule in parameters.items() if "value" not in rule and len(rule.get("values", "ab")) > 1]

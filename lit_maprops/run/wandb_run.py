"""The Weights & Biases run beside a run's folder: offline unless the user is logged in and asks for online.

Nothing that goes wrong there costs the run: its own files are complete without it. Nor does the training wait for W&B,
whose own process may be slow, or stopped: what is to be logged waits in a queue.
"""

import contextlib
import math
import os
import re
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from shlex import quote
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from lit_maprops.metrics.each_seed import EachSeed, Lines, log_to_wandb, panel
from lit_maprops.run.background import Background
from lit_maprops.run.end_media import PageMaker, log_artifacts, media_of
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.wandb_options import MODES, WandbOptions
from lit_maprops.system.errors import ConfigError, WriteError, check

RUN_NAME = re.compile(r"(offline-)?run-(\d{8}_\d{6})-(.+)")  # of W&B's folder of a run; ids may have dashes
WANDB_INIT_SECONDS = 20
WANDB_FINISH_SECONDS = 30  # for uploads at the end of a run; the rest stays on disk for `wandb sync`
WANDB_WRITE_SECONDS = 600  # for an offline run's own file, which a busy machine may be slow to write
PATIENCE_SECONDS = 60  # without an answer or a byte of W&B's process, after which tracking ends
MOST_ROWS = 10_000  # that may wait for it


def check_environment() -> None:
    """Refuse W&B's variables where their values could not serve, before a run has its folder.

    Raises:
        ConfigError: names the variable.
    """
    mode, seconds = os.environ.get("WANDB_MODE"), os.environ.get("WANDB_FINISH_TIMEOUT", "1")
    check(not mode or mode in MODES, f"WANDB_MODE is {mode!r}: set it to one of {', '.join(MODES)}, or give <wandb>")
    try:
        finite = 0 <= float(seconds) < math.inf
    except ValueError:
        finite = False
    check(finite, f"WANDB_FINISH_TIMEOUT is {seconds!r}: set it to a number of seconds")
    for name in ("WANDB_PROJECT", "WANDB_RUN_ID"):
        value = os.environ.get(name, "")
        fine = value.isprintable() and not set(value) & set("/\\#?%:") and len(value) <= 128
        check(fine, f"{name} is {value!r}: set it to at most 128 characters without / \\ # ? % :")


class Tracker(WandbLogger):
    """W&B's logger, which may fail or hang without costing the run: it says so once and is silent from then on.

    Args:
        experiment: the W&B run.
        folder: of the run.
        finish_seconds: that the end of the run waits at most.
        say: prints one line.
        artifacts: see ``WandbOptions``.

    Attributes:
        page: makes the report that goes along as an artifact.
    """

    def __init__(
        self,
        experiment: Any,
        folder: RunFolder,
        finish_seconds: float,
        say: Callable[[str], None],
        artifacts: Sequence[str] = (),
    ) -> None:
        super().__init__(experiment=experiment)
        self.page: PageMaker | None = None
        self._artifacts, self._lines = artifacts, Lines()
        if folder.rows["eval.csv"]:
            self._lines.read(folder.path / "eval.csv")  # of a run that is continued
        self._files, self._finish_seconds, self._say, self._failed = folder.path / "wandb", finish_seconds, say, False
        self._background = Background("wandb", MOST_ROWS, PATIENCE_SECONDS)

    def _later(self, action: Callable[[], Any]) -> None:
        if not self._failed and not self._background.do(lambda: self._attempt(action)):
            self._give_up()

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # of its own classes, of sockets, of files, of a process of its own that died
            self._fail(type(error).__name__)

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            way = "the run's files are complete; `wandb sync` sends what is on disk"
            self._say(f"W&B: tracking ended ({reason}), {way}")

    def _give_up(self) -> None:
        self._fail(f"its process did not answer for {PATIENCE_SECONDS} s")
        self._background.stop()
        _kill_service()

    def _written(self) -> int:
        """Bytes in W&B's own files of the run."""
        with contextlib.suppress(OSError):  # it moves some
            return sum(path.stat().st_size for path in self._files.rglob("*") if path.is_file())
        return 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one row."""
        row = dict(metrics)
        self._later(lambda: WandbLogger.log_metrics(self, row, step))

    def log_seeds(self, evaluation: EachSeed) -> None:
        """Log an evaluation seed by seed: histograms, and now and then a line for each."""

        def log() -> None:
            self._lines.add(evaluation)
            log_to_wandb(self.experiment, evaluation, self._lines)

        self._later(log)

    def log_end(self, folder: RunFolder, summary: Mapping[str, Any]) -> None:
        """Put the end of a run on its W&B page: scalars for sweeps to optimize, the figure, the films and artifacts.

        Args:
            folder: of the run, with its figures drawn.
            summary: of the run; its numbers become W&B summary values.
        """
        import wandb

        def log() -> None:
            media: dict[str, Any] = {"env_steps": summary["env_steps"]}
            for name, path in media_of(folder).items():
                film = path.suffix == ".gif"
                media[name] = wandb.Video(str(path), format="gif") if film else wandb.Image(str(path))
            self.experiment.log(media)
            self.experiment.summary.update({k: v for k, v in summary.items() if isinstance(v, (int, float))})

        self._later(log)
        if self._artifacts:
            self._later(lambda: self._log_artifacts(folder, summary))

    def _log_artifacts(self, folder: RunFolder, summary: Mapping[str, Any]) -> None:
        try:
            log_artifacts(self.experiment, folder, summary, self._artifacts, self.page)
        except (ConfigError, WriteError) as error:  # of our own: W&B itself is well
            self._say(f"W&B: no artifacts ({error.marked})")

    def _log_rest(self) -> None:
        """Lines that a run which was stopped has not logged yet."""
        if self._lines.pending:
            self.experiment.log(panel(self._lines))

    def end(self, code: int) -> None:
        """End the W&B run.

        Args:
            code: 0 shows as finished on its page, every other as failed.
        """
        import wandb

        self._later(self._log_rest)
        self._later(lambda: self.experiment.finish(exit_code=code))
        if not self._failed and not self._background.finish(self._finish_seconds, self._written):
            self._give_up()
        self._background.stop()
        if self._failed:
            with contextlib.suppress(Exception, SystemExit):  # the latter with the exit code of its process
                wandb.teardown()  # or it tries once more when the program exits, and prints what it meets


def _kill_service() -> None:
    """End W&B's own process if it is of this one: whoever waits for its answers, at exit too, would wait for ever."""
    import wandb

    with contextlib.suppress(AttributeError):  # nothing public leads to it
        process = wandb.setup()._connection._proc._process
        if isinstance(process, subprocess.Popen):
            process.kill()


def wandb_logger(
    mode: str | None, folder: RunFolder, config: Mapping[str, Any], say: Callable[[str], None]
) -> Tracker | None:
    """Start the W&B run inside the run's folder; never prompts, never waits longer than ``WANDB_INIT_SECONDS``.

    Whatever fails online is told in one line and tried again offline; whatever fails offline, too, is told in one
    line and leaves the run untracked.

    Under ``wandb agent`` it is the run the agent announced (WANDB_RUN_ID). Its finish is bounded too
    (WANDB_FINISH_TIMEOUT, else ``WANDB_FINISH_SECONDS``): a server that dies while the run trains cannot keep the
    program from ending. Offline there is no server to wait for, only the run's file (``WANDB_WRITE_SECONDS``).
    A process of W&B's that gives no sign of life for ``PATIENCE_SECONDS`` is given up.

    Args:
        mode: ``online``, ``offline`` or ``disabled``; None takes WANDB_MODE, else online under ``wandb agent``
            (WANDB_SWEEP_ID is set), else offline.
        folder: of the run.
        config: shown on the W&B page.
        say: told when online falls back to offline, and offline to nothing.

    Returns:
        None if disabled, or if W&B does not start even offline.
    """
    mode = mode or os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_SWEEP_ID") else "offline")
    if mode == "disabled":
        return None
    import wandb  # only now: it takes a second

    known = _newest_id(folder)  # a resumed run continues its own W&B run; a new one takes WANDB_RUN_ID if set
    ways = {"online": "tracking offline", "offline": "the run is not tracked"}  # with what follows if it fails
    for way in ways if mode == "online" else ("offline",):
        try:
            if way == "offline" or wandb.login(prompt=False, verify=False):
                seconds = WANDB_WRITE_SECONDS if way == "offline" else _upload_seconds()
                run, artifacts = _start(way, folder, config, known, seconds), WandbOptions.of(config).artifacts
                return Tracker(run, folder, seconds + PATIENCE_SECONDS, say, artifacts)
            say("W&B: not logged in, tracking offline (run `wandb login`, or set WANDB_API_KEY)")
        except Exception as error:  # of its own classes, of its settings' (pydantic), of sockets, of files
            reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
            say(f"W&B: {way} failed ({reason}), {ways[way]}")
            for forget in (lambda: wandb.finish(exit_code=1), wandb.teardown):
                with contextlib.suppress(Exception):
                    forget()
    return None


def _upload_seconds() -> float:
    return float(os.environ.get("WANDB_FINISH_TIMEOUT", WANDB_FINISH_SECONDS))


def _start(mode: Any, folder: RunFolder, config: Mapping[str, Any], known: str | None, finish_seconds: float) -> Any:
    """The W&B run, new or with the known id, with env steps on its horizontal axes."""
    import wandb

    options = WandbOptions.of(config)
    settings = wandb.Settings(
        silent=True,
        init_timeout=WANDB_INIT_SECONDS,
        finish_timeout=finish_seconds,
        console="off",
    )
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "lit_maprops"),
        name=folder.name,
        dir=folder.path,
        mode=mode,
        config=dict(config),
        group=options.group,
        job_type=options.job_type,
        tags=list(options.tags) or None,
        settings=settings,
        id=known,
        resume="allow" if known else None,
    )
    run.define_metric("env_steps")
    run.define_metric("*", step_metric="env_steps")
    return run


def _newest(folder: RunFolder) -> re.Match[str] | None:
    """The name of the newest W&B run in a run's folder, whose own folders are named by mode, time and id."""
    names = (RUN_NAME.fullmatch(path.name) for path in folder.path.glob("wandb/*run-*"))
    # Within one second the offline one is newer: it began when the other failed.
    return max((name for name in names if name), key=lambda name: (name[2], bool(name[1])), default=None)


def _newest_id(folder: RunFolder) -> str | None:
    found = _newest(folder)
    return found and found[3]


def offline_runs(folder: RunFolder) -> str | None:
    """What ``wandb sync`` is to be given of a run; None if the newest part of it was not tracked offline."""
    found = _newest(folder)
    return f"{quote(str(folder.path))}/wandb/offline-run-*" if found and found[1] else None

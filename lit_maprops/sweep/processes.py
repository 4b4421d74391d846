"""One run of a sweep as a process: its command line, its environment, its log, and what is left of it after a kill."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lit_maprops.sweep.journal import Entry
from lit_maprops.sweep.leases import Lease
from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.errors import check
from lit_maprops.system.files import no_link, writing
from lit_maprops.system.sweep_values import for_environment
from lit_maprops.system.threads import share_cores

ENVIRONMENT_MACRO = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
GRACE_SECONDS = 60.0  # for a run whose time is up, to save
ERROR_CHARACTERS = 300  # of a failed run's last line that are worth a line in the journal


def command_line(file: SweepFile, parameters: dict[str, Any]) -> list[str]:
    """The file's command with its macros replaced as W&B's agent does, except that ``${interpreter}`` is this Python.

    Source: https://docs.wandb.ai/guides/sweeps/sweep-config-keys, section command.

    Raises:
        ConfigError: the command has a macro that is not known.
    """
    # Null as our parser and people write it; another program gets Python's None, as from W&B's agent.
    texts = {name: "null" if value is None and file.is_ours else str(value) for name, value in parameters.items()}
    flags = [f"{name}={text}" for name, text in texts.items()]
    on = [f"--{k}" if v is True else f"--{k}={texts[k]}" for k, v in parameters.items() if v is not False]
    macros: dict[str, list[str]] = {
        "env": ["/usr/bin/env"],
        "interpreter": [sys.executable],
        "program": [str(file.content["program"])] if "program" in file.content else [],
        "args": [f"--{flag}" for flag in flags],
        "args_no_hyphens": flags,
        "args_no_equals": [word for k, text in texts.items() for word in (f"--{k}", text)],
        "args_no_boolean_flags": on,
        "args_append_hydra": [f"+{flag}" for flag in flags],
        "args_override_hydra": [f"++{flag}" for flag in flags],
        "args_json": [json.dumps(parameters)],
    }
    words: list[str] = []
    for part in file.command:
        word = ENVIRONMENT_MACRO.sub(lambda found: os.environ.get(found[1], found[1]), part)
        if word.startswith("${") and word.endswith("}"):
            known = ", ".join(f"${{{name}}}" for name in macros)
            check(word[2:-1] in macros, f"{file.path}: command has {word}: the macros are {known}")
            words += macros[word[2:-1]]
        else:
            words.append(word)
    return words


class Process:
    """A run's process, started here or left by a sweep that was killed.

    The run holds a lock on its log for as long as it or a child of it lives: the log is its standard output, and a lock
    belongs to the open file. So a later sweep can tell, without process ids, whether a run is still at work.

    Args:
        entry: the run.
        folder: of the sweep.
        lease: on the run.
    """

    def __init__(self, entry: Entry, folder: Path, lease: Lease) -> None:
        self.entry, self.lease = entry, lease
        self.run = folder / entry.id
        self.log = folder / f"{entry.id}.log"
        self.stopping = False  # hyperband gave it up
        self.late = False  # its time was up
        self.adopted = False  # an earlier sweep started it, and it is still at work
        self._popen: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self, file: SweepFile, workers: int) -> None:
        """Start or continue the run, unless it is still at work.

        Args:
            file: the sweep.
            workers: how many runs share the machine's cores.

        Raises:
            WriteError: the log cannot be written.
        """
        with writing(self.log), open(self.log, "ab", opener=no_link) as log:
            if not _lock(log):
                self.adopted = True
                return
            try:
                command = [*command_line(file, self.entry.parameters), *self._own_flags(file)]
                log.write(f"$ {' '.join(command)}\n".encode())
                log.flush()
                self._started = time.monotonic()
                # A process group of its own: Ctrl-C reaches the sweep alone, which then stops its runs.
                self._popen = subprocess.Popen(
                    command,
                    env=_environment(workers) | for_environment(self.entry.parameters),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            except OSError as error:
                log.write(f"{error}\n".encode())

    def _own_flags(self, file: SweepFile) -> list[str]:
        """The run's folder; its checkpoint if it has one, else whatever an interrupted start left there is cleared."""
        flags = [f"--runs_dir={self.run.parent}", f"--run_name={self.run.name}"]
        if "wandb" not in file.flags:
            flags.append("--wandb=disabled")
        checkpoint = self.run / "checkpoints" / "last.ckpt"
        if checkpoint.exists():
            return [*flags, f"--ckpt_path={checkpoint}"]
        if self.run.exists():
            shutil.rmtree(self.run)
        return flags

    def alive(self) -> bool:
        """Whether the run is at work; before ``start``, whether an earlier sweep's process still is."""
        if self._popen is not None:
            return self._popen.poll() is None
        with writing(self.log), open(self.log, "ab", opener=no_link) as log:
            return not _lock(log)

    @property
    def exit_code(self) -> int | None:
        """Of the ended process; None if it could not start, or was not started here."""
        return None if self._popen is None else self._popen.returncode

    def signal(self, number: int) -> None:
        """Send a signal; one left by an earlier sweep just goes on, and the next sweep finds it."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)

    def keep_to(self, seconds: float) -> None:
        """End the run if it has been at work for longer: it may save first, and is killed with its children if not."""
        if self._popen is None or self._popen.poll() is not None:
            return
        over = time.monotonic() - self._started - seconds
        if over > 0 and not self.late:
            self.late = True
            self.signal(signal.SIGTERM)
        elif over > GRACE_SECONDS:
            self.kill()

    def kill(self) -> None:
        """End the run and its children at once, unless an earlier sweep started it."""
        if self._popen is not None and self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def last_line(self) -> str:
        """The last line the run printed."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:ERROR_CHARACTERS] if lines else ""


def _lock(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _environment(workers: int) -> dict[str, str]:
    """Ours, with the cores divided among the workers unless OMP_NUM_THREADS says otherwise."""
    environment = dict(os.environ)
    share_cores(environment, workers)
    return environment

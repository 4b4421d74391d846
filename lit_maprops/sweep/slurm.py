"""SLURM as the launcher of a sweep: one job array, whose tasks are sweep commands that take a run each.

An array rather than a job per run: one call queues, counts and cancels them all, SLURM keeps to the number at a time,
and nothing but SLURM's own commands is needed. Submitit, which hands Python functions over as pickles, would add a
package and a file format that this program never loads.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from lit_maprops.system.errors import ConfigError, check

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")
MOST_TASKS = 1000  # where SLURM does not say
SAVE_SECONDS = 120  # before the time is up, for a run to end its iteration and save
# The runs are whole programs, no ranks that srun started. SLURM sends SIGTERM to the command itself, but the warning
# before the time is up to this shell alone: then the task goes back into the queue, and its run on from its checkpoint.
SCRIPT = """#!/bin/bash
unset SLURM_NTASKS SLURM_NPROCS SLURM_NTASKS_PER_NODE SLURM_PROCID SLURM_LOCALID SLURM_NODEID
trap : TERM
trap 'again=yes; kill -USR1 $task 2>/dev/null' USR1
{command} &
task=$!
while wait $task; code=$?; kill -0 $task 2>/dev/null; do :; done
[ -z "$again" ] || scontrol requeue ${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
exit $code
"""


class Slurm:
    """The queue of the cluster that this machine belongs to.

    Args:
        name_of_job: shown in the queue.
        options: of sbatch, in one text.

    Raises:
        ConfigError: its commands are not here, or the options are no words.
    """

    name = "slurm"
    ask_seconds = 10.0  # its controller serves everybody
    outlives_us = True

    def __init__(self, name_of_job: str, options: str = "") -> None:
        missing = [command for command in COMMANDS if shutil.which(command) is None]
        check(
            not missing,
            f"<launcher> is slurm, and there is no {', no '.join(missing)} on this machine: give the command on a "
            "login node of a SLURM cluster, or leave <launcher> out",
        )
        try:
            self.options = shlex.split(options)
        except ValueError as error:
            raise ConfigError(f"<launcher_options> is {options!r} ({error}): give options of sbatch") from None
        self.name_of_job = name_of_job

    def tasks_for(self, runs: int, at_a_time: int | None) -> int:
        """One for each run, up to what an array may have."""
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call("scontrol", "show", "config").stdout, re.MULTILINE)
        return min(runs, max(int(found[1]) - 1, 1) if found else MOST_TASKS)

    def check(self) -> None:
        """Ask SLURM whether it would take such jobs, before anything is written.

        Raises:
            ConfigError: it would not.
        """
        result = _call("sbatch", "--test-only", *self.options, text=SCRIPT.format(command="true"))
        check(result.returncode == 0, self._refusal(result))

    def submit(self, words: list[str], tasks: int, logs: Path, at_a_time: int | None) -> str:
        """Queue an array.

        Raises:
            ConfigError: SLURM refuses it.
        """
        limit = "" if at_a_time is None else f"%{at_a_time}"
        output = str(logs).replace("%", "%%")
        call = [
            *("sbatch", f"--job-name={self.name_of_job}", "--open-mode=append", "--requeue"),
            *(f"--signal=B:USR1@{SAVE_SECONDS}", f"--output={output}/%A_%a.log"),
            *self.options,
            *("--parsable", f"--array=0-{tasks - 1}{limit}"),
        ]
        result = _call(*call, text=SCRIPT.format(command=shlex.join(words)))
        job = result.stdout.strip().partition(";")[0]
        if result.returncode != 0 or not job.isdecimal():
            raise ConfigError(self._refusal(result))
        return job

    def _refusal(self, result: subprocess.CompletedProcess[str]) -> str:
        lines = (result.stderr + result.stdout).strip().splitlines()
        reason = re.sub(r"^(sbatch: |error: |allocation failure: )+", "", lines[-1] if lines else "it does not say why")
        given = f": change <launcher_options>, which is {shlex.join(self.options)!r}" if self.options else ""
        return f"<launcher> is slurm, and sbatch refuses such jobs ({reason}){given}"

    def is_queued(self, job: str) -> bool:
        """Whether SLURM knows a task of the job that has not ended; while it does not answer, there is one."""
        result = _call("squeue", "--noheader", f"--jobs={job}", "--format=%i")
        return bool(result.stdout.strip()) if result.returncode == 0 else "Invalid job id" not in result.stderr

    def cancel(self, job: str) -> None:
        """Cancel all of it; SLURM sends SIGTERM to tasks at work, and SIGKILL after its KillWait."""
        _call("scancel", job)

    def close(self) -> None:
        """Nothing is held."""


def _call(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    # A process group of its own: Ctrl-C is for us.
    return subprocess.run(words, input=text, text=True, capture_output=True, check=False, process_group=0)

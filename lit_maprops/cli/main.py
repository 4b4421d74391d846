"""The command line: ``python -m lit_maprops COMMAND``, one of ``COMMANDS``.

``main`` answers ``--help`` without importing anything heavy, and turns every error of the user into one line.
"""

import os
import sys
from collections.abc import Sequence

from lit_maprops.run.flags import with_flags
from lit_maprops.system.console import stopped_at_once
from lit_maprops.system.errors import ConfigError, EnvironmentFault, SamplerFault, WriteError, printable
from lit_maprops.system.launch import check_address_space, check_launch
from lit_maprops.system.loading import loading

USAGE = """usage: python -m lit_maprops COMMAND [options]

Train cooperative agents with centralized adaptive sampling (MA-PROPS), many seeds side by side.

commands:
  fit        train; writes runs/<run_name>/
  validate   evaluate a checkpoint's decentralized policies on fresh episodes
  test       the same on other episodes; for the figure you report
  plan       how many seeds a comparison takes, and what a budget can see
  sweep      run a sweep file here or on a cluster; continues where it was stopped
  benchmark  a fixed list of cooperative tasks x samplers, within the minutes you give, and a leaderboard
  report     compare finished runs on one HTML page
  compare    print two finished runs side by side, and the difference of what they solved
  analyze    bias and variance of the policy gradient at a checkpoint, sampler by sampler
  autopsy    why a seed failed, and whether it was sampling error
  export     agents' policies as ONNX and torch.export programs, which run without this package
  conf       list the configurations and sweep files that come with the package, or print one
  health     check the installation; with --fit, train for a second, too

examples:
  python -m lit_maprops fit --config boulderpush
  python -m lit_maprops fit --config boulderpush --model.behavior OnPolicy --run_name baseline
  python -m lit_maprops fit --ckpt_path runs/baseline/checkpoints/last.ckpt
  python -m lit_maprops test --ckpt_path runs/baseline/checkpoints/last.ckpt
  python -m lit_maprops plan --effect 10 --baseline 0.5 --comparisons 3
  python -m lit_maprops sweep centralization --workers 2
  python -m lit_maprops benchmark --minutes 10
  python -m lit_maprops report runs -o report.html
  python -m lit_maprops compare runs/ma_props runs/on_policy
  python -m lit_maprops analyze --ckpt_path runs/baseline/checkpoints/last.ckpt --samplers MAPROPS
  python -m lit_maprops autopsy runs/baseline --seed 7
  python -m lit_maprops export --ckpt_path runs/baseline/checkpoints/last.ckpt --output exported

python -m lit_maprops COMMAND --help lists every option of a command."""

TRAINING_COMMANDS = ("fit", "validate", "test")
COMMANDS = (
    *(*TRAINING_COMMANDS, "plan", "sweep", "benchmark", "report", "compare"),
    *("analyze", "autopsy", "export", "conf", "health"),
)
ENDED_EARLY, USER_ERROR = 1, 2
MOST_CHARACTERS = 1000  # of an error


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: ended early (a broken environment or sampler, a full disk, failed runs of a sweep), one line on stderr.
    2: bad input or too little memory, one line on stderr. 129 / 130 / 138 / 143: stopped by
    SIGHUP / SIGINT / SIGUSR1 / SIGTERM after saving.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else USER_ERROR
    if args[0] == "--version":
        from lit_maprops.system.version import __version__

        print(__version__)
        return 0
    if args[0] not in COMMANDS:
        return _fail(f"{args[0]!r} is not a command: choose one of {', '.join(COMMANDS)}")
    try:
        os.getcwd()
    except FileNotFoundError:
        return _fail("the working directory is no longer there: change to one that is")
    try:
        return _run_training(args) if args[0] in TRAINING_COMMANDS else _run_light(args[0], args[1:])
    except ConfigError as error:
        return _fail(error.marked)
    except (EnvironmentFault, SamplerFault, WriteError) as error:
        return _fail(error.marked, ENDED_EARLY)


def _run_light(command: str, options: list[str]) -> int:
    """The commands whose --help, or all of them, needs neither torch nor Lightning."""
    if command == "plan":
        from lit_maprops.cli.plan import run
    elif command == "sweep":
        from lit_maprops.cli.sweep import run
    elif command == "benchmark":
        from lit_maprops.cli.benchmark import run
    elif command == "analyze":
        from lit_maprops.cli.analyze import run
    elif command == "autopsy":
        from lit_maprops.cli.autopsy import run
    elif command == "compare":
        from lit_maprops.cli.compare import run
    elif command == "export":
        from lit_maprops.cli.export import run
    elif command == "conf":
        from lit_maprops.cli.conf import run
    elif command == "health":
        from lit_maprops.cli.health import run
    else:
        with stopped_at_once(), loading():
            from lit_maprops.cli.report import run
    return run(options)


def _run_training(args: list[str]) -> int:
    check_launch()
    check_address_space()
    with stopped_at_once(), loading():
        from lit_maprops.cli.fit import run
        from lit_maprops.stacked.ranks import RanksLost
        from lit_maprops.system.memory import OutOfMemory, is_out_of_memory, keep_freed_memory

    keep_freed_memory()
    try:
        return run(args)
    except OutOfMemory as error:
        return _fail(error.marked)
    except RanksLost as error:
        return _fail(error.marked, ENDED_EARLY)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail(
            "out of memory: lower --model.num_seeds, --data.num_envs, --data.target_batch_size or the layers' sizes"
        )


def _fail(message: str, code: int = USER_ERROR) -> int:
    message = printable(with_flags(message))
    if len(message) > MOST_CHARACTERS:  # of a value that went on and on
        message = f"{message[: MOST_CHARACTERS // 2]} ... {message[-MOST_CHARACTERS // 2 :]}"
    print(f"lit_maprops: error: {message}", file=sys.stderr)
    return code

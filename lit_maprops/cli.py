"""The command line: ``python -m lit_maprops fit|validate|test``.

``main`` answers ``--help`` without importing anything heavy, and turns every error of the user into one line.
"""

import sys
from collections.abc import Sequence

USAGE = """usage: python -m lit_maprops COMMAND [options]

Train cooperative agents with centralized adaptive sampling (MA-PROPS), many seeds side by side.

commands:
  fit        train; writes runs/<run_name>/
  validate   evaluate a checkpoint's decentralized policies on fresh episodes
  test       the same on other episodes; for the figure you report

examples:
  python -m lit_maprops fit --config conf/boulderpush.yaml
  python -m lit_maprops fit --config conf/boulderpush.yaml --model.behavior OnPolicy --run_name baseline
  python -m lit_maprops fit --ckpt_path runs/baseline/checkpoints/last.ckpt
  python -m lit_maprops test --ckpt_path runs/baseline/checkpoints/last.ckpt

python -m lit_maprops COMMAND --help lists every option of a command."""

COMMANDS = ("fit", "validate", "test")
USER_ERROR = 2


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 2: bad input, one line on stderr. 130 / 143: stopped by SIGINT / SIGTERM after saving.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else USER_ERROR
    if args[0] == "--version":
        from lit_maprops import __version__

        print(__version__)
        return 0
    if args[0] not in COMMANDS:
        return _fail(f"{args[0]!r} is not a command: choose one of {', '.join(COMMANDS)}")
    return _run(args)


def _run(args: list[str]) -> int:
    from lit_maprops.cli_errors import USER_ERRORS, one_line
    from lit_maprops.config import ConfigError
    from lit_maprops.memory import keep_freed_memory
    from lit_maprops.training_cli import run

    keep_freed_memory()
    try:
        return run(args)
    except ConfigError as error:
        return _fail(str(error))
    except USER_ERRORS as error:
        return _fail(one_line(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error) and "out of memory" not in str(error):
            raise
        return _fail(
            "out of memory: lower --model.num_seeds, --data.num_envs, --data.target_batch_size or the layers' sizes"
        )


def _fail(message: str) -> int:
    print(f"lit_maprops: error: {message}", file=sys.stderr)
    return USER_ERROR

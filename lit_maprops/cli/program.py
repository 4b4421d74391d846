"""The process around the command line: its standard streams, Ctrl-C before and after the work, its exit code."""

import signal
import sys

from lit_maprops.cli.main import ENDED_EARLY, TRAINING_COMMANDS, main
from lit_maprops.system.console import STOPPED, guard_streams, say_for_now
from lit_maprops.system.home import spare_home
from lit_maprops.system.threads import set_threads

# Commands that take seconds to import what they need.
HEAVY = (*TRAINING_COMMANDS, "analyze", "autopsy", "export", "report")
LOADING = "loading ... (Ctrl-C stops)"


def program() -> int:
    """Run ``main`` on the arguments of the process; returns the exit code.

    What cannot be written to stderr is lost and changes nothing. What a command prints on stdout is its result: if it
    cannot be written, the exit code is 1 and a line on stderr says so; a reader that has enough (``| head``) is none
    of that. The result of a training command is in its run's folder, and what an environment prints is none, but that
    of ``--help`` and ``--print_config`` is on stdout: after those its parser raises SystemExit.
    """
    out, err = guard_streams()
    spare_home()
    set_threads()
    prints_result = not set(TRAINING_COMMANDS) & set(sys.argv[1:2])
    try:
        if set(HEAVY) & set(sys.argv[1:2]):
            say_for_now(LOADING, out, err)
        code = main()
    except SystemExit as end:
        if end.code:
            raise
        code, prints_result = 0, True
    except KeyboardInterrupt:  # before a fit takes over the signal, or in a command that has nothing to save
        print(STOPPED, file=sys.stderr)
        code = 128 + signal.SIGINT
    out.settle()
    if out.failed is not None and code == 0 and prints_result:
        print(f"lit_maprops: error: stdout could not be written ({out.failed.strerror})", file=sys.stderr)
        code = ENDED_EARLY
    err.settle()
    return code

"""What every hostile case is held to: one line that names a flag or file, exit code 2, nothing written, nothing run."""

import contextlib
import io
import os
import resource
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from lightning.pytorch.cli import LightningCLI

from lit_maprops.cli.main import main
from lit_maprops.run.options import RunCLI

MOST_CHARACTERS = 1100  # of an error
MOST_BYTES = 2**31  # of new memory that a case may ask for
CANARY = "canary"  # a file in the working directory that hostile code would create


FRESH = int(os.environ.get("FUZZ", "0"))


def cases(number: int) -> Any:
    """A sixteenth of so many, the same in every run; ``FUZZ=k`` draws k times as many as said, others each time."""
    return settings(
        max_examples=number * FRESH or max(number // 16, 2),
        derandomize=not FRESH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Let an absurd size fail as it does on a small machine instead of filling this one."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def run(args: list[str]) -> tuple[int | None, str, str]:
    """The program in this process: exit code (None: an exception came through), stdout, stderr or the traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(args)
        except SystemExit as ended:  # --help
            return int(ended.code or 0), out.getvalue(), err.getvalue()
        except BaseException:
            return None, out.getvalue(), traceback.format_exc()
    return code, out.getvalue(), err.getvalue()


def complaint(args: list[str], *files: str) -> str | None:
    """What is wrong with how the program took ``args``; None if it went on, or refused them as it should.

    Args:
        args: the command line.
        files: names that may stand in the line instead of a flag.
    """
    code, out, err = run(args)
    if code is None:
        return f"raised {err}"
    if code == 0:
        return None if "Warning" not in err else f"warns: {err}"
    if code != 2 or out:
        return f"exit code {code}, stdout {out!r}, stderr {err}"
    lines = err.rstrip("\n").split("\n")
    if len(lines) > 1 or not lines[0].startswith("lit_maprops: error: "):
        return f"not one line: {err}"
    if not err.rstrip("\n").isprintable():
        return f"control characters on the terminal: {err!r}"
    if len(err) > MOST_CHARACTERS:
        return f"{len(err)} characters: {err[:200]!r}"
    if "--" not in err and not any(name in err for name in files):
        return f"names no flag: {err}"
    return None


def one_parser(patch: pytest.MonkeyPatch) -> None:
    """Make the parser, whose construction is most of what parsing costs, once for all."""
    original, made = LightningCLI.setup_parser, {}

    def setup_parser(self: RunCLI, *args: Any, **kwargs: Any) -> None:
        if not made:
            original(self, *args, **kwargs)
            made["parser"] = self.parser
        self.parser = made["parser"]

    patch.setattr(RunCLI, "setup_parser", setup_parser)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

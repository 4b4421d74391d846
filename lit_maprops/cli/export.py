"""``python -m lit_maprops export --ckpt_path C --output DIR``."""

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from lit_maprops.cli.parser import Parser, classes_of
from lit_maprops.system.console import stopped_at_once
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.extras import install
from lit_maprops.system.files import home_path
from lit_maprops.system.loading import loading

DESCRIPTION = """Write each agent's decentralized policy as an ONNX file and a torch.export program, agent_0.onnx,
agent_0.pt2 and so on, and beside them policy.json: what every number of an observation is, what actions mean, and where
the policies are from. They run without this package."""


def _parse(args: list[str]) -> Namespace | None:
    parser = Parser("export", DESCRIPTION)
    parser.add_argument("--ckpt_path", required=True, type=home_path, metavar="FILE", help="checkpoint of a run folder")
    parser.add_argument("--output", required=True, type=home_path, metavar="DIR", help="new folder to write")
    parser.add_argument(
        "--seed",
        metavar="K",
        help="number of the seed to export, or all, each in a folder seed_K; default: the one whose greedy policies "
        "did best in the newest evaluation (success, then return)",
    )
    parser.add_argument(
        "--format", choices=["both", "onnx", "torch"], default="both", help="default: both; onnx needs the extra export"
    )
    parser.add_classes()
    return parser.parsed(args)


def run(args: list[str]) -> int:
    """Export the policies of a checkpoint; returns the exit code.

    Raises:
        ConfigError: bad input, found before anything is written.
    """
    options = _parse(args)
    if options is None:
        return 0
    formats = ["onnx", "torch"] if options.format == "both" else [options.format]
    for package in ("onnx", "onnxscript") if "onnx" in formats else ():
        check(
            find_spec(package) is not None,
            f"--format {options.format} needs the package {package}: {install('export')}, or give --format torch",
        )
    output = options.output.resolve()
    with _one_line(output):
        _check_free(output)

    # Only now: these import torch.
    with stopped_at_once(), loading():
        from lit_maprops.export.policies import chosen_seeds, load, write_policies

    trained = load(options.ckpt_path, classes_of(options))
    seeds, why = chosen_seeds(trained, options.seed)
    print(f"export: {why}", file=sys.stderr)
    with _one_line(output), _at_once(output) as folder:
        for seed in seeds:
            write_policies(trained, seed, folder / f"seed_{seed}" if options.seed == "all" else folder, formats)
    print(f"export: written to {options.output}", file=sys.stderr)
    return 0


def _check_free(output: Path) -> None:
    """Refuse an output that holds something or cannot be written."""
    check(not output.exists() or output.is_dir(), f"--output: {output} is a file: give a new folder")
    check(output.parent.is_dir(), f"--output: {output.parent} is no folder: create it first")
    check(os.access(output.parent, os.W_OK), f"--output: {output.parent} cannot be written: choose another folder")
    check(
        not output.exists() or not any(output.iterdir()),
        f"--output: {output} holds something already: give a new folder, nothing is overwritten",
    )


@contextmanager
def _at_once(output: Path) -> Iterator[Path]:
    """A folder to write in, which becomes ``output`` at the end, or vanishes if there is an error."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        temporary.replace(output)  # an empty folder gives way
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _one_line(output: Path) -> Iterator[None]:
    """What the disk refuses is the user's to mend."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"--output: {output} cannot be written ({reason}): choose another folder") from None

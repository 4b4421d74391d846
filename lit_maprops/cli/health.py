"""``python -m lit_maprops health``: is this installation complete, and does it train?

Without ``--fit`` it imports nothing heavy, so that a container may be asked once a minute while its run goes on.
"""

import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from time import perf_counter

from packaging.requirements import Requirement

from lit_maprops.cli.parser import Parser
from lit_maprops.run.flags import with_flags
from lit_maprops.system.entry_points import GROUPS, load, package_of, registered, root_of
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.files import home_path

DESCRIPTION = """Check the installed packages against what lit_maprops requires, and that runs can be written, and
name the classes that other packages register. With --fit, also import those, and train two target iterations of a
matrix game in a temporary folder; further options go to that fit, such as --trainer.accelerator gpu. Exit code 0: all
is well; 1: a line on stderr says what is not."""
# Two target iterations of the game of the paper's Figure 1, with behavior updates, an evaluation and a checkpoint.
ENV_STEPS = 16
FIT = (
    f"--data.env MatrixGame --data.target_batch_size 8 --model.behavior MAPROPS --model.learner Reinforce "
    f"--model.num_seeds 2 --model.total_env_steps {ENV_STEPS} --wandb disabled --run_name health"
).split()


def run(args: list[str]) -> int:
    """Check the installation and print one line; returns the exit code.

    Raises:
        ConfigError: the options do not parse, or ask the fit for something that cannot work here.
    """
    parser = Parser("health", DESCRIPTION)
    parser.add_argument("--fit", action="store_true", help="train for a second, too")
    parser.add_argument(
        "--runs_dir", type=home_path, default=Path("runs"), help="where runs are written (default: runs)"
    )
    parsed = parser.parsed_known(args)
    if parsed is None:
        return 0
    options, fit_options = parsed
    check(options.fit or not fit_options, f"{' '.join(fit_options)}: options of a fit need --fit")
    problems = [*wrong_packages(), *unwritable(options.runs_dir), *broken_packages(imports=options.fit)]
    for problem in problems:
        print(f"lit_maprops: health: {problem}", file=sys.stderr)
    if problems:
        return 1
    trained = f"; {_fit(fit_options)}" if options.fit else ""
    others = [f"{name} ({package_of(entry)})" for kind in GROUPS for name, [entry, *_] in registered(kind).items()]
    registered_ones = f"; registered by other packages: {', '.join(others)}" if others else ""
    ours = f"lit_maprops {version('lit_maprops')}"
    print(f"healthy: {ours}, packages as required, runs go to {options.runs_dir}{trained}{registered_ones}")
    return 0


def wrong_packages() -> Iterator[str]:
    """One line per package that is missing or outside the range that lit_maprops requires; extras are not asked for."""
    for requirement in map(Requirement, requires("lit_maprops") or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} is {found}: pip install '{requirement.name}{requirement.specifier}'"


def broken_packages(imports: bool) -> Iterator[str]:
    """One line per class that another package registers and that cannot be used.

    Args:
        imports: import the packages; otherwise it is only asked whether they are there.
    """
    for kind in GROUPS:
        for name, entries in registered(kind).items():
            root = root_of(entries[0].value)
            if imports or len(entries) > 1:
                from lit_maprops.run.option_errors import BASES

                try:
                    load(kind, name, BASES[kind])
                except ConfigError as error:
                    yield with_flags(error.marked)
            elif find_spec(root) is None:
                yield f"--{kind} {name}: {package_of(entries[0])} has no package {root}: install it again"


def unwritable(runs_dir: Path) -> Iterator[str]:
    """One line if no run could be written to ``runs_dir``, which need not exist yet."""
    folder = runs_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    try:
        with TemporaryFile(dir=folder) as file:  # an empty one fits on a full disk
            file.write(bytes(65536))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield f"--runs_dir: {folder} cannot be written by user {os.getuid()} ({error.strerror}): choose another"


def _fit(options: list[str]) -> str:
    """Train in a temporary folder; returns what was done, for the line that is printed.

    Raises:
        ConfigError: the fit refuses ``options``.
        RuntimeError: it ended without the summary of a finished run.
    """
    import torch

    from lit_maprops.cli.fit import run as train
    from lit_maprops.run.option_errors import USER_ERRORS, one_line

    start = perf_counter()
    with TemporaryDirectory() as runs_dir:
        try:
            train(["fit", *FIT, "--runs_dir", runs_dir, *options])
        except USER_ERRORS as error:
            raise ConfigError(one_line(error)) from None
        summary = Path(runs_dir) / "health" / "summary.json"
        if not summary.exists() or json.loads(summary.read_text())["env_steps"] != ENV_STEPS:
            raise RuntimeError(f"the fit left no summary of {ENV_STEPS} env steps in {summary}")
    devices = torch.cuda.device_count()
    return (
        f"{ENV_STEPS} env steps trained in {perf_counter() - start:.1f} s; torch {torch.__version__}, "
        f"CUDA devices: {devices}"
    )

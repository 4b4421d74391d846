"""Where a run that is continued or evaluated is: in the folder of its checkpoint."""

from pathlib import Path

from jsonargparse import Namespace

from lit_maprops.run.option_classes import values_of
from lit_maprops.run.option_files import config_files, run_of
from lit_maprops.system.errors import check


def follow_checkpoint(config: Namespace, words: list[str] | None) -> None:
    """Let ``run_name`` and ``runs_dir`` be those of the checkpoint's folder, whatever the run's config.yaml says.

    A folder may have been renamed or moved since that was written; what the user says must agree with where it is.

    Args:
        config: the options, with a checkpoint; changed.
        words: of the command line; None: the options are those of a call from Python.

    Raises:
        ConfigError: the checkpoint is in no run's folder; the user says something else.
    """
    folder = run_of(config.ckpt_path)
    name, runs_dir = config.run_name, Path(config.runs_dir).resolve()
    said = words is None
    if words is not None:
        others = [path for path in config_files(words) if path.resolve() != folder / "config.yaml"]
        said = bool(others or values_of(words, "--run_name"))
        check(
            runs_dir == folder.parent or not values_of(words, "--runs_dir"),
            f"<runs_dir> is {config.runs_dir} and <ckpt_path> lies in {folder.parent}: leave <runs_dir> out, a run "
            "continues in its own folder",
        )
    check(
        name in (None, folder.name) or not said,
        f"<run_name> is {name} and <ckpt_path> belongs to {folder.name}: leave <run_name> out, a run continues in its "
        "own folder",
    )
    config.run_name = folder.name
    if runs_dir != folder.parent:
        config.runs_dir = str(folder.parent)

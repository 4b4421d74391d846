"""What loggers get of a finished run's files: figures and films as pictures, the page and checkpoints as artifacts."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lit_maprops.run.folder import RunFolder
from lit_maprops.run.kept import link_or_copy
from lit_maprops.run.wandb_options import CHECKPOINTS, REPORT
from lit_maprops.system.files import write_atomically, writing

PageMaker = Callable[[Path], str]  # from a run's folder to the HTML of its report
KINDS = {"png": "figures", "gif": "films"}  # by the end of a file's name


def media_of(folder: RunFolder) -> dict[str, Path]:
    """Names in loggers and paths of a run's figures and films."""
    found = ((f"{kind}/{path.stem}", path) for end, kind in KINDS.items() for path in folder.path.glob(f"*.{end}"))
    return dict(sorted(found))


def log_to_tensorboard(writer: Any, folder: RunFolder, env_steps: int) -> None:
    """Put figures and films among TensorBoard's images, which move there.

    Args:
        writer: torch's ``SummaryWriter``; one of tensorboardX has other messages and is left alone.
        folder: of the run.
        env_steps: per seed.
    """
    if find_spec("tensorboard") is None:
        return
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    for name, path in media_of(folder).items():
        with Image.open(path) as picture:
            width, height = picture.size
        # Encoded as it is: ``add_image`` takes no film, and ``add_video`` wants moviepy to make the same GIF again.
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), env_steps)


def log_artifacts(
    experiment: Any, folder: RunFolder, summary: Mapping[str, Any], wanted: Sequence[str], page: PageMaker | None
) -> None:
    """Give the W&B run the files that its user asked for, of which ``wandb/artifacts`` in the run's folder has a copy.

    ``wandb sync`` looks for them there, whatever becomes of last.ckpt meanwhile.

    Args:
        experiment: the W&B run.
        folder: of the run.
        summary: of the run; its numbers become the artifacts' metadata.
        wanted: see ``WandbOptions.artifacts``.
        page: makes the report.

    Raises:
        ConfigError: the page cannot be made.
        WriteError: the disk is full or gone.
    """
    place, done = folder.path / "wandb" / "artifacts", summary["env_steps"]
    files: dict[str, list[Path]] = {}
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
    if REPORT in wanted and page is not None:
        write_atomically(place / "report.html", page(folder.path))
        files[REPORT] = [place / "report.html"]
    if CHECKPOINTS in wanted:
        files[CHECKPOINTS] = []
        for path in sorted(folder.checkpoint.parent.glob("*.ckpt")):
            copy = place / (path.name if path != folder.checkpoint else f"env_steps_{done}.ckpt")
            with writing(copy):
                copy.unlink(missing_ok=True)
                link_or_copy(path, copy)
            files[CHECKPOINTS].append(copy)
    numbers = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    for kind, paths in files.items():
        _log(experiment, kind, paths, numbers)


def _log(experiment: Any, kind: str, paths: Sequence[Path], numbers: Mapping[str, Any]) -> None:
    import wandb

    types = {REPORT: "report", CHECKPOINTS: "model"}
    artifact = wandb.Artifact(f"{kind}-{experiment.id}", types[kind], metadata=dict(numbers))
    for path in paths:
        artifact.add_file(
            str(path.absolute()), skip_cache=True, policy="immutable"
        )  # no third copy, outside of the folder
    experiment.log_artifact(artifact, aliases=["latest", f"env_steps_{numbers['env_steps']}"])

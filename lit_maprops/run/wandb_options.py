"""What the W&B run of a run is called and sorted by, and which files go with it: ``wandb_*`` of the options."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lit_maprops.system.errors import check, check_choice

MODES = ("online", "offline", "disabled")
REPORT, CHECKPOINTS = "report", "checkpoints"
ARTIFACTS = (REPORT, CHECKPOINTS)
MOST_CHARACTERS, MOST_OF_A_TAG = 128, 64  # W&B takes no more


class WandbOptions(NamedTuple):
    """Of one W&B run.

    Attributes:
        group: runs that W&B shows together.
        job_type: what kind of run it is in its group.
        tags: to find it by.
        artifacts: what goes along as artifacts at its end: ``report``, its page, and ``checkpoints``.
    """

    group: str | None = None
    job_type: str | None = None
    tags: Sequence[str] = ()
    artifacts: Sequence[str] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "WandbOptions":
        """Those of a run's resolved configuration; of earlier versions, which had none, too."""
        given = {name: config.get(f"wandb_{name}") for name in cls._fields}
        return cls(**{name: value for name, value in given.items() if value is not None})

    @property
    def given(self) -> list[str]:
        """Names of the options that are not empty."""
        return [f"wandb_{name}" for name, value in self._asdict().items() if value]

    def check(self) -> None:
        """Refuse what W&B would refuse when the run has its folder.

        Raises:
            ConfigError: names the option.
        """
        for name, text in (("wandb_group", self.group), ("wandb_job_type", self.job_type)):
            fits = text is None or (0 < len(text) <= MOST_CHARACTERS and text.isprintable())
            check(fits, f"<{name}> is {text!r}: give 1 to {MOST_CHARACTERS} printable characters")
        for tag in self.tags:
            fits = 0 < len(tag) <= MOST_OF_A_TAG and tag.isprintable()
            check(fits, f"<wandb_tags> has {tag!r}: give tags of 1 to {MOST_OF_A_TAG} printable characters")
        for name in self.artifacts:
            words = " and ".join(ARTIFACTS)
            check(name in ARTIFACTS, f"<wandb_artifacts> has {name!r}: give a list of {words}, or one of them")


def check_wandb_options(config: Any) -> None:
    """Refuse values that W&B would refuse, and labels of a run that it does not see.

    Args:
        config: options of a run.

    Raises:
        ConfigError: names the option.
    """
    if config.wandb is not None:
        check_choice("wandb", config.wandb, list(MODES))
    options = WandbOptions.of(config)
    options.check()
    off = config.wandb == "disabled" and config.ckpt_path is None  # a continued run's own configuration has them
    named = (options.given or [""])[0]
    check(not (off and named), f"<{named}> is given and <wandb> is disabled: leave one of them out")


def add_wandb_options(parser: Any) -> None:
    """Add the flags."""
    mode = "online, offline or disabled; default: WANDB_MODE, else offline"
    parser.add_argument("--wandb", type=str | None, default=None, help=mode)
    texts = {
        "group": "W&B shows runs of one group together; default: WANDB_RUN_GROUP",
        "job_type": "kind of the W&B run within its group; default: WANDB_JOB_TYPE",
    }
    for name, text in texts.items():
        parser.add_argument(f"--wandb_{name}", type=str | None, default=None, metavar="TEXT", help=text)
    parser.add_argument(
        "--wandb_tags", type=list[str], default=[], metavar="LIST", help="tags of the W&B run; default: WANDB_TAGS"
    )
    parser.add_argument(
        "--wandb_artifacts",
        type=list[str],
        default=[],
        metavar="LIST",
        help="what the W&B run keeps as artifacts: report, the page of the run, and checkpoints",
    )

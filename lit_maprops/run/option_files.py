"""The files that a run's options name, found before all others are parsed: configurations and the checkpoint."""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import yaml

from lit_maprops.run.option_errors import one_line
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.files import home_path, no_checkpoint
from lit_maprops.system.safe_yaml import load_yaml
from lit_maprops.system.shipped import locate, nothing_there


def run_of(checkpoint: str) -> Path:
    """The run folder a checkpoint belongs to: nothing is ever written beside a checkpoint that lies elsewhere."""
    check("\0" not in checkpoint, f"<ckpt_path> is {checkpoint!r}: give a file")
    try:
        path = home_path(checkpoint).resolve()
        found = path.is_file()
    except (OSError, RuntimeError) as error:  # too long a name, links in a circle
        raise ConfigError(f"<ckpt_path>: {getattr(error, 'strerror', None) or error}: give another file") from None
    check(found, no_checkpoint(home_path(checkpoint)))
    run = path.parent.parent
    check(
        path.parent.name == "checkpoints" and (run / "config.yaml").is_file(),
        f"<ckpt_path>: {path} is not in a run folder: give runs/NAME/checkpoints/last.ckpt, with its config.yaml",
    )
    return run


def with_own_config(options: list[str]) -> list[str]:
    """Put the run's own config.yaml in front if a checkpoint is given and no config is."""
    known = _probe(options)
    if known.ckpt_path is None or known.config:
        return options
    return ["--config", str(run_of(known.ckpt_path) / "config.yaml"), *options]


def with_shipped_configs(options: list[str]) -> list[str]:
    """Put the configurations first, so that flags before them win, too; for the name of a shipped one its path.

    Raises:
        ConfigError: a --config has neither a path, nor such a name, nor settings.
    """
    configs: list[str] = []
    others: list[str] = []
    words = iter(options)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag == "--config" and equals:
            configs.append(f"--config={_config(value)}")
        elif word in ("--config", "-c"):
            configs += [word, *(_config(value) for value in islice(words, 1))]
        else:
            others.append(word)
    return [*configs, *others]


def _config(given: str) -> str:
    path = locate("conf", given)
    if path is None and not _is_settings(given):
        raise ConfigError(f"<config>: {nothing_there('conf', given)}")
    return given if path in (None, Path(given)) else str(path)


def _is_settings(given: str) -> bool:
    """Whether a text is meant as keys and values, valid or not."""
    try:
        return "\0" not in given and isinstance(load_yaml(given), dict)
    except yaml.YAMLError:
        return True


def config_files(options: list[str]) -> list[Path]:
    """The files given with --config; settings in place of a path are none."""
    paths = (locate("conf", given) for given in given_configs(options))
    return [path for path in paths if path is not None and path.is_file()]


def given_configs(options: Sequence[str]) -> list[str]:
    """What is given with --config, in order: paths, names of shipped files, or settings."""
    return _probe(options).config


def _probe(options: Sequence[str]) -> argparse.Namespace:
    """The options that name files, before all others are parsed."""
    probe = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    probe.add_argument("--config", "-c", action="append", default=[])
    probe.add_argument("--ckpt_path")
    try:
        return probe.parse_known_args(list(options))[0]
    except argparse.ArgumentError as error:
        raise ConfigError(one_line(error)) from None

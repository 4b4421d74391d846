"""The one parser of every command but fit, validate and test, whose options are Lightning's."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from lit_maprops.system.entry_points import GROUPS
from lit_maprops.system.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Errors become one line, as everywhere in this program, and ``--help`` ends nothing.

    Args:
        command: whose options these are.
        description: what it does.
        epilog: stands at the end of its help.
        program: how it is called.
    """

    def __init__(
        self, command: str, description: str, epilog: str | None = None, program: str = "python -m lit_maprops"
    ) -> None:
        super().__init__(f"{program} {command}", description=description, epilog=epilog, allow_abbrev=False)
        self.command = command

    def add_former(self, former: str, name: str, **kwargs: Any) -> None:
        """Accept ``former``, an option's name of earlier versions, without showing it.

        Args:
            former: with its hyphens.
            name: the option's own, without.
            kwargs: of ``add_argument``, as the option has them.
        """
        self.add_argument(former, dest=name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **kwargs)

    def add_classes(self) -> None:
        """Take what a fit calls a run's classes and its trust, for runs with classes of other packages."""
        for kind in GROUPS:
            text = "import path of the run's own, if it is of a package without entry points"
            self.add_argument(f"--{kind}", metavar="PATH", help=text)
        text = "package whose classes the run's config may name; may be given again"
        self.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=text)

    def parsed(self, args: Sequence[str]) -> argparse.Namespace | None:
        """The options; None if help was asked for, and printed.

        Raises:
            ConfigError: they do not parse.
        """
        try:
            return self.parse_args(args)
        except SystemExit:
            return None

    def parsed_known(self, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]] | None:
        """Like ``parsed``, and whatever this parser does not know."""
        try:
            return self.parse_known_args(args)
        except SystemExit:
            return None

    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage."""
        raise ConfigError(f"{self.command}: {message} (see {self.prog} --help)")


def classes_of(options: argparse.Namespace) -> list[str]:
    """The options of ``Parser.add_classes`` as words of a fit."""
    given = vars(options)
    classes = [f"--{kind}={given[kind]}" for kind in GROUPS if given[kind] is not None]
    return [*classes, *(f"--trust={package}" for package in options.trust)]

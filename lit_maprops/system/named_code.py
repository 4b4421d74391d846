"""Whose code a configuration may name: that of a run folder may be somebody else's, and importing is running.

While such a file is read, import paths are taken from a few packages only. The parser keeps jsonargparse's
import policy; whatever else imports what an argument names asks ``check_named``.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lit_maprops.system.errors import check

_SETTINGS = ("import_path_verdicts", "import_paths_enforced")
_packages: ContextVar[frozenset[str] | None] = ContextVar("packages", default=None)


@contextmanager
def only_of(packages: Iterable[str]) -> Iterator[None]:
    """Inside, import paths that arguments name are refused unless they are of these packages or are given."""
    # Only here: a sampler in somebody's own loop needs no parser. set_parsing_settings adds to a policy and cannot take
    # back; the policy of the program around us must come back.
    from jsonargparse import _common, set_parsing_settings

    token = _packages.set(frozenset(packages))
    before = {name: _common.parsing_settings[name] for name in _SETTINGS}
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=sorted(packages))
    try:
        yield
    finally:
        _common.parsing_settings.update(before)
        _packages.reset(token)


def check_named(argument: str, path: str, also: Iterable[str] = ()) -> None:
    """Refuse to import what a run folder's configuration names.

    Args:
        argument: that has the import path, marked as in ``lit_maprops.system.errors``.
        path: the import path.
        also: further packages that are fine.

    Raises:
        ConfigError: such a file is being read, and the path is of none of its packages.
    """
    packages = _packages.get()
    known = packages is None or path.partition(".")[0] in packages | set(also)
    check(known, refusal(argument, path))


def refusal(argument: str, path: str) -> str:
    """The line for an import path that only a run folder's configuration names."""
    package = path.partition(".")[0]
    fix = "take it out" if package in sys.stdlib_module_names else f"if you trust it, give <trust> {package}"
    return f"{argument} is {path} in the run's config.yaml, and what only that file names is not imported: {fix}"

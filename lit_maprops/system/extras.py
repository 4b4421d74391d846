"""The packages of an extra, and how to get them: no index has lit_maprops itself, under whose name they would come."""

from importlib.metadata import PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement


def install(extra: str) -> str:
    """The command that installs what is missing of an extra, from a clone and from a wheel alike.

    Args:
        extra: of pyproject.toml.
    """
    try:
        declared = [Requirement(text) for text in requires("lit_maprops") or []]
    except PackageNotFoundError:  # on a path, not installed
        declared = []
    of_extra = [r for r in declared if r.marker and r.marker.evaluate({"extra": extra}) and not r.marker.evaluate({})]
    missing = [requirement for requirement in of_extra if not _is_installed(requirement.name)]
    words = " ".join(f"'{requirement.name}{requirement.specifier}'" for requirement in missing or of_extra)
    return f"pip install {words}" if words else f"pip install '.[{extra}]' in the folder of lit_maprops"


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True

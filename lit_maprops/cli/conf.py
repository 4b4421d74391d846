"""``lit-maprops conf [NAME]``: the configurations, presets and sweep files that come with the package."""

from pathlib import Path

from lit_maprops.cli.parser import Parser
from lit_maprops.system.errors import ConfigError, did_you_mean
from lit_maprops.system.shipped import shipped

DESCRIPTION = """List the configurations, presets and sweep files that come with the package, or print one, to be
redirected to a file and edited."""
MOST_CHARACTERS = 90  # of what a file says of itself


def run(args: list[str]) -> int:
    """Print the list, or one file; returns the exit code.

    Raises:
        ConfigError: there is no file of the name.
    """
    parser = Parser("conf", DESCRIPTION, program="lit-maprops")
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of a configuration, a preset or a sweep file")
    options = parser.parsed(args)
    if options is None:
        return 0
    name = options.name
    configurations, presets, sweeps = shipped("conf"), shipped("conf/presets"), shipped("sweeps")
    if name is None:
        print(_listed("configurations, for fit --config NAME:", configurations))
        print(_listed("presets, for fit --config NAME --config PRESET:", presets))
        print(_listed("sweep files, for sweep NAME:", sweeps))
        return 0
    files = configurations | presets | sweeps
    if name not in files:
        raise ConfigError(f"NAME: no shipped file is called {name}{did_you_mean(name, files)}: see lit-maprops conf")
    print(files[name].read_text(encoding="utf-8"), end="")
    return 0


def _listed(title: str, files: dict[str, Path]) -> str:
    width = max(map(len, files), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {_about(path)}" for name, path in files.items())])


def _about(path: Path) -> str:
    """The first sentence of a file's comment, or its beginning."""
    words = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words += line.removeprefix("#").split()
    sentence = " ".join(words).partition(". ")[0]
    return sentence if len(sentence) <= MOST_CHARACTERS else f"{sentence[:MOST_CHARACTERS].rpartition(' ')[0]} ..."

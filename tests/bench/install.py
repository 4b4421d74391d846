"""``python install.py FOLDER ARGS...``: ``pip install ARGS`` in the environment FOLDER, made if it is not there.

By uv, in a tenth of pip's time, from the places that pip is told of; by pip where uv is not to be had, or fails.
"""

import ast
import fcntl
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).parents[2] / "build" / "uv"  # no package is imported: any Python runs this
PIP = ["-m", "pip", "--disable-pip-version-check"]
QUIET = ["install", "--quiet", "--no-compile"]  # what is imported is compiled then; all of it takes a minute
# pip's settings, and uv's words for them.
PLACES = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links"}
VARIABLES = {"cert": "SSL_CERT_FILE", "timeout": "UV_HTTP_TIMEOUT", "default-timeout": "UV_HTTP_TIMEOUT"}


def run(*command: str | Path, env: dict[str, str] | None = None) -> bool:
    """Standard output is left to who asks for a folder."""
    return subprocess.run(command, stdout=sys.stderr, env=env).returncode == 0


def uv() -> Path | None:
    """The program, installed if need be, by one process at a time; None if pip cannot get it."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = HOME / "bin" / "uv"
        if not program.exists():
            venv.create(HOME, with_pip=True)
            run(HOME / "bin" / "python", *PIP, *QUIET, "uv")
        return program if program.exists() else None


def settings(listed: str) -> dict[str, str]:
    """What ``pip config list`` says that holds for ``pip install``: files, then variables."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in found:
            found[section][key] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found[":env:"]


def options(told: dict[str, str]) -> Iterator[str]:
    """The same places for uv, and as by pip the newest version that any of them has."""
    for key, option in PLACES.items():
        for place in told.get(key, "").split():
            yield from (option, place)
    if told.get("no-index", "0").lower() in ("1", "true", "yes", "on"):
        yield "--no-index"
    yield from ("--index-strategy", "unsafe-best-match")


def by_uv(folder: Path, *args: str) -> bool:
    program = uv()
    if program is None:
        return False
    python = HOME / "bin" / "python"
    listed = subprocess.run([python, *PIP, "config", "list"], capture_output=True, text=True).stdout
    told = settings(listed)
    env = {name: told[key] for key, name in VARIABLES.items() if key in told} | os.environ
    quiet = (program, "--quiet", "--no-config")
    places = list(options(told))
    if not (folder / "bin" / "python").exists():
        made = ("venv", "--seed", "--allow-existing", "--python", sys.executable)
        if not run(*quiet, *made, *places, folder, env=env):
            return False
    return run(*quiet, "pip", "install", "--python", folder / "bin" / "python", *places, *args, env=env)


def install(folder: Path, *args: str) -> bool:
    if by_uv(folder, *args):
        return True
    print("by pip, since uv did not do it", file=sys.stderr)
    if not (folder / "bin" / "pip").exists():
        venv.create(folder, with_pip=True)
    return run(folder / "bin" / "python", *PIP, *QUIET, *args)


if __name__ == "__main__":
    sys.exit(not install(Path(sys.argv[1]), *sys.argv[2:]))

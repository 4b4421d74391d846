"""Where packages keep caches and settings when the user's home cannot take them: containers, services, clusters."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Variables that packages ask before they use the home: matplotlib, W&B and its own process, torch's compilers.
FOLDERS = {
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "MPLCONFIGDIR": "matplotlib",
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_CONFIG_DIR": "wandb/config",
    "WANDB_DATA_DIR": "wandb/data",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
}


def spare_home() -> None:
    """Without a home that can be written, name a private temporary folder instead, which goes when the program ends.

    Else each package tries, and says so in lines of its own. Variables that the user has set stay. Call it before
    packages are imported.
    """
    missing = [name for name in FOLDERS if name not in os.environ]
    if not missing or _can_be_written(os.path.expanduser("~")):
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="lit_maprops-"))
        for name in missing:
            place = folder / FOLDERS[name]
            place.mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(place)
    except OSError:
        return  # no temporary files either: packages say what they miss
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _can_be_written(home: str) -> bool:
    """Whether files can be made there; not where it is no path: a user of a container may be a number without one."""
    try:
        with tempfile.TemporaryFile(dir=home):
            return os.path.isabs(home)
    except OSError:
        return False

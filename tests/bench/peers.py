"""Other packages, each in a virtual environment of its own under build/peers, so that none of them is a dependency."""

import shutil
import sys
from pathlib import Path

from install import install

FOLDER = Path(__file__).parents[2] / "build" / "peers"  # no package is imported: any Python runs this
# What is installed, in order; a later line may need what an earlier one brought.
PEERS = {
    "lbforaging": [["lbforaging==2.0.0"]],
    "benchmarl": [["torch==2.13.0"], ["benchmarl==1.5.2", "vmas==1.5.2", "torch==2.13.0"]],
    # Alone, with what its data tools import: it pins a pandas that no newer Python has, and asks for neptune.
    "marl_eval": [["numpy>=2", "colorama>=0.4"], ["--no-deps", "id-marl-eval==0.0.4"]],
    # TorchRL imports it wherever it finds it, which takes a second of every start.
    "ray": [["ray>=2.40,<3"]],
    "jaxmarl": [["jaxmarl==0.2.0", "jax==0.10.2"]],
}


def python_of(peer: str) -> str | None:
    """The interpreter that has the peer, installed if need be; None if it is not to be had."""
    folder = FOLDER / peer
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted attempt left
        if not all(install(folder, *packages) for packages in PEERS[peer]):
            return None
        done.touch()
    return str(python)


if __name__ == "__main__":
    sys.exit(any(python_of(peer) is None for peer in sys.argv[1:]))

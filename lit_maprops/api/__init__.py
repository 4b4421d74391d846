"""A run from Python: ``fit``, ``resume`` and ``load_run``, which the package has under its own name."""

from lit_maprops.api.result import Difference, RunResult
from lit_maprops.api.runs import fit, load_run, resume

__all__ = ["Difference", "RunResult", "fit", "load_run", "resume"]

"""Compare runs on one self-contained page; also in a notebook.

Example:
    >>> from lit_maprops.report import make_report
    >>> report = make_report(["runs"])  # shows itself in a notebook
    >>> report.save("report.html")
"""

from lit_maprops.report.find import LeftOut
from lit_maprops.report.load import Run, load_runs
from lit_maprops.report.page import Report, make_report

__all__ = ["LeftOut", "Report", "Run", "load_runs", "make_report"]

"""A study's page, made of its template."""

import csv
import os
import platform
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import torch

from lit_maprops.system.version import __version__
from studies import ROOT, page_of, table_of, template_of


def software() -> str:
    """What it ran on, in versions."""
    return f"torch {torch.__version__}, lit_maprops {__version__}"


def machine() -> str:
    """Where it ran."""
    return f"{platform.machine()}, one core of {os.cpu_count()} per run, {software()}"


def today() -> str:
    """When something is measured now."""
    return date.today().isoformat()


def measured(study: str) -> str:
    """When the rows of the study's raw tables were entered, by git: a day, or the first and the last one.

    Rows that are not committed are today's, and so is everything where there is no git.
    """
    days = [day for table in sorted(table_of(study).parent.glob("*.csv")) for day in _days_of_rows(table)]
    first, last = min(days, default=today()), max(days, default=today())
    return first if first == last else f"{first} to {last}"


def _days_of_rows(table: Path) -> list[str]:
    words = ["git", "-C", str(ROOT), "blame", "-C", "--line-porcelain", "--", str(table)]
    try:
        found = subprocess.run(words, capture_output=True, text=True)
    except OSError:
        return [today()]
    if found.returncode:
        return [today()]
    times = [int(line.split()[1]) for line in found.stdout.splitlines() if line.startswith("committer-time ")]
    return [datetime.fromtimestamp(time, UTC).date().isoformat() for time in times[1:]]  # the first line is the header


def write_page(study: str, **fields: object) -> None:
    """The study's page from its template; ``fields`` may replace the date or the machine, too."""
    given = {"date": measured(study), "machine": machine()} | fields
    page_of(study).write_text(template_of(study).read_text().format(**given))


def write(study: str, rows: list[dict[str, object]], **fields: object) -> None:
    """The study's raw table, its floats rounded to five digits, and its page."""
    with table_of(study).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_page(study, **fields)

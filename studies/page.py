"""A study's page, made of its template."""

import csv
import os
import platform
import subprocess
from datetime import date

import torch

from studies import ROOT, page_of, table_of, template_of


def machine() -> str:
    """Where it ran."""
    return f"{platform.machine()}, one core of {os.cpu_count()} per run, torch {torch.__version__}"


def today() -> str:
    """When something is measured now."""
    return date.today().isoformat()


def last_measured(study: str) -> str:
    """When the study's raw tables changed last, by git; today where they are not committed, or there is no git."""
    tables = ["--", *map(str, table_of(study).parent.glob("*.csv"))]
    try:
        changed, committed = (
            subprocess.run(["git", "-C", str(ROOT), *words, *tables], capture_output=True, text=True)
            for words in (["status", "--porcelain"], ["log", "-1", "--format=%cs"])
        )
    except OSError:
        return today()
    return today() if changed.returncode or changed.stdout else committed.stdout.strip() or today()


def write_page(study: str, **fields: object) -> None:
    """The study's page from its template; ``fields`` may replace the date or the machine, too."""
    given = {"date": last_measured(study), "machine": machine()} | fields
    page_of(study).write_text(template_of(study).read_text().format(**given))


def write(study: str, rows: list[dict[str, object]], **fields: object) -> None:
    """The study's raw table, its floats rounded to five digits, and its page."""
    write_page(study, **{"date": today()} | fields)
    with table_of(study).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)

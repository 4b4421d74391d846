"""A study's page, made of its template."""

import csv
import os
import platform
from datetime import date

import torch

from studies import page_of, table_of, template_of


def machine() -> str:
    """Where it ran."""
    return f"{platform.machine()}, one core of {os.cpu_count()} per run, torch {torch.__version__}"


def today() -> str:
    """When it was written."""
    return date.today().isoformat()


def write_page(study: str, **fields: object) -> None:
    """The study's page from its template; ``fields`` may replace the date or the machine, too."""
    page_of(study).write_text(template_of(study).read_text().format(**{"date": today(), "machine": machine()} | fields))


def write(study: str, rows: list[dict[str, object]], **fields: object) -> None:
    """The study's raw table, its floats rounded to five digits, and its page."""
    write_page(study, **fields)
    with table_of(study).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)

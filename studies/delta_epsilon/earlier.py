"""The grid of three deltas and three epsilons that was measured before, on run seed 61 with 64 seeds a cell."""

import csv

from studies import table_of
from studies.cells import points, share_of

TABLE = table_of("delta_epsilon").with_name("earlier.csv")
SOLVED, ERROR = "solved", ("joint_tv", "joint_tv_on_policy")


def earlier_rows() -> str:
    """Solved seeds and the sampling error over training of BoulderPush, a line per cell."""
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["| setting | solved | difference to on-policy, points | joint TV, mean of training |", "|---|---|---|---|"]
    base, *_ = rows
    for row in rows:
        solved, seeds = int(row[SOLVED]), int(row["seeds"])
        name, change = "on-policy", ""
        if row is not base:
            name = f"delta {float(row['delta']):g}, epsilon {float(row['epsilon']):g}"
            change = points(solved, seeds, int(base[SOLVED]), int(base["seeds"]))
        own, on_policy = (float(row[key]) for key in ERROR)
        share = f"{share_of(solved, seeds)} of {seeds}"
        lines.append(f"| {name} | {share} | {change} | {own:.3f} / {on_policy:.3f} |")
    return "\n".join(lines)

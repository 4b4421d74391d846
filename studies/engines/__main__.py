"""Measures docs/evidence/engines.md: the same runs by torch and by the compiled kernels, solved seeds and seconds."""

import json

from lit_maprops.metrics.reliability import wilson_interval
from studies.cells import difference
from studies.page import write
from studies.runs import PARTS, Outcome, Run, complete, outcome

RUN_SEED = 501
ENGINES = ("torch", "native")
BOULDERPUSH = "conf/boulderpush_reliability.yaml"
ON_POLICY = ("--model.behavior", "OnPolicy")
CASES = {  # a configuration and flags
    "figure1, OnPolicy": ("conf/matrix_game.yaml", ON_POLICY),
    "figure1, MAPROPS": ("conf/matrix_game.yaml", ()),
    "three agents, OnPolicy": ("conf/coordination.yaml", ON_POLICY),
    "three agents, MAPROPS": ("conf/coordination.yaml", ()),
    "BoulderPush, MAPPO, OnPolicy": (BOULDERPUSH, ON_POLICY),
    "BoulderPush, IPPO, OnPolicy": (BOULDERPUSH, (*ON_POLICY, "--model.learner", "IPPO")),
}


def run_of(name: str, engine: str) -> Run:
    """A case by an engine."""
    config, flags = CASES[name]
    return Run("engines", f"{name}, {engine}", config, [*flags, "--model.engine", engine], RUN_SEED)


def measured(name: str, rows: list[dict[str, object]]) -> str:
    """A line of the page; the runs are made here, one engine after the other."""
    found: dict[str, Outcome] = {}
    shares, seconds = [], []
    for engine in ENGINES:
        run = run_of(name, engine)
        complete([run], workers=1)
        summary = json.loads((run.folder / "summary.json").read_text())
        found[engine] = one = outcome([run], fields=())
        seconds.append(sum(one.means[f"time/{part}"] for part in PARTS))
        low, high = wilson_interval(one.solved, one.seeds)
        shares.append(f"{one.solved / one.seeds:.0%} [{low:.0%}, {high:.0%}] of {one.seeds}")
        ran = "+".join(part for part, how in summary["engine"].items() if how == "native")
        rows.append({"case": name, "engine": engine, "kernels": ran, "seeds": one.seeds, "solved": one.solved})
        rows[-1] |= {"low": low, "high": high, "seconds": seconds[-1]}
    a, b = (found[engine] for engine in ENGINES)
    cells = [
        name,
        *shares,
        difference(b, a),
        f"{seconds[0]:.0f}",
        f"{seconds[1]:.1f}",
        f"{seconds[0] / seconds[1]:.1f}",
    ]
    line = "| " + " | ".join(cells) + " |"
    print(line, flush=True)
    return line


def main() -> None:
    """Measure what is missing and write engines.md and engines.csv."""
    rows: list[dict[str, object]] = []
    lines = [
        "| runs | solved, torch | solved, native | difference, points | torch, s | native, s | torch / native |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [measured(name, rows) for name in CASES]
    write("engines", rows, run_seed=RUN_SEED, runs="\n".join(lines))


if __name__ == "__main__":
    main()

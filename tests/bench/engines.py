"""The engines against each other: one iteration of the same fit in torch and by the compiled kernels, in turn."""

import sys

from figures import hand_over, in_turn, ratio, row
from fits import OPTION, RELIABILITY, ROUNDS, iteration

SHORT = ["--model.sampling_error", "null"]
CASES = {  # flags, and what issue 16 asked of native against the program before it
    "boulderpush_reliability.yaml, OnPolicy": ([*RELIABILITY, "--model.behavior", "OnPolicy"], "8 or more"),
    "boulderpush_reliability.yaml, MAPROPS": (RELIABILITY, "4 or more"),
    "boulderpush_reliability.yaml, MAPROPS, merge_states": (
        [*RELIABILITY, f"{OPTION}merge_states", "true"],
        "6 or more",
    ),
    "boulderpush.yaml": (["conf/boulderpush.yaml", "--model.total_env_steps", "2048", *SHORT], "5 or more"),
    "foraging.yaml": (["conf/foraging.yaml", "--model.total_env_steps", "2048", *SHORT], "5 or more"),
    "matrix_game.yaml, 200 seeds": (["conf/matrix_game.yaml", "--model.total_env_steps", "160", *SHORT], "5 or more"),
}


def engines() -> list[dict[str, str | float]]:
    """Time of an iteration by engine, and their ratio."""
    rows = []
    for name, (flags, bar) in CASES.items():
        cases = {
            engine: lambda engine=engine, flags=flags: iteration(*flags, "--model.engine", engine)[0]
            for engine in ("torch", "native")
        }
        t = in_turn(cases, ROUNDS)
        rows += [row(f"{name}: {engine}, one iteration", t[engine], "s") for engine in cases]
        rows.append(ratio(f"{name}: torch / native", t["torch"], t["native"], bar))
    return rows


if __name__ == "__main__":
    sys.exit(hand_over(engines()))

"""The engines against each other and against the program before there were kernels: iterations of one fit, in turn."""

import subprocess
import sys
from pathlib import Path

from figures import ROOT, hand_over, in_turn, ratio, row
from fits import OPTION, RELIABILITY, iteration

ROUNDS = 2  # of three programs
BEFORE = "906a27e"  # the last commit without kernels
BEFORE_MASKS = "5f538ec"  # the last one without masks that depend on the state, agents that leave and memory
PLAIN_ROUNDS = 5  # of two programs, which differ by little
SHORT = ["--model.sampling_error", "null"]
BOULDERPUSH = ["conf/boulderpush.yaml", "--model.total_env_steps", "2048", *SHORT]
Bars = tuple[str, str]
CASES: dict[str, tuple[list[str], Bars]] = {  # flags, and what was asked for: before / native, before / torch
    "boulderpush_reliability.yaml, OnPolicy": (
        [*RELIABILITY, "--model.behavior", "OnPolicy"],
        ("8 or more", "1.7 or more"),
    ),
    "boulderpush_reliability.yaml, MAPROPS": (RELIABILITY, ("4 or more", "")),
    "boulderpush_reliability.yaml, MAPROPS, merge_states": (
        [*RELIABILITY, f"{OPTION}merge_states", "true"],
        ("6 or more", ""),
    ),
    "boulderpush.yaml": (BOULDERPUSH, ("5 or more", "1.5 or more")),
    "foraging.yaml": (["conf/foraging.yaml", "--model.total_env_steps", "2048", *SHORT], ("5 or more", "")),
    "matrix_game.yaml, 200 seeds": (
        ["conf/matrix_game.yaml", "--model.total_env_steps", "160", *SHORT],
        ("5 or more", ""),
    ),
}


def before(commit: str = BEFORE) -> Path:
    """A working tree of a commit."""
    tree = ROOT / "build" / (f"before_{commit}" if commit != BEFORE else "before")
    if not tree.exists():
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True)
    return tree


def plain() -> list[dict[str, str | float]]:
    """Runs without masks, leavers and memory, beside those of before there were any."""
    old, rows = before(BEFORE_MASKS), []
    names = ("boulderpush.yaml", "foraging.yaml", "matrix_game.yaml, 200 seeds")
    cases = {name: CASES[name][0] for name in names}
    cases["boulderpush_reliability.yaml, OnPolicy"] = CASES["boulderpush_reliability.yaml, OnPolicy"][0]
    for name, flags in cases.items():
        calls = {
            "today": lambda flags=flags: iteration(*flags)[0],
            "before": lambda flags=flags: iteration(*flags, root=old)[0],
        }
        t = in_turn(calls, PLAIN_ROUNDS)
        rows.append(ratio(f"{name}: today / before masks and memory", t["today"], t["before"], "1.03 or less"))
    return rows


def engines() -> list[dict[str, str | float]]:
    """Time of an iteration by engine, and ratios to the program of before."""
    old, rows = before(), []
    for name, (flags, bars) in CASES.items():
        cases = {"before": lambda flags=flags: iteration(*flags, root=old)[0]} | {
            engine: lambda engine=engine, flags=flags: iteration(*flags, "--model.engine", engine)[0]
            for engine in ("native", "torch")
        }
        t = in_turn(cases, ROUNDS)
        rows += [row(f"{name}: {case}, one iteration", t[case], "s") for case in cases]
        rows += [
            ratio(f"{name}: before / {engine}", t["before"], t[engine], bar)
            for engine, bar in zip(("native", "torch"), bars, strict=True)
        ]
    return rows


def happo() -> list[dict[str, str | float]]:
    """HAPPO by engine, and beside MAPPO with a policy per agent, too: on-policy, so that the updates are most of it."""
    flags = [*BOULDERPUSH, "--model.behavior", "OnPolicy", "--model.learner.share_parameters", "false"]
    cases = {
        f"{learner}, {engine}": lambda learner=learner, engine=engine: iteration(
            *flags, "--model.learner", learner, "--model.engine", engine
        )[0]
        for learner, engine in (("HAPPO", "native"), ("HAPPO", "torch"), ("MAPPO", "native"))
    }
    t, name = in_turn(cases, ROUNDS), "boulderpush.yaml, OnPolicy, policies not shared"
    rows = [row(f"{name}: {case}, one iteration", t[case], "s") for case in t]
    rows.append(ratio(f"{name}: HAPPO torch / native", t["HAPPO, torch"], t["HAPPO, native"]))
    return [*rows, ratio(f"{name}: HAPPO / MAPPO, native", t["HAPPO, native"], t["MAPPO, native"])]


def cores() -> list[dict[str, str | float]]:
    """The same iteration on one core and on two."""
    cases = {n: lambda n=n: iteration(*BOULDERPUSH, threads=n)[0] for n in (1, 2)}
    t = in_turn({str(n): case for n, case in cases.items()}, ROUNDS)
    rows = [row(f"boulderpush.yaml: {n} cores, one iteration", t[n], "s") for n in t]
    return [*rows, ratio("boulderpush.yaml: one core / two", t["1"], t["2"], "1.7 or more")]


if __name__ == "__main__":
    parts = {"engines": engines, "plain": plain, "happo": happo, "cores": cores}
    for part in sys.argv[1:] or parts:
        hand_over(parts[part]())

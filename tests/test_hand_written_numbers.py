"""Numbers that were written by hand into the evidence's templates are those of the raw tables, with their intervals."""

import csv
import math
from collections.abc import Callable
from itertools import product

import pytest
from conftest import ROOT
from scipy.stats import fisher_exact, t

EVIDENCE = ROOT / "docs" / "evidence"
PAGES = sorted(path for path in EVIDENCE.glob("*.md") if path.stem != "drill")  # whose verdicts are in its parts
Row = dict[str, str]
Count = tuple[int, int]  # solved, seeds


def rows(study: str, table: str | None = None, **wanted: str) -> list[Row]:
    with (ROOT / "studies" / study / f"{table or study}.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]


def count(study: str, table: str | None = None, **wanted: str) -> Count:
    found = rows(study, table, **wanted)
    assert found, wanted
    return sum(int(row["solved"]) for row in found), sum(int(row["seeds"]) for row in found)


def wilson(solved: int, seeds: int) -> tuple[float, float]:
    z, share = 1.959964, solved / seeds
    middle, reach = share + z * z / 2 / seeds, z * math.sqrt(share * (1 - share) / seeds + (z / 2 / seeds) ** 2)
    return (middle - reach) / (1 + z * z / seeds), (middle + reach) / (1 + z * z / seeds)


def points(own: Count, base: Count) -> tuple[float, float, float]:
    """Newcombe's method 10, written down again."""
    a, b = own[0] / own[1], base[0] / base[1]
    (low_a, high_a), (low_b, high_b) = wilson(*own), wilson(*base)
    below, above = math.hypot(a - low_a, high_b - b), math.hypot(high_a - a, b - low_b)
    return 100 * (a - b), 100 * (a - b - below), 100 * (a - b + above)


def games(sampler: str, n: str, numbers: list[int]) -> Count:
    found = [count("all_games", game=f"no_conflict_{k}", sampler=sampler, n=n) for k in numbers]
    return sum(solved for solved, _ in found), sum(seeds for _, seeds in found)


def game(name: str, sampler: str) -> Count:
    return count("all_games", game=name, sampler=sampler, n="8")


CHANCE = [5, 7, 10]
OTHERS = sorted({*range(1, 22)} - {*CHANCE})


def matrix(sampler: str, experiment: str, n: str) -> Count:
    return count("matrix_games", experiment=experiment, sampler=sampler, n=n)


def agreed(sampler: str, game: str, n: str) -> Count:
    return count("centralization", game=game, n=n, sampler=sampler)


def training(sampler: str, setting: str | None = None) -> Count:
    """Of the six settings of matrix games, or one of them."""
    six = [f"{game}, n = {n}" for game in ("figure1", "3 agents", "3x3") for n in (8, 32)]
    names = [setting] if setting else six
    found = [count("cutoffs", part="training", setting=name, sampler=sampler) for name in names]
    return sum(solved for solved, _ in found), sum(seeds for _, seeds in found)


def staged(sampler: str, team: str) -> Count:
    found = [r for r in rows("many_agents_states", part="compared", sampler=sampler) if r["setting"].startswith(team)]
    return sum(int(r["solved"]) for r in found), sum(int(r["seeds"]) for r in found)


def tasks(task: str, learner: str, sampler: str) -> Count:
    found = rows("tasks", task=task, learner=learner, sampler=sampler)
    last = max(float(row["env_steps"]) for row in found)
    shares = [float(row["greedy_success_rate"]) for row in found if float(row["env_steps"]) == last]
    return sum(share >= 0.8 for share in shares), len(shares)


def sight(cells: str, policies: str) -> Count:
    return count("partial_sight", part=f"sight {cells}", setting=policies)


def batches(sampler: str, n: str | None = None, m: str = "1") -> Count:
    """With one n, or with all of them together."""
    sizes = [n] if n else ["128", "256", "512"]
    found = [count("batch_sizes", part=f"n = {size}", setting=f"m = {m}", sampler=sampler) for size in sizes]
    return sum(solved for solved, _ in found), sum(seeds for _, seeds in found)


def compared(sampler: str, setting: str, seed: str) -> Count:
    return count("samplers", part="compared", setting=setting, sampler=sampler, **{"run seed": seed})


def learned(learner: str, sampler: str, task: str = "BoulderPush") -> Count:
    return count("learners", part=f"{task}, fresh", setting=learner, sampler=sampler)


def reached(sampler: str) -> Count:
    """SparseReacher on all fresh seeds."""
    parts = ("SparseReacher, fresh", "SparseReacher, more")
    found = [count("continuous_tasks", part=part, sampler=sampler) for part in parts]
    return sum(solved for solved, _ in found), sum(seeds for _, seeds in found)


def older(sampler: str, history: str) -> Count:
    return count("history", task="BoulderPush, fresh seeds", sampler=sampler, history=history)


def random_start(game: str, sampler: str, others: bool = False) -> Count:
    """Of the seeds that the expected gradient solves, or of the others, too."""
    (row,) = rows("random_policies", game=game, sampler=sampler, n="8")
    solved = int(row["solved of them"])
    return (
        (solved + int(row["solved of the others"]), int(row["seeds"]))
        if others
        else (solved, int(row["ascent solves"]))
    )


def tie_starts(sampler: str) -> Count:
    return random_start("no_conflict_5", sampler, others=True)


def spelled(own: Count, base: Count, digits: int = 0, away: bool = False) -> str:
    """Points with their interval as prose has them: ``away`` counts what is fewer."""
    value, low, high = points(base, own) if away else points(own, base)
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]".replace("-0 ", "0 ")


def told_after_correction(method: str) -> str:
    """Cells of centralization.csv with a sampler's weak or strong updates ahead of on-policy sampling, after Holm."""
    games = sorted({(row["game"], row["n"]) for row in rows("centralization")})
    samplers = {row["sampler"] for row in rows("centralization")} - {"OnPolicy"}
    tests = []
    for sampler, cell in product(sorted(samplers), games):
        (a, runs), (b, _) = agreed(sampler, *cell), agreed("OnPolicy", *cell)
        p = fisher_exact([[a, runs - a], [b, runs - b]]).pvalue
        tests.append((float(p), sampler.startswith(f"{method},") and a > b))
    left, found = len(tests), 0
    for p, counts in sorted(tests):
        if p * left >= 0.05:
            break
        left, found = left - 1, found + counts
    return f"{method} in {found} of {2 * len(games)}"


def test_what_is_told_of_centralization_after_correction_is_on_its_page() -> None:
    page = " ".join((EVIDENCE / "centralization.md").read_text().split())
    assert f"({told_after_correction('MAPROPS')}, {told_after_correction('PROPS')})" in page


def worse_gradients() -> str:
    base = {(row["size"], row["n"]): float(row["gradient error"]) for row in rows("continuous", sampler="OnPolicy")}
    tuned = rows("continuous", **{"tuned by": "energy"})
    return f"{sum(float(r['gradient error']) > base[r['size'], r['n']] for r in tuned)} of {len(tuned)} cases"


def error_ratios(update: str) -> list[float]:
    """Root mean square of both critics' errors to that of the true advantages, means over on-policy seeds."""
    found = []
    for learner in ("IPPO", "MAPPO"):
        seeds = rows("advantages", learner=learner, sampler="OnPolicy", update=update)
        for critic in ("rmse IPPO", "rmse MAPPO"):
            found.append(sum(float(r[critic]) for r in seeds) / sum(float(r["true_rms"]) for r in seeds))
    return found


def over_games(sampler: str, n: str = "8") -> tuple[str, str]:
    """Of random starts of the no-conflict games: the mean over games of the difference in solved shares."""

    def shares(name: str) -> dict[str, float]:
        found = [r for r in rows("random_policies", sampler=name, n=n) if r["game"] != "figure1"]
        return {r["game"]: (int(r["solved of them"]) + int(r["solved of the others"])) / int(r["seeds"]) for r in found}

    own, base = shares(sampler), shares("OnPolicy")
    change = [100 * (own[game] - base[game]) for game in own]
    mean = sum(change) / len(change)
    spread = math.sqrt(sum((x - mean) ** 2 for x in change) / (len(change) - 1) / len(change))
    reach = t.ppf(0.975, len(change) - 1) * spread
    return "random_policies", f"+{mean:.1f} [{mean - reach:.1f}, {mean + reach:.1f}]"


def moments() -> list[float]:
    """What keeping Adam's moments does to MA-PROPS' error, strong updates of uniform policies."""
    uniform = [r for r in rows("matrix_games") if "uniform" in r["experiment"] and r["joint_tv"]]
    own = {(r["sampler"], r["n"]): float(r["joint_tv"]) for r in uniform}
    names = ("MA-PROPS, strong, moments kept", "MA-PROPS, strong updates")
    return [own[names[0], n] / own[names[1], n] for n in ("8", "16", "32", "64")]


def benchmarl(seeds: int) -> float:
    (row,) = [r for r in rows("speed") if r["figure"].endswith(f"64-64: ours, {seeds} seeds / BenchMARL")]
    return float(row["median"])


def pair(study: str, own: Count, base: Count, digits: int = 0, away: bool = False) -> tuple[str, str]:
    return study, spelled(own, base, digits, away)


LONGER = ", 409600 env steps"
STRONG, FOUR = ", strong updates", ("4 agents x 2 actions", "8")
CASES: list[Callable[[], tuple[str, str]]] = [
    lambda: pair("all_games", games("MA-PROPS", "8", CHANCE), games("on-policy", "8", CHANCE)),
    lambda: pair("all_games", games("MA-PROPS", "16", CHANCE), games("on-policy", "16", CHANCE)),
    lambda: pair("all_games", games("PROPS", "8", CHANCE), games("on-policy", "8", CHANCE)),
    lambda: pair("all_games", games("PROPS", "16", CHANCE), games("on-policy", "16", CHANCE)),
    lambda: pair("all_games", games("PROPS", "8", OTHERS), games("on-policy", "8", OTHERS), 1, away=True),
    lambda: pair("all_games", games("PROPS", "8", [3]), games("on-policy", "8", [3])),
    lambda: pair("all_games", games("PROPS", "8", [11]), games("on-policy", "8", [11])),
    lambda: pair("all_games", game("figure1", "MA-PROPS"), game("figure1", "on-policy")),
    lambda: pair("all_games", game("stag", "MA-PROPS"), game("stag", "on-policy")),
    lambda: pair("matrix_games", matrix("MA-PROPS", "figure1", "8"), matrix("on-policy", "figure1", "8")),
    lambda: pair("cutoffs", training("closed form, **auto**"), training("closed form, delta 0.3"), 1),
    lambda: pair("cutoffs", training("PROPS, **auto**"), training("PROPS, delta 1"), 1, away=True),
    lambda: pair("many_agents_states", staged("Autoregressive", "4"), staged("OnPolicy", "4")),
    lambda: pair("many_agents_states", staged("CoordinationGraph", "4"), staged("OnPolicy", "4")),
    lambda: pair("many_agents_states", staged("PROPS", "8"), staged("CoordinationGraph", "8"), away=True),
    lambda: pair("tasks", tasks("Foraging", "MAPPO", "OnPolicy"), tasks("Foraging", "IPPO", "OnPolicy")),
    lambda: pair("tasks", tasks("StagedGame", "HAPPO", "LowDiscrepancy"), tasks("StagedGame", "HAPPO", "OnPolicy")),
    lambda: pair("partial_sight", sight(f"1 cell{LONGER}", "GRU"), sight(f"1 cell{LONGER}", "feed-forward")),
    lambda: pair("partial_sight", sight("1 cell", "GRU"), sight("1 cell", "feed-forward")),
    lambda: pair("partial_sight", sight("2 cells", "GRU"), sight("2 cells", "feed-forward")),
    lambda: pair("batch_sizes", batches("OnPolicy", "512"), batches("OnPolicy", "128")),
    lambda: pair("batch_sizes", batches("TabularMAPROPS", m="8"), batches("TabularMAPROPS", m="1")),
    lambda: pair("samplers", compared("TabularMAPROPS", "IPPO", "42"), compared("MAPROPS", "IPPO", "42")),
    lambda: pair("learners", learned("IPPO", "LowDiscrepancy"), learned("MAPPO", "LowDiscrepancy")),
    lambda: pair("learners", learned("IPPO", "TabularMAPROPS"), learned("MAPPO", "TabularMAPROPS")),
    lambda: pair("random_policies", random_start("figure1", "PROPS"), random_start("figure1", "OnPolicy")),
    lambda: pair("random_policies", tie_starts("PROPS"), tie_starts("OnPolicy")),
    lambda: pair("centralization", agreed("MAPROPS" + STRONG, *FOUR), agreed("PROPS" + STRONG, *FOUR), away=True),
    lambda: pair("continuous_tasks", reached("PROPS"), reached("OnPolicy")),
    lambda: pair("continuous_tasks", reached("GaussianAdjustment"), reached("OnPolicy")),
    lambda: pair("history", older("TabularMAPROPS", "b = 2"), older("TabularMAPROPS", "b = 1")),
    lambda: pair("history", older("TabularMAPROPS", "b = 4"), older("TabularMAPROPS", "b = 1")),
    lambda: pair("history", older("TabularMAPROPS", "b = 1"), older("OnPolicy", "b = 1")),
    lambda: over_games("MAPROPS"),
    lambda: over_games("PROPS"),
    lambda: ("continuous", worse_gradients()),
    lambda: (
        "advantages",
        "{:.0f} to {:.0f} times the true advantages in updates 1 and 3 and {:.0f} to {:.0f} times in update 8".format(
            *(f(r) for r in (error_ratios("1") + error_ratios("3"), error_ratios("8")) for f in (min, max))
        ),
    ),
    lambda: ("matrix_games", f"{min(moments()):.1f} to {max(moments()):.1f} times as much with strong ones"),
    lambda: ("speed", f"{benchmarl(1):.1f} times as fast with one seed and {benchmarl(16):.0f} times with 16"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_number_in_prose_is_that_of_the_table(case: int) -> None:
    study, told = CASES[case]()
    for path in (EVIDENCE / f"{study}.md", ROOT / "studies" / study / "template.md"):
        assert told in " ".join(path.read_text().split()).replace(" points [", " ["), (path, told)


@pytest.mark.parametrize("page", [path.stem for path in PAGES])
def test_a_page_begins_with_what_was_found(page: str) -> None:
    """Not with how it was measured, which comes after."""
    _, first, *_ = (EVIDENCE / f"{page}.md").read_text().split("\n\n")
    assert "Measured by" not in first and "Written by" not in first and any(character.isdigit() for character in first)


def test_gains_are_against_on_policy_sampling_on_the_same_seeds() -> None:
    """MAPROPS has one of the five run seeds that samplers.md has of on-policy sampling with MAPPO."""
    said = (EVIDENCE / "advantages.md").read_text()
    own, base = compared("MAPROPS", "MAPPO", "41"), compared("OnPolicy", "MAPPO", "41")
    assert "| samplers.md | MAPROPS |" not in said
    row = "| samplers.md, run seeds 41, 42 | MAPROPS | 128 and 128 | +12 [+0, +23] | {:+.0f} [{:+.0f}, {:+.0f}] |"
    assert row.format(*points(own, base)) in said


def misses(value: float, bar: str, side: str) -> bool:
    return value < float(bar) if side == "more" else value > float(bar)


def test_the_speed_page_counts_the_bars_it_misses() -> None:
    asked = [row for row in rows("speed") if row["asked"]]
    missed = [row for row in asked if misses(float(row["median"]), *row["asked"].split(" or "))]
    first = (EVIDENCE / "speed.md").read_text().split("\n\n")[1]
    assert f"{len(asked) - len(missed)} of the {len(asked)} bars" in first
    assert all(row["figure"] in first for row in missed)

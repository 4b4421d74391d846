"""Time and memory of updates, and sampling error, from 2 to 20 agents; cases in turn, in this process."""

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.behavior.update.row_trainer import RowTrainer
from lit_maprops.behavior.update.table_trainer import TableTrainer
from lit_maprops.collect import update_keys
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import Coordination
from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.memory import keep_freed_memory
from lit_maprops.targets import IPPO
from studies import picture_of
from studies.many_agents.fixed import FITTED_SEEDS, errors, fixed, policies, tuned
from studies.many_agents.samplers import AGENTS, COMPARED, N_ACTIONS, RUN_SEED, SCALED, SIZES, Rows, Setting, kept

NEAR_UNIFORM = 0.3
TEAMS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20)
SCALED_N, SCALED_SEEDS = 32, 64
LARGEST_TABLE = 100_000  # joint actions: MAPROPS' own limit
FEW_SEEDS = 8  # for MAPROPS from 15,625 joint actions on, and wherever time is measured
ROUNDS = 7
NEVER = 1e9  # a KL cutoff that stops no update, so that all make the same number of gradient steps
STYLES = {  # Okabe and Ito's colors, which the color-blind tell apart
    "PROPS": ("#e69f00", "s"),
    "MAPROPS": ("#d55e00", "^"),
    "Autoregressive": ("#0072b2", "o"),
    "CoordinationGraph": ("#009e73", "D"),
    "target update": ("#000000", "x"),
}


def filled(name: str, n_agents: int, n: int, hidden: list[int], seeds: int) -> LitMAPROPS:
    """A model whose D is full, collected on-policy; updates make all of their 8 gradient steps, the target's 4."""
    adjusted: dict[str, Any] = {"clip_epsilon": 1.0, "kl_cutoff": NEVER, "epochs": 8, "learning_rate": 1e-3}
    learner = IPPO(learning_rate=1e-3, clip_value=0.2, epochs=4, minibatches=1, hidden=hidden)
    made: Callable[..., BehaviorPolicy] = BEHAVIORS[name]
    model = LitMAPROPS(made(hidden=hidden, **adjusted), learner, seeds, total_env_steps=n, run_seed=RUN_SEED)
    model.prepare(MultiAgentData(Coordination(n_agents, N_ACTIONS, partial=True), 1, 1, n))
    model.on_fit_start()
    while not model.buffer.is_full:
        batch = model.collection.collect()
        model.buffer.extend(batch)
        model.behavior.extend(batch.select(*update_keys(model.task)).flatten(1, 2))
    return model


def seconds(call: Callable[[], object]) -> float:
    """Of one call; several where it is short."""
    started, calls = perf_counter(), 0
    while not calls or perf_counter() - started < 0.05:
        call()
        calls += 1
    return (perf_counter() - started) / calls


def times(n_agents: int, n: int, hidden: list[int], seeds: int, names: tuple[str, ...]) -> dict[str, list[float]]:
    """Seconds of an update on the same size of D, cases in turn, ``ROUNDS`` of them."""
    models = {name: filled(name, n_agents, n, hidden, seeds) for name in names}
    target = next(iter(models.values()))
    cases: dict[str, Callable[[], object]] = {
        name: partial(model.behavior.update, measure=False) for name, model in models.items()
    }
    cases["target update"] = lambda: target.learner.update(target.buffer)
    for case in cases.values():
        case()
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            found[name].append(seconds(case))
    return found


def bytes_of(name: str, n_agents: int) -> dict[str, int]:
    """One seed, D of ``SCALED_N`` steps: parameters with Adam's moments, what the policy keeps of D, peak beyond."""
    behavior = filled(name, n_agents, SCALED_N, [], 1).behavior
    assert isinstance(behavior, AdjustedPolicy)
    trainer = behavior.delta_trainer
    assert isinstance(trainer, (RowTrainer, TableTrainer))
    parameters = 3 * behavior.net.flat.numel() * behavior.net.flat.element_size()
    parts = [part if isinstance(part, tuple) else (part,) for part in trainer.store.samples() if part is not None]
    d = sum(tensor.numel() * tensor.element_size() for part in parts for tensor in part)
    behavior.update(measure=False)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        behavior.update(measure=False)
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    peak = int(np.cumsum([0, *(event.nbytes() for event in events)]).max())
    return {"parameter_bytes": parameters, "d_bytes": d, "peak_bytes": peak}


RATIO_CASES = [(n, hidden) for n in SIZES for hidden in ([], [64, 64])]


def cost(run_missing: bool, rows: Rows) -> str:
    """A behavior update against the target update on the same D, 10 agents, 64 seeds."""
    lines = []
    for n, hidden in RATIO_CASES:
        width = "-".join(map(str, hidden)) or "none"
        found = kept(f"times {n} {width}", run_missing, partial(times, AGENTS, n, hidden, 64, COMPARED))
        for name in COMPARED:
            ratios = np.divide(found[name], found["target update"])
            low, middle, high = np.percentile(ratios, [0, 50, 100])
            milliseconds = 1e3 * float(np.median(found[name]))
            lines.append(f"| {n} | {width} | {name} | {middle:.2f} [{low:.2f}, {high:.2f}] | {milliseconds:.1f} |")
            rows.append({"part": "behavior update / target update", "setting": f"hidden layers {width}", "n": n})
            rows[-1] |= {"sampler": name, "seeds": 64, "agents": AGENTS, "ratio": middle, "low": low, "high": high}
            rows[-1] |= {"update_ms": milliseconds}
    return "\n".join(lines)


# 2 to 20 agents


def can(name: str, n_agents: int) -> bool:
    """Whether the sampler takes so many agents."""
    return name != "MAPROPS" or N_ACTIONS**n_agents <= LARGEST_TABLE


def scaled(chosen: dict[str, Setting], run_missing: bool, rows: Rows) -> dict[str, dict[int, dict[str, Any]]]:
    """Per sampler and number of agents: time, bytes, pairwise TV own / on-policy."""
    result: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in (*SCALED, "target update")}
    for team in TEAMS:
        names = tuple(name for name in SCALED if can(name, team))
        spent = kept(
            f"times {team} agents",
            run_missing,
            partial(times, team, SCALED_N, [], FEW_SEEDS, names),
        )
        policy = policies(NEAR_UNIFORM, team, SCALED_SEEDS, RUN_SEED)

        def error_of(name: str, team: int = team, policy: Tensor = policy) -> dict[str, list]:
            return errors(name, chosen.get(name), policy[: error_seeds(name, team)], SCALED_N, RUN_SEED, False)

        error = {
            name: np.array(kept(f"error {team} agents {name}", run_missing, partial(error_of, name))["pairwise_tv"])
            for name in ("OnPolicy", *names)
        }
        for name, found in spent.items():
            entry: dict[str, Any] = {"update_ms": 1e3 * np.array(found) / FEW_SEEDS}
            row: dict[str, object] = {"part": "scaling", "sampler": name, "agents": team, "n": SCALED_N}
            row |= {"update_ms": float(np.median(entry["update_ms"]))}
            if name in SCALED:
                entry |= kept(f"bytes {team} agents {name}", run_missing, partial(bytes_of, name, team))
                own, base = error[name], error["OnPolicy"][: len(error[name])].mean()
                entry["ratio"] = (own.mean() / base, *(float(end[0]) / base for end in mean_interval(own[None])))
                row |= {f: entry[f] for f in ("parameter_bytes", "d_bytes", "peak_bytes")} | {"seeds": len(own)}
                row |= {"pairwise_tv": own.mean(), "pairwise_tv_on_policy": base}
                row |= dict(zip(("ratio", "low", "high"), entry["ratio"], strict=True))
            result[name][team] = entry
            rows.append(row)
    return result


def error_seeds(name: str, team: int) -> int:
    """How many seeds the error is measured on."""
    return FEW_SEEDS if name == "MAPROPS" and N_ACTIONS**team > 10_000 else SCALED_SEEDS


def scaling_table(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Some of the figure in numbers."""
    lines = []
    for name in SCALED:
        for team, entry in found[name].items():
            base = np.array(found["target update"][team]["update_ms"])
            to_target = np.median(entry["update_ms"] / base)
            kib = [entry[f] / 1024 for f in ("parameter_bytes", "d_bytes", "peak_bytes")]
            ratio, low, high = entry["ratio"]
            lines.append(
                f"| {name} | {team} | {np.median(entry['update_ms']):.2f} | {to_target:.2f} "
                f"| {' | '.join(f'{k:,.0f}' for k in kib)} | {ratio:.2f} [{low:.2f}, {high:.2f}] |"
            )
    return "\n".join(lines)


def draw(found: dict[str, dict[int, dict[str, Any]]]) -> None:
    """many_agents.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    time, memory, error = figure.subplots(1, 3)
    for name, (color, marker) in STYLES.items():
        teams, entries = list(found[name]), list(found[name].values())
        style = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.5, "label": name}
        if name == "target update":
            style |= {"linestyle": ":", "label": "target update (IPPO)"}
        time.plot(teams, [np.median(e["update_ms"]) for e in entries], **style)
        ends = [[e["update_ms"].min() for e in entries], [e["update_ms"].max() for e in entries]]
        time.fill_between(teams, *ends, color=color, alpha=0.15, linewidth=0)
        if name in SCALED:
            total = [e["parameter_bytes"] + e["d_bytes"] + e["peak_bytes"] for e in entries]
            memory.plot(teams, [t / 1024 for t in total], **style)
            middle, low, high = (np.array(ends) for ends in zip(*(e["ratio"] for e in entries), strict=True))
            error.errorbar(teams, middle, [middle - low, high - middle], capsize=2, **style)
    error.axhline(1, color="black", linewidth=1, linestyle="--")
    error.text(20, 1.01, "on-policy", ha="right", va="bottom", fontsize=9)
    last = max(found["MAPROPS"])
    refused = f"MAPROPS ends:\n{N_ACTIONS ** (last + 1):,} joint\nactions of\n{last + 1} agents\nare refused"
    time.annotate(refused, (last, np.median(found["MAPROPS"][last]["update_ms"])), (last + 0.7, 60), fontsize=9)
    time.set(yscale="log", ylabel="ms per update and seed", title=f"Time of one update on D = {SCALED_N} steps")
    memory.set(yscale="log", ylabel="KiB per seed", title="Memory: parameters, Adam, D, activations")
    error.set(ylabel="pairwise TV / on-policy's", title=f"Sampling error, {SCALED_N} samples", ylim=(0, None))
    for axes in (time, memory, error):
        axes.set_xlabel(f"agents, {N_ACTIONS} actions each")
        axes.set_xticks([2, 4, 6, 8, 10, 12, 16, 20])
        axes.grid(alpha=0.25)
    figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES), frameon=False)
    figure.savefig(picture_of("many_agents"))


def sections(run_missing: bool, rows: Rows) -> dict[str, str]:
    """Parts of the page; draws the figure."""
    keep_freed_memory()  # as the command line does
    tuning, chosen = tuned(run_missing, rows)
    parts = {"fixed_tuning": tuning, "fixed": fixed(chosen, run_missing, rows), "cost": cost(run_missing, rows)}
    found = scaled(chosen, run_missing, rows)
    draw(found)
    sizes = {
        "fitted_few": str(FITTED_SEEDS),
        "rounds": str(ROUNDS),
        "few_seeds": str(FEW_SEEDS),
        "fixed_seed": str(RUN_SEED),
        "n_scaled": str(SCALED_N),
    }
    return parts | {"scaling": scaling_table(found)} | sizes

"""What studies/many_agents measures in its own process: sampling error at fixed policies, times in turn, bytes."""

import json
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.collect import update_keys
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import Coordination
from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.metrics.sampling_error import likelihood_error, tabular_error
from lit_maprops.module import LitMAPROPS
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.files import write_json
from lit_maprops.system.memory import keep_freed_memory
from lit_maprops.targets import IPPO
from studies import ROOT, picture_of

Setting = tuple[float, float]  # learning rate, KL cutoff (nats)
Rows = list[dict[str, object]]

COMPARED = ("PROPS", "Autoregressive", "CoordinationGraph")
GRID: list[Setting] = [(rate, cutoff) for rate in (0.02, 0.1, 0.5) for cutoff in (0.3, 3.0)]
# A gradient over a table of joint actions is spread thin, so MA-PROPS gets larger steps; as many settings.
GRIDS = dict.fromkeys(COMPARED, GRID) | {"MAPROPS": [(25 * rate, cutoff) for rate, cutoff in GRID]}
TUNING_SEED, RUN_SEED = 3000, 73
N_ACTIONS, AGENTS = 5, 10
OTHER_GRAPHS = ("CoordinationGraph, tree", "CoordinationGraph, star")  # with the chain's settings, n = 32 only
# Spread of the policies' logits: a standard normal times this.
POLICIES = {"uniform": 0.0, "random": 1.0, "peaked": 3.0}
SIZES = {32: 64, 128: 32}  # n: seeds
FITTED_SEEDS = 16  # of them, the first, for the joint KL, whose fits take most of the time
NEAR_UNIFORM = 0.3
TEAMS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20)
SCALED = ("PROPS", "Autoregressive", "CoordinationGraph", "MAPROPS")
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


def setting_name(setting: Setting) -> str:
    """For tables and folders."""
    return f"rate {setting[0]:g}, delta {setting[1]:g}"


def kept(name: str, run_missing: bool, measure: Callable[[], Any]) -> Any:
    """What ``measure`` gave when it was first called; it is not called again."""
    path = ROOT / "runs" / "many_agents" / f"{name}.json"
    if not path.exists():
        if not run_missing:
            raise SystemExit(f"{path} is missing: run without --page")
        print("many_agents", name, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measure())
    return json.loads(path.read_text())


def sampler_of(name: str, setting: Setting | None) -> BehaviorPolicy:
    """A behavior policy with the configuration's epsilon and epochs, linear in its inputs."""
    kind, _, edges = name.partition(", ")
    if setting is None:
        return BEHAVIORS[kind]()
    options: dict[str, Any] = {"clip_epsilon": 1.0, "epochs": 8, "hidden": []} | ({"edges": edges} if edges else {})
    return BEHAVIORS[kind](learning_rate=setting[0], kl_cutoff=setting[1], **options)


# sampling error at fixed policies


def policies(spread: float, n_agents: int, seeds: int, draw_seed: int) -> Tensor:
    """log pi_theta_i of every seed, ``[R, A, N]`` (nats)."""
    draw = torch.Generator().manual_seed(draw_seed)
    return (spread * torch.randn(seeds, n_agents, N_ACTIONS, generator=draw)).log_softmax(-1)


def collected(behavior: BehaviorPolicy, policy: Tensor, n: int, run_seed: int) -> TensorDictBase:
    """n samples from a fixed policy ``[R, A, N]``, m = 1: D, ``[R, n]``."""
    seeds, n_agents, _ = policy.shape
    behavior.build(Coordination(n_agents, N_ACTIONS, partial=True), run_seed, list(range(seeds)))
    behavior.reset(None)
    logits = policy.unsqueeze(1)
    step = TensorDict(
        {
            keys.OBSERVATION: torch.ones(seeds, 1, n_agents, 1),
            keys.STATE: torch.ones(seeds, 1, 1),
            keys.STATE_INDEX: torch.zeros(seeds, 1, 1, dtype=torch.int64),
            keys.PARAMETERS: logits,
        },
        [seeds, 1],
    )
    rows: list[TensorDictBase] = []
    for _ in range(n):
        if rows:
            behavior.extend(rows[-1])
            behavior.update(measure=False)
        rows.append(step.clone().set(keys.ACTION, behavior.choose(step, logits).action))
    return torch.cat(rows, 1)


def errors(name: str, setting: Setting | None, policy: Tensor, n: int, run_seed: int, fit: bool) -> dict[str, list]:
    """Pairwise total variation, and joint KL if it is to be fitted, of every seed."""
    data = collected(sampler_of(name, setting), policy, n, run_seed)
    streams = SeedStreams(run_seed, list(range(len(policy))), "sampling error")
    found = tabular_error(data, streams)
    result = {"pairwise_tv": found.get("pairwise_tv", found["joint_tv"]).tolist()}  # of two agents the pair is all
    if fit:
        few = SeedStreams(run_seed, list(range(FITTED_SEEDS)), "sampling error")
        result["joint_kl"] = likelihood_error(data[:FITTED_SEEDS], few, [])["joint_kl"].tolist()
    return result


def tune(name: str, n_agents: int) -> dict[str, float]:
    """Mean pairwise TV of every setting on the tuning seeds, uniform and random policies."""
    drawn = [policies(POLICIES[kind], n_agents, 32, TUNING_SEED) for kind in ("uniform", "random")]

    def error(setting: Setting) -> float:
        return float(np.mean([errors(name, setting, p, 32, TUNING_SEED, False)["pairwise_tv"] for p in drawn]))

    return {setting_name(setting): error(setting) for setting in GRIDS[name]}


def tuned(run_missing: bool, rows: Rows) -> tuple[str, dict[str, Setting]]:
    """Table of the tuning, and every sampler's setting: that with the least error."""
    lines, chosen = [], {}
    for name in SCALED:
        n_agents = 4 if name == "MAPROPS" else AGENTS
        found = kept(f"fixed tuning {name}", run_missing, lambda name=name, a=n_agents: tune(name, a))
        taken = min(found, key=found.__getitem__)
        chosen[name] = next(setting for setting in GRIDS[name] if setting_name(setting) == taken)
        for setting, error in found.items():
            lines.append(f"| {name} | {n_agents} | {setting}{' (taken)' if setting == taken else ''} | {error:.4f} |")
            rows.append({"part": "tuning at fixed policies", "setting": setting, "sampler": name, "seeds": 32})
            rows[-1] |= {"agents": n_agents, "n": 32, "pairwise_tv": error}
    return "\n".join(lines), chosen


def interval(values: NDArray[np.floating], digits: int = 4) -> str:
    """Mean over seeds with its 95% interval."""
    low, high = mean_interval(values[None])
    return f"{values.mean():.{digits}f} [{low[0]:.{digits}f}, {high[0]:.{digits}f}]"


def fixed(chosen: dict[str, Setting], run_missing: bool, rows: Rows) -> str:
    """Sampling error of equal data at fixed policies, and its paired differences to on-policy and to PROPS."""
    lines = []
    for n, seeds in SIZES.items():
        for kind, spread in POLICIES.items():
            policy = policies(spread, AGENTS, seeds, RUN_SEED)
            found = {
                name: kept(
                    f"fixed {kind} {n} {name}",
                    run_missing,
                    lambda name=name, policy=policy, n=n: errors(
                        name, chosen.get(name.split(",")[0]), policy, n, RUN_SEED, True
                    ),
                )
                for name in ("OnPolicy", *COMPARED, *(OTHER_GRAPHS if n == 32 else ()))
            }
            for name, figures in found.items():
                cells = []
                for figure in ("pairwise_tv", "joint_kl"):
                    own = np.array(figures[figure])
                    cells.append(interval(own))
                    for base in ("OnPolicy", "PROPS"):
                        trivial = name in (base, "OnPolicy")
                        cells.append("" if trivial else interval(own - np.array(found[base][figure])))
                lines.append(f"| {n} | {kind} | {name} | {' | '.join(cells)} |")
                rows.append({"part": f"fixed {kind}", "sampler": name, "seeds": seeds, "agents": AGENTS, "n": n})
                rows[-1] |= {figure: float(np.mean(values)) for figure, values in figures.items()}
                on_policy = {f"{f}_on_policy": float(np.mean(v)) for f, v in found["OnPolicy"].items()}
                rows[-1] |= on_policy
    return "\n".join(lines)


# time and memory


def filled(name: str, n_agents: int, n: int, hidden: list[int], seeds: int) -> LitMAPROPS:
    """A model whose D is full, collected on-policy; updates make all of their 8 gradient steps, the target's 4."""
    adjusted = {"clip_epsilon": 1.0, "kl_cutoff": NEVER, "epochs": 8, "learning_rate": 1e-3, "hidden": hidden}
    learner = IPPO(learning_rate=1e-3, epochs=4, minibatches=1, hidden=hidden)
    model = LitMAPROPS(BEHAVIORS[name](**adjusted), learner, seeds, total_env_steps=n, run_seed=RUN_SEED)
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
        name: (lambda model=model: model.behavior.update(measure=False)) for name, model in models.items()
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
    parameters = 3 * behavior.net.flat.numel() * behavior.net.flat.element_size()
    parts = [part if isinstance(part, tuple) else (part,) for part in behavior.delta_trainer.store.samples()]
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
        found = kept(
            f"times {n} {width}", run_missing, lambda n=n, hidden=hidden: times(AGENTS, n, hidden, 64, COMPARED)
        )
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
            lambda team=team, names=names: times(team, SCALED_N, [], FEW_SEEDS, names),
        )
        policy = policies(NEAR_UNIFORM, team, SCALED_SEEDS, RUN_SEED)
        error = {
            name: np.array(
                kept(
                    f"error {team} agents {name}",
                    run_missing,
                    lambda name=name, team=team, policy=policy: errors(
                        name, chosen.get(name), policy[: error_seeds(name, team)], SCALED_N, RUN_SEED, False
                    ),
                )["pairwise_tv"]
            )
            for name in ("OnPolicy", *names)
        }
        for name, found in spent.items():
            entry: dict[str, Any] = {"update_ms": 1e3 * np.array(found) / FEW_SEEDS}
            row: dict[str, object] = {"part": "scaling", "sampler": name, "agents": team, "n": SCALED_N}
            row |= {"update_ms": float(np.median(entry["update_ms"]))}
            if name in SCALED:
                entry |= kept(f"bytes {team} agents {name}", run_missing, lambda n=name, t=team: bytes_of(n, t))
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

"""The behavior update: against plain eager torch.nn + Adam, and against the matrix products it cannot do without."""

from collections.abc import Callable

import torch
from figures import hand_over, in_turn, ratio, row, seconds
from torch import Tensor, nn

from lit_maprops.behavior.update import fused
from lit_maprops.behavior.update.minibatches import minibatches_of
from lit_maprops.behavior.update.samples import SampleStore
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.memory import keep_freed_memory

ROUNDS = 5
HIDDEN = 64
# The PROPS authors' sizes: CartPole, D = 2048, 16 epochs of 4 minibatches.
AUTHORS = {"rows": 2048, "inputs": 4, "actions": 2, "epochs": 16, "parts": 4}
# boulderpush_reliability.yaml: D grows from 1 to 255 in an iteration.
SIZES, EXACT = range(3, 256, 12), {"inputs": 34, "actions": 16, "epochs": 4}


def plain_eager(rows: int, inputs: int, actions: int, epochs: int, parts: int) -> Callable[[], None]:
    """One seed's update as one would write it first."""
    net = nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, actions)
    )
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    states, taken = torch.randn(rows, inputs), torch.randint(actions, (rows,))
    log_target = torch.randn(rows, actions).log_softmax(-1)

    def update() -> None:
        for _ in range(epochs):
            for index in torch.randperm(rows).tensor_split(parts):
                target = log_target[index]
                log_phi = (target + net(states[index])).log_softmax(-1)
                kl = (target.exp() * (target - log_phi)).sum(-1).mean()
                if kl > 1e9:
                    break
                log_ratio = (log_phi - target).gather(1, taken[index].unsqueeze(1))
                r = log_ratio.exp()
                loss = torch.maximum(r, r.clamp(0.7, 1.3)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return update


def ours(
    seeds: int, rows: int, inputs: int, actions: int, epochs: int, parts: int = 1, compiled: bool = False
) -> Callable[[], None]:
    """The update of ``seeds`` seeds; no KL stop, so that all do the same work."""
    streams = SeedStreams(0, list(range(seeds)), "bench")
    net = StackedMLP(inputs, [HIDDEN, HIDDEN], actions, (seeds,), 0.0, streams.generators)
    optimizer = SeedAdam(net.parameters(), 1e-3, (seeds,), lockstep=True)
    store = SampleStore()
    target = torch.randn(seeds, rows, actions).softmax(-1)
    store.append(torch.randn(seeds, rows, inputs), target, torch.randint(actions, (seeds, rows)))

    def update() -> None:
        net.zero_output()
        optimizer.reset_state()
        size = fused.padded_rows(rows // parts) if compiled else 0
        samples = store.samples(size if parts == 1 else 0)
        minibatches = minibatches_of(streams, rows, epochs, parts, size=size)
        fused.update_behavior(
            net, optimizer, samples, minibatches, 0.3, 1e9, from_zero=True, measure=False, compiled=compiled
        )

    return update


def products(seeds: int, rows: int, inputs: int, actions: int) -> tuple[list[Callable[[], Tensor]], list[float]]:
    """The matrix products of one gradient step, alone and into memory at hand, and their operations.

    First the three that the first step of an update needs (hidden layers forward, gradient of the last), then the rest.
    """
    x, h = torch.randn(seeds, rows, inputs), torch.randn(seeds, rows, HIDDEN)
    first, middle = torch.randn(seeds, HIDDEN, inputs), torch.randn(seeds, HIDDEN, HIDDEN)
    last, delta = torch.randn(seeds, actions, HIDDEN), torch.randn(seeds, actions, rows)
    into = [torch.empty(seeds, *s) for s in ((rows, HIDDEN), (actions, HIDDEN), (actions, rows), (HIDDEN, HIDDEN))]
    wide = torch.empty(seeds, inputs, HIDDEN)
    calls = [
        lambda: torch.bmm(x, first.mT, out=into[0]),
        lambda: torch.bmm(h, middle.mT, out=into[0]),
        lambda: torch.bmm(delta, h, out=into[1]),
        lambda: torch.bmm(last, h.mT, out=into[2]),
        lambda: torch.bmm(delta.mT, last, out=into[0]),
        lambda: torch.bmm(h.mT, h, out=into[3]),
        lambda: torch.bmm(h, middle, out=into[0]),
        lambda: torch.bmm(x.mT, h, out=wide),
    ]
    per_row = [inputs, HIDDEN, actions, actions, actions, HIDDEN, HIDDEN, inputs]
    return calls, [2.0 * seeds * rows * HIDDEN * size for size in per_row]


def product_seconds(seeds: int, rows: int, inputs: int, actions: int, epochs: int, parts: int = 1) -> float:
    """Time of all products of an update (s)."""
    calls, _ = products(seeds, rows // parts, inputs, actions)
    times = [seconds(call, 0.02) for call in calls]
    return sum(times) * (epochs * parts - 1) + sum(times[:3])


def operations(seeds: int, rows: int, inputs: int, actions: int, epochs: int, parts: int = 1) -> float:
    """Floating-point operations of those products."""
    _, counts = products(1, 1, inputs, actions)
    return seeds * (rows // parts) * (sum(counts) * (epochs * parts - 1) + sum(counts[:3]))


def authors_sizes() -> list[dict[str, str | float]]:
    """Per gradient step and seed, at the PROPS authors' sizes."""
    steps = AUTHORS["epochs"] * AUTHORS["parts"]
    eager = plain_eager(**AUTHORS)
    cases: dict[str, Callable[[], float]] = {"eager": lambda: seconds(eager, 0.3) / steps}
    for seeds in (1, 32):
        for compiled in (False, True):
            update = ours(seeds, **AUTHORS, compiled=compiled)
            update()
            cases[f"{seeds} {compiled}"] = lambda update=update, seeds=seeds: seconds(update, 0.3) / steps / seeds
        cases[f"products {seeds}"] = lambda seeds=seeds: product_seconds(seeds, **AUTHORS) / steps / seeds
    t = in_turn(cases, ROUNDS)
    rows = [row("authors' sizes: plain eager torch.nn + Adam, one gradient step", np_micro(t["eager"]), "us")]
    for seeds, bar in ((1, "3"), (32, "4")):
        for compiled, how in ((False, ""), (True, ", compile: true")):
            mine = t[f"{seeds} {compiled}"]
            rows.append(row(f"authors' sizes: ours, {seeds} seeds{how}, one step, per seed", np_micro(mine), "us"))
            rows.append(ratio(f"authors' sizes: eager / ours, {seeds} seeds{how}", t["eager"], mine, f"{bar} or more"))
    for how, key in (("", "32 False"), (", compile: true", "32 True")):
        name = f"authors' sizes: share of the products' peak, 32 seeds{how}"
        rows.append(ratio(name, t["products 32"], t[key], "0.4 or more"))
    return rows


def exact_way() -> list[dict[str, str | float]]:
    """One iteration of the reliability configuration: m = 1, D from 1 to 255, 64 seeds, every epoch, no KL stop."""
    updates = {rows: ours(64, rows, **EXACT) for rows in SIZES}
    compiled = {rows: ours(64, rows, **EXACT, compiled=True) for rows in SIZES}
    for update in compiled.values():
        update()
    cases = {
        "ours": lambda: sum(seconds(update, 0.0) for update in updates.values()),
        "compiled": lambda: sum(seconds(update, 0.0) for update in compiled.values()),
        "products": lambda: sum(product_seconds(64, rows, **EXACT) for rows in SIZES),
    }
    t = in_turn(cases, ROUNDS)
    done = sum(operations(64, rows, **EXACT) for rows in SIZES)
    return [
        row("exact way: peak of its matrix products", [done / s / 1e9 for s in t["products"]], "GFLOP/s"),
        row("exact way: reached by the whole update", [done / s / 1e9 for s in t["ours"]], "GFLOP/s"),
        ratio("exact way: share of the products' peak", t["products"], t["ours"], "0.5 or more"),
        ratio("exact way: share of the products' peak, compile: true", t["products"], t["compiled"], "0.5 or more"),
    ]


def np_micro(values: list[float]) -> list[float]:
    """Microseconds."""
    return [1e6 * value for value in values]


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command line does; plain eager profits, too
    hand_over(authors_sizes() + exact_way())

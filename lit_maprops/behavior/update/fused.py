"""Algorithm 2 as it runs: the arithmetic of ``lit_maprops.behavior.algorithm2``, with its gradient written out.

What makes it fast, by what it saves (docs/evidence/speed.md has the figures):

- no autograd graph: passes through tanh networks are ``lit_maprops.stacked.mlp``'s, Delta's gradient is written out
  here (networks of other kinds go through torch's own layers, ``lit_maprops.stacked.layers``);
- the first step of an update starts from Delta = 0, where only the last layer has a gradient: one forward pass of the
  hidden layers and two products of the last one are all it needs;
- one exponential per action gives ratio, pi_phi and KL alike;
- parameters, gradient and moments of all layers are one tensor each;
- on the CPU entries go through the update in groups whose activations stay in the cache, and leave when they stop;
  an accelerator is not asked who stops: all go on to the end, and those that stopped are put back.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_maprops.behavior.update.minibatches import Minibatch
from lit_maprops.behavior.update.objective import excess, gradient_of_delta, weights_and_kl
from lit_maprops.behavior.update.samples import PackedSamples, Samples
from lit_maprops.behavior.update.systematic import scale_to
from lit_maprops.stacked.nets import DeltaNet, LayeredNet
from lit_maprops.stacked.optimizer import AdamSettings, SeedAdam, adam_
from lit_maprops.stacked.passes import MLPPasses, Passes

MINIBATCHES_AT_ONCE = 4  # gradient steps of one compiled graph
LARGEST = 60.0  # Delta beyond it counts as this much: so far that no KL cutoff allows it, exp of it still finite


class Settings(NamedTuple):
    """What is fixed during an update."""

    passes: Passes  # through the layers that are trained
    clip_epsilon: float
    kl_cutoff: float  # nats
    from_zero: bool  # the last layer starts at zero
    count_steps: bool  # all entries have made the same number of Adam steps
    adam: AdamSettings


class Trained(NamedTuple):
    """Parameters under training and their Adam moments ``[G, P]``; step counts ``[G]``."""

    flat: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps_taken: Tensor


@torch.no_grad()
def update_behavior(
    net: DeltaNet,
    optimizer: SeedAdam,
    samples: Samples,
    minibatches: Sequence[Minibatch | None],
    clip_epsilon: float,
    kl_cutoff: float,
    last_layer: bool = False,
    from_zero: bool = False,
    measure: bool = True,
    compiled: bool = False,
    steps: Callable[..., tuple[Tensor, ...]] | None = None,
) -> dict[str, Tensor]:
    """As ``lit_maprops.behavior.algorithm2.update_behavior``, and

    Args:
        net: see there.
        optimizer: see there.
        samples: see there.
        minibatches: see there.
        clip_epsilon: see there.
        kl_cutoff: see there.
        last_layer: see there.
        from_zero: Delta is zero; if by its last layer, the first step has no gradient elsewhere.
        measure: also return ``kl`` and ``ratio_clipped``, which take another forward pass.
        compiled: run the gradient steps through torch.compile; not with ``wanted``.
        steps: ``masked_update``, as it is or recorded, for accelerators; None: ``train``.
    """
    passes: Passes = net.passes
    if last_layer:
        assert isinstance(net, LayeredNet)  # ``EnumeratedPolicy`` refuses others
        passes = MLPPasses(net.last)
    count_steps = optimizer.lockstep and not compiled and not last_layer
    settings = Settings(passes, clip_epsilon, kl_cutoff, from_zero, count_steps, optimizer.settings)
    trained = trained_of(net, optimizer, passes.last_size if last_layer else None)
    if steps is not None:
        drawn = [tensor for minibatch in minibatches if minibatch is not None for tensor in minibatch]
        made, active, *measured = steps([*samples[:4], *drawn], trained, settings, len(minibatches), measure)
        stats = statistics(made, active) | dict(zip(("kl", "ratio_clipped"), measured, strict=False))
        return {name: value.unflatten(0, net.stack) for name, value in stats.items()}
    results = []
    rows = max(samples.inputs.shape[1] if part is None else part.rows.shape[1] for part in minibatches)
    for group in passes.groups(len(samples.inputs), rows, trained.flat.device):
        entries, part = Trained(*(t[group] for t in trained)), samples.entries(group)
        own = [minibatch and minibatch.of(group) for minibatch in minibatches]
        gradient_steps, active = (_train_compiled if compiled else train)(entries, part, own, settings)
        if part.wanted is not None:
            _scale_back(entries.flat, part, settings)
        stats = statistics(gradient_steps, active)
        results.append(stats | (_measured(entries.flat, part, settings) if measure else {}))
    return {name: torch.cat([r[name] for r in results]).unflatten(0, net.stack) for name in results[0]}


def statistics(gradient_steps: Tensor, active: Tensor) -> dict[str, Tensor]:
    """What an update says of itself, from the gradient steps made and who went on to the end, ``[G]`` each."""
    return {
        "gradient_steps": gradient_steps,
        "cutoff_hit": ~active,
        "first_step_cutoff": ~active & (gradient_steps <= 1),
    }


def train(
    trained: Trained, samples: Samples, minibatches: Sequence[Minibatch | None], settings: Settings
) -> tuple[Tensor, Tensor]:
    """Take the gradient steps of all entries, in place.

    Entries that stop leave the arithmetic: the others go on in copies, which are put back at the end.

    Returns:
        Gradient steps made and whether the entry went on to the end, both ``[G]``.
    """
    alive = torch.arange(len(trained.flat), device=trained.flat.device)
    gradient_steps = torch.full_like(alive, len(minibatches))
    now, layers = trained, settings.passes.layers(trained.flat)
    own = samples if minibatches[0] is None or samples.wanted is not None else samples.packed()
    for step, chosen in enumerate(minibatches):
        part = own.take(chosen if chosen is None or now is trained else chosen.of(alive))
        x, delta = delta_of(settings.passes, layers, part.inputs)
        weight, total, kl = weights_and_kl(delta, part)
        going = kl <= settings.kl_cutoff
        if part.wanted is not None:
            going = excess(delta, weight, total, part) <= 0
        if not bool(going.all()):
            kept = going.nonzero().flatten()
            put_back(trained, now, alive)
            gradient_steps[alive[~going]] = step
            alive = alive[kept]
            if not len(alive):
                break
            now, own, part = Trained(*(t[kept] for t in now)), own.entries(kept), part.entries(kept)
            x, weight, total = [part.inputs, *(t[kept] for t in x[1:])], weight[kept], total[kept]
            layers = settings.passes.layers(now.flat)
        grad = gradient_of_delta(weight, total, part, settings.clip_epsilon)
        grad = settings.passes.backward(layers, x, grad, settings.from_zero and step == 0)
        adam_(now.flat, grad, *now[1:], None, step if settings.count_steps else None, settings.adam)
    else:
        put_back(trained, now, alive)
    return gradient_steps, torch.zeros_like(gradient_steps, dtype=torch.bool).index_fill_(0, alive, True)


def put_back(trained: Trained, now: Trained, alive: Tensor) -> None:
    """Write ``now``, copies of the entries ``alive``, back to where they came from."""
    if now is not trained:
        for tensor, part in zip(trained, now, strict=True):
            tensor[alive] = part


def _train_compiled(
    trained: Trained, samples: Samples, minibatches: Sequence[Minibatch | None], settings: Settings
) -> tuple[Tensor, Tensor]:
    """``masked_steps``: one graph per shape.

    Minibatches are short, so several share a graph; with all of D in every step, a stop is more likely.
    """
    active = torch.ones(len(trained.flat), dtype=torch.bool, device=trained.flat.device)
    gradient_steps = torch.zeros_like(active, dtype=torch.int64)
    steps = _compiled_steps(trained.flat.is_cuda)
    if trained.flat.is_cuda:
        for tensor in trained:  # views of the network's and the optimizer's own memory: a CUDA graph may write to it
            torch._dynamo.mark_static_address(tensor, guard=False)
    at_once = 1 if minibatches[0] is None else MINIBATCHES_AT_ONCE
    own = samples if minibatches[0] is None else samples.packed()
    for first in range(0, len(minibatches), at_once):
        chosen = list(minibatches[first : first + at_once])
        active, made = steps(trained, own, chosen, active, settings.from_zero and first == 0, settings)
        gradient_steps += made
        if not bool(active.any()):
            break
    return gradient_steps, active


def masked_steps(
    trained: Trained,
    samples: Samples | PackedSamples,
    minibatches: list[Minibatch | None],
    active: Tensor,
    from_zero: bool,
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    """``train`` with all entries in every step, those that are not ``active`` ``[G]`` masked: it asks no questions.

    Args:
        trained: see ``train``; changed in place.
        samples: see ``train``.
        minibatches: those of some gradient steps.
        active: entries that have not stopped before.
        from_zero: the first of them starts from Delta = 0.
        settings: see ``train``.

    Returns:
        Which entries have still not stopped, and gradient steps made, both ``[G]``.
    """
    layers = settings.passes.layers(trained.flat)
    made = torch.zeros_like(active, dtype=torch.int64)
    for step, chosen in enumerate(minibatches):
        part = samples.take(chosen)
        x, delta = delta_of(settings.passes, layers, part.inputs)
        weight, total, kl = weights_and_kl(delta, part)
        active = active & (kl <= settings.kl_cutoff)
        made = made + active
        grad = gradient_of_delta(weight, total, part, settings.clip_epsilon)
        grad = settings.passes.backward(layers, x, grad, from_zero and step == 0)
        count = step if settings.count_steps else None
        adam_(trained.flat, grad, *trained[1:], active, count, settings.adam)
    return active, made


def masked_update(
    given: Sequence[Tensor], held: Sequence[Tensor], settings: Settings, steps: int, measure: bool
) -> tuple[Tensor, ...]:
    """A whole update of all entries without a question to the device, for ``Graphed``.

    Args:
        given: ``Samples``, then rows and weights of every minibatch; none of these: every step takes all of D.
        held: ``Trained``.
        settings: of the update.
        steps: gradient steps, for those that do not stop.
        measure: see ``update_behavior``.

    Returns:
        Gradient steps made, whether the entry went on to the end, and what is measured: KL and share clipped, ``[G]``.
    """
    samples, trained = Samples(*given[:4]), Trained(*held)
    drawn = map(Minibatch, given[4::2], given[5::2])
    minibatches: list[Minibatch | None] = [*drawn] or [None] * steps
    own = samples if minibatches[0] is None else samples.packed()
    active = torch.ones(len(trained.flat), dtype=torch.bool, device=trained.flat.device)
    active, made = masked_steps(trained, own, minibatches, active, settings.from_zero, settings)
    return made, active, *(_measured(trained.flat, samples, settings).values() if measure else ())


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler where it looks for one."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++"]))


@cache
def _compiled_steps(cuda_graphs: bool) -> Any:
    """Static shapes, which CUDA graphs need and which are faster on the CPU, too; ``padded_rows`` keeps them few."""
    torch._dynamo.config.recompile_limit = 256  # one per padded size; the default 8 is meant to catch mistakes
    if cuda_graphs:
        return torch.compile(masked_steps, dynamic=False, fullgraph=True, mode="reduce-overhead")
    return torch.compile(masked_steps, dynamic=False, fullgraph=True, options={"cpp_wrapper": True})


def padded_rows(rows: int) -> int:
    """The next size of 64, 96, 128, 192, 256, 384, ...: at most half as much again, and few sizes to compile for."""
    power = 1 << max(6, (rows - 1).bit_length())
    return power * 3 // 4 if 64 < rows <= power * 3 // 4 else power


def delta_of(passes: Passes, layers: Any, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """As ``Passes.forward``; its outputs are Delta ``[G, K, U]`` (nats), no further than ``LARGEST`` from 0."""
    x, delta = passes.forward(layers, inputs)
    return x, delta.clamp_(-LARGEST, LARGEST)


def _measured(flat: Tensor, samples: Samples, settings: Settings) -> dict[str, Tensor]:
    _, delta = delta_of(settings.passes, settings.passes.layers(flat), samples.inputs)
    weight, total, kl = weights_and_kl(delta, samples)
    clipped = weight / total < 1 - settings.clip_epsilon
    return {"kl": kl, "ratio_clipped": (samples.share * clipped).sum((1, 2))}


def _scale_back(flat: Tensor, samples: Samples, settings: Settings) -> None:
    """Scale Delta, in place, to where its excess over all of D is 0, if it is above."""
    _, delta = delta_of(settings.passes, settings.passes.layers(flat), samples.inputs)

    def excess_at(scale: Tensor) -> Tensor:
        scaled = delta * scale.view(-1, 1, 1)
        return excess(delta, *weights_and_kl(scaled, samples)[:2], samples)

    flat[:, -settings.passes.last_size :] *= scale_to(excess_at, samples.visits[:, 0]).unsqueeze(1)


def trained_of(net: DeltaNet, optimizer: SeedAdam, size: int | None = None) -> Trained:
    """The last ``size`` parameters of every entry, or all, and what belongs to them."""
    state = optimizer.state[net.flat]
    held = net.flat.detach(), state["exp_avg"], state["exp_avg_sq"]
    flat, exp_avg, exp_avg_sq = (tensor.flatten(0, -2)[:, -(size or 0) :] for tensor in held)
    return Trained(flat, exp_avg, exp_avg_sq, state["steps_taken"].flatten())

"""What is looked up in D and among parallel environments, against comparing everything with everything."""

from collections.abc import Callable
from functools import partial

import torch
from figures import hand_over, in_turn, ratio, seconds
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import TabularMAPROPS
from lit_maprops.behavior.same_state import leaders_of
from lit_maprops.behavior.stratified import stratify
from lit_maprops.behavior.visits import Visits
from lit_maprops.envs import RWARE, BoulderPush
from lit_maprops.stacked.streams import SeedStreams

ROUNDS = 5
SEEDS, ENVS, ROWS = 8, 128, 6400
WAREHOUSE, GRID = RWARE("rware-1x3-2h-2ag-4req"), BoulderPush()
SIZE, ACTIONS = WAREHOUSE.state_dim, GRID.n_actions**GRID.n_agents
KINDS = 500
PLACE = f"{SEEDS} seeds x {ENVS} envs, {ROWS:,} rows of D"


def steps(envs: int, generator: torch.Generator) -> Tensor:
    """States of one vector step, or of D, ``[R, E, S]``."""
    pool = torch.randn(KINDS, SIZE, generator=torch.Generator().manual_seed(0))
    return pool[torch.randint(KINDS, (SEEDS, envs), generator=generator)]


def visits_of_states() -> dict[str, Callable[[], object]]:
    """How often D has been in the states of a vector step."""
    generator = torch.Generator().manual_seed(1)
    visits, number = Visits(WAREHOUSE, SEEDS, 2), torch.zeros(SEEDS, ENVS, 2, dtype=torch.int32)
    for _ in range(ROWS // ENVS):
        visits.add(visits.find(TensorDict({keys.STATE: steps(ENVS, generator)}, [SEEDS, ENVS])), number)
    now = TensorDict({keys.STATE: steps(ENVS, generator)}, [SEEDS, ENVS])
    state = visits.find(now).state

    def plain() -> Tensor:
        kept, visit = visits.state[:, None, : visits.used], visits.visit[:, None, : visits.used]
        newest, row = visit.where(kept == state.unsqueeze(2), -1).max(2)
        content = now.get(keys.STATE)
        known = (visits.content.gather(1, row.unsqueeze(2).expand_as(content)) == content).all(2)
        together = (content.unsqueeze(1) == content.unsqueeze(2)).all(3)
        return (newest + 1) * known + together.tril(-1).sum(2)

    assert torch.equal(plain(), visits.find(now).visit)
    return {"ours": lambda: visits.find(now), "plain": plain}


def counts_of_actions() -> dict[str, Callable[[], object]]:
    """How often D has each joint action in the states of a vector step, as ``TabularMAPROPS`` asks."""
    generator = torch.Generator().manual_seed(2)
    behavior = TabularMAPROPS()
    behavior.build(GRID, 0, list(range(SEEDS)))
    held, taken, now = (torch.randint(high, (SEEDS, many), generator=generator)
                        for high, many in ((KINDS, ROWS), (ACTIONS, ROWS), (KINDS, ENVS)))  # fmt: skip
    behavior._states, behavior._actions, behavior._counted = held, taken, ROWS
    target = torch.zeros(SEEDS, ENVS, ACTIONS)

    def plain() -> Tensor:
        same = (held.unsqueeze(1) == now.unsqueeze(2)).float()
        return torch.zeros_like(target).scatter_add_(2, taken.unsqueeze(1).expand(same.shape), same)

    assert torch.equal(plain(), behavior._counts(now, target))
    return {"ours": lambda: behavior._counts(now, target), "plain": plain}


def stratified_draws() -> dict[str, Callable[[], object]]:
    """Strata of the environments in one state."""
    now = TensorDict({keys.STATE: steps(ENVS, torch.Generator().manual_seed(3))}, [SEEDS, ENVS])
    uniform = SeedStreams(0, list(range(SEEDS)), "bench").uniform(2, ENVS).transpose(0, 1)

    def plain() -> Tensor:
        same = (now.get(keys.STATE).unsqueeze(1) == now.get(keys.STATE).unsqueeze(2)).all(3)
        rank = (same & (uniform[0].unsqueeze(1) < uniform[0].unsqueeze(2))).sum(2)
        drawn = (rank + uniform[1].gather(1, same.int().argmax(2))) / same.sum(2)
        return drawn.clamp(max=1 - 2**-24)

    assert torch.equal(plain(), stratify(leaders_of(now), uniform))
    return {"ours": lambda: stratify(leaders_of(now), uniform), "plain": plain}


if __name__ == "__main__":
    parts = {
        "visits of states": visits_of_states,
        "counts of joint actions": counts_of_actions,
        "stratified draws": stratified_draws,
    }
    for name, part in parts.items():
        t = in_turn({case: partial(seconds, call) for case, call in part().items()}, ROUNDS)
        hand_over([ratio(f"{PLACE}: {name}, all compared / ours", t["plain"], t["ours"], "3 or more")])

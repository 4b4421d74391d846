"""Which states D has visited how often: what a sequence per state needs to go on."""

from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior.same_state import FEW, content_of, hash_factors, hashed, leaders, looked_up, ranks, taken
from lit_maprops.envs import Task

LEAST_ROOM = 64  # rows
COMPARED = 1024  # rows that are compared with every state; were more added since, all are sorted


class Found(NamedTuple):
    """Where the E environments of R seeds stand in one vector step."""

    state: Tensor  # [R, E] int64: its number, or a hash of its contents
    content: Tensor | None  # [R, E, S] float32, where the task numbers no states
    visit: Tensor  # [R, E] int64: visits of this state so far; environments in the same one count up in order
    known: Tensor  # [R, E] bool: D has been here before
    row: Tensor  # [R, E] int64, of the newest visit, where known
    leader: Tensor  # [R, E] int64, the first environment in the same state


class Visits:
    """One row per env step of D for each of R seeds: its state, which visit it was, and W whole numbers.

    States are known by their numbers where the task has them, else by their contents: rows are found by a hash and
    compared, so that no two states are taken for one (should hashes of different states ever be equal, the second
    one's visits count as first visits). Memory is that of D's own rows, at most. Rows are sorted by their states now
    and then, and searched by bisection, so that a vector step of a large D costs little more than that of a small one.

    Args:
        task: whose states they are.
        n_seeds: R.
        columns: W.

    Attributes:
        used: rows in use.
        state: ``[R, room]`` int64.
        visit: ``[R, room]`` int64, counted from 0.
        numbers: ``[R, room, W]`` int32.
        content: ``[R, room, S]`` float32; S is 0 where states have numbers.
    """

    _ordered: int
    _keys: Tensor
    _rows: Tensor

    def __init__(self, task: Task, n_seeds: int, columns: int) -> None:
        self.numbered = task.numbers_states()
        self.used = 0
        self.state = self.visit = torch.zeros(n_seeds, 0, dtype=torch.int64)
        self.numbers = torch.zeros(n_seeds, 0, columns, dtype=torch.int32)
        self.content = torch.zeros(n_seeds, 0, 0 if self.numbered else task.state_dim)
        self._forget_order()
        self._factors = hash_factors(task.state_dim)

    def find(self, data: TensorDictBase) -> Found:
        """Look up the states of one vector step, ``[R, E]``."""
        state, content = self._states(data)
        if self.used:
            visit, row = self._newest(state)
            visit = visit + 1
            if content is not None:
                visit = visit * (taken(self.content, row) == content).all(2)
        else:
            visit, row = torch.zeros_like(state), torch.zeros_like(state)
        known, leader = visit > 0, torch.zeros_like(state)
        if state.shape[1] > 1:
            leader = leaders(state, content)
            visit = visit + ranks(leader, torch.arange(state.shape[1], device=state.device).expand_as(leader))
        return Found(state, content, visit, known, row, leader)

    def _newest(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Which visit the newest row of ``[R, E]`` states was, -1 where there is none, and the row."""
        if self.used - self._ordered > COMPARED:
            ordered, self._rows = self.state[:, : self.used].sort(dim=1, stable=True)
            self._keys, self._ordered = ordered.contiguous(), self.used
        first = self._ordered
        if not first:
            return self._newest_since(0, state)
        place = (torch.searchsorted(self._keys, state.contiguous(), right=True) - 1).clamp(min=0)
        row = self._rows.gather(1, place)
        visit = self.visit.gather(1, row).where(self._keys.gather(1, place) == state, -1)
        if first == self.used:
            return visit, row
        visit_since, row_since = self._newest_since(first, state)
        return torch.maximum(visit, visit_since), row_since.where(visit_since > visit, row)

    def _newest_since(self, first: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """Likewise among the rows from ``first`` on."""
        kept, visit = (rows[:, first : self.used] for rows in (self.state, self.visit))
        if state.shape[1] <= FEW:
            same = kept.unsqueeze(1) == state.unsqueeze(2)  # [R, E, used - first]
            newest, row = visit.unsqueeze(1).where(same, -1).max(2)
        else:
            leader, env, found = looked_up(state, kept)
            count = kept.shape[1]
            back = torch.arange(count - 1, -1, -1, device=state.device)
            # The visit of a row and the row in one number, of which the largest is looked for.
            largest = torch.full_like(state, -1).scatter_reduce(1, env, (visit * count + back).where(found, -1), "amax")
            newest = largest.gather(1, leader).div(count, rounding_mode="floor")
            row = count - 1 - largest.gather(1, leader) % count
        return newest, row + first if first else row

    def _states(self, data: TensorDictBase) -> tuple[Tensor, Tensor | None]:
        if self.numbered:
            return data.get(keys.STATE_INDEX).squeeze(-1), None
        content = content_of(data)
        return hashed(content, self._factors), content

    def numbers_of(self, found: Found) -> Tensor:
        """What was entered with the newest visits, ``[R, E, W]`` int32; anything where a state is not known."""
        row = found.row.unsqueeze(2).expand(-1, -1, self.numbers.shape[2])
        return self.numbers.gather(1, row) if self.used else row.to(torch.int32)

    def add(self, found: Found, numbers: Tensor) -> None:
        """Enter a vector step's visits.

        Args:
            found: its states.
            numbers: ``[R, E, W]`` int32.
        """
        first = self.used
        self.reserve(found.state.shape[1])
        self.used = last = first + found.state.shape[1]
        self.state[:, first:last], self.visit[:, first:last] = found.state, found.visit
        self.numbers[:, first:last] = numbers
        if found.content is not None:
            self.content[:, first:last] = found.content

    def reserve(self, rows: int) -> None:
        """Make room for as many more."""
        room = self.state.shape[1]
        if self.used + rows > room:
            self._resize(max(LEAST_ROOM, 2 * room, self.used + rows), slice(0, self.used))

    def keep(self, newest: int) -> None:
        """Forget all but the ``newest`` rows."""
        if newest < self.used:
            kept = slice(self.used - newest, self.used)
            self.used = newest
            self._resize(max(LEAST_ROOM, newest) if newest else 0, kept)
            self._forget_order()

    def _forget_order(self) -> None:
        """Sort anew, sooner or later: rows are no longer where they were."""
        self._ordered = 0  # how many rows, the oldest ones, are sorted: their states and numbers follow
        self._keys = self._rows = self.state[:, :0]

    def _resize(self, room: int, kept: slice) -> None:
        for name in ("state", "visit", "numbers", "content"):
            before = getattr(self, name)
            after = before.new_zeros(before.shape[0], room, *before.shape[2:])
            after[:, : kept.stop - kept.start] = before[:, kept]
            setattr(self, name, after)

    def move(self, device: torch.device) -> None:
        """Keep rows on a device."""
        for name in ("state", "visit", "numbers", "content"):
            setattr(self, name, getattr(self, name).to(device))
        self._forget_order()

    def state_dict(self) -> dict[str, Any]:
        """Return tensors from which ``load_state_dict`` continues."""
        names = ("state", "visit", "numbers") if self.numbered else ("state", "visit", "numbers", "content")
        return {name: getattr(self, name)[:, : self.used].clone() for name in names}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        device = self.state.device
        for name, value in saved.items():
            setattr(self, name, value.to(device))
        self.used = self.state.shape[1]
        self._forget_order()
        self.content = self.content if "content" in saved else self.content.new_zeros(*self.state.shape, 0)

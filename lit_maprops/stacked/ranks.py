"""Several processes, called ranks: which seeds and environments a rank owns, and all that ranks tell each other.

With no more ranks than seeds every rank owns a block of seeds and works as if it were alone: nothing is exchanged
inside an iteration, so KL stops may differ. With more, each seed has a *team* of ranks, which split its environments
and its gradients. Every number a rank draws belongs to a seed and is drawn for all of the seed's environments, so the
data are those of a single process. Some collectives pickle: they carry our own ranks' memory, no file's content.

A team does not split behavior updates: every member makes the whole update, and all take the first one's result. While
D is small a gradient step takes no longer than adding up its gradients would; on hundreds of rows it takes ten times as
long, so there splitting would pay.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from lit_maprops.system.errors import OneLineError, check


class RanksLost(OneLineError, RuntimeError):
    """Another rank did not answer: it ended, or took longer than the ranks' timeout."""


@contextmanager
def answered() -> Iterator[None]:
    """Name what a collective that failed means.

    Raises:
        RanksLost: it failed.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's are plain, NCCL's a subclass
        raise RanksLost(str(error).splitlines()[0]) from error


class Team:
    """The ranks that share one seed's environments and gradients; a team of one does nothing and waits for nobody.

    Args:
        member: number of this rank in its team, G of them.
        size: G.
    """

    def __init__(self, member: int = 0, size: int = 1) -> None:
        self.member, self.size = member, size
        self.every = slice(member, None, size)  # this rank's share of rows
        self.first = 0  # the member 0's number among all ranks
        self.group: distributed.ProcessGroup | None = None

    def environments(self, num_envs: int) -> slice:
        """This rank's of the seed's E environments."""
        share = num_envs // self.size
        return slice(self.member * share, (self.member + 1) * share)

    def share(self, rows: Tensor) -> tuple[Tensor, int]:
        """This rank's of the numbers of rows ``[R, b]``, and what it must divide a sum over them by.

        The team's quotients add up to the mean over all b. With fewer rows than members every member has all of them.
        """
        count = rows.shape[1]
        return (rows, count * self.size) if count < self.size else (rows[:, self.every], count)

    def gather(self, values: Mapping[Any, Tensor]) -> dict[Any, Tensor]:
        """All members' tensors ``[R, E / G, ...]`` put together: ``[R, E, ...]``. One collective, of bytes."""
        if self.size == 1:
            return dict(values)
        packed = torch.cat([value.contiguous().flatten().view(torch.uint8) for value in values.values()])
        received = [torch.empty_like(packed) for _ in range(self.size)]
        with answered():
            distributed.all_gather(received, packed, self.group)
        parts = torch.stack(received).split([value.numel() * value.element_size() for value in values.values()], 1)
        return {
            # Cloned: a part may begin where its type must not.
            name: torch.cat([own.clone().view(value.dtype).view(value.shape) for own in part], 1)
            for (name, value), part in zip(values.items(), parts, strict=True)
        }

    @torch.no_grad()
    def add_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the team, the same bits for every member. One collective."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with answered():
                distributed.all_reduce(flat, group=self.group)
            _unpack_(tensors, flat)

    @torch.no_grad()
    def copy_first_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the team's first member, so that rounding never drives members apart."""
        tensors = list(tensors) if self.size > 1 else []
        if tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with answered():
                distributed.broadcast(flat, self.first, group=self.group)
            _unpack_(tensors, flat)


class Ranks:
    """All ranks of a run, and this one's place among them; the default is a process that has all seeds.

    Args:
        rank: this one's number.
        size: how many there are.
        num_seeds: R; does not matter to one rank.
        on_node: how many there are on this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, num_seeds: int = 1, on_node: int = 1) -> None:
        self.rank, self.size, self.on_node = rank, size, on_node
        self.teams = min(size, num_seeds)
        team, members = rank * self.teams // size, size // self.teams
        self.team = Team(rank % members, members)
        self.team.first = rank - self.team.member
        most = -(-num_seeds // self.teams)
        larger = num_seeds - self.teams * (most - 1)  # teams with one seed more than the others
        first = team * most - max(0, team - larger)
        own = slice(first, first + most - int(team >= larger))
        self.own = slice(None) if size == 1 else own  # of the run's seeds

    def check_fits(self, num_seeds: int, num_envs: int, behavior_mixes: bool = False) -> None:
        """Refuse a number of ranks over which seeds and environments cannot be split.

        Args:
            num_seeds: R.
            num_envs: E.
            behavior_mixes: see ``BehaviorPolicy.counts_rows_of_all_seeds``.

        Raises:
            ConfigError: says which numbers fit.
        """
        check(
            self.size <= num_seeds or self.size % num_seeds == 0,
            f"<trainer.devices> makes {self.size} ranks for <model.num_seeds> {num_seeds}: give at most {num_seeds}, "
            f"or a multiple of it, such as {num_seeds * (self.size // num_seeds + 1)}",
        )
        check(
            num_envs % self.team.size == 0,
            f"<trainer.devices> makes {self.team.size} ranks for each seed, which split its <data.num_envs> "
            f"{num_envs}: make that a multiple of {self.team.size}",
        )
        check(
            self.teams == 1 or not behavior_mixes,
            "<trainer.devices> would split the seeds, whose rows <behavior.merge_states> counts together: leave "
            "out <behavior.max_states> and <behavior.max_sample_passes>, or use <trainer.devices> 1",
        )

    def connect(self, timeout: timedelta) -> None:
        """Form the teams; the process group must exist. Every rank takes part in forming every team.

        Args:
            timeout: how long a member waits for the others.
        """
        if self.team.size > 1:
            for first in range(0, self.size, self.team.size):
                group = distributed.new_group(list(range(first, first + self.team.size)), timeout)
                if first == self.team.first:
                    self.team.group = group

    def gathered(self, tree: Any) -> Any:
        """Per-seed tensors of this rank's seeds, nested as you like, as those of all seeds in order; on every rank."""
        if self.size == 1:
            return tree
        trees: list[Any] = [None] * self.size
        with answered():
            distributed.all_gather_object(trees, _on_cpu(tree))
        return merged(trees[:: self.team.size])

    def sliced(self, tree: Any) -> Any:
        """The opposite of ``gathered``: of all seeds' tensors, those of this rank's seeds."""
        return tree if self.size == 1 else sliced(tree, self.own)

    def gathered_on_first(self, tree: Any) -> Any:
        """As ``gathered``, on rank 0 only; None elsewhere."""
        if self.size == 1:
            return tree
        trees: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with answered():
            distributed.gather_object(None if self.team.member else _on_cpu(tree), trees)
        return None if trees is None else merged(trees[:: self.team.size])

    def listed(self, thing: Any) -> list[Any]:
        """What each team's first rank gives, in order; on every rank."""
        things: list[Any] = [thing] * self.size
        if self.size > 1:
            with answered():
                distributed.all_gather_object(things, thing)
        return things[:: self.team.size]

    def largest(self, *numbers: int) -> list[int]:
        """The largest of all ranks' numbers, place by place."""
        most = torch.tensor(numbers)
        if self.size > 1:
            with answered():
                distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return most.tolist()


def merged(trees: Sequence[Any], path: str = "") -> Any:
    """One nest of dictionaries and lists from those of consecutive seeds, tensors joined along their seed dimension.

    A tensor without dimensions is a setting. Settings must be equal.

    Raises:
        ValueError: they are not.
    """
    first = trees[0]
    if isinstance(first, Tensor) and first.dim():
        return torch.cat(list(trees))
    if isinstance(first, dict):
        return {key: merged([tree[key] for tree in trees], f"{path}/{key}") for key in first}
    if isinstance(first, (list, tuple)):
        items = [merged(list(of_all), f"{path}/{i}") for i, of_all in enumerate(zip(*trees, strict=True))]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    if not all(bool(tree == first) for tree in trees):
        raise ValueError(f"ranks differ in {path}: {', '.join(map(str, trees))}")
    return first


def sliced(tree: Any, seeds: slice | list[int]) -> Any:
    """The opposite of ``merged``: what belongs to some of the seeds, in memory of its own; a list may repeat some."""
    return _mapped(tree, lambda tensor: tensor[seeds].clone() if tensor.dim() else tensor)


def _on_cpu(tree: Any) -> Any:
    return _mapped(tree, Tensor.cpu)


def _mapped(tree: Any, change: Any) -> Any:
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [_mapped(item, change) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return tree


def _unpack_(tensors: Iterable[Tensor], flat: Tensor) -> None:
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()

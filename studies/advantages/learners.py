"""PPO that knows more: MAPPO with the truth in place of its critic or of its advantages; critics that begin with 0."""

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.buffer import Buffer
from lit_maprops.envs import Task
from lit_maprops.stacked.nets import LayeredNet
from lit_maprops.targets import IPPO, MAPPO
from lit_maprops.targets.critics import Critic
from studies.advantages.exact import Exact, exact, world_of


class ExactValues(MAPPO):
    """Baseline and bootstrap are the present policies' true values; returns are those of D. Arguments as ``MAPPO``."""

    _found: Exact

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        self.world = world_of(task)

    @override
    def update(self, buffer: Buffer) -> dict[str, Tensor]:
        self._found = exact(self.policies, self.world, self.gamma)
        return super().update(buffer)

    @override
    def _values(self, data: TensorDictBase) -> Tensor:
        """``[R, *B, A, 1]``."""
        places = self.world.places(data)
        return of_places(self._found.value, places).float().unsqueeze(-1)


class ExactAdvantages(ExactValues):
    """Advantages are those of the present policies: nothing of D counts but which joint actions it holds, and where."""

    @override
    @torch.no_grad()
    def _estimates(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        value, advantage, target = super()._estimates(data)
        pairs = self.world.pairs(data)
        true = of_places(self._found.advantage.flatten(1, 2), pairs)
        return value, true.to(advantage.dtype).unsqueeze(-1), target


def of_places(table: Tensor, places: Tensor) -> Tensor:
    """Rows ``[R, *B, A]`` of tables ``[R, P, A]``."""
    flat = places.flatten(1)
    rows = table.gather(1, flat.unsqueeze(-1).expand(-1, -1, table.shape[-1]))
    return rows.reshape(*places.shape, table.shape[-1])


def without_last_layer(critic: Critic) -> None:
    """Let a critic that has learned nothing yet put out 0."""
    assert isinstance(critic.net, LayeredNet)
    critic.net.zero_output()


class ZeroIPPO(IPPO):
    """IPPO whose critics' first values are 0."""

    known_to_kernel = True

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        without_last_layer(self.critic)


class ZeroMAPPO(MAPPO):
    """MAPPO whose critic's first values are 0."""

    known_to_kernel = True

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        without_last_layer(self.critic)

"""From the options of a learner to what its networks are made of."""

from typing import Any, NamedTuple

from lit_maprops.envs import Task
from lit_maprops.envs.pictures import check_layers, check_pictures
from lit_maprops.stacked.cells import Cell, CellKind
from lit_maprops.stacked.layers import Activation, Architecture
from lit_maprops.stacked.nets import HIDDEN_GAIN
from lit_maprops.stacked.own_network import OwnNetwork
from lit_maprops.system.errors import check

MEMORY_SIZE = 64  # units of a cell, unless somebody says otherwise


class Networks(NamedTuple):
    """The options of ``Learner`` that say what policies and critic are made of; see there."""

    hidden: list[int]
    activation: Activation
    layer_norm: bool
    hidden_gain: float | None
    policy_gain: float | None
    cnn: list[list[int]]
    network: str | None
    network_args: dict[str, Any] | None
    critic_hidden: list[int] | None
    critic_activation: Activation | None
    critic_layer_norm: bool | None
    critic_cnn: list[list[int]] | None
    critic_network: str | None
    critic_network_args: dict[str, Any] | None
    memory: CellKind | None = None
    memory_size: int | None = None

    def policies(self) -> Architecture:
        """Of the policies."""
        return Architecture(
            self.hidden,
            self.activation,
            self.layer_norm,
            self._hidden_gain,
            self.policy_gain,
            self.cnn,
            self._own("network"),
            self._cell,
        )

    def critic(self) -> Architecture:
        """Of the critic."""
        return Architecture(
            self.hidden if self.critic_hidden is None else self.critic_hidden,
            self.activation if self.critic_activation is None else self.critic_activation,
            self.layer_norm if self.critic_layer_norm is None else self.critic_layer_norm,
            self._hidden_gain,
            None,
            self._cnn_of_critic,
            self._own("critic_network"),
            self._cell,
        )

    def identity(self) -> dict[str, Any]:
        """What a run that goes on must share and the shapes of its weights do not tell, by the names of options."""
        critic = self.critic()
        return {
            "activation": self.activation,
            "layer_norm": self.layer_norm,
            "cnn": self.cnn,
            "network": self.network,
            "network_args": self.network_args,
            "critic_activation": critic.activation,
            "critic_layer_norm": critic.layer_norm,
            "critic_cnn": critic.cnn,
            "critic_network": self.critic_network,
            "critic_network_args": self.critic_network_args,
            "memory": self.memory,
        }

    @property
    def _hidden_gain(self) -> float:
        return HIDDEN_GAIN if self.hidden_gain is None else self.hidden_gain

    @property
    def _cnn_of_critic(self) -> list[list[int]]:
        return self.cnn if self.critic_cnn is None else self.critic_cnn

    @property
    def _cell(self) -> Cell | None:
        return None if self.memory is None else Cell(self.memory, self.memory_size or MEMORY_SIZE)

    def _own(self, name: str) -> OwnNetwork | None:
        path = getattr(self, name)
        return None if path is None else OwnNetwork(f"learner.{name}", path, getattr(self, f"{name}_args") or {})

    def check(self, has_critic: bool) -> None:
        """Refuse what has no effect.

        Args:
            has_critic: of the learner.

        Raises:
            ConfigError: names the option.
        """
        for name in ("network", "critic_network"):
            alone = getattr(self, f"{name}_args") is not None and getattr(self, name) is None
            check(
                not alone,
                f"<learner.{name}_args> is given without <learner.{name}>, whose arguments they are: leave it out",
            )
        for name in [field for field in self._fields if field.startswith("critic_")]:
            given = getattr(self, name) is not None
            check(has_critic or not given, f"<learner.{name}> is given and this learner has no critic: leave it out")
        told = "<learner.memory_size> is given without <learner.memory>, whose size it is: leave it out"
        check(self.memory is not None or self.memory_size is None, told)
        self._check_used(has_critic)
        check_layers("learner.cnn", self.cnn)
        check_layers("learner.critic_cnn", self.critic_cnn or [])

    def _check_used(self, has_critic: bool) -> None:
        """Options of the layers, where there are none."""
        policies, critic = (self.network is None), (has_critic and self.critic_network is None)
        hidden_of_critic = self.hidden if self.critic_hidden is None else self.critic_hidden
        cell = self.memory is not None  # a last layer comes behind it
        layers = (policies and bool(self.hidden)) or (critic and bool(hidden_of_critic))
        convolved = bool(self.cnn and policies) or bool(self._cnn_of_critic and critic)
        given = {
            "activation": (self.activation != "tanh", layers or convolved),
            "layer_norm": (self.layer_norm, layers),
            "hidden_gain": (self.hidden_gain is not None, layers or convolved),
            "policy_gain": (self.policy_gain is not None, cell or (policies and bool(self.hidden or self.cnn))),
            "cnn": (bool(self.cnn), policies or (critic and self.critic_cnn is None)),
            "critic_cnn": (self.critic_cnn is not None, critic),
            "critic_hidden": (self.critic_hidden is not None, critic),
            "critic_activation": (
                self.critic_activation is not None,
                critic and bool(hidden_of_critic or self._cnn_of_critic),
            ),
            "critic_layer_norm": (self.critic_layer_norm is not None, critic and bool(hidden_of_critic)),
        }
        for name, (is_given, used) in given.items():
            check(
                not is_given or used,
                f"<learner.{name}> is {getattr(self, name)} and has no effect: no network of this run has such layers, "
                "leave it out, or give <learner.hidden>",
            )

    def check_convolved(self, critic_sees: bool) -> None:
        """Refuse what has an effect on convolutions of the critic alone, where it has none.

        Args:
            critic_sees: it sees observations, and so the pictures in them.

        Raises:
            ConfigError: names the option.
        """
        hidden = self.hidden if self.critic_hidden is None else self.critic_hidden
        alone = {
            "cnn": bool(self.cnn) and self.network is not None,
            "critic_activation": self.critic_activation is not None and not hidden,
        }
        for name, given in alone.items():
            check(
                critic_sees or not given,
                f"<learner.{name}> is {getattr(self, name)} and has no effect: the policies have no such layers, and "
                "the critic sees the global state, which is no picture: leave it out",
            )

    def check_task(self, task: Task) -> None:
        """Refuse convolutions that do not fit the task.

        Raises:
            ConfigError: names the option.
        """
        check_pictures("learner.cnn", self.cnn, task)
        check_pictures("learner.critic_cnn", self.critic_cnn or [], task)

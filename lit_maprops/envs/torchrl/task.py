"""TorchRL: any of its multi-agent environments, by import path.

After Bou et al., "TorchRL: A data-driven decision-making library for PyTorch" (ICLR 2024, arXiv 2306.00577). Agents lie
in groups, whose tensors share a key, as TorchRL's multi-agent tutorials and BenchMARL (arXiv 2312.01472) have them.

An ``EnvBase`` is an object with running episodes, as PettingZoo's environments are, and no function of a state. So it
is played as these are (``envs.pettingzoo.task``): the state of an episode is its seed and the actions taken.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, get_type_hints

from torchrl.envs import EnvBase
from typing_extensions import override

from lit_maprops.envs.pettingzoo.spaces import Pictures
from lit_maprops.envs.pettingzoo.task import PettingZoo
from lit_maprops.envs.torchrl.grouped import GroupedAgents
from lit_maprops.system.argument_types import Count, Options
from lit_maprops.system.entry_points import IMPORT_PATH, tried
from lit_maprops.system.errors import ConfigError, check, did_you_mean
from lit_maprops.system.extras import install
from lit_maprops.system.named_code import check_named

# Builds scenarios of its package from plain values alone, so it may be named by a run folder of somebody else's.
_PLAIN = "torchrl.envs.VmasEnv"


class TorchRL(PettingZoo):
    """A multi-agent environment of TorchRL (``EnvBase``); needs Gymnasium, which is in the extra ``envs``.

    Agents are those of its groups (``group_map``), in the order of the action keys; each group's tensors have a
    dimension of agents. Rows are environments of their own, so it has to be a single one: no batch, or one of ones.
    Actions, observations, masks, global state and ends are read as ``GroupedAgents`` says and then served as
    ``PettingZoo`` says, padding, pictures and verdicts of success included. Continuous actions need bounds.

    Args:
        name: import path of the environment's class, such as ``torchrl.envs.VmasEnv``, or of a function of your own
            that makes one and says so (``-> EnvBase``).
        options: keyword arguments of either.
        max_steps: see ``PettingZoo``.
        fixed_start: see ``PettingZoo``.
        squash: see ``PettingZoo``.
        pictures: see ``PettingZoo``.

    Raises:
        ConfigError: there is no such class or function; it does not take the options; the environment has no groups of
            agents, is a batch of several, or acts or sees by specs that are not served; seed and actions do not
            determine an episode.
    """

    def __init__(
        self,
        name: str,
        options: Options | None = None,
        max_steps: Count | None = None,
        fixed_start: bool = False,
        squash: Literal["tanh", "clip"] = "tanh",
        pictures: Pictures = "auto",
    ) -> None:
        super().__init__(name, options, max_steps, fixed_start, squash, pictures)

    @property
    def title(self) -> str:
        """With the environment's name, which says what is played."""
        return f"TorchRL {self.name}"

    @override
    def _found(self, name: str) -> Callable[..., Any]:
        makes = _maker(name)
        try:
            import gymnasium  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError(f"<data.env> TorchRL needs the package gymnasium: {install('envs')}") from error

        def made(**options: Any) -> GroupedAgents:
            env = makes(**options)
            check(isinstance(env, EnvBase), f"{self._named} gave {type(env).__name__}, which is no EnvBase of TorchRL")
            return GroupedAgents(env, self._named)

        return made


def _maker(name: str) -> Callable[..., Any]:
    """The class or function with an import path.

    Only what says of itself that it gives an environment is called: options may be somebody else's word.
    """
    if name != _PLAIN:
        check_named("<env.name>", name)
    named = f"<env.name> is {name!r}"
    check(
        bool(IMPORT_PATH.fullmatch(name)),
        f"{named}: give the import path of a TorchRL environment, such as torchrl.envs.VmasEnv, or of a function",
    )
    path, _, last = name.rpartition(".")
    module, reason = tried(lambda: import_module(path))
    check(not reason, f"{named}, and {path} cannot be imported ({reason}): give another, or mend it")
    found: Any = getattr(module, last, None)
    check(found is not None, f"{named}: {path} has no {last}{did_you_mean(last, vars(module))}")
    if isinstance(found, type):
        check(issubclass(found, EnvBase), f"{named}, which is no EnvBase of TorchRL: give another")
        return found
    hints, _ = tried(lambda: get_type_hints(found))
    gives = (hints or {}).get("return")
    check(
        callable(found) and isinstance(gives, type) and issubclass(gives, EnvBase),
        f"{named}, which does not say that it makes an environment of TorchRL: write '-> EnvBase' behind its arguments",
    )
    return found

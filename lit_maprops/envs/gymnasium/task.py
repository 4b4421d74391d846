"""Gymnasium: environments of several agents with Tuples, or Dicts, of spaces, by their ids or import paths.

After Towers et al., "Gymnasium: A Standard Interface for Reinforcement Learning Environments" (arXiv 2407.17032), whose
registry and spaces they use; an entry of the spaces for each agent is their own agreement.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

from typing_extensions import override

from lit_maprops.envs.gymnasium.entries import EntryEnv
from lit_maprops.envs.pettingzoo.packages import EXTRA, imported
from lit_maprops.envs.pettingzoo.spaces import Pictures
from lit_maprops.envs.pettingzoo.task import PettingZoo
from lit_maprops.system.argument_types import Count, Options
from lit_maprops.system.entry_points import IMPORT_PATH
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.extras import install
from lit_maprops.system.named_code import check_named

_WANTED = (
    "an id of Gymnasium behind the package that registers it, such as lbforaging:Foraging-8x8-2p-2f-coop-v3, or the "
    "import path of a class"
)
_PACKAGE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class Gymnasium(PettingZoo):
    """A Gymnasium environment of several agents; needs Gymnasium, which is in the extra ``envs``, and its package.

    Its action and observation spaces are Tuples with an entry for each agent, as those of lbforaging and rware, or
    Dicts with their names. What else agents get and say is read as ``EntryEnv`` says and then served as ``PettingZoo``
    says, padding, pictures and verdicts of success included. Foraging and warehouses have faster classes of their own
    here, ``Foraging`` and ``RWARE``.

    Args:
        name: id behind its package (``lbforaging:Foraging-8x8-2p-2f-coop-v3``), id alone if Gymnasium knows it, or
            import path of a class that extends ``gymnasium.Env``.
        options: keyword arguments of ``gymnasium.make``, or of the class.
        max_steps: see ``PettingZoo``.
        fixed_start: see ``PettingZoo``.
        squash: see ``PettingZoo``.
        pictures: see ``PettingZoo``.
        anew: every episode is played by an environment that was made for it, so that nothing of another one is left:
            lbforaging's players start elsewhere if they stood there before. False: it is reset, for what takes long to
            make.

    Raises:
        ConfigError: there is no such environment; it does not take the options; it is of one agent, or acts or sees in
            spaces that are not served; seed and actions do not determine an episode.
    """

    def __init__(
        self,
        name: str,
        options: Options | None = None,
        max_steps: Count | None = None,
        fixed_start: bool = False,
        squash: Literal["tanh", "clip"] = "tanh",
        pictures: Pictures = "auto",
        anew: bool = True,
    ) -> None:
        self.anew = anew
        if not anew:
            self._fix = "leave <env.anew> at true, or choose another"
        super().__init__(name, options, max_steps, fixed_start, squash, pictures)

    @property
    def title(self) -> str:
        """With the environment's name, which says what is played."""
        return f"Gymnasium {self.name}"

    @override
    def _found(self, name: str) -> Callable[..., Any]:
        makes = _maker(name)
        return lambda **options: EntryEnv(lambda: makes(**options), self._named, self.anew)


def _maker(name: str) -> Callable[..., Any]:
    """What makes an environment of that name."""
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ConfigError(f"<data.env> Gymnasium needs the package gymnasium: {install('envs')}") from error
    named = f"<env.name> is {name!r}"
    package, colon, number = name.rpartition(":")
    if colon:
        check(bool(_PACKAGE.fullmatch(package)), f"{named}: give {_WANTED}")
        check_named("<env.name>", package, also=EXTRA)
        imported(package, named, "the package that registers it")
    if colon or number in gymnasium.registry:
        check(
            number in gymnasium.registry, f"{named}, and {package} registers no {number}: {_known(gymnasium, package)}"
        )
        return lambda **options: gymnasium.make(number, disable_env_checker=True, **options)
    check(bool(IMPORT_PATH.fullmatch(name)), f"{named}: give {_WANTED}")
    check_named("<env.name>", name, also=EXTRA)
    found = imported(name, named, "a class that extends gymnasium.Env")
    check(
        isinstance(found, type) and issubclass(found, gymnasium.Env),
        f"{named}, which is no class that extends gymnasium.Env: give {_WANTED}",
    )
    return found


def _known(gymnasium: Any, package: str) -> str:
    """What to do where a package does not register an id."""
    own = [one for one, spec in gymnasium.registry.items() if re.match(rf"{package}\b", str(spec.entry_point))]
    return f"give another, such as {own[0]}" if own else "give the package that registers it"

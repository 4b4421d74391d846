"""JaxMARL's environments by the names it registers: how one is made, what is refused, what a success is."""

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lit_maprops.system.errors import ConfigError, check, did_you_mean
from lit_maprops.system.extras import install

_SMAX = "HeuristicEnemySMAX"
# What has maps: the module and the table that hold them, and the option that takes one.
_MAPS = {
    _SMAX: ("jaxmarl.environments.smax.smax_env", "MAP_NAME_TO_SCENARIO", "scenario"),
    "overcooked": ("jaxmarl.environments.overcooked", "overcooked_layouts", "layout"),
    "overcooked_v2": ("jaxmarl.environments.overcooked_v2", "overcooked_v2_layouts", "layout"),
}
# Options of SMAX that it passes over where it has a map.
_BY_MAP = {"num_allies", "num_enemies", "smacv2_position_generation", "smacv2_unit_type_generation"}
# Registered, but not for a team of learners alone.
_REFUSED = {
    "SMAX": f"commands both armies, which play against each other: choose {_SMAX}, where the enemy's is scripted",
    "LearnedPolicyEnemySMAX": f"needs an enemy policy that is a Python object: choose {_SMAX}",
}


def package() -> Any:
    """The module ``jaxmarl``, which takes seconds to import.

    Raises:
        ConfigError: it is not installed, or does not go together with JAX or others that are.
    """
    # Of a GPU, JAX would take most of the memory for itself, which torch needs.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        with _unheard():  # what it says of packages that are not there
            return importlib.import_module("jaxmarl")
    except ModuleNotFoundError as error:
        raise ConfigError(f"<data.env> JaxMARL needs the package {error.name}: {install('jaxmarl')}") from error
    except Exception as error:
        cause = f"{type(error).__name__}, {one_line(error)}"
        raise ConfigError(f"<data.env> JaxMARL needs jaxmarl, which cannot be imported: {cause}") from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Nothing is printed, also by a package that sets ``sys.stdout`` back to what Python started with."""
    streams = {name: getattr(sys, name) for name in ("stdout", "__stdout__", "stderr", "__stderr__")}
    dropped = io.StringIO()
    try:
        for name, stream in {"stdout": dropped, "__stdout__": dropped, "__stderr__": sys.stderr}.items():
            setattr(sys, name, stream)
        yield
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)


def made(scenario: str, map_name: str | None, options: Mapping[str, Any], max_steps: int | None = None) -> Any:
    """An environment of JaxMARL.

    Args:
        scenario: a name that JaxMARL registers.
        map_name: of SMAX or Overcooked.
        options: what its constructor takes.
        max_steps: its own time limit; None: what it has without one, or ``options``'s.

    Raises:
        ConfigError: one of these is unknown, or they do not fit together.
    """
    jaxmarl = package()
    known = set(jaxmarl.registered_envs)
    check(
        scenario in known,
        f"<env.scenario> is {scenario!r}: choose an environment that JaxMARL registers, such as {_SMAX}, "
        f"MPE_simple_spread_v3 or overcooked{did_you_mean(scenario, known - _REFUSED.keys())}",
    )
    check(scenario not in _REFUSED, f"<env.scenario> {scenario} {_REFUSED.get(scenario)}")
    decided = _BY_MAP & options.keys() if map_name is not None else set()
    check(
        not decided,
        f"<env.options> has {', '.join(sorted(decided))}, which <env.map_name> decides: leave out one of the two",
    )
    given = {name: _as_taken(value) for name, value in options.items()}
    given |= {} if max_steps is None else {"max_steps": max_steps}
    given |= {} if map_name is None else _map(scenario, map_name)
    try:
        env = jaxmarl.make(scenario, **given)
    except Exception as error:
        shown = ", ".join(f"{name} {value}" for name, value in options.items()) or "no options"
        raise ConfigError(f"<env.scenario> {scenario} cannot be built with {shown}: {one_line(error)}") from error
    unknown = [name for name in options if not _takes(env, name)]
    check(
        not unknown,
        f"<env.options> has {', '.join(unknown)}, of which {scenario} takes no notice: leave it out",
    )
    return env


def _map(scenario: str, map_name: str) -> dict[str, Any]:
    check(scenario in _MAPS, f"<env.map_name> is {map_name!r}, and {scenario} has no maps: leave it out")
    module, table, option = _MAPS[scenario]
    maps = getattr(importlib.import_module(module), table)
    check(
        map_name in maps,
        f"<env.map_name> is {map_name!r}: choose one of {', '.join(maps)}{did_you_mean(map_name, maps)}",
    )
    return {option: maps[map_name]}


def _as_taken(option: Any) -> Any:
    """A list of numbers as the array that JaxMARL computes with."""
    import jax.numpy as jnp

    numbers = isinstance(option, list) and option and all(isinstance(one, int | float) for one in option)
    return jnp.asarray(option) if numbers else option


def _takes(env: Any, option: str) -> bool:
    """Whether an option means anything: MPE's constructors hand on what they do not know, and the last one drops it.

    That one looks up what it does know by name, so the names are constants of its code. Others raise by themselves.
    """
    mpe = importlib.import_module("jaxmarl.environments.mpe").SimpleMPE
    if not isinstance(env, mpe):
        return True
    makers = [
        vars(kind)["__init__"] for kind in type(env).__mro__ if "__init__" in vars(kind) and issubclass(kind, mpe)
    ]
    return any(option in (*maker.__code__.co_varnames, *maker.__code__.co_consts) for maker in makers)


def takes_limit(scenario: str, map_name: str | None, options: Mapping[str, Any], max_steps: int) -> bool:
    """Whether ``max_steps`` is an option of an environment, and its own time limit."""
    try:
        return getattr(made(scenario, map_name, options, max_steps), "max_steps", None) == max_steps
    except ConfigError:
        return False


def won(env: Any) -> Callable[[Any], Any] | None:
    """From the state at an episode's end to whether the team has succeeded; None: JaxMARL has no word for it.

    In SMAX it is a battle that the team has won: all enemies are dead and one of its own is not. JaxMARL's
    ``SMAXLogWrapper`` reads that from the reward, as ``returned_won_episode``.
    """
    if not hasattr(env, "enemy_agents"):
        return None
    allies = len(env.agents)
    return lambda state: state.state.unit_alive[:allies].any() & ~state.state.unit_alive[allies:].any()


def one_line(error: Exception) -> str:
    """What went wrong in JaxMARL, as one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__

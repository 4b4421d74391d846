"""PettingZoo modules by their import paths, and what other packages say when something goes wrong."""

import importlib
import io
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from numbers import Integral
from typing import Any

from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.extras import install
from lit_maprops.system.named_code import check_named

_EXTRA = {"gymnasium", "gymnasium_robotics", "mpe2", "mujoco", "pettingzoo"}  # what the extra `envs` installs

# What packages call their time limits, and the environments that wrappers hold.
_LIMITS = ("max_cycles", "max_episode_steps", "max_steps", "max_iter", "episode_limit", "time_limit", "horizon")
_INNER = ("unwrapped", "aec_env", "single_agent_env", "env")


def found(name: str) -> Callable[..., Any]:
    """The function ``parallel_env`` of the PettingZoo module with this import path.

    Raises:
        ConfigError: there is no such module, or it has no ``parallel_env``.
    """
    check_named("<env.name>", name, also=_EXTRA)
    named = f"<env.name> is {name!r}"
    try:
        module = _imported(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing in _EXTRA:
            fix = install("envs")
        elif f"{name}.".startswith(f"{missing}."):
            fix = "give the import path of a PettingZoo module, such as mpe2.simple_spread_v3"
        else:
            fix = f"install {missing}"
        raise ConfigError(f"{named} and there is no module {missing}: {fix}") from error
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{named}, which cannot be imported: {one_line(error)}") from error
    makes = getattr(module, "parallel_env", None)
    turns = "in this module agents act by turns only" if hasattr(module, "env") else "it is no module of PettingZoo"
    check(callable(makes), f"{named}, which has no parallel_env: {turns}, choose another")
    return makes  # type: ignore[return-value]


def _imported(name: str) -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # remarks of packages about environments that nobody asked for
        path, *rest = name.split(".")
        thing = importlib.import_module(path)
        for part in rest:
            path = f"{path}.{part}"
            thing = getattr(thing, part) if hasattr(thing, part) else importlib.import_module(path)
    return thing


def time_limit(env: Any, options: Mapping[str, Any]) -> int | None:
    """Steps after which an environment ends its episodes by itself, as far as it says so.

    Args:
        env: an environment that was just made.
        options: it was made with.
    """
    inner = [env, *(_attribute(env, name) for name in _INNER)]
    things = [*inner, *(_attribute(thing, "unwrapped") for thing in inner), *(_attribute(t, "spec") for t in inner)]
    found = [options.get(name) for name in _LIMITS]
    found += [_attribute(thing, name) for thing in things for name in _LIMITS]
    numbers = [int(value) for value in found if isinstance(value, Integral) and not isinstance(value, bool)]
    return next((number for number in numbers if number > 0), None)


def _attribute(thing: Any, name: str) -> Any:
    """Of an object of another package, whatever that raises; None if there is none."""
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


def one_line(error: Exception) -> str:
    """What went wrong in another package, as one line."""
    return " ".join(str(error).split()) or type(error).__name__

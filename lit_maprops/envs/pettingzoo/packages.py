"""PettingZoo modules by their import paths, and what other packages say when something goes wrong."""

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from numbers import Integral
from types import ModuleType
from typing import Any

from lit_maprops.system.errors import ConfigError, check, did_you_mean
from lit_maprops.system.extras import install
from lit_maprops.system.named_code import check_named

EXTRA = {"gymnasium", "gymnasium_robotics", "mpe2", "mujoco", "pettingzoo"}  # what the extra `envs` installs

# What packages call their time limits, and the environments that wrappers hold.
_LIMITS = ("max_cycles", "max_episode_steps", "max_steps", "max_iter", "episode_limit", "time_limit", "horizon")
_INNER = ("unwrapped", "aec_env", "single_agent_env", "env")


def found(name: str) -> Callable[..., Any]:
    """What makes an environment: ``parallel_env`` of the PettingZoo module with this import path, or the class itself.

    Raises:
        ConfigError: there is no such module, it cannot be imported, or has no ``parallel_env``.
    """
    check_named("<env.name>", name, also=EXTRA)
    thing = imported(name, f"<env.name> is {name!r}", "a PettingZoo module, such as mpe2.simple_spread_v3")
    if _extends(thing, "ParallelEnv"):
        return thing
    makes = getattr(thing, "parallel_env", None)
    check(callable(makes), f"<env.name> is {name!r}, which has no parallel_env: {_instead(thing, name)}")
    return makes  # type: ignore[return-value]


def imported(name: str, named: str, wanted: str) -> Any:
    """A module, or what is in one, by its import path.

    Args:
        name: the import path.
        named: the argument that gave it, for messages.
        wanted: what it should be the path of.

    Raises:
        ConfigError: there is no such module, or it cannot be imported.
    """
    try:
        return _imported(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing in EXTRA:
            fix = install("envs")
        elif f"{name}.".startswith(f"{missing}."):
            fix = f"give the import path of {wanted}"
        else:
            fix = f"install {missing}"
        path, _, last = missing.rpartition(".")
        meant = did_you_mean(last, vars(sys.modules[path])) if path in sys.modules else ""
        raise ConfigError(f"{named} and there is no module {missing}{meant}: {fix}") from error
    except (Exception, SystemExit) as error:  # whatever a module of the user's raises
        raise ConfigError(
            f"{named}, which cannot be imported ({_kind_and_text(error)}): give another, or mend it"
        ) from error


def _instead(thing: Any, name: str) -> str:
    """What to do where nothing makes a parallel environment."""
    path, _, last = name.rpartition(".")
    if path and last == "parallel_env":
        return f"give its module alone, {path}"
    if hasattr(thing, "env") or _extends(thing, "AECEnv"):
        return "in this module agents act by turns only, choose another"
    inside = sorted(vars(thing).items()) if isinstance(thing, ModuleType) else []
    for key, value in inside:
        if _extends(value, "ParallelEnv") and value.__module__ == thing.__name__:
            return f"give its class, {name}.{key}"
    return "it is no module of PettingZoo, choose another, or the class of a ParallelEnv"


def _extends(thing: Any, base: str) -> bool:
    """Whether it is a class that extends one of PettingZoo, which then is imported."""
    parent = getattr(sys.modules.get("pettingzoo"), base, None)
    return isinstance(thing, type) and isinstance(parent, type) and issubclass(thing, parent)


def _kind_and_text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


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


def one_line(error: BaseException) -> str:
    """What went wrong in another package, as one line; a KeyError's text is the key alone."""
    return (
        _kind_and_text(error) if isinstance(error, KeyError) else " ".join(str(error).split()) or type(error).__name__
    )

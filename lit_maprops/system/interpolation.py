"""What ``${...}`` in a configuration may stand for: other keys of it, and nothing of the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

from lit_maprops.system.errors import ConfigError

_ENVIRONMENT = "oc.env"


@contextmanager
def without_environment() -> Iterator[None]:
    """Inside, ``${oc.env:NAME}`` is refused: a secret of the machine would end in a run's folder, name or page."""
    before = BaseContainer._resolvers.get(_ENVIRONMENT)  # nothing public gives it back
    OmegaConf.register_new_resolver(_ENVIRONMENT, _refused, replace=True)
    try:
        yield
    finally:
        OmegaConf.clear_resolver(_ENVIRONMENT)
        if before is not None:
            BaseContainer._resolvers[_ENVIRONMENT] = before


def _refused(name: str, _default: object = None) -> NoReturn:
    raise ConfigError(f"${{oc.env:{name}}}: a configuration takes nothing from the environment: write the value")

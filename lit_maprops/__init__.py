"""MA-PROPS: centralized adaptive sampling for cooperative multi-agent reinforcement learning (arXiv 2508.01049).

The names in ``__all__`` are the stable ones. Each is imported when it is first asked for, since torch takes seconds.

Example:
    >>> import lit_maprops as lm
    >>> run = lm.fit(env=lm.BoulderPush(size="tiny"), behavior=lm.MAPROPS(), learner=lm.MAPPO(), num_seeds=16)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lit_maprops.system.version import __version__

if TYPE_CHECKING:
    from lit_maprops import keys, samplers
    from lit_maprops.api import RunResult, fit, load_run, resume
    from lit_maprops.behavior import (
        MAPROPS,
        PROPS,
        Autoregressive,
        BehaviorPolicy,
        Choice,
        CoordinationGraph,
        GaussianAdjustment,
        Greedy,
        LowDiscrepancy,
        OnPolicy,
        TabularMAPROPS,
    )
    from lit_maprops.data import MultiAgentData
    from lit_maprops.envs import (
        RWARE,
        VMAS,
        BoulderPush,
        Coordination,
        Foraging,
        Gymnasium,
        Interface,
        JaxMARL,
        MatrixGame,
        Overcooked,
        PettingZoo,
        SparseReacher,
        StagedGame,
        Task,
        TMaze,
        TorchRL,
        Transition,
        TwoPeaks,
    )
    from lit_maprops.module import LitMAPROPS
    from lit_maprops.planning.outcome import Plan
    from lit_maprops.planning.plan import plan
    from lit_maprops.samplers import JointSampler
    from lit_maprops.system.errors import ConfigError
    from lit_maprops.targets import HAPPO, IPPO, MAPPO, Learner, Reinforce

# Where each name is; a name without a home is a module.
_HOMES = {
    "keys": None,
    "samplers": None,
    "RunResult": "api",
    "fit": "api",
    "load_run": "api",
    "resume": "api",
    "MAPROPS": "behavior",
    "PROPS": "behavior",
    "Autoregressive": "behavior",
    "BehaviorPolicy": "behavior",
    "Choice": "behavior",
    "CoordinationGraph": "behavior",
    "GaussianAdjustment": "behavior",
    "Greedy": "behavior",
    "LowDiscrepancy": "behavior",
    "OnPolicy": "behavior",
    "TabularMAPROPS": "behavior",
    "MultiAgentData": "data",
    "RWARE": "envs",
    "VMAS": "envs",
    "BoulderPush": "envs",
    "Coordination": "envs",
    "Foraging": "envs",
    "Gymnasium": "envs",
    "Interface": "envs",
    "JaxMARL": "envs",
    "MatrixGame": "envs",
    "Overcooked": "envs",
    "PettingZoo": "envs",
    "SparseReacher": "envs",
    "StagedGame": "envs",
    "Task": "envs",
    "TMaze": "envs",
    "TorchRL": "envs",
    "Transition": "envs",
    "TwoPeaks": "envs",
    "LitMAPROPS": "module",
    "Plan": "planning.outcome",
    "plan": "planning.plan",
    "JointSampler": "samplers",
    "ConfigError": "system.errors",
    "HAPPO": "targets",
    "IPPO": "targets",
    "MAPPO": "targets",
    "Learner": "targets",
    "Reinforce": "targets",
}

__all__ = [
    "HAPPO",
    "IPPO",
    "MAPPO",
    "MAPROPS",
    "PROPS",
    "RWARE",
    "VMAS",
    "Autoregressive",
    "BehaviorPolicy",
    "BoulderPush",
    "Choice",
    "ConfigError",
    "Coordination",
    "CoordinationGraph",
    "Foraging",
    "GaussianAdjustment",
    "Greedy",
    "Gymnasium",
    "Interface",
    "JaxMARL",
    "JointSampler",
    "Learner",
    "LitMAPROPS",
    "LowDiscrepancy",
    "MatrixGame",
    "MultiAgentData",
    "OnPolicy",
    "Overcooked",
    "PettingZoo",
    "Plan",
    "Reinforce",
    "RunResult",
    "SparseReacher",
    "StagedGame",
    "TMaze",
    "TabularMAPROPS",
    "Task",
    "TorchRL",
    "Transition",
    "TwoPeaks",
    "__version__",
    "fit",
    "keys",
    "load_run",
    "plan",
    "resume",
    "samplers",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{__name__}.{name}") if home is None else getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

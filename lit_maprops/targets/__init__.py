"""Target policies pi_theta and their learners. ``LEARNERS`` is the registry: the learners that a run can have."""

from lit_maprops.targets.happo import HAPPO
from lit_maprops.targets.ippo import IPPO
from lit_maprops.targets.learner import Learner
from lit_maprops.targets.mappo import MAPPO
from lit_maprops.targets.policies import TargetPolicies
from lit_maprops.targets.reinforce import Reinforce

LEARNERS: dict[str, type[Learner]] = {"IPPO": IPPO, "MAPPO": MAPPO, "HAPPO": HAPPO, "Reinforce": Reinforce}

__all__ = ["HAPPO", "IPPO", "LEARNERS", "MAPPO", "Learner", "Reinforce", "TargetPolicies"]

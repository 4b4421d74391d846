"""SparseReacher: two agents each drive one joint of MuJoCo's Reacher arm and are rewarded for touching the target only.

The arm is Reacher 2x1 of multi-agent MuJoCo (Peng et al. 2021, arXiv 2003.06709; ``gymnasium_robotics.mamujoco_v1``).
arXiv 2508.01049 proposes a sparse variant as a test where good joint actions are rare, without numbers.
"""

from typing import Any, Literal

import numpy as np
from typing_extensions import override

from lit_maprops.envs.base import Interface
from lit_maprops.envs.pettingzoo.agents import Outcome
from lit_maprops.envs.pettingzoo.task import PettingZoo
from lit_maprops.system.argument_types import Count, PositiveFloat


class SparseReacher(PettingZoo):
    """Reacher 2x1 with a sparse reward; needs the extra ``envs``.

    Agent 0 sets the torque of the shoulder, agent 1 of the elbow. Both see both angles (sine and cosine), the speed of
    their own joint and the place of the target, 7 numbers; agent 1 also sees the way from target to fingertip, 3 more.
    The global state is Reacher's own observation, 10 numbers.

    Decided here: the first time the fingertip is within ``success_radius`` of the target, every agent gets reward 1 and
    the episode ends (terminated) as a success; every other step gives 0. So an episode's return is 1 or 0, and is its
    success. Touching at full speed counts. The distance is that of the package's own reward, at the places from which
    MuJoCo computed the step's last forces, so up to one substep of 0.01 s old.

    Args:
        success_radius: distance of fingertip and target that counts (meters). At the default the two balls, as they
            are drawn (radii 0.01 and 0.009), touch; the arm is 0.21 long, the targets lie within 0.2 of its shoulder.
        max_steps: time limit of an episode (steps of 0.02 s); in place of the package's 50.
        fixed_start: see ``PettingZoo``.
        squash: how a policy's numbers come into [-1, 1], the range of the motors: tanh or clip.

    Raises:
        ConfigError: a package is not installed, or an argument is out of range.
    """

    tells_success = True

    def __init__(
        self,
        success_radius: PositiveFloat = 0.02,
        max_steps: Count = 50,
        fixed_start: bool = False,
        squash: Literal["tanh", "clip"] = "tanh",
    ) -> None:
        self.success_radius = success_radius
        options = {"scenario": "Reacher", "agent_conf": "2x1", "max_episode_steps": max_steps + 1}
        super().__init__("gymnasium_robotics.mamujoco_v1", options, max_steps, fixed_start, squash)

    @property
    def title(self) -> str:
        """By itself."""
        return type(self).__name__

    @override
    def interface(self, agent: int) -> Interface:
        """Angles from the horizontal and, of the elbow, from the upper arm; meters, radians, seconds."""
        shoulder, elbow = ([f"{function} of the {joint}'s angle" for function in ("sine", "cosine")]
                           for joint in ("shoulder", "elbow"))  # fmt: skip
        target = ["x of the target", "y of the target"]
        way = [f"{axis} from the target to the fingertip" for axis in "xyz"]
        seen = [
            [*shoulder, "angular speed of the shoulder", *elbow, *target],
            [*elbow, "angular speed of the elbow", *way, *shoulder, *target],
        ]
        torque = ["torque of the shoulder", "torque of the elbow"]
        return super().interface(agent)._replace(observation=seen[agent], actions=[torque[agent]])

    def _judged(self, env: Any, outcome: Outcome) -> Outcome:
        arm = env.single_agent_env.unwrapped
        way = arm.get_body_com("fingertip") - arm.get_body_com("target")
        reached = bool(np.linalg.norm(way) <= self.success_radius)
        reward = np.full_like(outcome.reward, reached)
        return outcome._replace(reward=reward, terminated=reached, success=reached)

"""MAPPO: PPO whose critics see the global state."""

from typing import Any, Literal

from lit_maprops.targets.critics import AgentSpecificCritic, CentralCritic, Critic
from lit_maprops.targets.losses import UncheckedMAPPOLoss
from lit_maprops.targets.ppo import PPO


class MAPPO(PPO):
    """Multi-agent PPO (Yu et al. 2022): one central critic on the global state.

    Args:
        critic_input: what the critic sees: ``state``, the global one; or ``agent_specific_state``, for every agent the
            global state beside its own observation, in a critic of its own, or with ``share_parameters`` in one that
            also sees the agent's index.
        **ppo: the arguments of ``PPO``.
    """

    loss_class = UncheckedMAPPOLoss
    known_to_kernel = True

    def __init__(self, critic_input: Literal["state", "agent_specific_state"] = "state", **ppo: Any) -> None:
        super().__init__(**ppo)
        self.critic_input = critic_input

    @property
    def critic_class(self) -> type[Critic]:
        """Of the two kinds."""
        return CentralCritic if self.critic_input == "state" else AgentSpecificCritic

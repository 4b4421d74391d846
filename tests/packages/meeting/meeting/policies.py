"""A behavior policy and a learner that are those of lit_maprops with an argument more."""

from lit_maprops.behavior import OnPolicy
from lit_maprops.behavior.base import Choice, choose_independently
from lit_maprops.targets import Reinforce


class Curious(OnPolicy):
    """Draws from pi_theta mixed with uniform actions.

    Args:
        curiosity: share of uniform actions.
    """

    continuous = False

    def __init__(self, curiosity: float = 0.1) -> None:
        super().__init__()
        self.curiosity = curiosity

    def choose(self, data, parameters) -> Choice:
        uniform = parameters.new_full((), 1.0 / self.task.n_actions)
        mixed = ((1 - self.curiosity) * parameters.exp() + self.curiosity * uniform).log()
        return choose_independently(self.family, parameters, mixed, self.draw(data))


class Slow(Reinforce):
    """REINFORCE with small steps.

    Args:
        pace: learning rate.
    """

    def __init__(self, pace: float = 0.01) -> None:
        super().__init__(learning_rate=pace)


class Eager(Curious):
    """``Curious`` with more curiosity, registered nowhere."""

    def __init__(self) -> None:
        super().__init__(curiosity=0.5)

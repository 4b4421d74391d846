"""Agents whose names are misspelt in an answer of PettingZoo's: not taken for absent, as one without an entry is."""

import numpy as np
import pytest
from pettingzoo_toys import Toy

from lit_maprops.envs.pettingzoo.agents import Agents, Outcome

ANSWERS = {"rewards": 1, "terminations": 2, "truncations": 3}


class Renaming(Toy):
    """In one of its answers the second agent has another name, or None."""

    def __init__(self, answer: str, name: str | None) -> None:
        super().__init__()
        self.answer, self.name = ANSWERS[answer], name

    def step(self, actions):
        answers = super().step(actions)
        own = answers[self.answer].pop("b")
        answers[self.answer].update({} if self.name is None else {self.name: own})
        return answers


def stepped(answer: str, name: str | None) -> Outcome:
    env = Renaming(answer, name)
    agents = Agents(env, "<env.name> toy")
    agents.reset(env, 0)
    return agents.step(env, np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_misspelt_name_is_said(answer: str) -> None:
    with pytest.raises(ValueError, match=f"its {answer} have none of agent b, and one of 'bb', which is no agent"):
        stepped(answer, "bb")


@pytest.mark.parametrize("name", [None, "__all__"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_absent_entry_is_nothing(answer: str, name: str | None) -> None:
    outcome = stepped(answer, name)
    assert outcome.reward.tolist() == [1, 0 if answer == "rewards" else 1] and not outcome.terminated

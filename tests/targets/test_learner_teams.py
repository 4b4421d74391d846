"""A team of ranks that splits the rows of D learns what one process learns from all of them."""

from pathlib import Path

import pytest
import torch
from forked import in_ranks
from targets_helpers import SMALL, built, filled, random_batch

from lit_maprops.stacked.ranks import Ranks
from lit_maprops.targets import Learner

CASES = {
    "Reinforce": {"hidden": [8]},
    # 12 rows in 5 minibatches: parts of two and three rows, so that a member of three has none of some.
    "IPPO": SMALL | {"minibatches": 5, "epochs": 3},
    "MAPPO": SMALL | {"minibatches": 2, "epochs": 6, "kl_stop": 0.002, "learning_rate": 0.01},
    "HAPPO": SMALL | {"minibatches": 5, "epochs": 6, "kl_stop": 0.002, "learning_rate": 0.01},
}


def learned(learner: Learner) -> dict[str, torch.Tensor]:
    statistics = learner.update(filled(random_batch(learner, n_seeds=1)))
    return statistics | {f"parameter {name}": value for name, value in learner.state_dict().items()}


@pytest.mark.every(2)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_a_team_learns_what_one_process_learns(tmp_path: Path, name: str, size: int) -> None:
    alone = learned(built(name, [4], **CASES[name]))
    if "kl_stop" in CASES[name]:
        assert 1 <= alone["target_epochs"] < 6  # the stop matters

    def of_member(rank: int) -> dict[str, torch.Tensor]:
        learner = built(name, [4], **CASES[name])
        learner.team = Ranks(rank, size, 1).team
        return learned(learner)

    members = in_ranks(size, tmp_path, of_member)
    torch.testing.assert_close(members[0], alone, rtol=1e-4, atol=1e-6)
    for other in members[1:]:  # to the bit: members must not drift apart
        torch.testing.assert_close(other, members[0], rtol=0, atol=0)


def test_a_member_alone_learns_something_else() -> None:
    """Half of the rows is not all of them: otherwise the test above proves nothing."""
    learner = built("Reinforce", [4], hidden=[8])
    half = built("Reinforce", [4], hidden=[8])
    half.team = Ranks(0, 2, 1).team
    half.team.size = 1  # adds up nothing
    whole, part = learned(learner), learned(half)
    assert not torch.allclose(whole["policy_loss"], part["policy_loss"], rtol=1e-2)

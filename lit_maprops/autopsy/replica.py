"""Seeds of a run trained on from any of its states, in this process and without a Trainer's loop.

A state is what a checkpoint holds of some seeds between two target iterations, in memory: parameters, optimizers and
``run_state``. Every tensor of it starts with the seed dimension, so that rows can be taken out of it and repeated.
"""

import copy
from typing import Any

from tensordict import TensorDictBase
from typing_extensions import override

from lit_maprops.autopsy.case import Case
from lit_maprops.data import MultiAgentData
from lit_maprops.module import LitMAPROPS
from lit_maprops.stacked.ranks import sliced
from lit_maprops.system.checkpoint import CHECKPOINT_KEY

NEVER = 10**6  # target iterations between evaluations: the last one has one anyway
EVERYONE = slice(None)
State = dict[str, Any]


class Replica(LitMAPROPS):
    """Like the run itself, but nothing is measured, and the batch of every update is kept.

    Attributes:
        batch: D of the newest update, ``[R, T, E]``.
    """

    batch: TensorDictBase

    @override
    def _update_targets(self) -> None:
        self.batch = self.buffer.current().clone()
        super()._update_targets()

    def iterate(self) -> None:
        """One target iteration."""
        self.training_step(0, 0)

    def state(self) -> State:
        """Where all seeds stand; a copy."""
        optimizers = [optimizer.state_dict() for optimizer in self.configure_optimizers()]
        own = {"state_dict": self.state_dict(), "optimizer_states": optimizers, CHECKPOINT_KEY: self.run_state()}
        return sliced(own, EVERYONE)

    def go_to(self, state: State) -> None:
        """Stand where ``state``, of as many seeds, stands; it is copied."""
        state = sliced(state, EVERYONE)
        self.load_state_dict(state["state_dict"])
        for optimizer, saved in zip(self.configure_optimizers(), state["optimizer_states"], strict=True):
            optimizer.load_state_dict(saved)
        self.keep_optimizer_settings()
        self._saved = state[CHECKPOINT_KEY]
        self.iteration = self.data.iterations_done = state[CHECKPOINT_KEY]["iteration"]
        self.restore_saved()

    def branch_from(self, state: State) -> None:
        """Stand where ``state`` stands, with other numbers to come: those of this replica, which has drawn none yet.

        What draws begin a batch with was drawn when ``state``'s last one ended, so it is drawn anew; D is empty.
        """
        self.go_to(_with_fresh_streams(state, self.state()))
        self.behavior.reset(None)


def replica(case: Case, ids: list[int], start_ids: list[int]) -> Replica:
    """Seeds of a run at its beginning.

    Args:
        case: the run.
        ids: whose random numbers they draw; the run's own seeds repeat what the run did.
        start_ids: seeds of the run whose fixed start they have, one for each of ``ids``.
    """
    own, data = case.template, case.data
    model = Replica(
        copy.deepcopy(own.behavior),
        copy.deepcopy(own.learner),
        num_seeds=len(ids),
        total_env_steps=own.total_env_steps,
        eval_interval=NEVER,
        eval_episodes=own.eval_episodes,
        solved_on=own.solved_on,
        solved_threshold=own.solved_threshold,
        engine=own.engine,
        run_seed=own.run_seed,
    )
    model.seed_ids, model.start_ids = list(ids), list(start_ids)
    model.trainer = case.trainer
    model.prepare(MultiAgentData(data.env, data.num_envs, data.behavior_batch_size, data.target_batch_size))
    model.choose_engines(case.trainer)
    model.on_fit_start()
    return model


def _with_fresh_streams(state: Any, fresh: Any) -> Any:
    """A state whose random streams are those of another one of the same form, so that other numbers come."""
    if not isinstance(state, dict):
        return state
    if "block_states" in state:
        return fresh
    return {k: _with_fresh_streams(v, fresh[k]) if k in fresh else v for k, v in state.items()}

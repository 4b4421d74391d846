"""BenchMARL's MAPPO with and without MA-PROPS: only its policy for collection differs.

BenchMARL 1.5.2 asks for torchrl below 0.12 and so lives in a virtual environment of its own (``make examples``), with
this project on PYTHONPATH: the samplers need torch, torchrl and numpy only.

    PYTHONPATH=. build/peers/benchmarl/bin/python examples/benchmarl_mappo.py --sampler on_policy --seeds 40
    PYTHONPATH=. build/peers/benchmarl/bin/python examples/benchmarl_mappo.py --sampler ma_props --seeds 40
"""

import argparse
import contextlib
import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from benchmarl.algorithms import Mappo, MappoConfig
from benchmarl.environments.common import TaskClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from figure1 import N_ACTIONS, N_AGENTS, Figure1, summary
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl import logger
from torchrl.data import Composite
from torchrl.envs import EnvBase
from typing_extensions import override

from lit_maprops.behavior import MAPROPS
from lit_maprops.samplers import JointSampler, SampledPolicy


class Figure1Task(TaskClass):
    """The game as a BenchMARL task."""

    @override
    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: str
    ) -> Callable[[], EnvBase]:
        return lambda: Figure1(num_envs)

    @override
    def supports_continuous_actions(self) -> bool:
        return False

    @override
    def supports_discrete_actions(self) -> bool:
        return True

    @override
    def max_steps(self, env: EnvBase) -> int:
        return 1

    @override
    def has_render(self, env: EnvBase) -> bool:
        return False

    @override
    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        return {"agents": [f"agent_{number}" for number in range(N_AGENTS)]}

    @override
    def observation_spec(self, env: EnvBase) -> Composite:
        return env.observation_spec_unbatched

    @override
    def action_spec(self, env: EnvBase) -> Composite:
        return env.full_action_spec_unbatched

    @override
    def state_spec(self, env: EnvBase) -> None:
        return None

    @override
    def info_spec(self, env: EnvBase) -> None:
        return None

    @override
    def action_mask_spec(self, env: EnvBase) -> None:
        return None

    @staticmethod
    @override
    def env_name() -> str:
        return "figure1"


class SampledMappo(Mappo):
    """MAPPO whose data a ``JointSampler`` draws; losses see the actor itself."""

    sampler: JointSampler

    @override
    def _get_policy_for_collection(
        self, policy_for_loss: TensorDictModule, group: str, continuous: bool
    ) -> TensorDictModule:
        envs = self.experiment_config.n_envs_per_worker(self.on_policy)
        behavior = MAPROPS(clip_epsilon=1.0, kl_cutoff=1.0, learning_rate=1.0, epochs=8, hidden=[])
        n_actions = [int(self.action_spec[group, "action"].space.n)] * len(self.group_map[group])
        self.sampler = JointSampler(behavior, n_actions, num_envs=envs, seed=self.experiment.seed)
        return SampledPolicy(
            policy_for_loss[0],  # the networks; what follows draws from their logits
            self.sampler,
            behavior_batch_size=envs,
            logits_key=(group, "logits"),
            action_key=(group, "action"),
            log_prob_key=(group, "log_prob"),
            observation_key=(group, "observation"),
        )


@dataclass
class SampledMappoConfig(MappoConfig):
    """As ``MappoConfig``."""

    @staticmethod
    @override
    def associated_class() -> type[Mappo]:
        return SampledMappo


class StartFromTheta(Callback):
    """Resets the sampler whenever theta has changed, and once the collector has tried its policy."""

    @override
    def on_setup(self) -> None:
        self.experiment.algorithm.sampler.reset()

    @override
    def on_train_end(self, training_td: TensorDictBase, group: str) -> None:
        self.experiment.algorithm.sampler.reset()


def train(args: argparse.Namespace, seed: int, folder: str) -> bool:
    """One run; whether both agents prefer A in the end."""
    config, model = ExperimentConfig.get_from_yaml(), MlpConfig.get_from_yaml()
    config.loggers, config.evaluation, config.render, config.create_json = [], False, False, False
    config.save_folder, config.share_policy_params = folder, False
    config.lr, config.max_n_frames, config.max_n_iters = args.learning_rate, None, args.updates
    config.on_policy_n_envs_per_worker = args.num_envs
    config.on_policy_collected_frames_per_batch = args.num_steps * args.num_envs
    config.on_policy_minibatch_size = args.num_steps * args.num_envs
    config.on_policy_n_minibatch_iters = args.epochs
    model.num_cells = [args.hidden]
    sampled = args.sampler == "ma_props"
    defaults = MappoConfig.get_from_yaml()
    experiment = Experiment(
        task=Figure1Task("FIGURE1", {}),
        algorithm_config=SampledMappoConfig(**vars(defaults)) if sampled else defaults,
        model_config=model,
        critic_model_config=copy.deepcopy(model),
        seed=seed,
        config=config,
        callbacks=[StartFromTheta()] if sampled else [],
    )
    actor = experiment.algorithm.get_policy_for_loss("agents")
    start_uniform(actor)
    experiment.run()
    return bool((actor(Figure1(1).reset())["agents", "logits"].argmax(-1) == 0).all())


def start_uniform(actor: nn.Module) -> None:
    """Zero the last layer of every agent's policy."""
    with torch.no_grad():
        for parameter in actor.parameters():
            if N_ACTIONS in parameter.shape[1:]:
                parameter.zero_()


def main(argv: Sequence[str] | None = None) -> None:
    """Train all seeds and print how many end at (A, A)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", choices=["on_policy", "ma_props"], default="ma_props")
    parser.add_argument("--seeds", type=int, default=20, help="runs")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--num-steps", type=int, default=4, help="steps per update and environment")
    parser.add_argument("--num-envs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=8, help="units of the hidden layer")
    parser.add_argument("--learning-rate", type=float, default=0.02)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    logger.setLevel("WARNING")
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        ends = []
        for seed in range(args.seed, args.seed + args.seeds):
            with contextlib.redirect_stderr(nowhere):  # a progress bar per run
                ends.append(train(args, seed, folder))
    print(summary(args.sampler, ends))


if __name__ == "__main__":
    main()

"""Multi-agent PPO with TorchRL's collector, replay buffer and losses, with and without MA-PROPS.

The collector's policy is the only difference: the actor itself, or ``SampledPolicy`` around the actor's networks.

    python examples/torchrl_multiagent_ppo.py --sampler on_policy --seeds 40
    python examples/torchrl_multiagent_ppo.py --sampler ma_props --seeds 40
"""

import argparse
from collections.abc import Sequence

import torch
from figure1 import N_ACTIONS, N_AGENTS, Figure1, summary
from tensordict.nn import TensorDictModule
from torch import nn
from torch.distributions import Categorical
from torchrl import logger
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.modules import MultiAgentMLP, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss, ValueEstimators

from lit_maprops.behavior import MAPROPS
from lit_maprops.samplers import JointSampler, SampledPolicy

OBSERVATION, LOGITS, LOG_PROB = ("agents", "observation"), ("agents", "logits"), ("agents", "action_log_prob")


def network(outputs: int, centralized: bool) -> MultiAgentMLP:
    """One linear map per agent, 0 at the start: uniform policies, values of 0."""
    sizes = {"n_agent_inputs": 1, "n_agent_outputs": outputs, "n_agents": N_AGENTS, "num_cells": []}
    net = MultiAgentMLP(**sizes, centralized=centralized, share_params=False)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net


def loss_of(actor: ProbabilisticActor, args: argparse.Namespace) -> ClipPPOLoss:
    """Clipped PPO over the agents' keys, with a central critic and GAE."""
    critic = TensorDictModule(network(1, centralized=True), in_keys=[OBSERVATION], out_keys=[("agents", "state_value")])
    loss = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.0, normalize_advantage=False)
    loss.set_keys(
        reward=("agents", "reward"),
        action=("agents", "action"),
        value=("agents", "state_value"),
        done=("agents", "done"),
        terminated=("agents", "terminated"),
        sample_log_prob=LOG_PROB,
        advantage=("agents", "advantage"),
        value_target=("agents", "value_target"),
    )
    loss.make_value_estimator(ValueEstimators.GAE, gamma=0.99, lmbda=0.95)
    return loss


def train(args: argparse.Namespace, seed: int) -> bool:
    """One run; whether both agents prefer A in the end."""
    torch.manual_seed(seed)
    env = Figure1(args.num_envs)
    logits = TensorDictModule(network(N_ACTIONS, centralized=False), in_keys=[OBSERVATION], out_keys=[LOGITS])
    actor = ProbabilisticActor(
        logits,
        in_keys=[LOGITS],
        out_keys=[("agents", "action")],
        distribution_class=Categorical,
        return_log_prob=True,
        log_prob_key=LOG_PROB,
    )
    sampler, policy = None, actor
    if args.sampler == "ma_props":
        behavior = MAPROPS(clip_epsilon=1.0, kl_cutoff=1.0, learning_rate=1.0, epochs=8, hidden=[])
        sampler = JointSampler(behavior, n_actions=[N_ACTIONS] * N_AGENTS, num_envs=args.num_envs, seed=seed)
        policy = SampledPolicy(logits, sampler, behavior_batch_size=args.num_envs, log_prob_key=LOG_PROB)

    frames = args.num_steps * args.num_envs
    collector = Collector(
        env,
        policy,
        frames_per_batch=frames,
        total_frames=frames * args.updates,
        auto_register_policy_transforms=False,
    )
    if sampler is not None:
        sampler.reset()  # the collector has tried its policy once
    storage = LazyTensorStorage(frames)
    buffer = TensorDictReplayBuffer(storage=storage, sampler=SamplerWithoutReplacement(), batch_size=frames)
    loss = loss_of(actor, args)
    optimizer = torch.optim.Adam(loss.parameters(), args.learning_rate, eps=1e-5)
    for batch in collector:
        for flag in ("done", "terminated"):  # GAE wants them in the shape of the agents' rewards
            batch.set(("next", "agents", flag), batch["next", flag].unsqueeze(-2).expand(*batch.shape, N_AGENTS, 1))
        with torch.no_grad():
            loss.value_estimator(
                batch, params=loss.critic_network_params, target_params=loss.target_critic_network_params
            )
        buffer.extend(batch.reshape(-1))
        for _ in range(args.epochs):
            for minibatch in buffer:
                values = loss(minibatch)
                optimizer.zero_grad()
                (values["loss_objective"] + values["loss_critic"] + values["loss_entropy"]).backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()
        buffer.empty()
        if sampler is not None:
            sampler.reset()  # theta has changed
    collector.shutdown()
    return bool((logits(env.reset())[LOGITS].argmax(-1) == 0).all())


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
    parser.add_argument("--learning-rate", type=float, default=0.05)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    logger.setLevel("WARNING")
    ends = [train(args, seed) for seed in range(args.seed, args.seed + args.seeds)]
    print(summary(args.sampler, ends))


if __name__ == "__main__":
    main()

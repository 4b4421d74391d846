"""Independent PPO for two agents in one file, with and without MA-PROPS: what a sampler changes in a loop of your own.

The game is Figure 1 of arXiv 2508.01049: both agents want (A, A), and mismatches are punished. From uniform policies
the exact gradient leads to (A, A); the samples of a small batch may say otherwise, and some runs end at (B, B).

    python examples/cleanrl_style_ppo.py --sampler on_policy --seeds 40
    python examples/cleanrl_style_ppo.py --sampler ma_props --seeds 40
"""

import argparse
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from lit_maprops.behavior import MAPROPS
from lit_maprops.samplers import JointSampler

PAYOFF = torch.tensor([[1.0, -1.0], [-1.0, 0.8]])
N_AGENTS, N_ACTIONS = 2, 2


class Figure1:
    """``num_envs`` copies of the game; every step ends an episode, and the only observation is the constant 1."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def reset(self) -> Tensor:
        """The observations ``[E, O]``, here also the state."""
        return torch.ones(self.num_envs, 1)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Observations ``[E, O]``, shared reward ``[E]`` and end of the episode ``[E]`` of actions ``[E, A]``."""
        return self.reset(), PAYOFF[action[:, 0], action[:, 1]], torch.ones(self.num_envs)


class Agents(nn.Module):
    """One actor per agent, uniform at the start, and a central critic."""

    def __init__(self) -> None:
        super().__init__()
        self.actors = nn.ModuleList(nn.Linear(1, N_ACTIONS, bias=False) for _ in range(N_AGENTS))
        self.critic = nn.Linear(1, 1, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def log_probs(self, obs: Tensor) -> Tensor:
        """log pi_theta_i of every action: ``[..., O] -> [..., A, N]``."""
        return torch.stack([actor(obs) for actor in self.actors], -2).log_softmax(-1)


def train(args: argparse.Namespace, seed: int) -> Tensor:
    """One run; returns both agents' probability of A, ``[A]``."""
    torch.manual_seed(seed)
    env, agents = Figure1(args.num_envs), Agents()
    optimizer = torch.optim.Adam(agents.parameters(), lr=args.learning_rate, eps=1e-5)
    sampler = None
    if args.sampler == "ma_props":
        behavior = MAPROPS(clip_epsilon=1.0, kl_cutoff=1.0, learning_rate=1.0, epochs=8, hidden=[])
        sampler = JointSampler(behavior, n_actions=[N_ACTIONS] * N_AGENTS, num_envs=args.num_envs, seed=seed)

    shape = (args.num_steps, args.num_envs)
    all_obs, all_actions = torch.zeros(*shape, 1), torch.zeros(*shape, N_AGENTS, dtype=torch.int64)
    old_log_prob, rewards = torch.zeros(*shape, N_AGENTS), torch.zeros(shape)
    dones, values = torch.zeros(shape), torch.zeros(shape)
    obs = env.reset()
    for _ in range(args.updates):
        for step in range(args.num_steps):
            with torch.no_grad():
                log_probs, values[step] = agents.log_probs(obs), agents.critic(obs).squeeze(-1)
            # Without a sampler: every agent draws by itself. With one: all draw together, from the adjusted policy.
            action = Categorical(logits=log_probs).sample() if sampler is None else sampler.act(obs, log_probs)
            all_obs[step], all_actions[step] = obs, action
            # PPO's denominator is the target policies' log-probability, whoever drew the action.
            old_log_prob[step] = log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)
            obs, rewards[step], dones[step] = env.step(action)
            if sampler is not None:
                sampler.observe()
                if step + 1 < args.num_steps:  # m = num_envs: after every step but the last
                    sampler.update(measure=False)

        advantages, last = torch.zeros(shape), torch.zeros(args.num_envs)
        with torch.no_grad():
            following = agents.critic(obs).squeeze(-1)
        for step in reversed(range(args.num_steps)):
            going = 1 - dones[step]
            error = rewards[step] + args.gamma * following * going - values[step]
            advantages[step] = last = error + args.gamma * args.gae_lambda * going * last
            following = values[step]
        returns = advantages + values

        batch = (all_obs, all_actions, old_log_prob, advantages, returns)
        b_obs, b_actions, b_old, b_advantages, b_returns = (part.flatten(0, 1) for part in batch)
        for _ in range(args.update_epochs):
            for rows in torch.randperm(len(b_obs)).split(args.minibatch_size):
                log_probs = agents.log_probs(b_obs[rows])
                log_prob = log_probs.gather(-1, b_actions[rows].unsqueeze(-1)).squeeze(-1)
                ratio = (log_prob - b_old[rows]).exp()  # of each agent
                advantage = b_advantages[rows].unsqueeze(-1)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                policy_loss = -torch.min(advantage * ratio, advantage * clipped).sum(-1).mean()
                value_loss = 0.5 * (agents.critic(b_obs[rows]).squeeze(-1) - b_returns[rows]).square().mean()
                entropy = -(log_probs.exp() * log_probs).sum((-2, -1)).mean()
                optimizer.zero_grad()
                (policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy).backward()
                nn.utils.clip_grad_norm_(agents.parameters(), args.max_grad_norm)
                optimizer.step()
        if sampler is not None:
            sampler.reset()  # theta has changed: the behavior policy starts from it again, on an empty batch
    return agents.log_probs(env.reset())[0, :, 0].detach().exp()


def wilson(successes: int, runs: int, z: float = 1.96) -> tuple[float, float]:
    """Bounds of the 95% confidence interval of a share (Wilson 1927)."""
    share, middle = successes / runs, (successes + z * z / 2) / (runs + z * z)
    half = z * math.sqrt(share * (1 - share) / runs + (z / (2 * runs)) ** 2) / (1 + z * z / runs)
    return middle - half, middle + half


def main(argv: Sequence[str] | None = None) -> None:
    """Train all seeds and print how many end at (A, A)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", choices=["on_policy", "ma_props"], default="ma_props")
    parser.add_argument("--seeds", type=int, default=20, help="runs")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--num-steps", type=int, default=8, help="steps per update and environment")
    parser.add_argument("--num-envs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--update-epochs", type=int, default=4)
    parser.add_argument("--minibatch-size", type=int, default=8)
    for name, value in (("gamma", 0.99), ("gae-lambda", 0.95), ("clip-coef", 0.2), ("ent-coef", 0.0), ("vf-coef", 0.5)):
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.add_argument("--max-grad-norm", type=float, default=0.5)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    ends = [bool((train(args, seed) > 0.5).all()) for seed in range(args.seed, args.seed + args.seeds)]
    low, high = wilson(sum(ends), len(ends))
    share = sum(ends) / len(ends)
    print(f"{args.sampler}: {sum(ends)} of {len(ends)} runs end at (A, A), {share:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()

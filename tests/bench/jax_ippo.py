"""IPPO in JAX on JaxMARL's simple_spread, as its baselines do it; runs in JaxMARL's own environment, without torch.

16 environments, 128 steps, 4 passes of 4 minibatches, separate 64-64 tanh actor and critic shared by the agents,
vmapped over seeds and compiled as a whole. Prints env steps per second of all seeds together.
"""

import sys
import time

import jax
import jax.numpy as jnp
import jaxmarl
import optax

ENVS, STEPS, PASSES, PARTS, GAMMA, LAMBDA, CLIP = 16, 128, 4, 4, 0.99, 0.95, 0.2
SEEDS, UPDATES = int(sys.argv[1]), 20
ENV = jaxmarl.make("MPE_simple_spread_v3")
AGENTS = ENV.agents
N_ACTIONS = ENV.action_space(AGENTS[0]).n
OBSERVATION_DIM = ENV.observation_space(AGENTS[0]).shape[0]


def network(key, out, gain):
    sizes = [OBSERVATION_DIM, 64, 64, out]
    keys = jax.random.split(key, 3)
    gains = [2**0.5, 2**0.5, gain]
    return [
        (jax.nn.initializers.orthogonal(g)(k, (a, b)), jnp.zeros(b))
        for k, g, a, b in zip(keys, gains, sizes, sizes[1:], strict=False)
    ]


def apply(layers, x):
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


def stacked(values):
    return jnp.stack([values[agent] for agent in AGENTS], 1)


OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2.5e-3, eps=1e-5))


def loss_of(params, batch):
    observation, action, old, advantage, target = batch
    log_pi = jax.nn.log_softmax(apply(params["actor"], observation))
    ratio = jnp.exp(jnp.take_along_axis(log_pi, action[..., None], -1)[..., 0] - old)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    policy = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
    value = apply(params["critic"], observation)[..., 0]
    entropy = -(jnp.exp(log_pi) * log_pi).sum(-1).mean()
    return policy + 0.5 * jnp.square(value - target).mean() - 0.01 * entropy


def rollout(params, carry, key):
    def step(carry, key):
        state, observation = carry
        sample, advance = jax.random.split(key)
        log_pi = jax.nn.log_softmax(apply(params["actor"], observation))
        action = jax.random.categorical(sample, log_pi)
        chosen = {agent: action[:, i] for i, agent in enumerate(AGENTS)}
        following, state, reward, done, _ = jax.vmap(ENV.step)(jax.random.split(advance, ENVS), state, chosen)
        old = jnp.take_along_axis(log_pi, action[..., None], -1)[..., 0]
        value = apply(params["critic"], observation)[..., 0]
        row = (observation, action, old, value, stacked(reward), done["__all__"])
        return (state, stacked(following)), row

    return jax.lax.scan(step, carry, jax.random.split(key, STEPS))


def advantages(value, reward, done, last):
    def back(carry, row):
        advantage, following = carry
        value, reward, done = row
        alive = 1.0 - done[:, None]
        advantage = reward + GAMMA * following * alive - value + GAMMA * LAMBDA * alive * advantage
        return (advantage, value), advantage

    _, advantage = jax.lax.scan(back, (jnp.zeros_like(last), last), (value, reward, done), reverse=True)
    return advantage


def update(runner, _):
    params, moments, carry, key = runner
    key, collecting, shuffling = jax.random.split(key, 3)
    carry, (observation, action, old, value, reward, done) = rollout(params, carry, collecting)
    advantage = advantages(value, reward, done, apply(params["critic"], carry[1])[..., 0])
    data = (observation, action, old, advantage, advantage + value)
    data = jax.tree.map(lambda x: x.reshape(ENVS * STEPS, *x.shape[2:]), data)

    def one_pass(carry, key):
        order = jax.random.permutation(key, ENVS * STEPS)
        parts = jax.tree.map(lambda x: x[order].reshape(PARTS, -1, *x.shape[1:]), data)

        def descend(carry, part):
            params, moments = carry
            step, moments = OPTIMIZER.update(jax.grad(loss_of)(params, part), moments)
            return (optax.apply_updates(params, step), moments), None

        return jax.lax.scan(descend, carry, parts)

    (params, moments), _ = jax.lax.scan(one_pass, (params, moments), jax.random.split(shuffling, PASSES))
    return (params, moments, carry, key), reward.mean()


def train(key):
    actor, critic, start, key = jax.random.split(key, 4)
    params = {"actor": network(actor, N_ACTIONS, 0.01), "critic": network(critic, 1, 1.0)}
    observation, state = jax.vmap(ENV.reset)(jax.random.split(start, ENVS))
    runner = (params, OPTIMIZER.init(params), (state, stacked(observation)), key)
    return jax.lax.scan(update, runner, None, UPDATES)[1]


compiled = jax.jit(jax.vmap(train))
jax.block_until_ready(compiled(jax.random.split(jax.random.key(0), SEEDS)))
started = time.perf_counter()
jax.block_until_ready(compiled(jax.random.split(jax.random.key(1), SEEDS)))
print(SEEDS * UPDATES * STEPS * ENVS / (time.perf_counter() - started))

"""A JaxMARL environment as two compiled functions of a few arrays: a start from a key, and a step.

JaxMARL's environments are pure functions already, of trees of small arrays and of PRNG keys. Here the leaves of a tree
lie side by side in one row for each kind of number, so that torch keeps a state in two or three tensors.

Rows are played ``BLOCK`` at a time by one program. A program compiled for another number of rows may round the last
bit of a row differently, and compiling takes seconds: so what becomes of a row depends on nothing but its state, its
key and its actions, and any number of rows needs nothing new.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_maprops.envs.jaxmarl.scenarios import one_line
from lit_maprops.system.errors import ConfigError, check

BLOCK = 32
KINDS = ("float32", "int32", "bool")
_MASKS = ("get_avail_actions", "get_legal_moves")  # the latter in Hanabi
_WORLD = "world_state"


class Simulator:
    """The compiled functions of one environment.

    Args:
        env: of JaxMARL.
        is_won: from its state to whether the team has succeeded.
        named: the argument that gave it, for messages.

    Attributes:
        tells_success: whether there is ``is_won``.
        names: of the agents.
        action_sizes: actions of each agent.
        observation_sizes: numbers each agent sees.
        picture: channels, rows and columns, where all agents see one picture of one shape; None: they do not.
        state_size: numbers in the global state.

    Raises:
        ConfigError: it has other than discrete actions, or cannot be played.
    """

    def __init__(self, env: Any, is_won: Callable[[Any], Any] | None, named: str) -> None:
        import jax

        self._env, self._is_won = env, is_won
        self.tells_success = is_won is not None
        self.names = [str(name) for name in env.agents]
        self.action_sizes = [_size(env.action_space(name), named) for name in env.agents]
        key = jax.ShapeDtypeStruct((2,), np.uint32)
        try:
            seen, state = jax.eval_shape(env.reset, key)
            self._leaves, self._tree = jax.tree.flatten(state)
            self._masks = self._mask_of(state)
            self._lay_out(seen)
            start = jax.eval_shape(self._started, jax.ShapeDtypeStruct((2,), np.int32))
            self.state_size = start["vector"].shape[0]
            packed = {kind: start[kind] for kind in KINDS if kind in start}
            action = jax.ShapeDtypeStruct((len(self.names),), np.int32)
            jax.eval_shape(self._stepped, packed, action, jax.ShapeDtypeStruct((2,), np.int32))
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"{named} cannot be played: {type(error).__name__}, {one_line(error)}") from error
        self._start, self._step = (jax.jit(jax.vmap(one)) for one in (self._started, self._stepped))

    @property
    def masks(self) -> bool:
        """Whether it says which actions are legal."""
        return self._masks is not None

    def start(self, key: Tensor) -> dict[str, Tensor]:
        """The start of the episodes of ``key`` ``[P, 2]`` int32: the state and what is seen of it.

        Returns:
            The state under ``KINDS``, ``observation`` ``[P, A, O]`` float32, ``vector`` ``[P, S]`` float32 and, with
            masks, ``legal`` ``[P, A, N]`` bool.
        """
        return _in_blocks(self._start, {}, key)

    def step(self, state: dict[str, Tensor], action: Tensor, key: Tensor) -> dict[str, Tensor]:
        """A step of all rows.

        Args:
            state: ``[P, ...]``, its part under ``KINDS``.
            action: ``[P, A]``.
            key: ``[P, 2]`` int32.

        Returns:
            As ``start``, and ``reward`` ``[P, A]`` float32, ``over`` ``[P]``, ``gone`` ``[P, A]`` (whose own part is
            over) and ``won`` ``[P]`` bool.
        """
        return _in_blocks(self._step, {kind: state[kind] for kind in KINDS if kind in state}, action.int(), key)

    def _mask_of(self, state: Any) -> Callable[[Any], Any] | None:
        """The environment's own function of its state to legal actions, if it has one that fits its actions."""
        import jax

        for name in _MASKS:
            try:
                mask = getattr(self._env, name)
                shapes = jax.eval_shape(mask, state)
                if all(shapes[a].shape == (n,) for a, n in zip(self._env.agents, self.action_sizes, strict=True)):
                    return mask
            except (AttributeError, NotImplementedError):
                continue
        return None

    def _lay_out(self, seen: Any) -> None:
        """Set how observations lie in rows, from their shapes."""
        import jax

        shapes = [[leaf.shape for leaf in jax.tree.leaves(seen[name])] for name in self._env.agents]
        self.observation_sizes = [sum(int(np.prod(shape)) for shape in each) for each in shapes]
        alike = all(len(each) == 1 and len(each[0]) == 3 and each == shapes[0] for each in shapes)
        rows, columns, channels = shapes[0][0] if alike else (0, 0, 0)
        self.picture = (channels, rows, columns) if alike else None

    def _started(self, key: Any) -> dict[str, Any]:
        seen, state = self._env.reset(_unsigned(key))
        return self._packed(state) | self._shown(seen, state)

    def _stepped(self, packed: dict[str, Any], action: Any, key: Any) -> dict[str, Any]:
        import jax.numpy as jnp

        actions = {name: action[number] for number, name in enumerate(self._env.agents)}
        seen, state, reward, done, _ = self._env.step_env(_unsigned(key), self._unpacked(packed), actions)
        over, agents = done["__all__"], self._env.agents
        return {
            **self._packed(state),
            **self._shown(seen, state),
            "reward": jnp.stack([jnp.asarray(reward[name], jnp.float32).reshape(()) for name in agents]),
            "over": jnp.asarray(over, bool).reshape(()),
            "gone": jnp.stack([jnp.asarray(done.get(name, over), bool).reshape(()) for name in agents]),
            "won": jnp.asarray(self._is_won(state) if self._is_won else False, bool),
        }

    def _shown(self, seen: Any, state: Any) -> dict[str, Any]:
        import jax
        import jax.numpy as jnp

        each, width = [], max(self.observation_sizes)
        for name in self._env.agents:
            parts = [jnp.moveaxis(leaf, -1, 0) if self.picture else leaf for leaf in jax.tree.leaves(seen[name])]
            each.append(jnp.concatenate([jnp.ravel(part).astype(jnp.float32) for part in parts]))
        world = seen[_WORLD] if _WORLD in seen else jnp.concatenate(each)
        shown = {
            "observation": jnp.stack([jnp.pad(one, (0, width - len(one))) for one in each]),
            "vector": jnp.ravel(world).astype(jnp.float32),
        }
        if self._masks is None:
            return shown
        most, legal = max(self.action_sizes), self._masks(state)
        rows = [jnp.pad(jnp.asarray(legal[name]) > 0, (0, most - n))
                for name, n in zip(self._env.agents, self.action_sizes, strict=True)]  # fmt: skip
        return shown | {"legal": jnp.stack(rows)}

    def _packed(self, state: Any) -> dict[str, Any]:
        import jax
        import jax.numpy as jnp

        rows: dict[str, list[Any]] = {}
        for leaf, like in zip(jax.tree.leaves(state), self._leaves, strict=True):
            flat = jnp.ravel(jnp.asarray(leaf, like.dtype))
            if like.dtype == np.uint32:  # keys among them
                flat = jax.lax.bitcast_convert_type(flat, jnp.int32)
            rows.setdefault(_kind(like.dtype), []).append(flat.astype(_kind(like.dtype)))
        return {kind: jnp.concatenate(parts) for kind, parts in rows.items()}

    def _unpacked(self, packed: dict[str, Any]) -> Any:
        import jax

        taken, leaves = dict.fromkeys(KINDS, 0), []
        for like in self._leaves:
            kind, size = _kind(like.dtype), int(np.prod(like.shape))
            flat = packed[kind][taken[kind] : taken[kind] + size]
            taken[kind] += size
            flat = _unsigned(flat) if like.dtype == np.uint32 else flat.astype(like.dtype)
            leaves.append(flat.reshape(like.shape))
        return jax.tree.unflatten(self._tree, leaves)


def _size(space: Any, named: str) -> int:
    check(
        hasattr(space, "n"),
        f"{named} has actions of kind {type(space).__name__}: choose one with Discrete actions, or give the option "
        "that makes them so in <env.options>",
    )
    return int(space.n)


def _kind(dtype: Any) -> str:
    if dtype == np.bool_:
        return "bool"
    return "int32" if np.issubdtype(dtype, np.integer) else "float32"


def _unsigned(key: Any) -> Any:
    import jax

    return jax.lax.bitcast_convert_type(key, np.uint32)


def _in_blocks(program: Callable[..., Any], packed: dict[str, Tensor], *others: Tensor) -> dict[str, Tensor]:
    """Run a program of ``BLOCK`` rows on any number of them, ``[P, ...]``; the last one fills up the last block."""
    arrays = [value.detach().cpu().numpy() for value in (*packed.values(), *others)]
    rows = len(arrays[-1])
    outcomes = []
    for first in range(0, rows, BLOCK):
        block = [_filled(array[first : first + BLOCK]) for array in arrays]
        inputs = [dict(zip(packed, block, strict=False))] if packed else []
        outcomes.append(program(*inputs, *block[len(packed) :]))
    # Copies: what JAX owns must not be written to, and torch does not ask.
    joined = partial(np.concatenate, axis=0)
    return {name: torch.from_numpy(joined([one[name] for one in outcomes])[:rows]) for name in outcomes[0]}


def _filled(block: np.ndarray) -> np.ndarray:
    missing = BLOCK - len(block)
    return np.concatenate([block, np.repeat(block[-1:], missing, axis=0)]) if missing else block

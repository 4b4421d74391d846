"""policy.json: everything that the user of an exported policy must know and its programs do not say."""

import inspect
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lit_maprops.envs import Task
from lit_maprops.export.programs import INPUT, MASK, MEMORY, NEW_MEMORY, AgentPolicy
from lit_maprops.system.version import __version__

FORMAT = 1
PACKAGES = ("torch", "numpy", "onnx", "onnxscript")
_SQUASHED = {"tanh": "tanh(u)", "clip": "u clipped to [-1, 1]"}

_REMEMBERED = {
    MEMORY: "What the agent remembers of the episode: `start` in all numbers before the first step of each episode, "
    f"then the `{NEW_MEMORY}` of the step before. Every agent has its own.",
    NEW_MEMORY: f"The next step's `{MEMORY}`.",
}


def policy_document(task: Task, options: dict[str, Any], run: dict[str, Any], agents: list[dict[str, Any]]) -> dict:
    """What policy.json holds.

    Args:
        task: what the policies were trained in.
        options: its arguments.
        run: where the policies are from.
        agents: of every agent its ``agent_document``.
    """
    dtype = str(task.observation_dtype).removeprefix("torch.")
    return {
        "format": FORMAT,
        "run": run,
        "task": {
            "class": type(task).__name__,
            "options": options,
            "about": inspect.getdoc(type(task)),
            "n_agents": task.n_agents,
            "max_steps": task.max_steps,
            "observation_dtype": dtype,
            **({"agents_leave": True} if task.agents_leave else {}),
        },
        "use": _use(task, dtype) | (_REMEMBERED if any(MEMORY in agent for agent in agents) else {}),
        "agents": agents,
        "versions": {"lit_maprops": __version__, "python": platform.python_version()} | _installed(),
    }


def agent_document(task: Task, agent: int, policy: AgentPolicy, files: dict[str, str]) -> dict[str, Any]:
    """One agent's part of policy.json: its ``files``, input, outputs, and what their numbers mean."""
    interface = task.interface(agent)
    shapes: dict[str, list[Any]] = {name: ["batch", len(interface.actions)] for name in policy.outputs}
    dtypes = dict.fromkeys(policy.outputs, "float32")
    if not task.continuous_actions:
        shapes["action"], dtypes["action"] = ["batch"], "int64"
    if policy.remembered:
        shapes[NEW_MEMORY] = ["batch", policy.remembered]
    memory = {"name": MEMORY, "shape": ["batch", policy.remembered], "dtype": "float32", "start": 0.0}
    mask = {"name": MASK, "shape": ["batch", len(interface.actions)], "dtype": "bool"}
    ranges = {"action_low": interface.low, "action_high": interface.high} if task.continuous_actions else {}
    return {
        "agent": agent,
        "name": interface.name,
        **files,
        "input": {"name": INPUT, "shape": ["batch", len(interface.observation)], "dtype": "float32"},
        **({MASK: mask} if policy.masked else {}),
        **({MEMORY: memory} if policy.remembered else {}),
        "outputs": [{"name": name, "shape": shapes[name], "dtype": dtypes[name]} for name in policy.outputs],
        "observation": interface.observation,
        "actions": interface.actions,
        **ranges,
    }


def _use(task: Task, dtype: str) -> dict[str, str]:
    """How to call the programs, in words."""
    padded = any(len(task.interface(agent).observation) < task.observation_dim for agent in range(task.n_agents))
    padding = f" Training padded it with zeros to {task.observation_dim} numbers; leave them out." if padded else ""
    kind = "" if dtype == "float32" else f" Training held it as {dtype}: the same numbers, not scaled."
    seen = f"The agent's own observation, flat, in the order of `observation`, as float32.{kind}{padding}"
    there = (
        "Where agents come and go, ask an agent's program only while it is there. It was trained on those steps alone."
    )
    presence = {"presence": there} if task.agents_leave else {}
    legal = "Which of `actions` are legal in the state, in order. Log-probabilities of the others are -inf."
    if not task.continuous_actions:
        return {
            INPUT: seen,
            **({MASK: legal} if task.masks_actions else {}),
            "log_prob": "Log-probabilities (nats) of `actions`, in order. To sample, draw from their exponentials.",
            "action": "The most probable action: its place in `actions`, the first of equals.",
            **presence,
        }
    return {
        INPUT: seen,
        "mean": "Of the Gaussian that the policy draws u from, component by component.",
        "log_std": "Logarithm of its standard deviations, which do not depend on each other.",
        "action": "The greedy action, u = mean, in the environment's own units: [-1, 1] scaled to action_low to "
        f"action_high, after {_SQUASHED[task.squash]}. To sample, draw u = mean + exp(log_std) * standard normal and "
        "do the same.",
        **presence,
    }


def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

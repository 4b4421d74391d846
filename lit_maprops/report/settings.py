"""What a configuration means for a comparison: which keys are the sampler's, which separate settings, and short names.

Runs are compared within one setting (task, learner, sizes) and pooled only if nothing but ``POOLED`` keys differs.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from hashlib import sha256

from lit_maprops.run.changes import LABELS

Config = Mapping[str, Hashable]  # flag without dashes -> value
Key = frozenset[tuple[str, Hashable]]

SAMPLER, ENVIRONMENT = "model.behavior", "data.env"
ON_POLICY = "OnPolicy"
# Looks of samplers, the same in all figures.
FIXED_STYLES = {ON_POLICY: 0, "PROPS": 1, "MAPROPS": 2, "TabularMAPROPS": 3, "Greedy": 4}
BEHAVIOR_BATCH = "data.behavior_batch_size"
TARGET_BATCH = "data.target_batch_size"
KL_CUTOFF, CLIP_EPSILON = "model.behavior.kl_cutoff", "model.behavior.clip_epsilon"

# Differences that change neither the task nor the learner: which seeds, where to, how often to look, what computes.
POOLED = {
    "seed_everything",
    "run_name",
    "runs_dir",
    "wandb",
    "ckpt_path",
    "keep",
    "model.num_seeds",
    "model.first_seed",
    "model.eval_interval",
    "model.sampling_error",
    "model.sampling_error_interval",
    "model.checkpoint_interval",
    "model.engine",  # equal numbers up to rounding
} | LABELS
# What null stands for, where that is one value or what another option has.
UNSAID: Mapping[str, Hashable] = {
    "model.learner.burn_in": 0,
    "model.learner.hidden_gain": 2**0.5,
    "model.learner.huber_delta": 10.0,
    "model.learner.initial_std": 0.5,
    "model.learner.memory_size": 64,
    "model.learner.policy_gain": 0.01,
    "model.learner.sequence_length": 16,
}
UNSAID_AS = {
    f"model.learner.critic_{name}": f"model.learner.{name}" for name in ("activation", "cnn", "hidden", "layer_norm")
}
MOST_DETAILS = 12  # settings in a name
NAMES_OF_THE_RUN = {"run_name", "runs_dir"} | LABELS


def leave_unsaid(config: dict[str, Hashable]) -> None:
    """Write null where a run was given in words what null stands for: it is no other setting."""
    for key in (UNSAID.keys() | UNSAID_AS.keys()) & config.keys():
        if config[key] == (UNSAID[key] if key in UNSAID else config.get(UNSAID_AS[key])):
            config[key] = None


def sampler_key(config: Config) -> Key:
    """What identifies a sampler: its class, its options and m, which an on-policy sampler has no use for."""
    items = {(k, v) for k, v in config.items() if k == SAMPLER or k.startswith(SAMPLER + ".")}
    if config.get(SAMPLER) != ON_POLICY:
        items.add((BEHAVIOR_BATCH, config.get(BEHAVIOR_BATCH)))
    return frozenset(items)


def setting_key(config: Config) -> Key:
    """What must be equal for samplers to be compared: everything but the sampler and ``POOLED`` keys."""
    return frozenset((k, v) for k, v in config.items() if _separates(k, v))


def _separates(key: str, value: Hashable) -> bool:
    if key.startswith("trainer."):
        return key == "trainer.precision" and value is not None  # which newer runs leave out
    return key not in POOLED and key != BEHAVIOR_BATCH and key != SAMPLER and not key.startswith(SAMPLER + ".")


def planned_env_steps(config: Config) -> int:
    """Env steps of the last whole target batch; 0 where the configuration does not tell."""
    total, n = config.get("model.total_env_steps"), config.get(TARGET_BATCH)
    return total // n * n if isinstance(total, int) and isinstance(n, int) and n > 0 else 0


def differing(configs: Iterable[Config]) -> list[str]:
    """Keys with more than one value among the configurations that have them, in order of appearance."""
    values: dict[str, set[Hashable]] = {}
    for config in configs:
        for key, value in config.items():
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1 and key not in NAMES_OF_THE_RUN]


def other_environments(one: Config, other: Config) -> list[str]:
    """Keys that say that two runs play different environments, sorted; none if they play the same one."""
    own, others = (
        {k: v for k, v in config.items() if k == ENVIRONMENT or k.startswith(f"{ENVIRONMENT}.")}
        for config in (one, other)
    )
    missing = object()
    return sorted(k for k in own.keys() | others.keys() if own.get(k, missing) != others.get(k, missing))


def environment(config: Config) -> str:
    """What is played, by its own name where the class only stands between: a package, a scenario."""
    own = [config[key] for key in ("data.env.name", "data.env.scenario") if isinstance(config.get(key), str)]
    return " ".join([show(config.get(ENVIRONMENT)), *map(str, own[:1])])


def short_names(keys: Iterable[Key], heads: tuple[str, ...]) -> dict[Key, str]:
    """A name for each key: the values of ``heads``, then what differs from the others of the same heads.

    A value that more than half of those others share is the usual one and goes without saying.
    """
    names = {}
    families: dict[str, list[Key]] = {}
    for key in keys:
        values = dict(key)
        names_of_heads = (environment(values) if h == ENVIRONMENT else show(values[h]) for h in heads if h in values)
        families.setdefault(", ".join(names_of_heads) or "unnamed", []).append(key)
    for family, members in families.items():
        options = [dict(member) for member in members]
        counts = {k: Counter(o.get(k) for o in options) for k in sorted({k for m in members for k, _ in m})}
        usual = {k: c.most_common(1)[0][0] for k, c in counts.items() if 2 * max(c.values()) > len(members)}
        for member, values in zip(members, options, strict=True):
            odd = [k for k in counts if k in values and (k not in usual or values[k] != usual[k])]
            details = ", ".join(f"{k.rpartition('.')[2]}={show(values[k])}" for k in odd[:MOST_DETAILS])
            if len(odd) > MOST_DETAILS:  # and a mark that keeps it apart from others
                rest = sha256(repr([(k, values[k]) for k in odd]).encode()).hexdigest()[:6]
                details += f" and {len(odd) - MOST_DETAILS} more, {rest}"
            names[member] = f"{family} ({details})" if details else family
    return names


def show(value: Hashable) -> str:
    """A value as YAML writes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def natural(text: str) -> list[tuple[int, float, str]]:
    """Sorting key that puts 8 before 16 inside a name."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(1, float(p), "") if i % 2 else (0, 0.0, p) for i, p in enumerate(parts)]

"""Environments side by side: what num_envs costs, and what ordered draws win back."""

from studies.cells import share
from studies.ledger import Ledger
from studies.low_discrepancy.regimes import LAST_LAYER, OPTION, RATE, RELIABILITY
from studies.runs import Run

RUN_SEED, SEEDS, N, TOTAL = "711", "128", 256, 15360
ENVS = (1, 4, 16, 64)
FIELDS = ("joint_tv", "joint_tv_on_policy")
MEASURED = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "10"]
SAMPLERS: dict[str, list[str]] = {
    "OnPolicy": ["--model.behavior", "OnPolicy"],
    "OnPolicy, stratified": ["--model.behavior", "OnPolicy", f"{OPTION}draws", "stratified"],
    "LowDiscrepancy": ["--model.behavior", "LowDiscrepancy"],
    **{
        f"LowDiscrepancy, ordered by {order}": ["--model.behavior", "LowDiscrepancy", f"{OPTION}order", order]
        for order in ("value", "state", "policy")
    },
    "MAPROPS": LAST_LAYER,
}


def shares(measure: bool = True) -> str:
    """BoulderPush, IPPO: solved runs and joint TV against the number of environments at equal n."""
    ledger = Ledger("parallel", FIELDS, folder="low_discrepancy")
    runs = {}
    for sampler, own in SAMPLERS.items():
        for envs in ENVS:
            sizes = ["--data.num_envs", str(envs), "--data.behavior_batch_size", str(envs)]
            flags = [*own, *RATE, "--model.learner", "IPPO", *sizes, *MEASURED, "--model.num_seeds", SEEDS]
            setting = f"{envs} environments"
            runs["parallel", setting, sampler, RUN_SEED] = Run(
                "low_discrepancy", f"parallel {envs} {sampler}", RELIABILITY, flags, int(RUN_SEED)
            )
    ledger.fill(runs if measure else {}, 1)
    lines = ["| sampler | " + " | ".join(f"E = {envs}" for envs in ENVS) + " |", "|---" * (1 + len(ENVS)) + "|"]
    for sampler in SAMPLERS:
        cells = []
        for envs in ENVS:
            result = ledger.of("parallel", f"{envs} environments", sampler)
            errors = " / ".join(f"{result.means[name]:.3f}" for name in FIELDS) if result else ""
            cells.append(f"{share(result)}, TV {errors}" if result else "not run")
        lines.append(f"| {sampler} | {' | '.join(cells)} |")
    return "\n".join(lines)

"""What a run's settings ask for and its length leaves out, said at its start."""

from lit_maprops.module import LitMAPROPS


def leftovers(module: LitMAPROPS) -> dict[str, str]:
    """Warnings by name; empty if everything fits. The module is prepared."""
    total, n, iterations = module.total_env_steps, module.data.target_batch_size, module.data.iterations
    found = {}
    if total % n:
        found["length"] = (
            f"<model.total_env_steps> is {total:,} and no multiple of <data.target_batch_size> {n:,}: the run ends at "
            f"{iterations * n:,} env steps"
        )
    every = module.sampling_error_interval
    if module.sampling_error is not None and every > iterations:
        found["no sampling error"] = (
            f"<model.sampling_error_interval> is {every:,} and the run has {iterations:,} target iterations: the "
            "sampling error is never estimated"
        )
    return found

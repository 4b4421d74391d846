"""What a run's configuration says of when a seed counts as solved."""

from collections.abc import Hashable, Mapping

from lit_maprops.metrics.reliability import RETURN, SUCCESS, SUCCESS_THRESHOLD, Criterion, criterion

SOLVED_ON, SOLVED_THRESHOLD = "model.solved_on", "model.solved_threshold"


def criterion_of(config: Mapping[str, Hashable], tells_success: bool) -> Criterion:
    """When a seed of a run counts as solved.

    Args:
        config: flag to value, after ``spell_out``.
        tells_success: whether the run's evaluations have success rates.
    """
    on, threshold = config.get(SOLVED_ON), config[SOLVED_THRESHOLD]
    return criterion(
        None if on is None else str(on), None if threshold is None else float(str(threshold)), tells_success
    )


def spell_out(config: dict[str, Hashable]) -> None:
    """Write what is the default as null: runs of versions before ``solved_on`` have equal settings.

    Raises:
        KeyError: there is no threshold.
        ValueError: it is no such setting.
    """
    on = config.setdefault(SOLVED_ON, None)
    if on not in (None, SUCCESS, RETURN):
        raise ValueError(f"{SOLVED_ON} is {on}")
    given = config[SOLVED_THRESHOLD]
    if given is not None and float(str(given)) == SUCCESS_THRESHOLD and on != RETURN:
        config[SOLVED_THRESHOLD] = None

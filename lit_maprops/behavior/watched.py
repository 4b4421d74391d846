"""A behavior policy of somebody else's whose answers are checked: exceptions, shapes, kinds and numbers are named."""

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import BehaviorPolicy, Choice, UpdateStats
from lit_maprops.distributions.families import Categorical
from lit_maprops.envs.faults import Faults
from lit_maprops.system.errors import OneLineError, SamplerFault
from lit_maprops.system.memory import is_out_of_memory

CORRECT = "correct the sampler"
TOLERANCE = 1e-3  # nats by which float32 log-probabilities may miss a sum of 1
NOT_NORMALIZED = "give normalized ones, such as .log_softmax(-1)"
MEASURED = {"kl", "ratio_clipped"}  # of STATISTICS, those that an update may leave out unless it measures
STATISTICS = {"gradient_steps", "gradient_steps_allowed", "cutoff_hit", "first_step_cutoff"} | MEASURED


class WatchedBehavior:
    """Calls a behavior policy that is built; a run's own samplers need no such thing.

    Args:
        behavior: the sampler; from now on its ``family`` refuses to draw from what is not normalized.
        faults: of the run, which counts the env steps.
        fault: what is raised.
        place: what it is asked for, for messages; empty for training.
    """

    def __init__(
        self,
        behavior: BehaviorPolicy,
        faults: Faults,
        fault: Callable[[str], OneLineError] = SamplerFault,
        place: str = "",
    ) -> None:
        self.behavior, self._faults, self._fault, self._place = behavior, faults, fault, place
        if type(behavior.family) is Categorical:
            behavior.family = NormalizedCategorical(behavior.family.mask, behavior.family.restricted)

    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        """See ``BehaviorPolicy.choose``.

        Raises:
            SamplerFault: it raised, or gave no ``Choice`` for ``[R, E]``.
        """
        choice = self._ask("choose", data, parameters)
        if not isinstance(choice, Choice):
            raise self._wrong(f"choose returns {_kind(choice)}, expected a Choice")
        task, rows = self.behavior.task, tuple(parameters.shape[:2])
        agents, discrete = (*rows, task.n_agents), not task.continuous_actions
        shape, dtype = (agents, torch.int64) if discrete else ((*agents, task.action_dim), torch.float32)
        self._expect("action of choose", choice.action, shape, dtype)
        self._expect("behavior_log_prob of choose", choice.behavior_log_prob, rows, torch.float32)
        self._expect("kl of choose", choice.kl, rows, torch.float32)
        # Before anything is looked up by them; elsewhere the host would wait for the device.
        if discrete and choice.action.device.type == "cpu":
            low, high = choice.action.min().item(), choice.action.max().item()
            number = low if low < 0 else high
            if not 0 <= number < task.n_actions:
                raise self._wrong(f"choose gives action {number}, where there are 0 to {task.n_actions - 1}")
        return choice

    def extend(self, data: TensorDictBase) -> None:
        """See ``BehaviorPolicy.extend``.

        Raises:
            SamplerFault: it raised.
        """
        self._ask("extend", data)

    def update(self, measure: bool = True) -> UpdateStats:
        """See ``BehaviorPolicy.update``.

        Raises:
            SamplerFault: it raised, or gave other statistics than those of ``STATISTICS``, ``[R]`` each.
        """
        stats = self._ask("update", measure=measure)
        names = ", ".join(sorted(STATISTICS))
        if not isinstance(stats, dict):
            raise self._wrong(f"update returns {_kind(stats)}, expected a dict: {{}}, or {names}", "")
        unknown = sorted(str(name) for name in stats.keys() - STATISTICS)
        if unknown:
            raise self._wrong(f"update returns the statistic {unknown[0]!r}: give {{}}, or {names}", "")
        missing = sorted(STATISTICS - stats.keys() - (set() if measure else MEASURED)) if stats else []
        if missing:
            raise self._wrong(f"update returns statistics without {missing[0]!r}: give {{}}, or {names}", "")
        for name, value in stats.items():
            self._expect(f"{name!r} of update", value, (self.behavior.n_seeds,), None)
        return stats

    def reset(self, data: TensorDictBase | None) -> None:
        """See ``BehaviorPolicy.reset``.

        Raises:
            SamplerFault: it raised.
        """
        self._ask("reset", data)

    @torch.no_grad()
    def check_drawn(self, batch: TensorDictBase) -> None:
        """Search the newest env steps ``[R, T, E]`` for log-probabilities that are none; one device sync if all are.

        Where pi_theta itself is NaN, a seed has diverged, and no sampler is to blame.

        Raises:
            SamplerFault: names the first one, its seed and its env step.
        """
        log_prob = batch.get(keys.BEHAVIOR_LOG_PROB)
        sound = ~batch.get(keys.PARAMETERS).flatten(3).isnan().any(-1)
        learning = self._faults.learning
        if learning is not None:
            sound = sound & learning.to(sound.device)[:, None, None]
        wrong = log_prob.isnan()
        if not self.behavior.task.continuous_actions:
            wrong = wrong | (log_prob > TOLERANCE)
        wrong = wrong & sound
        if not wrong.any():
            return
        _, steps, envs = wrong.shape
        seed, step, env = min(wrong.nonzero().tolist(), key=lambda place: (place[1:], place[0]))
        number = float(log_prob[seed, step, env])
        at = self._faults.env_steps + (step - steps) * envs + env + 1
        where = f", seed {self._faults.seed_ids[seed]}, environment {env}"
        if number != number:
            raise self._wrong(f"NaN in behavior_log_prob of choose{where}", at=at)
        what = f"behavior_log_prob of choose is {number:.3g}, a probability above 1{where}"
        raise self._wrong(what, NOT_NORMALIZED, at)

    def not_normalized(self, probability: float, drawn: float) -> OneLineError:
        """Of a joint action whose probability, by ``behavior_log_prob``, is not how often it is drawn."""
        what = f"choose draws a joint action in {drawn:.1%} of the draws whose behavior_log_prob says {probability:.1%}"
        return self._wrong(f"{what}, so its log-probabilities are not normalized", NOT_NORMALIZED)

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(self.behavior, method)(*args, **kwargs)
        except OneLineError:
            raise
        except NotNormalized as error:
            raise self._wrong(str(error), NOT_NORMALIZED) from None
        except (Exception, SystemExit) as error:  # whatever a package raises
            if is_out_of_memory(error):
                raise
            text = " ".join(str(error).split())
            described = f"{type(error).__name__}: {text}" if text else type(error).__name__
            raise self._wrong(f"{described} in {method}{place_of(error, type(self.behavior))}") from error

    def _wrong(self, what: str, fix: str = CORRECT, at: int | None = None) -> OneLineError:
        when = self._place or f"at env step {self._faults.env_steps + 1 if at is None else at:,}"
        fix = f": {fix}" if fix else ""
        return self._fault(f"<model.behavior> {type(self.behavior).__name__}: {what}, {when}{fix}")

    def _expect(self, what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype | None) -> None:
        if isinstance(value, Tensor) and value.shape == shape and dtype in (None, value.dtype):
            return
        found, expected = _kind(value), f"a tensor {list(shape)}" if dtype is None else f"{list(shape)} {dtype}"
        raise self._wrong(f"{what} is {found}, expected {expected}".replace("torch.", ""))


class NotNormalized(Exception):
    """Of log-probabilities from which somebody draws."""


class NormalizedCategorical(Categorical):
    """Draws from normalized log-probabilities only; rows with NaN pass, for they are of a seed that has diverged."""

    @override
    def sample(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Draw; on the CPU only after a look, which elsewhere the host would wait for.

        Raises:
            NotNormalized: says of which sum.
        """
        sums = parameters.logsumexp(-1) if parameters.device.type == "cpu" else parameters.new_zeros(1)
        worst = float(sums.nan_to_num(0.0).abs().max())
        if worst > TOLERANCE:
            total = float(sums.flatten()[sums.nan_to_num(0.0).abs().argmax()].exp())
            raise NotNormalized(f"choose draws from probabilities that sum to {total:.3g} and not to 1")
        return super().sample(parameters, uniform)


def place_of(error: BaseException, kind: type) -> str:
    """Where in the files of a class, and of those that it extends, an exception passed last: `` (file:line)``."""
    files = {_file(each) for each in kind.__mro__ if each.__module__.partition(".")[0] not in ("lit_maprops", "torch")}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _file(kind: type) -> str:
    try:
        return inspect.getfile(kind)
    except (TypeError, OSError):  # built in, or of a program that has no file
        return ""


def _kind(value: Any) -> str:
    return f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__

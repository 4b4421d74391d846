"""How the ranks of a run start, find each other and end: Lightning's DDP without its DistributedDataParallel.

The wrapper would average the gradients of different seeds, and wait for ever where KL stops differ. What is left of the
strategy is the launch (a process per device, torchrun, SLURM, several machines), the process group and barriers.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy, StrategyRegistry
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed, nn
from typing_extensions import TypeAliasType

from lit_maprops.module import LitMAPROPS
from lit_maprops.run.rendezvous import connect_on_loopback, stay_on_loopback
from lit_maprops.run.watch import LAUNCHER, Watch
from lit_maprops.stacked.ranks import Ranks, RanksLost, answered
from lit_maprops.system.argument_types import Range
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.threads import chosen_by_us, share_cores

RankTimeout = TypeAliasType("RankTimeout", Annotated[float, Range(0, 10**9, strict=True)])  # seconds


def register_strategy(command: Sequence[str], timeout: float) -> None:
    """Have Lightning use ``RankStrategy`` wherever it would use DDP: for several devices, or several machines.

    Args:
        command: arguments of ``python -m lit_maprops`` that repeat this run, for the ranks to be started.
        timeout: seconds that ranks wait for each other.
    """
    StrategyRegistry.register("ddp", RankStrategy, override=True, command=list(command), timeout=timedelta(0, timeout))


def ranks_of(trainer: Trainer, model: LitMAPROPS, num_envs: int) -> Ranks:
    """The ranks that a trainer will run a model with.

    Raises:
        ConfigError: they cannot share the work, or are not started the way they must be.
    """
    strategy = trainer.strategy
    made = trainer.num_devices * trainer.num_nodes
    # One task of srun may start the other ranks itself.
    started = int(os.environ.get("WORLD_SIZE", 1)) if TorchElasticEnvironment.detect() else made
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    for starter, number, fits in (("torchrun", started, (made,)), ("srun", tasks, (1, made))):
        check(
            number in fits,
            f"{starter} started {number} ranks, and <trainer.devices> times <trainer.num_nodes> is {made}: make them "
            "equal",
        )
    if not isinstance(strategy, RankStrategy):
        check(
            trainer.world_size == 1,
            f"<trainer.strategy> {type(strategy).__name__} cannot split seeds over devices: leave it out",
        )
        return Ranks()
    assert strategy.cluster_environment is not None
    try:
        strategy.cluster_environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    except ValueError as error:
        raise ConfigError(f"<trainer.devices>: {' '.join(str(error).split())}") from None
    strategy.ranks = Ranks(trainer.global_rank, trainer.world_size, model.num_seeds, trainer.num_devices)
    strategy.ranks.check_fits(model.num_seeds, num_envs, model.behavior.counts_rows_of_all_seeds)
    return strategy.ranks


class RankStrategy(DDPStrategy):
    """One process per device; gloo between CPUs, NCCL between GPUs, with gloo for what lies in main memory.

    Args:
        command: see ``register_strategy``.
        timeout: see ``register_strategy``.
    """

    ranks: Ranks

    def __init__(self, command: list[str] | None = None, timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(timeout=timeout)
        self._command = list(command or [])
        self.watch = Watch()
        self.variables: list[str] = []  # that this rank has set in the environment

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self, self._command)

    def _get_process_group_backend(self) -> str:
        return "gloo" if self.root_device.type == "cpu" else f"cpu:gloo,{self.root_device.type}:nccl"

    def setup_environment(self) -> None:
        """Connect the ranks, and from then on watch the others.

        Raises:
            RanksLost: they did not all come.
        """
        assert self._timeout is not None
        try:
            super().setup_environment()
        except OSError as error:
            raise RanksLost(
                f"the ranks cannot meet at this machine's port {self._port()} ({error.strerror}): unset MASTER_PORT, "
                "or set it to a free one"
            ) from error
        except distributed.DistError as error:
            raise RanksLost(
                f"<trainer.devices> times <trainer.num_nodes> makes {self.ranks.size} ranks, which could not connect "
                f"within <rank_timeout> {self._timeout.total_seconds():g} seconds: start all of them, or give "
                f"<trainer.num_nodes> 1 ({str(error).splitlines()[0]})"
            ) from error
        self.ranks.connect(self._timeout)
        self.watch.connect()

    def setup_distributed(self) -> None:
        """Make the process group; ranks that one of them has started are on this machine and keep to it."""
        environment = self.cluster_environment
        assert environment is not None and self._timeout is not None
        if self.num_nodes == 1 and (LAUNCHER in os.environ or not environment.creates_processes_externally):
            self.set_world_ranks()
            self.variables = stay_on_loopback()
            device = self.root_device if self.root_device.type != "cpu" else None
            backend = self._get_process_group_backend()
            connect_on_loopback(backend, self.global_rank, self.world_size, self._port(), self._timeout, device)
        super().setup_distributed()  # which leaves a group that exists as it is

    def _port(self) -> int:
        assert self.cluster_environment is not None
        return self.cluster_environment.main_port

    def setup(self, trainer: Trainer) -> None:
        """Move the module to its device as it is: ranks have parameters of different seeds."""
        Strategy.setup(self, trainer)

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]
        return model

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Wait for all ranks; does nothing before they are connected."""
        with answered():
            super().barrier(*args, **kwargs)

    def name_run(self, name: str) -> None:
        """Have the ranks to be started write where this one does."""
        self._command += ["--run_name", name]

    def on_exception(self, exception: BaseException) -> None:
        """Tell the other ranks, so that they end too."""
        self.watch.failed(exception)


class Launcher(_SubprocessScriptLauncher):
    """Starts this machine's other ranks, unless torchrun or SLURM has, and ends together with them.

    Lightning's own would repeat ``sys.argv``, leave its variables in the environment, and kill everything without a
    word when a rank ends.

    Args:
        strategy: of this rank.
        command: see ``register_strategy``.
    """

    def __init__(self, strategy: RankStrategy, command: Sequence[str]) -> None:
        assert strategy.cluster_environment is not None
        super().__init__(strategy.cluster_environment, strategy.num_processes, strategy.num_nodes)
        self._strategy, self._watch, self._command = strategy, strategy.watch, command

    def launch(self, function: Callable, *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the ranks, call ``function`` in this one, and wait until all are done."""
        if chosen_by_us():
            share_cores(os.environ, self.num_processes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        self._watch.begin(self.cluster_environment.global_rank(), self.procs)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        result = function(*args, **kwargs)
        with answered():
            distributed.barrier()
            self._watch.stop()
            distributed.barrier()  # nobody watches any more: now a rank may end
        distributed.destroy_process_group()
        for process in self.procs:
            process.wait()
        if self.procs:  # another run of this process finds its own
            for variable in ("MASTER_ADDR", "MASTER_PORT", *self._strategy.variables):
                os.environ.pop(variable, None)
        return result

    def _call_children_scripts(self) -> None:
        environment = os.environ | {
            "MASTER_ADDR": self.cluster_environment.main_address,
            "MASTER_PORT": str(self.cluster_environment.main_port),
            "NODE_RANK": str(self.cluster_environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
            LAUNCHER: str(os.getpid()),
        }
        command = [sys.executable, "-m", "lit_maprops", *self._command]
        self.procs = [
            subprocess.Popen(command, env=environment | {"LOCAL_RANK": str(rank)}, stdin=subprocess.DEVNULL)
            for rank in range(1, self.num_processes)
        ]

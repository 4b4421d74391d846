"""How the ranks of a run start, find each other and end: Lightning's DDP without its DistributedDataParallel.

The wrapper would average the gradients of different seeds, and wait for ever where KL stops differ. What is left of the
strategy is the launch (a process per device, torchrun, SLURM, several machines), the process group and barriers.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy, StrategyRegistry
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed, nn

from lit_maprops.config import ConfigError, check
from lit_maprops.module import LitMAPROPS
from lit_maprops.ranks import Ranks, RanksLost, answered

POLL_SECONDS = 0.5
LAUNCHER = "LIT_MAPROPS_LAUNCHER"  # environment variable: process id of the rank that started this one
ENDED = "lit_maprops/ended"  # key of the store: which rank ended first, and why
RANK_0_ENDED, STORE_ENDED = "rank 0 ended", "the process that connects the ranks ended"


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
            f"{starter} started {number} ranks, and --trainer.devices times --trainer.num_nodes is {made}: make them "
            "equal",
        )
    if not isinstance(strategy, RankStrategy):
        check(
            trainer.world_size == 1,
            f"--trainer.strategy {type(strategy).__name__} cannot split seeds over devices: leave it out",
        )
        return Ranks()
    assert strategy.cluster_environment is not None
    try:
        strategy.cluster_environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    except ValueError as error:
        raise ConfigError(f"--trainer.devices: {' '.join(str(error).split())}") from None
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

    def __init__(self, command: Sequence[str] = (), timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(timeout=timeout)
        self._command = command
        self.watch = Watch()

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self, self._command)

    def _get_process_group_backend(self) -> str:
        return "gloo" if self.root_device.type == "cpu" else f"cpu:gloo,{self.root_device.type}:nccl"

    def setup_environment(self) -> None:
        """Connect the ranks, and from then on watch the others."""
        super().setup_environment()
        assert self._timeout is not None
        self.ranks.connect(self._timeout)
        self.watch.connect()

    def setup(self, trainer: Trainer) -> None:
        """Move the module to its device as it is: ranks have parameters of different seeds."""
        Strategy.setup(self, trainer)

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]
        return model

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Wait for all ranks; does nothing before they are connected."""
        with answered():
            super().barrier(*args, **kwargs)

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
        self._watch, self._command = strategy.watch, command

    def launch(self, function: Callable, *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the ranks, call ``function`` in this one, and wait until all are done."""
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
            os.environ.pop("MASTER_ADDR", None)
            os.environ.pop("MASTER_PORT", None)
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


class Watch:
    """A thread in every rank that ends it, with one line, soon after another rank has ended.

    A rank that fails says why in the process group's store. One that is killed says nothing: ranks of its machine miss
    its process, its starter knows the signal, others find what these write into the store.
    """

    def __init__(self) -> None:
        self._rank = 0
        self._children: dict[int, subprocess.Popen] = {}  # ranks that this one started
        self._peers: dict[int, int] = {}  # process ids of the ranks on this machine
        self._launcher = int(os.environ.get(LAUNCHER, 0))
        self._store: distributed.Store | None = None
        self._stopped = threading.Event()
        self._ending = threading.Lock()

    def begin(self, rank: int, children: Sequence[subprocess.Popen]) -> None:
        """Watch from now on.

        Args:
            rank: of this process.
            children: the ranks after this one, if it has started them.
        """
        self._rank = rank
        self._children = {rank + number: process for number, process in enumerate(children, 1)}
        threading.Thread(target=self._run, daemon=True, name="ranks").start()

    def connect(self) -> None:
        """Learn who the others are; the process group must exist."""
        everyone: list[tuple[str, int]] = [("", 0)] * distributed.get_world_size()
        with answered():
            distributed.all_gather_object(everyone, (socket.gethostname(), os.getpid()))
        host = socket.gethostname()
        self._peers = {r: pid for r, (where, pid) in enumerate(everyone) if where == host and r != self._rank}
        # A connection of its own: the thread must not wait while this one is in use.
        self._store = distributed.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Watch no more: the run is complete."""
        self._stopped.set()

    def failed(self, error: BaseException) -> None:
        """This rank ends by ``error``. Returns when the others know; ends the process if another rank is the cause."""
        time.sleep(2 * POLL_SECONDS)  # if another has ended before, the thread notices and ends this process
        if isinstance(error, RanksLost):
            self._end(f"rank {self._rank} waited in vain for the others: {error}")
        self._claim_the_end()
        reason = f"rank {self._rank} ended: {type(error).__name__}: {' '.join(str(error).split())}"
        self.stop()
        self._publish(reason)
        time.sleep(3 * POLL_SECONDS)
        for process in self._children.values():
            process.kill()

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            reason = self._found()
            if reason and not self._stopped.is_set():
                self._end(reason)

    def _found(self) -> str | None:
        """What has become of another rank, if it has ended."""
        if self._first_has_ended():
            return RANK_0_ENDED
        codes = {rank: process.poll() for rank, process in self._children.items()}
        for rank, code in codes.items():
            if code is not None and code < 0:  # it could not say why
                return f"rank {rank} ended: killed by {signal.Signals(-code).name}"
        try:
            if self._store is not None and self._store.check([ENDED]):
                return self._store.get(ENDED).decode()
        except RuntimeError:
            time.sleep(POLL_SECONDS)  # a process that ends closes its connections first
            return RANK_0_ENDED if self._first_has_ended() else STORE_ENDED
        for rank, code in codes.items():
            if code is not None:
                return f"rank {rank} ended: exit code {code}"
        gone = [rank for rank, pid in self._peers.items() if not _exists(pid)]
        return f"rank {gone[0]} ended" if gone else None

    def _first_has_ended(self) -> bool:
        orphaned = self._launcher != 0 and os.getppid() != self._launcher
        return orphaned or not _exists(self._peers.get(0, os.getpid()))

    def _publish(self, reason: str) -> None:
        """Tell all ranks, unless another reason came first."""
        if self._store is not None:
            try:
                self._store.compare_set(ENDED, "", reason)
            except RuntimeError:
                return  # the store has ended with rank 0

    def _end(self, reason: str) -> None:
        """End this process, whatever it does; started ranks end after it has told them why."""
        self._claim_the_end()
        self._publish(reason)
        if self._rank == 0 or reason in (RANK_0_ENDED, STORE_ENDED):  # otherwise rank 0 says so
            print(
                f"lit_maprops: error: {reason}; the other ranks end too. --ckpt_path continues at the last checkpoint",
                file=sys.stderr,
                flush=True,
            )
        if self._rank == 0:
            time.sleep(3 * POLL_SECONDS)  # the store ends with this process
        for process in self._children.values():
            process.kill()
        os._exit(1)

    def _claim_the_end(self) -> None:
        """Only one thread ends the process; another that wants to waits for that."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so it exists
        return True
    return True
